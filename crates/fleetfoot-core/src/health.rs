//! What the controller tells about itself: the state of its listeners and why things wait.
//!
//! Not stored: it is true of the running process only. The server shows it beside the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cause::Cause;
use crate::discrepancy::Discrepancy;
use crate::names::{InstanceName, PoolName};
use crate::release::RunnerRelease;
use crate::sizing::Sizing;
use crate::time::Timestamp;

/// Where a pool's listener is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListenerState {
    /// Not begun, or looking up its scale set.
    #[default]
    Opening,
    /// Another session holds the scale set; it asks again, without end.
    Standby {
        /// Since when.
        since: Timestamp,
    },
    /// A session is open and polled.
    Connected,
    /// Waits after a failure.
    Backoff {
        /// When it tries again.
        until: Timestamp,
        /// What failed, one line.
        detail: String,
    },
    /// Closed on purpose: drained, removed, or the controller is stopping.
    Closed,
}

impl ListenerState {
    /// The word in the API and in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Standby { .. } => "standby",
            Self::Connected => "connected",
            Self::Backoff { .. } => "backoff",
            Self::Closed => "closed",
        }
    }
}

/// Disagreements named one by one at most, for a pool; the rest is counted.
pub const PRESENT_MAX: usize = 50;

/// A disagreement between GitHub, backend and store that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// What kind it is.
    pub kind: Discrepancy,
    /// Whose; none when it is the pool's own.
    pub name: Option<InstanceName>,
    /// When it was first seen.
    pub since: Timestamp,
    /// It lasts longer than its kind should.
    pub overdue: bool,
}

/// What GitHub, backend and store disagree about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discrepancies {
    /// Those that are there now, at most [`PRESENT_MAX`].
    pub present: Vec<Present>,
    /// How many there are now.
    pub counts: BTreeMap<Discrepancy, u32>,
    /// How many were seen since the start.
    pub seen: BTreeMap<Discrepancy, u64>,
}

/// One pool of the running controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolHealth {
    /// Its listener.
    pub listener: ListenerState,
    /// Its first poll was opened since the start.
    pub polled: bool,
    /// The last plan's head count.
    pub sizing: Sizing,
    /// Why demand is not served at once, as of the last plan.
    pub causes: Vec<Cause>,
    /// The capacity last advertised.
    pub advertised: u32,
    /// Its limit.
    pub max_runners: u32,
    /// What GitHub, backend and store disagree about.
    pub discrepancies: Discrepancies,
    /// The release of the runner that it uses, where that is known.
    pub runner: RunnerRelease,
}

/// The running controller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Every pool's first poll was opened.
    pub ready: bool,
    /// The controller is stopping.
    pub stopping: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// The last reconciliation pass of any pool.
    pub last_pass_at: Timestamp,
    /// Its pools.
    pub pools: BTreeMap<PoolName, Arc<PoolHealth>>,
    /// Disagreements about what belongs to no pool that is served, by backend connection.
    pub unserved: BTreeMap<String, Arc<Discrepancies>>,
    /// Pools that are wanted and not served at all, with the reason in a sentence.
    pub set_aside: BTreeMap<PoolName, String>,
}
