//! Runs that wait: what the scale sets were told of, so that nobody asks GitHub for lists of runs. The original lists
//! the runs of each repository that had a machine within the hour; a run whose jobs want other runners is not ours to
//! see.

use std::collections::BTreeMap;

use fleetfoot_core::{PoolState, Timestamp};
use fleetfoot_myshoes::target::Status;
use fleetfoot_store::Pools;

use super::page::Page;
use super::{Shown, number};

/// A run that waits for less does not count, as with the original.
const WAITS_FOR: i64 = 10 * 60 * 1000;

/// Series with a run's number at most: those that wait the longest.
const RUNS_MAX: usize = 200;

/// One run that waits.
struct Run<'a> {
    target: &'a str,
    id: i64,
    repository: &'a str,
    seconds: f64,
}

pub(super) fn write(page: &mut Page, shown: &Shown, pools: &Pools, now: Timestamp) {
    let receiving =
        || shown.targets.iter().filter(|(_, row)| Status::of(&row.status).can_receive());
    let mut all: Vec<Run> = Vec::new();
    let mut counts = Vec::new();
    for (pool, row) in receiving() {
        let runs = pools.get(pool).map(|state| runs(&row.id, state, now)).unwrap_or_default();
        let labels = vec![("target_id", row.id.clone()), ("scope", row.scope.clone())];
        counts.push((labels, number(runs.len())));
        all.extend(runs);
    }
    page.metric("myshoes_github_pending_runs", "gauge", counts);
    all.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
    let longest = all.first().map_or(0.0, |run| run.seconds);
    page.metric("fleetfoot_target_pending_runs", "gauge", [(vec![], number(all.len()))]);
    page.metric("fleetfoot_target_pending_run_seconds_max", "gauge", [(vec![], longest)]);
    all.truncate(if shown.is_bounded { 0 } else { RUNS_MAX });
    let ages = all.iter().map(|run| {
        let labels = vec![
            ("target_id", run.target.to_owned()),
            // Messages name a workflow by its file and not by its number.
            ("workflow_id", String::new()),
            ("workflow_run_id", run.id.to_string()),
            (
                "html_url",
                format!("{}/{}/actions/runs/{}", shown.github_url, run.repository, run.id),
            ),
        ];
        (labels, run.seconds)
    });
    page.metric("myshoes_github_pending_workflow_run_seconds", "gauge", ages);
}

/// Runs of which no job has started, by the job that waits the longest.
fn runs<'a>(target: &'a str, state: &'a PoolState, now: Timestamp) -> Vec<Run<'a>> {
    let mut oldest: BTreeMap<i64, Option<(Timestamp, &str)>> = BTreeMap::new();
    for job in state.jobs.values().filter(|job| job.run_id != 0) {
        let since = (job.queued_at.unwrap_or(job.seen_at), job.repository.as_str());
        let known = oldest.entry(job.run_id).or_insert(Some(since));
        *known = match (*known, job.started_at) {
            (Some(known), None) => Some(known.min(since)),
            (None, _) | (_, Some(_)) => None,
        };
    }
    let waiting = oldest.into_iter().filter_map(|(id, it)| {
        let (since, repository) = it?;
        let age = since.age(now);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of years fit")]
        let seconds = age.0 as f64 / 1000.0;
        (age.0 >= WAITS_FOR).then_some(Run { target, id, repository, seconds })
    });
    waiting.collect()
}
