//! Why a pool serves no more than it does.

use fleetfoot_api::{CauseInfo, OwnerInfo, RunnerInfo};
use fleetfoot_core::PoolState;

use super::{disagreement, title};
use crate::views::Snapshot;

/// Waiting jobs named at most.
const JOBS_NAMED_MAX: usize = 5;

/// Disagreements named at most.
const DISCREPANCIES_NAMED_MAX: usize = 5;

pub(super) fn answer(snapshot: &Snapshot, state: &PoolState) -> (Vec<String>, Vec<CauseInfo>) {
    let view = snapshot.pool(state);
    let mut lines = Vec::new();
    let waits = state.open_jobs(snapshot.now) > view.running + view.idle;
    lines.push(match (waits || !view.waiting.is_empty(), view.causes.is_empty()) {
        (true, false) => format!("jobs wait for pool `{}`", view.name),
        (true, true) => format!("pool `{}` is about to serve the jobs that wait", view.name),
        (false, _) if view.demand.known => format!("nothing waits for pool `{}`", view.name),
        (false, _) => format!("pool `{}` does not know what GitHub wants", view.name),
    });
    if let Some(reason) = snapshot.set_aside(&view.name) {
        lines.push(format!("it is not served: {reason}"));
    }
    let limit = view.max_runners.map_or_else(String::new, |limit| format!(" of at most {limit}"));
    let warm = match view.warm {
        0 => String::new(),
        warm => format!(" {warm} waiting for jobs,"),
    };
    lines.push(format!(
        "{} wanted, {} instances{limit}: {} running, {} idle,{warm} {} starting, {} being removed",
        view.desired, view.occupying, view.running, view.idle, view.starting, view.stopping
    ));
    if let Some(owner) = &view.owner {
        lines.push(owned(owner));
    }
    if let Some(listener) = &view.listener {
        let detail =
            listener.detail.as_ref().map_or_else(String::new, |detail| format!(" ({detail})"));
        lines.push(format!("its listener is {}{detail}", listener.state));
    }
    if let Some(line) = view.runner.as_ref().and_then(RunnerInfo::sentence) {
        lines.push(line);
    }
    for job in view.waiting.iter().take(JOBS_NAMED_MAX) {
        lines.push(format!("waiting: {}", title(job)));
    }
    let more = view.waiting.len().saturating_sub(JOBS_NAMED_MAX);
    if more > 0 {
        lines.push(format!("and {more} more jobs wait"));
    }
    for told in view.discrepancies.iter().take(DISCREPANCIES_NAMED_MAX) {
        lines.push(disagreement(told));
    }
    let more = view.discrepancies.len().saturating_sub(DISCREPANCIES_NAMED_MAX);
    if more > 0 {
        lines.push(format!("and {more} more disagreements"));
    }
    if let Some(failure) = view.circuit.last_failure.filter(|_| view.circuit.failures > 0) {
        lines.push(format!("the last failed start: {failure}"));
    }
    (lines, view.causes)
}

/// Who serves it, where several controllers share a store.
fn owned(owner: &OwnerInfo) -> String {
    let host = owner.host.as_deref().unwrap_or("unknown");
    let mut line = match (owner.here, owner.alive) {
        (true, _) => "served by this controller".to_owned(),
        (false, true) => format!("served by the controller on host {host}"),
        (false, false) if owner.host_bound => {
            format!("served by nobody: it belongs to host {host}, whose controller does not answer")
        }
        (false, false) => "served by nobody at the moment".to_owned(),
    };
    if owner.unlike {
        line.push_str("; controllers have different settings for it, so it stays where it is");
    }
    line
}
