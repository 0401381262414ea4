//! Which release of GitHub's runner a pool uses, as far as that is known.

use crate::time::Timestamp;

/// What is known of the runner's release in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunnerRelease {
    /// The version that its next instances start with.
    pub version: Option<String>,
    /// The newest one that GitHub offers.
    pub newest: Option<String>,
    /// GitHub takes `version` until about then; none while nothing newer is known.
    pub accepted_until: Option<Timestamp>,
    /// Why nothing can be started: there is no release yet, one line.
    pub missing: Option<String>,
    /// Why the last look at the releases brought nothing, one line.
    pub problem: Option<String>,
}
