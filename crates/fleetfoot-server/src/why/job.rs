//! Why a job waits, where it runs, and what became of one that is over.

use fleetfoot_api::CauseInfo;
use fleetfoot_core::{Instance, Job, JobState, PoolState};
use fleetfoot_store::FinishedJob;

use super::{since, title};
use crate::views::time::{rfc3339, span};
use crate::views::{Snapshot, job_info, outcome};

pub(super) fn answer(
    snapshot: &Snapshot,
    state: &PoolState,
    job: &Job,
) -> (Vec<String>, Vec<CauseInfo>) {
    let now = snapshot.now;
    let name = title(&job_info(job, &state.pool.config_url));
    match &job.state {
        JobState::Assigned => {
            let view = snapshot.pool(state);
            let waits = since(job.queued_at.unwrap_or(job.seen_at), now);
            let mut lines = vec![format!("{name} waits in pool `{}` {waits}", view.name)];
            lines.push(if view.idle > 0 {
                format!(
                    "{} idle runners of the pool are online: GitHub hands the job to one of them",
                    view.idle
                )
            } else {
                format!("{} of its instances are running, {} starting", view.running, view.starting)
            });
            if !job.workflow.is_empty() {
                lines.push(format!("workflow {}", job.workflow));
            }
            (lines, view.causes)
        }
        JobState::Started { instance } => {
            let started = job.started_at.unwrap_or(job.seen_at);
            let place = match instance {
                Some(instance) if state.instances.contains_key(instance) => {
                    format!("on `{instance}`")
                }
                Some(instance) => format!("on `{instance}`, which is no living instance of ours"),
                None => "on a runner that is not ours".to_owned(),
            };
            let mut lines = vec![format!("{name} runs {place} {}", since(started, now))];
            if let Some(queued) = job.queued_at {
                lines.push(format!("it waited {} before", span(queued.age(started))));
            }
            if !job.workflow.is_empty() {
                lines.push(format!("workflow {}", job.workflow));
            }
            (lines, Vec::new())
        }
    }
}

pub(super) fn finished(
    snapshot: &Snapshot,
    finished: &FinishedJob,
    ran_on: Option<&Instance>,
) -> Vec<String> {
    let config_url =
        snapshot.pools.get(&finished.pool).map_or("", |state| state.pool.config_url.as_str());
    let name = title(&job_info(&finished.job, config_url));
    let result = finished.result.as_deref().unwrap_or("no result given");
    let mut lines = vec![format!("{name} is over ({result})")];
    lines.push(match &finished.instance {
        Some(instance) => format!("it ran on `{instance}` of pool `{}`", finished.pool),
        None => format!("it never started on a runner of pool `{}`", finished.pool),
    });
    lines.push(format!("its end was heard of at {}", rfc3339(finished.finished_at)));
    if let (Some(queued), Some(started)) = (finished.job.queued_at, finished.job.started_at) {
        let ran = span(started.age(finished.finished_at));
        lines.push(format!("it waited {} and ran {ran}", span(queued.age(started))));
    }
    if let Some(end) = ran_on.and_then(|instance| instance.outcome.as_ref()) {
        lines.push(format!("of its instance: {}", outcome(end)));
    }
    lines
}
