//! Deletions that fail: by runner under the original's names, and in all under ours.

use fleetfoot_core::Phase;
use fleetfoot_store::Pools;

use super::page::{Labels, Page, one};
use super::retries::Retried;
use super::{Shown, WAITS, number};

/// Series with a runner's id at most: those whose deletion failed the most often.
const RUNNERS_MAX: usize = 200;

/// A runner whose deletion fails or failed.
struct Failing<'a> {
    failures: u32,
    id: &'a str,
    retried: Option<&'a Retried>,
}

pub(super) fn write(page: &mut Page, shown: &Shown, pools: &Pools) {
    let states = shown.targets.iter().filter_map(|(pool, _)| pools.get(pool));
    let stopping =
        states.flat_map(|state| state.instances.values()).filter(|it| it.phase == Phase::Stopping);
    let mut all: Vec<Failing> = stopping
        .filter_map(|it| {
            let id = it.name.as_str().strip_prefix("myshoes-")?;
            Some(Failing { failures: it.attempts, id, retried: shown.retries.of(&it.name) })
        })
        .filter(|it| it.failures > 0 || it.retried.is_some())
        .collect();
    all.sort_by(|one, other| (other.failures, other.id).cmp(&(one.failures, one.id)));
    let most = all.first().map_or(0, |it| it.failures);
    let failing = number(all.iter().filter(|it| it.failures > 0).count());
    page.metric("fleetfoot_target_deletions_failing", "gauge", [(vec![], failing)]);
    let most = [(vec![], f64::from(most))];
    page.metric("fleetfoot_target_deletion_failures_max", "gauge", most);
    all.truncate(if shown.is_bounded { 0 } else { RUNNERS_MAX });
    let failures = all
        .iter()
        .filter(|it| it.failures > 0)
        .map(|it| (one("runner", it.id), f64::from(it.failures)));
    page.metric("myshoes_memory_runner_delete_retry_count", "gauge", failures);
    let by_runner = || {
        let retried = all.iter().filter_map(|it| Some((one("runner_uuid", it.id), it.retried?)));
        retried.filter(|(_, it)| it.count() > 0)
    };
    #[expect(clippy::cast_precision_loss, reason = "a count that loses its last digit is a count")]
    let retries = by_runner().map(|(labels, it)| (labels, it.count() as f64));
    page.metric("myshoes_runner_delete_runner_retry_total", "counter", retries);
    let waits = by_runner().map(|(labels, it): (Labels, &Retried)| {
        let buckets: &[u64] = &it.buckets;
        (labels, buckets, it.sum)
    });
    page.histogram("myshoes_runner_delete_runner_backoff_duration_seconds", &WAITS, waits);
}
