//! The crash points of commits that take in what happened to one instance, by what that was.

use fleetfoot_core::Observation;

/// What a commit takes in; the last of several says it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Point {
    Created,
    LaunchBegun,
    Launched,
    Found,
    Seen,
    Busy,
    RunnerGone,
    Deregistered,
    EnvironmentGone,
    Failed,
    /// Commits of their own have it, which have their own points.
    Other,
}

/// The point of these observations.
pub(crate) fn of(observations: &[Observation]) -> Point {
    let Some(last) = observations.last() else { return Point::Other };
    match last {
        Observation::Created { .. } | Observation::CreateBegun => Point::Created,
        Observation::LaunchBegun | Observation::StartBegun { .. } => Point::LaunchBegun,
        Observation::Launched { .. } => Point::Launched,
        Observation::Registered { .. } => Point::Found,
        Observation::Online | Observation::StillRegistered | Observation::Jobless => Point::Seen,
        Observation::Busy => Point::Busy,
        Observation::RunnerGone => Point::RunnerGone,
        Observation::Deregistered => Point::Deregistered,
        Observation::EnvironmentGone => Point::EnvironmentGone,
        Observation::Failed { .. } | Observation::Unanswered { .. } => Point::Failed,
        Observation::JobStarted { .. }
        | Observation::JobCompleted { .. }
        | Observation::Ended { .. }
        | Observation::Removal { .. }
        | Observation::Closed { .. } => Point::Other,
    }
}

impl Point {
    /// Nothing is committed yet.
    pub(crate) fn before(self) {
        match self {
            Self::Created => fleetfoot_faults::point("controller.commit.created.before"),
            Self::LaunchBegun => fleetfoot_faults::point("controller.commit.launch_begun.before"),
            Self::Launched => fleetfoot_faults::point("controller.commit.launched.before"),
            Self::Found => fleetfoot_faults::point("controller.commit.registration_found.before"),
            Self::Seen => fleetfoot_faults::point("controller.commit.runner_seen.before"),
            Self::Busy => fleetfoot_faults::point("controller.commit.runner_busy.before"),
            Self::RunnerGone => fleetfoot_faults::point("controller.commit.runner_gone.before"),
            Self::Deregistered => fleetfoot_faults::point("controller.commit.deregistered.before"),
            Self::EnvironmentGone => {
                fleetfoot_faults::point("controller.commit.environment_gone.before")
            }
            Self::Failed => fleetfoot_faults::point("controller.commit.start_failed.before"),
            Self::Other => {}
        }
    }

    /// It is committed, and nobody acted on it yet.
    pub(crate) fn after(self) {
        match self {
            Self::Created => fleetfoot_faults::point("controller.commit.created.after"),
            Self::LaunchBegun => fleetfoot_faults::point("controller.commit.launch_begun.after"),
            Self::Launched => fleetfoot_faults::point("controller.commit.launched.after"),
            Self::Found => fleetfoot_faults::point("controller.commit.registration_found.after"),
            Self::Seen => fleetfoot_faults::point("controller.commit.runner_seen.after"),
            Self::Busy => fleetfoot_faults::point("controller.commit.runner_busy.after"),
            Self::RunnerGone => fleetfoot_faults::point("controller.commit.runner_gone.after"),
            Self::Deregistered => fleetfoot_faults::point("controller.commit.deregistered.after"),
            Self::EnvironmentGone => {
                fleetfoot_faults::point("controller.commit.environment_gone.after")
            }
            Self::Failed => fleetfoot_faults::point("controller.commit.start_failed.after"),
            Self::Other => {}
        }
    }
}
