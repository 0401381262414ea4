//! Why a runner is where it is in its life, and what became of one that is closed.

use fleetfoot_api::{CauseInfo, DiscrepancyInfo};
use fleetfoot_core::removal::{may_still_land, registration_open, removal_steps};
use fleetfoot_core::{Exit, Instance, Phase, PoolState, Timestamp};

use super::{disagreement, since, title, why_removed};
use crate::causes;
use crate::views::time::rfc3339;
use crate::views::{Snapshot, job_of, outcome};

pub(super) fn answer(
    snapshot: &Snapshot,
    state: &PoolState,
    instance: &Instance,
) -> (Vec<String>, Vec<CauseInfo>) {
    let now = snapshot.now;
    let mut lines = vec![format!(
        "`{}` of pool `{}` is {} {}",
        instance.name,
        instance.pool,
        instance.phase.as_str(),
        since(instance.phase_since, now)
    )];
    lines.push(match instance.phase {
        Phase::Pending => "its name is written down, nothing is made yet".to_owned(),
        Phase::Creating => "its environment is being made".to_owned(),
        Phase::Warm => "its environment is made and waits for a job".to_owned(),
        Phase::Starting => "its runner is being started and is not online yet".to_owned(),
        Phase::Idle => "its runner is online and waits for a job".to_owned(),
        Phase::Running => job_of(state, instance).map_or_else(
            || "GitHub calls its runner busy; its job is not known by name".to_owned(),
            |job| format!("it runs {}", title(&job)),
        ),
        Phase::Stopping => waits_for(instance),
        Phase::Closed => "nothing of it is left".to_owned(),
    });
    facts(&mut lines, instance);
    let pool = snapshot.pool(state);
    let its = |told: &&DiscrepancyInfo| told.instance.as_deref() == Some(instance.name.as_str());
    lines.extend(pool.discrepancies.iter().filter(its).map(disagreement));
    if let Some(error) = &instance.last_error {
        let next = instance
            .retry_at
            .map_or_else(String::new, |at| format!("; tried again at {}", rfc3339(at)));
        let tries = instance.attempts;
        lines.push(format!("the last attempt failed: {error} (attempts: {tries}){next}"));
    }
    let waits = matches!(instance.phase, Phase::Pending | Phase::Stopping);
    let elsewhere = snapshot.owner(&instance.pool).filter(|owner| !owner.here);
    let causes = match elsewhere {
        Some(_) => snapshot.pool(state).causes,
        None if waits => snapshot.pool(state).causes,
        None => Vec::new(),
    };
    (lines, causes.into_iter().filter(|cause| concerns_begun(&cause.code)).collect())
}

/// Causes that hold up an instance which is begun; the others only keep further ones from being made.
fn concerns_begun(code: &str) -> bool {
    matches!(
        code,
        "jit_budget"
            | "backend_unavailable"
            | "github_unavailable"
            | causes::NO_DAEMON
            | causes::UNSERVED
            | causes::HOST_UNREACHABLE
    )
}

fn waits_for(instance: &Instance) -> String {
    let steps = removal_steps(instance);
    let text = match (steps.deregister, steps.delete) {
        (true, true) => {
            "it is being removed: GitHub must let go of its runner, and its environment is to be deleted"
        }
        (true, false) => {
            "it is being removed: GitHub must let go of its runner before anything is deleted"
        }
        (false, true) => "it is being removed: its environment is to be deleted",
        (false, false) if may_still_land(instance) => {
            "it is being removed: a call for it went unanswered, and until two looks apart show nothing it may still appear"
        }
        (false, false) => "it is removed; its row is about to be closed",
    };
    text.to_owned()
}

fn facts(lines: &mut Vec<String>, instance: &Instance) {
    if let Some(reason) = instance.reason {
        lines.push(format!("it is removed because {}", why_removed(reason)));
    }
    if let Some((kind, detail)) = &instance.failure {
        lines.push(format!("its start failed ({}): {detail}", kind.as_str()));
    }
    if let Some(exit) = &instance.exit {
        lines.push(ended(exit));
    }
    if let Some(completed) = instance.job_completed_at {
        let result = instance.job_result.as_deref().unwrap_or("no result given");
        lines.push(format!("its job ended at {} ({result})", rfc3339(completed)));
    }
    if let Some(runner) = instance.runner_id {
        let left = if registration_open(instance) { "" } else { ", which is gone there" };
        lines.push(format!("at GitHub it is runner {runner}{left}"));
    }
    if let Some(handle) = &instance.handle {
        lines.push(format!("at the backend it is `{handle}`"));
    }
}

fn ended(exit: &Exit) -> String {
    let code = exit.code.map_or_else(String::new, |code| format!(" with exit code {code}"));
    let memory = if exit.out_of_memory { ", out of memory" } else { "" };
    let words = exit.message.as_ref().map_or_else(String::new, |text| format!(": {text}"));
    format!("its environment ended{code}{memory}{words}")
}

/// What became of an instance of the history.
pub(super) fn closed(instance: &Instance, now: Timestamp) -> Vec<String> {
    let end =
        instance.outcome.as_ref().map_or_else(|| "its end is not recorded".to_owned(), outcome);
    let mut lines = vec![format!(
        "`{}` of pool `{}` is closed {}",
        instance.name,
        instance.pool,
        since(instance.phase_since, now)
    )];
    lines.push(end);
    lines.push(format!("its name was written down at {}", rfc3339(instance.created_at)));
    if let Some(job) = &instance.job {
        lines.push(format!("it ran job {job}"));
    }
    facts(&mut lines, instance);
    lines
}
