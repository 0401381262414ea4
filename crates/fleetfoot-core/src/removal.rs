//! The removal gate (design, 11.3) and the way an instance's life is summed up.
//!
//! Anything a JIT config was ever asked for is removed only so: deregister; gone at GitHub, then delete
//! the environment; busy with a living environment, then it runs; busy with an ended one, then stay and
//! ask again for hours, occupying nothing. The exceptions are an operator's force and `max_job_duration`.

use crate::demand::Demand;
use crate::instance::{Environment, Instance, Registration};
use crate::outcome::{Exit, FailureKind, Outcome};
use crate::time::{Span, Timestamp};

/// An ended environment of which nobody knows whether a job ran counts as serving this long at most (11.5).
pub(crate) const UNDECIDED_HOLD: Span = Span::seconds(60);

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
    #[cfg(feature = "faults")]
    let gate_passed = gate_passed || fleetfoot_faults::Defect::DeleteBeforeDeregister.is_planted();
    let (delete, absent) = match instance.environment {
        Environment::None | Environment::Gone => (false, true),
        // Its machine ended: the remains need nobody's consent.
        Environment::Ended => (true, false),
        Environment::Requested | Environment::Present | Environment::Launched => {
            (gate_passed, false)
        }
    };
    #[cfg(feature = "faults")]
    let absent = absent || fleetfoot_faults::Defect::DeleteRowFirst.is_planted();
    RemovalSteps { deregister: open, delete, close: !open && absent && !may_still_land(instance) }
}

/// A create call went unanswered and its landing is not ruled out yet.
#[must_use]
pub fn may_still_land(instance: &Instance) -> bool {
    instance.unanswered_since.is_some() && instance.clear_lists < 2
}

/// The environment ended, no job is known, and GitHub was not asked yet whether its one job ran.
#[must_use]
pub(crate) fn is_undecided(instance: &Instance, demand: &Demand, now: Timestamp) -> bool {
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

const RUNNER_TOO_OLD_MEANS: &str = ": GitHub takes no runner of this version any more, put the current one into the image or directory, or let it be kept (runner_release)";

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
    let succeeded = instance.job_result.as_deref() == Some("succeeded");
    if let Some(reason) = instance.reason.filter(|reason| reason.opens_gate() && !succeeded) {
        return Outcome::Removed(reason);
    }
    if ended_in_job(instance) {
        return Outcome::Lost { detail: exit_line() };
    }
    if instance.job_completed_at.is_some() || instance.job_proven {
        return Outcome::Completed { result: instance.job_result.clone() };
    }
    if instance.job.is_some() {
        return Outcome::Lost { detail: exit_line() };
    }
    if let Some((kind, detail)) = &instance.failure {
        return Outcome::Failed { kind: *kind, detail: detail.clone() };
    }
    match instance.reason {
        Some(reason) => Outcome::Removed(reason),
        None => {
            let why = if instance.exit.as_ref().is_some_and(Exit::is_of_old_runner) {
                RUNNER_TOO_OLD_MEANS
            } else {
                ""
            };
            let detail = format!("{}{why}", exit_line());
            Outcome::Failed { kind: FailureKind::EarlyExit, detail }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Reason;
    use crate::names::{InstanceName, JobId, PoolName};
    use crate::outcome::Exit;
    use crate::time::Timestamp;

    /// `[job] [done=RESULT] [proven] [exit=CODE] [oom] [reason=WORDS] [failed]`
    fn instance(words: &str) -> Instance {
        let pool = PoolName::new("p").unwrap();
        let mut row = Instance::pending(InstanceName::of_pool(&pool, 1), pool, Timestamp(0));
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "job" => row.job = Some(JobId::new("j")),
                "done" => {
                    row.job_completed_at = Some(Timestamp(1));
                    row.job_result = Some(value.to_owned());
                }
                "proven" => row.job_proven = true,
                "exit" => row.exit = Some(Exit { code: value.parse().ok(), ..Exit::default() }),
                "oom" => row.exit = Some(Exit { out_of_memory: true, ..Exit::default() }),
                "reason" => row.reason = Reason::from_name(&value.replace('_', " ")),
                "failed" => row.failure = Some((FailureKind::Create, "no image".to_owned())),
                other => panic!("{other}"),
            }
        }
        row
    }

    #[test]
    fn a_life_is_summed_up_from_its_facts() {
        let table = [
            ("job done=succeeded exit=0", "completed succeeded"),
            ("job done=failed exit=0", "completed failed"),
            // A custom image may pass a job's failure on; a signal it does not.
            ("job done=failed exit=1", "completed failed"),
            ("job done=failed exit=137", "lost exit code 137"),
            ("job done=failed oom", "lost out of memory"),
            ("job done=succeeded exit=137", "completed succeeded"),
            ("job proven exit=1", "lost exit code 1"),
            ("proven exit=0", "completed -"),
            ("proven exit=137", "lost exit code 137"),
            ("job exit=0", "lost exit code 0"),
            ("job", "lost environment vanished"),
            ("exit=1", "failed environment ended: exit code 1"),
            (
                "exit=7",
                "failed environment ended: exit code 7: GitHub takes no runner of this version any more, put the current one into the image or directory, or let it be kept (runner_release)",
            ),
            ("failed", "failed no image"),
            ("reason=surplus", "removed surplus"),
            ("job done=failed exit=143 reason=job_done", "completed failed"),
            ("job done=failed exit=143 reason=operator_force", "removed operator force"),
            ("job done=succeeded exit=0 reason=max_job_duration", "completed succeeded"),
            ("job exit=137 reason=host_rebooted", "rebooted"),
        ];
        for (facts, wanted) in table {
            let said = match outcome(&instance(facts)) {
                Outcome::Completed { result } => {
                    format!("completed {}", result.as_deref().unwrap_or("-"))
                }
                Outcome::Lost { detail } => format!("lost {detail}"),
                Outcome::Failed { kind: FailureKind::EarlyExit, detail } => {
                    format!("failed environment ended: {detail}")
                }
                Outcome::Failed { detail, .. } => format!("failed {detail}"),
                Outcome::Removed(reason) => format!("removed {}", reason.as_str()),
                Outcome::HostRebooted => "rebooted".into(),
                Outcome::RegistrationUnverified => "unverified".into(),
            };
            assert_eq!(said, wanted, "{facts}");
        }
    }
}
