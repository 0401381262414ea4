//! Phases, observations, and the one function that leads from one phase to the next.

use crate::cause::Reason;
use crate::names::{JobId, RunnerId, ScaleSetId};
use crate::outcome::{Exit, FailureKind, Outcome};

/// Where an instance is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The name is committed; nothing outside yet.
    Pending,
    /// The environment is being made, unregistered.
    Creating,
    /// The environment is made and waits, unregistered.
    Warm,
    /// A JIT config was asked for or handed over; the runner is not online.
    Starting,
    /// The runner is online and has no job.
    Idle,
    /// The runner has a job.
    Running,
    /// Being removed: at GitHub, then at the backend.
    Stopping,
    /// Nothing of it is left outside.
    Closed,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Creating,
        Self::Warm,
        Self::Starting,
        Self::Idle,
        Self::Running,
        Self::Stopping,
        Self::Closed,
    ];

    /// The phase's name in the store, the API and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Creating => "creating",
            Self::Warm => "warm",
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Closed => "closed",
        }
    }

    /// The phase of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }

    /// The word the original program outrunner uses for it.
    #[must_use]
    pub fn outrunner_word(self) -> &'static str {
        match self {
            // It knows no machine that waits for its job.
            Self::Pending | Self::Creating | Self::Warm | Self::Starting => "provisioning",
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Stopping | Self::Closed => "stopping",
        }
    }
}

/// A fact about one instance that came back from outside, or a decision that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The environment is about to be made.
    CreateBegun,
    /// The environment was made, nothing launched in it.
    Created {
        /// The backend's handle.
        handle: String,
    },
    /// A JIT config is about to be asked for.
    StartBegun {
        /// The scale set it is asked of.
        scale_set: ScaleSetId,
    },
    /// GitHub registered the runner.
    Registered {
        /// Its number.
        runner: RunnerId,
    },
    /// The runner is about to be launched (single-step backends: made and launched).
    LaunchBegun,
    /// The runner was launched.
    Launched {
        /// The backend's handle, where the call gave one.
        handle: Option<String>,
    },
    /// GitHub says the runner is online, without a job.
    Online,
    /// GitHub says the runner has a job.
    JobStarted {
        /// The job.
        job: JobId,
    },
    /// GitHub says the runner's job ended. It may come for a job that still runs (11.15).
    JobCompleted {
        /// The job, where the message names one.
        job: Option<JobId>,
        /// Its result.
        result: Option<String>,
    },
    /// The backend proved that the environment ended.
    Ended {
        /// How.
        exit: Exit,
    },
    /// The backend proved that nothing of the environment is left.
    EnvironmentGone,
    /// We deregistered the runner, or GitHub never knew it.
    Deregistered,
    /// GitHub removed the runner by itself: its one job ran.
    RunnerGone,
    /// GitHub refused to remove the runner: it is busy.
    Busy,
    /// GitHub still knows the runner.
    StillRegistered,
    /// GitHub lists the runner, not connected and without a job.
    Jobless,
    /// A step of its start failed for certain: nothing can land later.
    Failed {
        /// Whose failure.
        kind: FailureKind,
        /// One line.
        detail: String,
    },
    /// A step of its start went unanswered: it may land later (11.1).
    Unanswered {
        /// Whose failure.
        kind: FailureKind,
        /// One line.
        detail: String,
    },
    /// It is to be removed.
    Removal {
        /// Why.
        reason: Reason,
    },
    /// Nothing of it is left.
    Closed {
        /// How its life ended.
        outcome: Outcome,
    },
}

impl Observation {
    /// The observation's name in refusals and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateBegun => "create begun",
            Self::Created { .. } => "created",
            Self::StartBegun { .. } => "start begun",
            Self::Registered { .. } => "registered",
            Self::LaunchBegun => "launch begun",
            Self::Launched { .. } => "launched",
            Self::Online => "online",
            Self::JobStarted { .. } => "job started",
            Self::JobCompleted { .. } => "job completed",
            Self::Ended { .. } => "ended",
            Self::EnvironmentGone => "environment gone",
            Self::Deregistered => "deregistered",
            Self::RunnerGone => "runner gone",
            Self::Busy => "busy",
            Self::StillRegistered => "still registered",
            Self::Jobless => "jobless",
            Self::Failed { .. } => "failed",
            Self::Unanswered { .. } => "unanswered",
            Self::Removal { .. } => "removal",
            Self::Closed { .. } => "closed",
        }
    }
}

/// The observation cannot be true of an instance in this phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{observation}` is refused for an instance in phase `{}`", from.as_str())]
pub struct Refused {
    /// The phase it was offered to.
    pub from: Phase,
    /// The observation's name.
    pub observation: &'static str,
}

/// The next phase of an instance in `phase` of which `observation` is true.
///
/// # Errors
/// [`Refused`] names the pair when the observation cannot be true there.
pub fn apply(phase: Phase, observation: &Observation) -> Result<Phase, Refused> {
    use Phase::{Closed, Creating, Idle, Pending, Running, Starting, Stopping, Warm};
    let refused = Err(Refused { from: phase, observation: observation.name() });
    match observation {
        Observation::CreateBegun => match phase {
            Pending => Ok(Creating),
            Creating | Warm | Starting | Idle | Running | Stopping | Closed => refused,
        },
        Observation::Created { .. } => match phase {
            Creating => Ok(Warm),
            // The call came back after its removal was decided: the fact counts, the phase stays.
            Stopping => Ok(Stopping),
            Pending | Warm | Starting | Idle | Running | Closed => refused,
        },
        Observation::StartBegun { .. } => match phase {
            Pending | Warm => Ok(Starting),
            Creating | Starting | Idle | Running | Stopping | Closed => refused,
        },
        Observation::Registered { .. } => match phase {
            // What runs already may be found by its name only then.
            Starting | Running | Stopping => Ok(phase),
            Pending | Creating | Warm | Idle | Closed => refused,
        },
        Observation::LaunchBegun => match phase {
            Starting => Ok(Starting),
            Pending | Creating | Warm | Idle | Running | Stopping | Closed => refused,
        },
        Observation::Launched { .. } => match phase {
            // A message may be faster than the backend's answer.
            Starting | Idle | Running | Stopping => Ok(phase),
            Pending | Creating | Warm | Closed => refused,
        },
        Observation::Online => match phase {
            Starting => Ok(Idle),
            Idle | Running | Stopping => Ok(phase),
            Pending | Creating | Warm | Closed => refused,
        },
        Observation::JobStarted { .. } => match phase {
            Starting | Idle | Running => Ok(Running),
            // Only the gate's own answer leads back from here.
            Stopping => Ok(Stopping),
            Pending | Creating | Warm | Closed => refused,
        },
        Observation::JobCompleted { .. } => match phase {
            Starting | Idle | Running => Ok(Running),
            Stopping => Ok(Stopping),
            Pending | Creating | Warm | Closed => refused,
        },
        Observation::Ended { .. } | Observation::EnvironmentGone => match phase {
            Creating | Warm | Starting | Idle | Running | Stopping => Ok(Stopping),
            Pending | Closed => refused,
        },
        Observation::Deregistered => match phase {
            Stopping => Ok(Stopping),
            Pending | Creating | Warm | Starting | Idle | Running | Closed => refused,
        },
        Observation::RunnerGone => match phase {
            Starting | Idle | Running | Stopping => Ok(Stopping),
            Pending | Creating | Warm | Closed => refused,
        },
        Observation::Busy => match phase {
            // Case (c) of the gate; case (d), an ended environment, is decided by the facts.
            Starting | Idle | Running | Stopping => Ok(Running),
            Pending | Creating | Warm | Closed => refused,
        },
        // That what runs has no job after all is decided by the facts.
        Observation::StillRegistered | Observation::Jobless => match phase {
            Starting | Idle | Running | Stopping => Ok(phase),
            Pending | Creating | Warm | Closed => refused,
        },
        Observation::Failed { .. } | Observation::Unanswered { .. } => match phase {
            Pending | Creating | Warm | Starting | Stopping => Ok(Stopping),
            // A job proves the start worked, whatever a late error says.
            Idle | Running => Ok(phase),
            Closed => refused,
        },
        Observation::Removal { reason } => match phase {
            Pending | Creating | Warm | Starting | Idle | Stopping => Ok(Stopping),
            Running if reason.ends_running() => Ok(Stopping),
            Running | Closed => refused,
        },
        Observation::Closed { .. } => match phase {
            Stopping => Ok(Closed),
            Pending | Creating | Warm | Starting | Idle | Running | Closed => refused,
        },
    }
}
