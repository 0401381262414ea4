//! The removal gate (design, 11.3) and the way an instance's life is summed up.
//!
//! Anything a JIT config was ever asked for is removed only so: deregister; gone at GitHub, then delete
//! the environment; busy with a living environment, then it runs; busy with an ended one, then stay and
//! ask again for hours, occupying nothing. The exceptions are an operator's force and `max_job_duration`.

use crate::demand::Demand;
use crate::instance::{Environment, Instance, Registration};
use crate::outcome::{FailureKind, Outcome};
use crate::time::{Span, Timestamp};

/// An ended environment of which nobody knows whether a job ran counts as serving this long at most (11.5).
pub const UNDECIDED_HOLD: Span = Span::seconds(60);

/// A call that timed out may land later by as much as its own bound: evidence of absence is taken twice,
/// further apart than this (11.1).
pub const CALL_BOUND: Span = Span::seconds(30);

/// The next steps of one removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemovalSteps {
    /// Ask GitHub to remove the runner.
    pub deregister: bool,
    /// Ask the backend to delete the environment.
    pub delete: bool,
    /// Nothing is left: close the row.
    pub close: bool,
}

/// GitHub may still hold a registration under the instance's name.
#[must_use]
pub fn registration_open(instance: &Instance) -> bool {
    matches!(instance.registration, Registration::Requested | Registration::Registered(_))
}

/// What may be done next for an instance in `Stopping`.
#[must_use]
pub fn removal_steps(instance: &Instance) -> RemovalSteps {
    let open = registration_open(instance);
    let gate_passed = !open || instance.forced;
    let (delete, absent) = match instance.environment {
        Environment::None | Environment::Gone => (false, true),
        // Its machine ended: the remains need nobody's consent.
        Environment::Ended => (true, false),
        Environment::Requested | Environment::Present | Environment::Launched => {
            (gate_passed, false)
        }
    };
    RemovalSteps { deregister: open, delete, close: !open && absent && !may_still_land(instance) }
}

/// A create call went unanswered and its landing is not ruled out yet.
#[must_use]
pub fn may_still_land(instance: &Instance) -> bool {
    instance.unanswered_since.is_some() && instance.clear_lists < 2
}

/// The environment ended, no job is known, and GitHub was not asked yet whether its one job ran.
#[must_use]
pub fn is_undecided(instance: &Instance, demand: &Demand, now: Timestamp) -> bool {
    instance.is_unasked()
        && instance.phase_since.age(now) < UNDECIDED_HOLD
        && demand.stated_at <= instance.phase_since
}

/// Its environment ended badly by itself while it had its job: GitHub fails such a job, but only we know why.
/// A runner ends with status 0 however its job went.
fn ended_in_job(instance: &Instance) -> bool {
    let Some(exit) = &instance.exit else { return false };
    let killed = exit.out_of_memory || exit.code.is_some_and(|code| !(0..128).contains(&code));
    let bad =
        killed || (instance.job_completed_at.is_none() && exit.code.is_some_and(|code| code != 0));
    let succeeded = instance.job_result.as_deref() == Some("succeeded");
    bad && instance.had_job() && instance.reason.is_none() && !succeeded
}

/// How the life of an instance ended, from the facts of its row.
#[must_use]
pub fn outcome(instance: &Instance) -> Outcome {
    let exit_line = || match &instance.exit {
        Some(exit) => {
            let code = exit.code.map(|code| format!("exit code {code}"));
            let memory = exit.out_of_memory.then(|| "out of memory".to_owned());
            let parts: Vec<String> =
                [code, memory, exit.message.clone()].into_iter().flatten().collect();
            if parts.is_empty() { "environment ended".to_owned() } else { parts.join(", ") }
        }
        None => "environment vanished".to_owned(),
    };
    if instance.reason == Some(crate::cause::Reason::HostRebooted) {
        return Outcome::HostRebooted;
    }
    if ended_in_job(instance) {
        return Outcome::Lost { detail: exit_line() };
    }
    if instance.job_completed_at.is_some() || instance.job_proven {
        return Outcome::Completed { result: instance.job_result.clone() };
    }
    if let Some(reason) = instance.reason.filter(|reason| reason.opens_gate()) {
        return Outcome::Removed(reason);
    }
    if instance.job.is_some() {
        return Outcome::Lost { detail: exit_line() };
    }
    if let Some((kind, detail)) = &instance.failure {
        return Outcome::Failed { kind: *kind, detail: detail.clone() };
    }
    match instance.reason {
        Some(reason) => Outcome::Removed(reason),
        None => Outcome::Failed { kind: FailureKind::EarlyExit, detail: exit_line() },
    }
}
