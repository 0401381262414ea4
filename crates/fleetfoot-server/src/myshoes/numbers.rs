//! The original's metrics, by the names, types and labels that its dashboards know, besides our own.
//!
//! In scale set mode there is no queue of jobs, no starter and no rescue: their gauges are there and say 0. What the
//! original counts by job of that queue has no series, as it has none before the first job. A label that is a runner
//! is there only while that runner's deletion fails, one that is a workflow's run only while it waits, for at most two
//! hundred of each, and not at all where that is not wanted.

mod deletions;
mod github;
mod help;
mod page;
mod pending;
mod retries;

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetfoot_core::{Health, ListenerState, PoolHealth, PoolName, Timestamp};
use fleetfoot_myshoes::target::Status;
use fleetfoot_store::{Pools, TargetRow};

use page::{Page, one};

pub use github::{BUCKETS, ShownCalls, ShownDurations, ShownLimit};
pub use retries::{Retries, WAITS};

/// What the numbers are made from.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// All targets, with the names of their pools.
    pub targets: Vec<(PoolName, TargetRow)>,
    /// Where the App is installed.
    pub installations: Vec<ShownInstallation>,
    /// `MAX_CONNECTIONS_TO_BACKEND`
    pub max_connections: u32,
    /// `MAX_CONCURRENCY_DELETING`
    pub max_deleting: u32,
    /// Whether the last look at the targets and at GitHub brought something, by the original's collectors.
    pub failed: Vec<&'static str>,
    /// Scrapes so far, this one included.
    pub scrapes: u64,
    /// What was asked of GitHub.
    pub calls: Vec<ShownCalls>,
    /// What GitHub says is left.
    pub limits: Vec<ShownLimit>,
    /// The limits of Docker Hub, if they were asked for: in all, and left.
    pub docker_hub: Option<(f64, f64)>,
    /// Deletions that are tried again.
    pub retries: Retries,
    /// `GITHUB_URL`
    pub github_url: String,
    /// Series with the id of a runner or of a run are not wanted.
    pub is_bounded: bool,
}

/// One installation of the App.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShownInstallation {
    /// Its number.
    pub id: i64,
    /// The account.
    pub account_login: String,
    /// `Organization` or `User`.
    pub account_type: String,
    /// What it is installed at.
    pub target_type: String,
    /// `all` or `selected`.
    pub repository_selection: &'static str,
    /// Its page.
    pub html_url: String,
}

/// The collectors of the original.
const COLLECTORS: [&str; 3] = ["collect.datastore", "collect.memory", "collect.github"];

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// The page. `ours` is our own, whose counters of pools are taken over.
#[must_use]
pub fn render(shown: &Shown, pools: &Pools, health: &Health, now: Timestamp, ours: &str) -> String {
    let mut page = Page::default();
    scrapes(&mut page, shown, is_github_away(health));
    datastore(&mut page, shown, pools, now);
    memory(&mut page, shown, pools);
    deletions::write(&mut page, shown, pools);
    pending::write(&mut page, shown, pools, now);
    github::write(&mut page, shown);
    scale_sets(&mut page, shown, pools, health, ours);
    page.text()
}

/// No listener gets through.
fn is_github_away(health: &Health) -> bool {
    let open = || health.pools.values().filter(|it| it.listener != ListenerState::Closed);
    let waits = |it: &Arc<PoolHealth>| matches!(it.listener, ListenerState::Backoff { .. });
    open().count() > 0 && open().all(waits)
}

fn scrapes(page: &mut Page, shown: &Shown, is_github_away: bool) {
    const GITHUB: &str = "collect.github";
    let mut failed = shown.failed.clone();
    if is_github_away && !failed.contains(&GITHUB) {
        failed.push(GITHUB);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count that loses its last digit is a count")]
    let scrapes = shown.scrapes as f64;
    page.metric("myshoes_scrapes_total", "counter", [(vec![], scrapes)]);
    let any = if failed.is_empty() { 0.0 } else { 1.0 };
    let failed = failed.iter().map(|collector| (one("collector", collector), 1.0));
    page.metric("myshoes_scrape_errors_total", "counter", failed);
    page.metric("myshoes_last_scrape_error", "gauge", [(vec![], any)]);
    // All is read from memory.
    let durations = COLLECTORS.into_iter().map(|it| (one("collector", it), 0.0));
    page.metric("myshoes_collector_duration_seconds", "gauge", durations);
}

fn datastore(page: &mut Page, shown: &Shown, pools: &Pools, now: Timestamp) {
    let none = vec![("target_id", "none".to_owned()), ("runs_on", "none".to_owned())];
    page.metric("myshoes_datastore_jobs", "gauge", [(none, 0.0)]);
    let receiving =
        || shown.targets.iter().filter(|(_, row)| Status::of(&row.status).can_receive());
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, row) in receiving() {
        *sizes.entry(row.resource_type.word()).or_default() += 1;
    }
    let sizes = sizes.into_iter().map(|(size, count)| (one("resource_type", size), number(count)));
    page.metric("myshoes_datastore_targets", "gauge", sizes);
    let described = receiving().map(|(_, row)| {
        let labels = vec![
            ("target_id", row.id.clone()),
            ("scope", row.scope.clone()),
            ("resource_type", row.resource_type.word().to_owned()),
        ];
        (labels, 1.0)
    });
    page.metric("myshoes_datastore_target_describe", "gauge", described);
    let expiries = receiving().map(|(_, row)| {
        let seconds = (row.token_expired_at.0 - now.0) / 1000;
        #[expect(clippy::cast_precision_loss, reason = "seconds of years fit")]
        let seconds = seconds as f64;
        (one("target_id", &row.id), seconds)
    });
    page.metric("myshoes_datastore_target_token_expires_seconds", "gauge", expiries);
    let running = shown.targets.iter().filter_map(|(pool, row)| {
        let count = pools.get(pool)?.instances.values().filter(|it| it.handle.is_some()).count();
        (count > 0).then(|| (one("target_id", &row.id), number(count)))
    });
    page.metric("myshoes_datastore_runners_running", "gauge", running);
}

fn memory(page: &mut Page, shown: &Shown, pools: &Pools) {
    let starter = |value: f64| [(one("starter", "starter"), value)];
    let runner = |value: f64| [(one("runner", "runner"), value)];
    let of_ours = || shown.targets.iter().filter_map(|(pool, _)| pools.get(pool));
    page.metric(
        "myshoes_memory_starter_max_running",
        "gauge",
        starter(f64::from(shown.max_connections)),
    );
    page.metric("myshoes_memory_starter_queue_running", "gauge", starter(0.0));
    page.metric("myshoes_memory_starter_queue_waiting", "gauge", starter(0.0));
    page.metric(
        "myshoes_memory_runner_max_concurrency_deleting",
        "gauge",
        runner(f64::from(shown.max_deleting)),
    );
    let stopping = |it: &&std::sync::Arc<fleetfoot_core::Instance>| {
        it.phase == fleetfoot_core::Phase::Stopping
    };
    let deleting = of_ours().flat_map(|state| state.instances.values()).filter(stopping);
    page.metric(
        "myshoes_memory_runner_queue_concurrency_deleting",
        "gauge",
        runner(number(deleting.count())),
    );
    let installations = shown.installations.iter().map(|it| {
        let labels = vec![
            ("installation_id", it.id.to_string()),
            ("account_login", it.account_login.clone()),
            ("account_type", it.account_type.clone()),
            ("target_type", it.target_type.clone()),
            ("repository_selection", it.repository_selection.to_owned()),
            ("html_url", it.html_url.clone()),
        ];
        (labels, 1.0)
    });
    page.metric("myshoes_github_installation", "gauge", installations);
    let hub = shown.docker_hub;
    let left = hub.map(|(_, remaining)| (vec![], remaining));
    page.metric("myshoes_memory_dockerhub_rate_limit_remaining", "gauge", left);
    let limit = hub.map(|(limit, _)| (vec![], limit));
    page.metric("myshoes_memory_dockerhub_rate_limit_limiting", "gauge", limit);
}

fn scale_sets(page: &mut Page, shown: &Shown, pools: &Pools, health: &Health, ours: &str) {
    // A target that nobody serves any more has no series.
    let served: Vec<(&PoolName, Vec<(&'static str, String)>)> = shown
        .targets
        .iter()
        .filter(|(pool, _)| health.pools.contains_key(pool))
        .map(|(pool, row)| (pool, one("target_scope", &row.scope)))
        .collect();
    let listening = served.iter().map(|(pool, labels)| {
        let is_connected =
            health.pools.get(*pool).is_some_and(|it| it.listener == ListenerState::Connected);
        (labels.clone(), if is_connected { 1.0 } else { 0.0 })
    });
    page.metric("myshoes_scaleset_listener_running", "gauge", listening);
    let of = |pool: &PoolName, count: fn(&fleetfoot_core::PoolState) -> f64| {
        pools.get(pool).map_or(0.0, |state| count(state))
    };
    let desired = served.iter().map(|(pool, labels)| {
        (labels.clone(), of(pool, |state| f64::from(state.pool.demand.statistics.assigned)))
    });
    page.metric("myshoes_scaleset_desired_runners", "gauge", desired);
    let active = served
        .iter()
        .map(|(pool, labels)| (labels.clone(), of(pool, |state| number(state.instances.len()))));
    page.metric("myshoes_scaleset_active_runners", "gauge", active);
    for (name, from, with) in [
        ("myshoes_scaleset_jobs_completed_total", "fleetfoot_jobs_finished_total{", ""),
        (
            "myshoes_scaleset_provision_errors_total",
            "fleetfoot_instances_closed_total{",
            "outcome=\"failed\"",
        ),
    ] {
        let totals =
            served.iter().map(|(pool, labels)| (labels.clone(), sum(ours, from, pool, with)));
        page.metric(name, "counter", totals);
    }
}

/// The sum over our own counter's series of a pool.
fn sum(ours: &str, from: &str, pool: &PoolName, with: &str) -> f64 {
    let pool = format!("pool=\"{pool}\"");
    ours.lines()
        .filter(|line| line.starts_with(from) && line.contains(&pool) && line.contains(with))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests;
