//! What a caller may fix of a world; the seed chooses the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::progress::Hears;

/// A family of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// The controller is killed at any await, and comes back after seconds or hours.
    Crash,
    /// Commits fail, lose their answer, or are the last thing the controller does.
    Commit,
    /// The store is lost, or restored from an older copy.
    Store,
    /// The controller is frozen, and wakes.
    Freeze,
    /// Polls are cut, hang, come late, or are answered twice.
    Polls,
    /// Messages are lost, repeated, out of order, wrong, or about a job that still runs.
    Messages,
    /// Statistics disagree with messages.
    Statistics,
    /// Sessions and tokens expire, scale sets vanish.
    Expiry,
    /// 4xx and 5xx, alone and in bursts.
    Errors,
    /// 429 and 403, with and without Retry-After.
    Limits,
    /// JIT answers are lost, late, or the name is taken.
    Jit,
    /// Removals race with offers, and busy runners stay.
    Removals,
    /// Creates fail, hang, land late, or succeed with an error.
    Create,
    /// Lists are cut, or come from another engine.
    Lists,
    /// Deletes fail for an hour.
    Deletes,
    /// The backend freezes or is unreachable for minutes.
    Backend,
    /// Machines die before registration, while idle, in a job; runners never register or hang.
    Deaths,
    /// The host is rebooted.
    Reboot,
    /// The wall clock steps.
    Clock,
    /// Limits and pools change, are renamed or removed.
    Settings,
    /// Users cancel jobs.
    Cancels,
    /// GitHub refuses the registrations of one pool.
    Refusals,
    /// A second controller on the same store: both at once, one killed, one frozen that wakes.
    Peers,
}

impl Family {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Crash,
        Self::Commit,
        Self::Store,
        Self::Freeze,
        Self::Polls,
        Self::Messages,
        Self::Statistics,
        Self::Expiry,
        Self::Errors,
        Self::Limits,
        Self::Jit,
        Self::Removals,
        Self::Create,
        Self::Lists,
        Self::Deletes,
        Self::Backend,
        Self::Deaths,
        Self::Reboot,
        Self::Clock,
        Self::Settings,
        Self::Cancels,
        Self::Refusals,
        Self::Peers,
    ];

    /// It touches one pool and what is that pool's alone; not the way to GitHub, nor the controller.
    #[must_use]
    pub(crate) fn is_private(self) -> bool {
        matches!(
            self,
            Self::Messages
                | Self::Statistics
                | Self::Create
                | Self::Lists
                | Self::Deletes
                | Self::Backend
                | Self::Deaths
                | Self::Cancels
                | Self::Refusals
        )
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Commit => "commit",
            Self::Store => "store",
            Self::Freeze => "freeze",
            Self::Polls => "polls",
            Self::Messages => "messages",
            Self::Statistics => "statistics",
            Self::Expiry => "expiry",
            Self::Errors => "errors",
            Self::Limits => "limits",
            Self::Jit => "jit",
            Self::Removals => "removals",
            Self::Create => "create",
            Self::Lists => "lists",
            Self::Deletes => "deletes",
            Self::Backend => "backend",
            Self::Deaths => "deaths",
            Self::Reboot => "reboot",
            Self::Clock => "clock",
            Self::Settings => "settings",
            Self::Cancels => "cancels",
            Self::Refusals => "refusals",
            Self::Peers => "peers",
        }
    }

    /// The family of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|family| family.name() == name)
    }
}

/// The sizes of a pool, where a configuration gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSize {
    /// Its name.
    pub name: String,
    /// Its limit.
    pub max_runners: u32,
    /// Its idle runners.
    pub min_idle: u32,
}

/// Ends worlds before their end, from another thread: what was made for them is removed all the same.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// No world goes on, and none begins.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// It was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is fixed; the seed chooses what is absent.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Pools.
    pub pools: Option<usize>,
    /// Jobs, about.
    pub jobs: Option<usize>,
    /// Simulated hours before the faults stop.
    pub hours: Option<f64>,
    /// The families of faults; an empty list is none.
    pub faults: Option<Vec<Family>>,
    /// Pools by size, instead of chosen ones.
    pub sizes: Vec<PoolSize>,
    /// Keep the log of a world in which nothing was wrong, and everything the program said.
    pub trace: bool,
    /// Ends the world early.
    pub stop: Stop,
    /// Who hears how far a long world is.
    pub hears: Hears,
    /// A planted defect.
    #[cfg(feature = "faults")]
    pub defect: Option<fleetfoot_faults::Defect>,
}
