//! Why something is done ([`Reason`]) and why something waits ([`Cause`]): closed enums, printed by `why`.

use crate::time::Timestamp;

/// Why an instance is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Demand fell while it was being started.
    Withdrawn,
    /// Idle beyond `min_idle` for `idle_timeout`.
    Surplus,
    /// Its job is completed and its environment did not end by itself.
    JobDone,
    /// GitHub removed the runner by itself.
    RunnerGone,
    /// Its start was cut off by a restart of the controller.
    Interrupted,
    /// Not made within `create_timeout`.
    CreateTimeout,
    /// Not started within `start_timeout`.
    StartTimeout,
    /// Not online within `boot_timeout`.
    BootTimeout,
    /// Waited warm longer than `warm_ttl`.
    WarmExpired,
    /// Waited warm while its pool's settings or image changed.
    Outdated,
    /// Registered under a scale set that is gone.
    ScaleSetGone,
    /// The pool is draining or was removed.
    Drained,
    /// An operator asked to stop it when it is not busy.
    Operator,
    /// An operator said `--force`.
    OperatorForce,
    /// Its job ran longer than `max_job_duration`.
    MaxJobDuration,
    /// A labelled thing without a row (11.4).
    Stray,
    /// The host was restarted.
    HostRebooted,
    /// Its runner waits for a job and is not connected to GitHub.
    Offline,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 18] = [
        Self::Withdrawn,
        Self::Surplus,
        Self::JobDone,
        Self::RunnerGone,
        Self::Interrupted,
        Self::CreateTimeout,
        Self::StartTimeout,
        Self::BootTimeout,
        Self::WarmExpired,
        Self::Outdated,
        Self::ScaleSetGone,
        Self::Drained,
        Self::Operator,
        Self::OperatorForce,
        Self::MaxJobDuration,
        Self::Stray,
        Self::HostRebooted,
        Self::Offline,
    ];

    /// Its name in the store, the API and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::Surplus => "surplus",
            Self::JobDone => "job done",
            Self::RunnerGone => "runner gone",
            Self::Interrupted => "interrupted",
            Self::CreateTimeout => "create timeout",
            Self::StartTimeout => "start timeout",
            Self::BootTimeout => "boot timeout",
            Self::WarmExpired => "warm expired",
            Self::Outdated => "outdated",
            Self::ScaleSetGone => "scale set gone",
            Self::Drained => "drained",
            Self::Operator => "operator",
            Self::OperatorForce => "operator force",
            Self::MaxJobDuration => "max job duration",
            Self::Stray => "stray",
            Self::HostRebooted => "host rebooted",
            Self::Offline => "offline",
        }
    }

    /// The reason of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// The removal gate may be passed without GitHub's consent (11.3, exceptions).
    #[must_use]
    pub fn opens_gate(self) -> bool {
        matches!(self, Self::OperatorForce | Self::MaxJobDuration)
    }

    /// It may lead a running instance to the gate. Only GitHub's consent, or an opened gate, leads further.
    #[must_use]
    pub(crate) fn ends_running(self) -> bool {
        matches!(
            self,
            Self::OperatorForce
                | Self::MaxJobDuration
                | Self::JobDone
                | Self::RunnerGone
                | Self::HostRebooted
        )
    }
}

/// Why demand is not served at once, or why something lasts. What `fleetfoot why` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// No message session is open: what GitHub wants is not known.
    DemandUnknown,
    /// `max_runners` of the pool is reached.
    PoolLimit {
        /// The limit.
        limit: u32,
    },
    /// The host budget has no room.
    HostBudget,
    /// GitHub granted no JIT config for now.
    JitBudget {
        /// When the next permit is expected.
        until: Timestamp,
    },
    /// Instances of this pool failed to start: the circuit is open.
    CircuitOpen {
        /// When one is tried again.
        until: Timestamp,
        /// Failures in a row.
        failures: u32,
        /// The last failure, one line.
        last: String,
    },
    /// The backend does not answer, or is another one than before.
    BackendUnavailable {
        /// One line.
        detail: String,
    },
    /// GitHub refuses or does not answer.
    GithubUnavailable {
        /// One line.
        detail: String,
    },
    /// Another message session holds the scale set (11.9).
    SessionConflict {
        /// Since when.
        since: Timestamp,
    },
    /// The pool is drained or paused by an operator.
    Draining,
    /// The pool is not in the configuration any more.
    PoolRemoved,
    /// Too many remains wait for their deletion.
    RemainsFull {
        /// How many.
        remains: u32,
    },
    /// Instances are being started for it.
    Starting {
        /// How many.
        count: u32,
    },
    /// Not enough free disk on the host.
    DiskFull,
    /// Strays of a lost or restored store are looked at first (11.4).
    CarefulPass,
    /// No release of the runner is kept on this host yet.
    RunnerMissing {
        /// One line.
        detail: String,
    },
}

impl Cause {
    /// The cause's fixed code in the API and in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::DemandUnknown => "demand_unknown",
            Self::PoolLimit { .. } => "pool_limit",
            Self::HostBudget => "host_budget",
            Self::JitBudget { .. } => "jit_budget",
            Self::CircuitOpen { .. } => "circuit_open",
            Self::BackendUnavailable { .. } => "backend_unavailable",
            Self::GithubUnavailable { .. } => "github_unavailable",
            Self::SessionConflict { .. } => "session_conflict",
            Self::Draining => "draining",
            Self::PoolRemoved => "pool_removed",
            Self::RemainsFull { .. } => "remains_full",
            Self::Starting { .. } => "starting",
            Self::DiskFull => "disk_full",
            Self::CarefulPass => "careful_pass",
            Self::RunnerMissing { .. } => "runner_missing",
        }
    }
}
