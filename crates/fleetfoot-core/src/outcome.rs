//! How things end: an environment's exit, whose failure it was, and the outcome of a life.

use crate::cause::Reason;

/// How an environment ended, as the backend saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// The exit status, where there was one.
    pub code: Option<i32>,
    /// The kernel ended it for want of memory.
    pub out_of_memory: bool,
    /// One line of the backend's own words.
    pub message: Option<String>,
}

/// The runner's exit code when GitHub takes no runner of its version any more (actions/runner, `run.sh` with
/// `ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE`, which a backend sets wherever the runner's environment is its own).
const RUNNER_TOO_OLD: i32 = 7;

impl Exit {
    /// GitHub takes no runner of this version any more, as far as the exit code tells.
    #[must_use]
    pub fn is_of_old_runner(&self) -> bool {
        self.code == Some(RUNNER_TOO_OLD)
    }
}

/// What failed, for the pool's circuit: only failures of the instance itself count there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The environment could not be made (image missing, refused by the backend).
    Create,
    /// The environment was made, the runner could not be launched.
    Launch,
    /// The environment ended before its runner came online, or without a job.
    EarlyExit,
    /// The runner did not come online in time.
    BootTimeout,
    /// The environment was not made in time.
    CreateTimeout,
    /// Waited too long to be started.
    StartTimeout,
    /// The backend did not answer: counts against the backend, not the instance.
    Backend,
    /// GitHub refused or did not answer: counts against GitHub, not the instance.
    Github,
}

impl FailureKind {
    /// Whether the pool's circuit counts it.
    #[must_use]
    pub(crate) fn counts_against_pool(self) -> bool {
        #[cfg(feature = "faults")]
        if fleetfoot_faults::Defect::CountOutageAsFailure.is_planted() {
            return true;
        }
        match self {
            Self::Create
            | Self::Launch
            | Self::EarlyExit
            | Self::BootTimeout
            | Self::CreateTimeout => true,
            Self::StartTimeout | Self::Backend | Self::Github => false,
        }
    }

    /// The kind's name in logs, events and the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Launch => "launch",
            Self::EarlyExit => "early exit",
            Self::BootTimeout => "boot timeout",
            Self::CreateTimeout => "create timeout",
            Self::StartTimeout => "start timeout",
            Self::Backend => "backend",
            Self::Github => "github",
        }
    }
}

/// How the life of an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its one job ran; the result is GitHub's word, where a message gave one.
    Completed {
        /// `succeeded`, `failed`, `canceled`, … as GitHub spelled it.
        result: Option<String>,
    },
    /// It never served.
    Failed {
        /// What failed.
        kind: FailureKind,
        /// One line that says why.
        detail: String,
    },
    /// Its environment ended in the middle of its job.
    Lost {
        /// How the environment ended.
        detail: String,
    },
    /// Removed by us for a reason.
    Removed(Reason),
    /// The host was restarted under it.
    HostRebooted,
    /// Its environment is gone and no credential was left to ask GitHub.
    RegistrationUnverified,
}
