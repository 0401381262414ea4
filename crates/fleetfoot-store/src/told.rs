//! What the history tells of an observation.

use fleetfoot_core::{Instance, Observation, Timestamp};

use crate::event::Event;

/// The event that tells of an observation; none for the periodic ones that found all as it was.
pub(crate) fn observed(
    before: &Instance,
    after: &Instance,
    observation: &Observation,
    now: Timestamp,
) -> Option<Event> {
    let moved = before.phase != after.phase;
    let worth_telling = match observation {
        Observation::StillRegistered
        | Observation::Jobless
        | Observation::Online
        | Observation::Busy => moved,
        Observation::CreateBegun
        | Observation::Created { .. }
        | Observation::StartBegun { .. }
        | Observation::Registered { .. }
        | Observation::LaunchBegun
        | Observation::Launched { .. }
        | Observation::JobStarted { .. }
        | Observation::JobCompleted { .. }
        | Observation::Ended { .. }
        | Observation::EnvironmentGone
        | Observation::Deregistered
        | Observation::RunnerGone
        | Observation::Failed { .. }
        | Observation::Unanswered { .. }
        | Observation::Removal { .. }
        | Observation::Closed { .. } => before != after,
    };
    if !worth_telling {
        return None;
    }
    let mut event = Event::new(now, observation.name()).pool(&after.pool).instance(&after.name);
    event.job.clone_from(&after.job);
    if moved {
        event = event.field("from", before.phase.as_str()).field("to", after.phase.as_str());
    }
    Some(detail(event, observation))
}

fn detail(event: Event, observation: &Observation) -> Event {
    match observation {
        Observation::Failed { kind, detail } | Observation::Unanswered { kind, detail } => {
            event.field("kind", kind.as_str()).field("detail", detail)
        }
        Observation::Removal { reason } => event.field("reason", reason.as_str()),
        Observation::JobCompleted { result: Some(result), .. } => event.field("result", result),
        Observation::Registered { runner } => event.field("runner_id", runner),
        Observation::Ended { exit } => match (&exit.message, exit.code) {
            (Some(message), _) => event.field("detail", message),
            (None, Some(code)) => event.field("exit_code", code),
            (None, None) => event,
        },
        Observation::CreateBegun
        | Observation::Created { .. }
        | Observation::StartBegun { .. }
        | Observation::LaunchBegun
        | Observation::Launched { .. }
        | Observation::Online
        | Observation::JobStarted { .. }
        | Observation::JobCompleted { result: None, .. }
        | Observation::EnvironmentGone
        | Observation::Deregistered
        | Observation::RunnerGone
        | Observation::Busy
        | Observation::StillRegistered
        | Observation::Jobless
        | Observation::Closed { .. } => event,
    }
}
