//! What the binary hands over: pools with everything they need, already connected and checked.

use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::host::Footprint;
use fleetfoot_core::pool::PoolSpec;
use fleetfoot_core::{Naming, PoolName, RunnerRelease, Span};
use fleetfoot_github::{Connection, LabelKind};
use fleetfoot_ordered::watch;
use fleetfoot_provisioner::Provisioner;
use tokio::sync::Notify;

use crate::gate::Gate;
use crate::host::HostLimits;

/// What becomes of a scale set that we made when its pool is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScaleSetEnd {
    /// It stays.
    #[default]
    Stays,
    /// It stays this time, and may be told to go later: that we make it is written down before it is made.
    StaysForNow,
    /// It goes with its pool.
    Goes,
}

/// What a pool's sessions have of their own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionSettings {
    /// The owner told to GitHub, where it is not the controller's.
    pub owner: Option<String>,
    /// With another one the session is closed and another one opened.
    pub key: String,
}

/// One pool.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// Its name, and its scale set's.
    pub name: PoolName,
    /// Its sizing and limits.
    pub spec: PoolSpec,
    /// Its scale set's name at GitHub, where it is not the pool's.
    pub scale_set_name: Option<String>,
    /// How its instances are named.
    pub naming: Naming,
    /// The labels jobs ask for.
    pub labels: Vec<String>,
    /// Whose labels they are said to be.
    pub label_kind: LabelKind,
    /// The runner group's name; the default group when absent.
    pub runner_group: Option<String>,
    /// What its sessions have of their own.
    pub session: SessionSettings,
    /// The way to GitHub; pools with one credential share one.
    pub connection: Connection,
    /// Where the credential comes from, in words; never the credential.
    pub credential_reference: String,
    /// What makes its environments.
    pub provisioner: Arc<dyn Provisioner>,
    /// Calls to the backend at once, over all pools of its connection.
    pub backend_concurrency: usize,
    /// What one instance takes of the host.
    pub footprint: Footprint,
    /// Not in the configuration any more: it only lives on until its last instance closes (11.8).
    pub removed: bool,
    /// What becomes of its scale set.
    pub scale_set_end: ScaleSetEnd,
    /// Take up what the original program left under this pool's name (design, 7.2).
    pub takeover: bool,
    /// A digest of how it would be served: controllers that share a store compare theirs. Empty where there
    /// is only one.
    pub digest: String,
    /// The release of the runner that it uses, from whoever keeps it; nothing is made while it is missing.
    pub runner: Option<watch::Receiver<RunnerRelease>>,
}

impl PoolSettings {
    /// A pool of `max_runners` whose label is its name, in the default group.
    #[must_use]
    pub fn new(
        name: PoolName,
        max_runners: u32,
        connection: Connection,
        provisioner: Arc<dyn Provisioner>,
    ) -> Self {
        Self {
            scale_set_name: None,
            naming: Naming::OfPool,
            labels: vec![name.as_str().to_owned()],
            label_kind: LabelKind::User,
            name,
            spec: PoolSpec { max_runners, ..PoolSpec::default() },
            runner_group: None,
            session: SessionSettings::default(),
            connection,
            credential_reference: String::new(),
            provisioner,
            backend_concurrency: 4,
            footprint: Footprint::default(),
            removed: false,
            scale_set_end: ScaleSetEnd::default(),
            takeover: false,
            digest: String::new(),
            runner: None,
        }
    }

    /// Its scale set's name at GitHub.
    #[must_use]
    pub fn scale_set_name(&self) -> &str {
        self.scale_set_name.as_deref().unwrap_or(self.name.as_str())
    }

    /// What is known of the runner's release.
    pub(crate) fn release(&self) -> RunnerRelease {
        self.runner.as_ref().map(|told| told.borrow().clone()).unwrap_or_default()
    }

    /// The same in everything, down to the very connection and backend.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name
            && self.spec == other.spec
            && self.scale_set_name == other.scale_set_name
            && self.naming == other.naming
            && self.labels == other.labels
            && self.label_kind == other.label_kind
            && self.runner_group == other.runner_group
            && self.session == other.session
            && self.connection.is(&other.connection)
            && self.credential_reference == other.credential_reference
            && Arc::ptr_eq(&self.provisioner, &other.provisioner)
            && self.backend_concurrency == other.backend_concurrency
            && self.footprint == other.footprint
            && self.removed == other.removed
            && self.scale_set_end == other.scale_set_end
            && self.takeover == other.takeover
            && self.digest == other.digest
            && match (&self.runner, &other.runner) {
                (Some(one), Some(other)) => one.same_channel(other),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            }
    }
}

/// What concerns the controller as a whole.
#[derive(Debug, Clone, Default)]
pub struct ControllerSettings {
    /// The host's limits.
    pub host: HostLimits,
    /// The owner told to GitHub when a session is opened: the host's name.
    pub session_owner: String,
    /// This boot of the host.
    pub boot_id: Option<String>,
    /// The store is younger than what carries our evidence may be (11.4): look before touching anything.
    pub careful: bool,
    /// Told when a runner ended because GitHub takes no runner of its version any more: whoever keeps releases looks.
    pub runner_refused: Arc<Notify>,
    /// Lets a simulated world stop the controller between any two polls.
    pub gate: Gate,
}

/// How long calls are waited for and how often it looks: constants in production, shorter in tests.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// A call that was not answered may land later by as much as this (11.1).
    pub call_bound: Span,
    /// Between sweeps of a backend with everything quiet.
    pub sweep: Duration,
    /// Between sweeps while something is to be proven.
    pub sweep_urgent: Duration,
    /// Nothing running ends for age within this time of a start or a shift of the clock (11.11).
    pub ages_grace: Span,
    /// What a row knows of itself may be on its way for this long before it is told as a disagreement.
    pub settle: Span,
    /// Between looks at GitHub's list of runners, while there is anything of ours.
    pub registrations: Duration,
    /// The wall clock is held against the monotonic one this often (11.11).
    pub clock_check: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            call_bound: fleetfoot_core::removal::CALL_BOUND,
            sweep: Duration::from_secs(30),
            sweep_urgent: Duration::from_secs(3),
            ages_grace: Span::minutes(10),
            clock_check: Duration::from_secs(10),
            settle: Span::seconds(30),
            registrations: Duration::from_secs(600),
        }
    }
}
