//! An instance as the API shows it.

use fleetfoot_api::{ExitInfo, InstanceStatus, JobInfo};
use fleetfoot_core::{Environment, Instance, Outcome, PoolState, Registration};

use super::job::{bare, job_of};
use super::time::rfc3339;

/// An instance that is not closed.
#[must_use]
pub(crate) fn instance_status(state: &PoolState, instance: &Instance) -> InstanceStatus {
    with_job(instance, job_of(state, instance))
}

/// An instance of the history.
#[must_use]
pub(crate) fn closed_status(instance: &Instance) -> InstanceStatus {
    with_job(instance, instance.job.as_ref().map(|id| bare(id, instance)))
}

fn with_job(instance: &Instance, job: Option<JobInfo>) -> InstanceStatus {
    let failure = instance.failure.as_ref().map(|(kind, detail)| {
        if detail.is_empty() { kind.as_str().to_owned() } else { detail.clone() }
    });
    InstanceStatus {
        name: instance.name.as_str().to_owned(),
        pool: instance.pool.as_str().to_owned(),
        phase: instance.phase.as_str().to_owned(),
        job,
        runner_id: instance.runner_id.map(|id| id.0),
        created_at: rfc3339(instance.created_at),
        phase_since: rfc3339(instance.phase_since),
        reason: instance.reason.map(|reason| reason.as_str().to_owned()),
        last_error: instance.last_error.clone().or(failure),
        exit: instance.exit.as_ref().map(|exit| ExitInfo {
            code: exit.code,
            out_of_memory: exit.out_of_memory,
            message: exit.message.clone(),
        }),
        environment: environment(instance.environment).to_owned(),
        registration: registration(instance.registration).to_owned(),
        handle: instance.handle.clone(),
        outcome: instance.outcome.as_ref().map(outcome),
        unreachable: false,
    }
}

fn environment(environment: Environment) -> &'static str {
    match environment {
        Environment::None => "none",
        Environment::Requested => "requested",
        Environment::Present => "present",
        Environment::Launched => "launched",
        Environment::Ended => "ended",
        Environment::Gone => "gone",
    }
}

fn registration(registration: Registration) -> &'static str {
    match registration {
        Registration::None => "none",
        Registration::Requested => "requested",
        Registration::Registered(_) => "registered",
        Registration::Gone => "gone",
    }
}

/// The end of a life in one line.
#[must_use]
pub fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed { result: Some(result) } => format!("its job ended: {result}"),
        Outcome::Completed { result: None } => "its job ended".to_owned(),
        Outcome::Failed { kind, detail } if detail.is_empty() => {
            format!("failed ({})", kind.as_str())
        }
        Outcome::Failed { kind, detail } => format!("failed ({}): {detail}", kind.as_str()),
        Outcome::Lost { detail } => format!("lost in the middle of its job: {detail}"),
        Outcome::Removed(reason) => format!("removed ({})", reason.as_str()),
        Outcome::HostRebooted => "the host was restarted under it".to_owned(),
        Outcome::RegistrationUnverified => {
            "its environment is gone; no credential was left to ask GitHub".to_owned()
        }
    }
}

/// The end of a life as a word of a closed set, for metrics.
#[must_use]
pub(crate) fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed { .. } => "completed",
        Outcome::Failed { .. } => "failed",
        Outcome::Lost { .. } => "lost",
        Outcome::Removed(_) => "removed",
        Outcome::HostRebooted => "host_rebooted",
        Outcome::RegistrationUnverified => "unverified",
    }
}
