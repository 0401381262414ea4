//! What to do next for one pool: a pure function of everything known of it.
//!
//! The plan is level-triggered: it reads facts, never events. A plan repeated on its own result is
//! empty, so it may run as often as anyone likes. Its actions carry no choice; the executor only acts.

mod level;
mod life;

use std::collections::BTreeSet;

use crate::cause::{Cause, Reason};
use crate::instance::Instance;
use crate::names::InstanceName;
use crate::outcome::Outcome;
use crate::pool::{Intent, PoolSpec, PoolState};
use crate::sizing::Sizing;
use crate::time::{Span, Timestamp};

pub use level::next_launched;

/// A completed job's environment may take this long to end by itself.
pub(crate) const JOB_DONE_GRACE: Span = Span::seconds(15);

/// The same where nobody is told of its end: its slot is not held for longer than a runner takes to leave.
pub(crate) const JOB_DONE_GRACE_UNWATCHED: Span = Span::seconds(5);

/// A running or idle runner is looked up at GitHub this often.
pub(crate) const VERIFY_PERIOD: Span = Span::minutes(10);

/// A runner past half of its `boot_timeout` is looked up this often.
pub(crate) const BOOT_VERIFY_PERIOD: Span = Span::seconds(15);

/// A runner that GitHub could not be asked about by the end of its `boot_timeout` is waited for this much longer.
pub(crate) const BOOT_UNSEEN_MAX: Span = Span::minutes(1);

/// The state of something all pools depend on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Dependency {
    /// Answers.
    #[default]
    Up,
    /// Does not answer; asked again at the given time.
    Down {
        /// When it is tried again.
        until: Timestamp,
        /// What is wrong, one line.
        detail: String,
    },
}

impl Dependency {
    fn blocks(&self, now: Timestamp) -> Option<(Timestamp, &str)> {
        match self {
            Self::Down { until, detail } if now < *until => Some((*until, detail)),
            Self::Down { .. } | Self::Up => None,
        }
    }

    /// It was down and may be tried again: by one, until it answers.
    fn is_half_open(&self, now: Timestamp) -> bool {
        matches!(self, Self::Down { until, .. } if *until <= now)
    }
}

/// Everything a plan depends on.
#[derive(Debug, Clone)]
pub struct Snapshot<'a> {
    /// The pool as the store has it.
    pub state: &'a PoolState,
    /// Its sizing and limits.
    pub spec: &'a PoolSpec,
    /// The backend makes environments first and launches runners later.
    pub late_binding: bool,
    /// The backend tells when an environment ends; otherwise GitHub alone does.
    pub watched: bool,
    /// The backend lists what it has; otherwise nobody tells what became of a call that was cut off.
    pub listed: bool,
    /// Instances an action is being executed for: they are left alone.
    pub in_flight: &'a BTreeSet<InstanceName>,
    /// The backend.
    pub backend: Dependency,
    /// Which backend answers at the pool's connection; `None` until it did.
    pub backend_identity: Option<&'a str>,
    /// GitHub, as this pool's credential reaches it.
    pub github: Dependency,
    /// JIT configs that may be asked for now, and when more will be.
    pub jit_permits: u32,
    /// When GitHub's budget is asked again, if it has run out.
    pub jit_until: Option<Timestamp>,
    /// Instances the host still grants this pool.
    pub host_room: u32,
    /// Why the host grants no more, if it does not.
    pub host_cause: Option<Cause>,
    /// Surplus idle runners whose room another pool waits for: they go without waiting for `idle_timeout`.
    pub host_wants: u32,
    /// The scale set is known and registered.
    pub registered: bool,
    /// Nothing may be created until one full careful pass is over (11.4).
    pub careful: bool,
    /// Nothing running ends for age before this time (11.11).
    pub ages_count_from: Timestamp,
}

impl<'a> Snapshot<'a> {
    /// A pool that nothing hinders: GitHub and its backend answer, the host has room, nothing is in flight.
    /// What hinders it is written over that, so a new field is one line here and one where it is known.
    pub fn unhindered(
        state: &'a PoolState,
        spec: &'a PoolSpec,
        in_flight: &'a BTreeSet<InstanceName>,
    ) -> Self {
        Self {
            state,
            spec,
            late_binding: false,
            watched: true,
            listed: true,
            in_flight,
            backend: Dependency::Up,
            backend_identity: None,
            github: Dependency::Up,
            jit_permits: u32::MAX,
            jit_until: None,
            host_room: u32::MAX,
            host_cause: None,
            host_wants: 0,
            registered: true,
            careful: false,
            ages_count_from: Timestamp(0),
        }
    }

    /// Another backend answers than the one that holds the instance: it says nothing about it, and
    /// nothing is asked of it (11.2).
    fn is_elsewhere(&self, instance: &Instance) -> bool {
        instance.backend_identity.as_deref().is_some_and(|own| self.backend_identity != Some(own))
    }
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Commit this many new names and begin to make them.
    Create {
        /// How many.
        count: u32,
    },
    /// Go on with a name that was committed and not begun.
    Begin {
        /// Its name.
        name: InstanceName,
    },
    /// Ask for a JIT config for an environment that waits, and launch its runner.
    Launch {
        /// Its name.
        name: InstanceName,
    },
    /// Commit that it is to be removed.
    Retire {
        /// Its name.
        name: InstanceName,
        /// Why.
        reason: Reason,
    },
    /// Take the next steps of its removal.
    Remove {
        /// Its name.
        name: InstanceName,
        /// Ask GitHub to remove the runner.
        deregister: bool,
        /// Ask the backend to delete the environment.
        delete: bool,
    },
    /// Close its row.
    Close {
        /// Its name.
        name: InstanceName,
        /// How its life ended.
        outcome: Outcome,
    },
    /// Look its runner up at GitHub.
    Verify {
        /// Its name.
        name: InstanceName,
    },
}

/// What to do, why not more, and when to look again at the latest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order; independent of each other.
    pub actions: Vec<Action>,
    /// Why demand is not served at once.
    pub causes: Vec<Cause>,
    /// The earliest deadline.
    pub wake_at: Option<Timestamp>,
    /// The head count it was made from.
    pub sizing: Sizing,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn retire(&mut self, instance: &Instance, reason: Reason) {
        self.actions.push(Action::Retire { name: instance.name.clone(), reason });
    }

    /// Retires at the deadline, or wakes for it.
    fn retire_at(
        &mut self,
        instance: &Instance,
        deadline: Timestamp,
        reason: Reason,
        now: Timestamp,
    ) -> bool {
        let due = deadline <= now;
        if due {
            self.retire(instance, reason);
        } else {
            self.wake(deadline);
        }
        due
    }
}

/// Decides over one pool.
#[must_use]
pub fn plan(snapshot: &Snapshot<'_>, now: Timestamp) -> Plan {
    let sizing = Sizing::of(snapshot.state, snapshot.spec, snapshot.late_binding, now);
    let mut plan = Plan { sizing, ..Plan::default() };
    for until in [&snapshot.backend, &snapshot.github]
        .into_iter()
        .filter_map(|dependency| dependency.blocks(now))
        .map(|(until, _)| until)
        .chain(snapshot.jit_until.filter(|until| now < *until))
    {
        plan.wake(until);
    }
    for instance in snapshot.state.instances.values() {
        if !snapshot.in_flight.contains(&instance.name) {
            life::step(&mut plan, snapshot, instance, now);
        }
    }
    match snapshot.state.pool.intent {
        Intent::Active => level::reach(&mut plan, snapshot, now),
        Intent::Draining => level::drain(&mut plan, snapshot, Cause::Draining),
        Intent::Removed => level::drain(&mut plan, snapshot, Cause::PoolRemoved),
    }
    plan
}

fn may_begin(snapshot: &Snapshot<'_>, now: Timestamp) -> bool {
    snapshot.registered
        && snapshot.backend.blocks(now).is_none()
        && snapshot.github.blocks(now).is_none()
        && snapshot.jit_permits > 0
}
