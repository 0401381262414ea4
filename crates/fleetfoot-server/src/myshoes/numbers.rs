//! The original's metrics, by the names, types and labels that its dashboards know, besides our own.
//!
//! In scale set mode there is no queue of jobs, no starter and no rescue: their gauges are there and say 0. No label
//! is a job; one that is a runner is there only while that runner's deletion fails, for at most two hundred of them,
//! and not at all where that is not wanted.

mod github;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use fleetfoot_core::{Health, ListenerState, PoolHealth, PoolName, Timestamp};
use fleetfoot_myshoes::target::Status;
use fleetfoot_store::{Pools, TargetRow};

pub use github::{BUCKETS, ShownCalls, ShownDurations, ShownLimit};

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
    /// Series with a runner's id are not wanted.
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

/// One metric after the other, each with all its series.
struct Page(String);

impl Page {
    fn metric<'a>(
        &mut self,
        name: &str,
        kind: &str,
        series: impl IntoIterator<Item = (Vec<(&'a str, String)>, f64)>,
    ) {
        let mut lines = String::new();
        for (labels, value) in series {
            let labels = joined(labels);
            let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
            // Writing to a text does not fail.
            let _ = writeln!(lines, "{name}{labels} {value}");
        }
        if !lines.is_empty() {
            let _ = write!(self.0, "# TYPE {name} {kind}\n{lines}");
        }
    }

    fn histogram(&mut self, name: &str, series: &BTreeMap<Labels, ShownDurations>) {
        if series.is_empty() {
            return;
        }
        let _ = writeln!(self.0, "# TYPE {name} histogram");
        for (labels, durations) in series {
            let labels = joined(labels.iter().cloned());
            let mut below = 0;
            for (end, count) in BUCKETS.iter().zip(durations.buckets) {
                below += count;
                let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"{end}\"}} {below}");
            }
            let count = durations.buckets.iter().sum::<u64>();
            let _ = writeln!(self.0, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(self.0, "{name}_sum{{{labels}}} {}", durations.sum);
            let _ = writeln!(self.0, "{name}_count{{{labels}}} {count}");
        }
    }
}

type Labels = Vec<(&'static str, String)>;

fn joined<'a>(labels: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let pairs = labels.into_iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(&value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn one(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    vec![(name, value.to_owned())]
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// The page. `ours` is our own, whose counters of pools are taken over.
#[must_use]
pub fn render(shown: &Shown, pools: &Pools, health: &Health, now: Timestamp, ours: &str) -> String {
    let mut page = Page(String::new());
    scrapes(&mut page, shown, is_github_away(health));
    datastore(&mut page, shown, pools, now);
    memory(&mut page, shown, pools);
    deletions(&mut page, shown, pools);
    github::write(&mut page, shown);
    scale_sets(&mut page, shown, pools, health, ours);
    page.0
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
    let begun = of_ours().flat_map(|state| state.instances.values());
    let making = begun.filter(|it| it.handle.is_none() && it.attempts > 0).count();
    page.metric(
        "myshoes_memory_starter_max_running",
        "gauge",
        starter(f64::from(shown.max_connections)),
    );
    page.metric("myshoes_memory_starter_queue_running", "gauge", starter(number(making)));
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

/// Series with a runner's id at most: those whose deletion failed the most often.
const RUNNERS_MAX: usize = 200;

/// Deletions that fail: by runner under the original's names, and in all under ours.
fn deletions(page: &mut Page, shown: &Shown, pools: &Pools) {
    let states = shown.targets.iter().filter_map(|(pool, _)| pools.get(pool));
    let mut failing: Vec<(u32, &str)> = states
        .flat_map(|state| state.instances.values())
        .filter(|it| it.phase == fleetfoot_core::Phase::Stopping && it.attempts > 0)
        .filter_map(|it| Some((it.attempts, it.name.as_str().strip_prefix("myshoes-")?)))
        .collect();
    failing.sort_by(|one, other| other.cmp(one));
    let most = failing.first().map_or(0, |(attempts, _)| *attempts);
    let all = number(failing.len());
    page.metric("fleetfoot_target_deletions_failing", "gauge", [(vec![], all)]);
    let most = [(vec![], f64::from(most))];
    page.metric("fleetfoot_target_deletion_failures_max", "gauge", most);
    failing.truncate(if shown.is_bounded { 0 } else { RUNNERS_MAX });
    let by = |label: &'static str| {
        let series = failing.iter();
        series.map(move |(attempts, id)| (one(label, id), f64::from(*attempts)))
    };
    page.metric("myshoes_memory_runner_delete_retry_count", "gauge", by("runner"));
    page.metric("myshoes_runner_delete_runner_retry_total", "counter", by("runner_uuid"));
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
mod tests {
    use fleetfoot_core::{Instance, InstanceName, Pool, PoolState, ResourceType};
    use fleetfoot_store::TargetSettings;

    use super::*;

    #[test]
    fn every_name_has_its_type_and_its_labels() {
        let pool = PoolName::new("myshoes-acme").unwrap();
        let row = TargetRow {
            id: "3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1".to_owned(),
            scope: "acme".to_owned(),
            token_expired_at: Timestamp(1_000),
            resource_type: ResourceType::Nano,
            provider_url: None,
            status: "active".to_owned(),
            status_description: None,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
            own: TargetSettings::default(),
        };
        let gone = TargetRow { id: "gone".to_owned(), status: "deleted".to_owned(), ..row.clone() };
        let mut state = PoolState::new(Pool::new(pool.clone(), Timestamp(0)));
        Arc::make_mut(&mut state.pool).demand.statistics.assigned = 3;
        for (number, handle) in [(1, Some("{}")), (2, None)] {
            let mut it =
                Instance::pending(InstanceName::of_uuid(number), pool.clone(), Timestamp(0));
            it.handle = handle.map(str::to_owned);
            if number == 1 {
                (it.phase, it.attempts) = (fleetfoot_core::Phase::Stopping, 4);
            }
            state.instances.insert(it.name.clone(), Arc::new(it));
        }
        let pools: Pools = [(pool.clone(), Arc::new(state))].into();
        let connected = PoolHealth { listener: ListenerState::Connected, ..PoolHealth::default() };
        let health =
            Health { pools: [(pool.clone(), Arc::new(connected))].into(), ..Health::default() };
        let shown = Shown {
            targets: vec![(pool, row), (PoolName::new("other").unwrap(), gone)],
            installations: vec![ShownInstallation {
                id: 7,
                account_login: "ac\"me".to_owned(),
                repository_selection: "all",
                ..ShownInstallation::default()
            }],
            max_connections: 50,
            max_deleting: 1,
            failed: vec!["collect.github"],
            scrapes: 2,
            docker_hub: Some((200.0, 76.0)),
            ..Shown::default()
        };
        let ours = "fleetfoot_jobs_finished_total{pool=\"myshoes-acme\",result=\"succeeded\"} 4\n\
            fleetfoot_jobs_finished_total{pool=\"myshoes-acme\",result=\"canceled\"} 1\n\
            fleetfoot_jobs_finished_total{pool=\"other\",result=\"succeeded\"} 9\n\
            fleetfoot_instances_closed_total{pool=\"myshoes-acme\",outcome=\"completed\"} 5\n\
            fleetfoot_instances_closed_total{pool=\"myshoes-acme\",outcome=\"failed\"} 2\n";
        let page = render(&shown, &pools, &health, Timestamp(11_000), ours);
        let target = "target_id=\"3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1\"";
        for (kind, line) in [
            ("counter", "myshoes_scrapes_total 2".to_owned()),
            ("counter", "myshoes_scrape_errors_total{collector=\"collect.github\"} 1".to_owned()),
            ("gauge", "myshoes_last_scrape_error 1".to_owned()),
            ("gauge", "myshoes_collector_duration_seconds{collector=\"collect.memory\"} 0".to_owned()),
            ("gauge", "myshoes_datastore_jobs{target_id=\"none\",runs_on=\"none\"} 0".to_owned()),
            ("gauge", "myshoes_datastore_targets{resource_type=\"nano\"} 1".to_owned()),
            ("gauge", format!("myshoes_datastore_target_describe{{{target},scope=\"acme\",resource_type=\"nano\"}} 1")),
            ("gauge", format!("myshoes_datastore_target_token_expires_seconds{{{target}}} -10")),
            ("gauge", format!("myshoes_datastore_runners_running{{{target}}} 1")),
            ("gauge", "myshoes_memory_starter_max_running{starter=\"starter\"} 50".to_owned()),
            ("gauge", "myshoes_memory_starter_queue_running{starter=\"starter\"} 0".to_owned()),
            ("gauge", "myshoes_memory_starter_queue_waiting{starter=\"starter\"} 0".to_owned()),
            ("gauge", "myshoes_memory_runner_max_concurrency_deleting{runner=\"runner\"} 1".to_owned()),
            ("gauge", "myshoes_memory_runner_queue_concurrency_deleting{runner=\"runner\"} 1".to_owned()),
            ("gauge", "myshoes_memory_runner_delete_retry_count{runner=\"00000000-0000-0000-0000-000000000001\"} 4".to_owned()),
            ("counter", "myshoes_runner_delete_runner_retry_total{runner_uuid=\"00000000-0000-0000-0000-000000000001\"} 4".to_owned()),
            ("gauge", "fleetfoot_target_deletions_failing 1".to_owned()),
            ("gauge", "fleetfoot_target_deletion_failures_max 4".to_owned()),
            ("gauge", "myshoes_memory_dockerhub_rate_limit_remaining 76".to_owned()),
            ("gauge", "myshoes_memory_dockerhub_rate_limit_limiting 200".to_owned()),
            ("gauge", "myshoes_github_installation{installation_id=\"7\",account_login=\"ac\\\"me\",account_type=\"\",target_type=\"\",repository_selection=\"all\",html_url=\"\"} 1".to_owned()),
            ("gauge", "myshoes_scaleset_listener_running{target_scope=\"acme\"} 1".to_owned()),
            ("gauge", "myshoes_scaleset_desired_runners{target_scope=\"acme\"} 3".to_owned()),
            ("gauge", "myshoes_scaleset_active_runners{target_scope=\"acme\"} 2".to_owned()),
            ("counter", "myshoes_scaleset_jobs_completed_total{target_scope=\"acme\"} 5".to_owned()),
            ("counter", "myshoes_scaleset_provision_errors_total{target_scope=\"acme\"} 2".to_owned()),
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n---\n{page}");
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let kinds = page.lines().filter(|it| *it == format!("# TYPE {name} {kind}")).count();
            assert_eq!(kinds, 1, "{name}\n{page}");
        }
        assert!(!page.contains("gone"), "{page}");
        let bounded = Shown { is_bounded: true, ..shown };
        let page = render(&bounded, &pools, &health, Timestamp(11_000), ours);
        assert!(!page.contains("00000000-0000-0000"), "{page}");
        assert!(page.contains("fleetfoot_target_deletions_failing 1"), "{page}");
    }
}
