//! Each name of the original's list with its type and its labels, and true values.

use std::collections::BTreeSet;

use fleetfoot_core::{
    Instance, InstanceName, Job, JobId, JobState, Phase, Pool, PoolState, ResourceType, Span,
};
use fleetfoot_store::TargetSettings;

use super::*;

const NOW: Timestamp = Timestamp(10_000_000);

/// Of our own page: what the counters of scale sets are read from.
const OURS: &str = "fleetfoot_jobs_finished_total{pool=\"myshoes-acme\",result=\"succeeded\"} 4\n\
    fleetfoot_jobs_finished_total{pool=\"myshoes-acme\",result=\"canceled\"} 1\n\
    fleetfoot_jobs_finished_total{pool=\"other\",result=\"succeeded\"} 9\n\
    fleetfoot_instances_closed_total{pool=\"myshoes-acme\",outcome=\"completed\"} 5\n\
    fleetfoot_instances_closed_total{pool=\"myshoes-acme\",outcome=\"failed\"} 2\n";

/// Two targets, one of them deleted; two machines, one of which is not deleted at the third attempt; a run that waits.
fn scene() -> (Shown, Pools, Health) {
    let pool = PoolName::new("myshoes-acme").unwrap();
    let row = TargetRow {
        id: "3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1".to_owned(),
        scope: "acme".to_owned(),
        token_expired_at: NOW - Span(10_000),
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
        let mut it = Instance::pending(InstanceName::of_uuid(number), pool.clone(), Timestamp(0));
        it.handle = handle.map(str::to_owned);
        if number == 1 {
            (it.phase, it.attempts) = (Phase::Stopping, 4);
            it.retry_at = Some(NOW - Span(500));
        } else {
            // Its creation failed once: no job of a queue that does not exist.
            it.attempts = 1;
        }
        state.instances.insert(it.name.clone(), Arc::new(it));
    }
    for (number, minutes, started) in [(1, 12, false), (2, 9, false), (3, 30, true)] {
        let job = Job {
            id: JobId::new(&format!("job-{number}")),
            state: JobState::Assigned,
            repository: "acme/app".to_owned(),
            workflow: "ci.yml".to_owned(),
            display_name: "build".to_owned(),
            run_id: 100 + number,
            queued_at: Some(NOW - Span::minutes(minutes)),
            seen_at: NOW,
            started_at: started.then_some(NOW),
        };
        state.jobs.insert(job.id.clone(), Arc::new(job));
    }
    let pools: Pools = [(pool.clone(), Arc::new(state))].into();
    let mut retries = Retries::default();
    retries.look(&pools, &[pool.clone()].into(), NOW - Span(3_000));
    retries.look(&pools, &[pool.clone()].into(), NOW);
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
        retries,
        github_url: "https://github.com".to_owned(),
        ..Shown::default()
    };
    (shown, pools, health)
}

#[test]
fn every_number_is_true() {
    let (shown, pools, health) = scene();
    let page = render(&shown, &pools, &health, NOW, OURS);
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
        ("counter", "myshoes_runner_delete_runner_retry_total{runner_uuid=\"00000000-0000-0000-0000-000000000001\"} 1".to_owned()),
        ("gauge", format!("myshoes_github_pending_runs{{{target},scope=\"acme\"}} 1")),
        ("gauge", format!("myshoes_github_pending_workflow_run_seconds{{{target},workflow_id=\"\",workflow_run_id=\"101\",html_url=\"https://github.com/acme/app/actions/runs/101\"}} 720")),
        ("gauge", "fleetfoot_target_pending_runs 1".to_owned()),
        ("gauge", "fleetfoot_target_pending_run_seconds_max 720".to_owned()),
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
    let waits = "myshoes_runner_delete_runner_backoff_duration_seconds";
    let runner = "runner_uuid=\"00000000-0000-0000-0000-000000000001\"";
    for line in [
        format!("{waits}_bucket{{{runner},le=\"2\"}} 0"),
        format!("{waits}_bucket{{{runner},le=\"4\"}} 1"),
        format!("{waits}_bucket{{{runner},le=\"512\"}} 1"),
        format!("{waits}_sum{{{runner}}} 2.5"),
        format!("{waits}_count{{{runner}}} 1"),
    ] {
        assert!(page.lines().any(|it| it == line), "{line}\n---\n{page}");
    }
    assert!(!page.contains("gone"), "{page}");
    let bounded = Shown { is_bounded: true, ..shown };
    let page = render(&bounded, &pools, &health, NOW, OURS);
    assert!(!page.contains("00000000-0000-0000"), "{page}");
    assert!(!page.contains("actions/runs/101"), "{page}");
    assert!(page.contains("fleetfoot_target_deletions_failing 1"), "{page}");
}

/// When a name of the original's list has a series here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// On every page.
    Always,
    /// Once there is something to count, as with the original.
    Fed,
    /// Only what webhook mode counts, by a label that it has no value for before; the original shows none until then.
    Webhook,
}

/// The original's list, in its order: name, type, labels.
const LIST: [(&str, &str, &str, When); 43] = [
    ("myshoes_scrapes_total", "counter", "", When::Always),
    ("myshoes_scrape_errors_total", "counter", "collector", When::Fed),
    ("myshoes_last_scrape_error", "gauge", "", When::Always),
    ("myshoes_collector_duration_seconds", "gauge", "collector", When::Always),
    ("myshoes_datastore_jobs", "gauge", "target_id,runs_on", When::Always),
    ("myshoes_datastore_job_duration_oldest_seconds", "gauge", "job_id,runs_on", When::Webhook),
    ("myshoes_datastore_deleted_jobs", "counter", "runs_on", When::Webhook),
    ("myshoes_datastore_targets", "gauge", "resource_type", When::Fed),
    ("myshoes_datastore_target_describe", "gauge", "target_id,scope,resource_type", When::Fed),
    ("myshoes_datastore_target_token_expires_seconds", "gauge", "target_id", When::Fed),
    ("myshoes_datastore_runners_running", "gauge", "target_id", When::Fed),
    ("myshoes_memory_starter_max_running", "gauge", "starter", When::Always),
    ("myshoes_memory_starter_queue_running", "gauge", "starter", When::Always),
    ("myshoes_memory_starter_queue_waiting", "gauge", "starter", When::Always),
    ("myshoes_memory_starter_rescued_runs", "gauge", "starter,target", When::Webhook),
    ("myshoes_memory_github_rate_limit_remaining", "gauge", "scope", When::Fed),
    ("myshoes_memory_github_rate_limit_limiting", "gauge", "scope", When::Fed),
    ("myshoes_memory_dockerhub_rate_limit_remaining", "gauge", "", When::Fed),
    ("myshoes_memory_dockerhub_rate_limit_limiting", "gauge", "", When::Fed),
    ("myshoes_memory_runner_max_concurrency_deleting", "gauge", "runner", When::Always),
    ("myshoes_memory_runner_queue_concurrency_deleting", "gauge", "runner", When::Always),
    ("myshoes_memory_runner_delete_retry_count", "gauge", "runner", When::Fed),
    ("myshoes_memory_runner_create_retry_count", "gauge", "runner", When::Webhook),
    ("myshoes_github_pending_runs", "gauge", "target_id,scope", When::Fed),
    (
        "myshoes_github_pending_workflow_run_seconds",
        "gauge",
        "target_id,workflow_id,workflow_run_id,html_url",
        When::Fed,
    ),
    (
        "myshoes_github_installation",
        "gauge",
        "installation_id,account_login,account_type,target_type,repository_selection,html_url",
        When::Fed,
    ),
    ("myshoes_webhook_received_total", "counter", "event_type,status,runs_on", When::Webhook),
    (
        "myshoes_webhook_processing_duration_seconds",
        "histogram",
        "event_type,runs_on",
        When::Webhook,
    ),
    (
        "myshoes_webhook_jobs_enqueued_total",
        "counter",
        "event_type,repository,runs_on",
        When::Webhook,
    ),
    ("myshoes_github_api_requests_total", "counter", "path,method,status_class", When::Fed),
    (
        "myshoes_github_api_request_duration_seconds",
        "histogram",
        "path,method,status_class",
        When::Fed,
    ),
    ("myshoes_github_api_errors_total", "counter", "path,method,error_type", When::Fed),
    ("myshoes_github_api_inflight", "gauge", "path,method", When::Fed),
    ("myshoes_github_api_cache_total", "counter", "path,method,result", When::Fed),
    (
        "myshoes_starter_add_instance_backoff_duration_seconds",
        "histogram",
        "job_uuid",
        When::Webhook,
    ),
    ("myshoes_starter_add_instance_retry_total", "counter", "job_uuid", When::Webhook),
    (
        "myshoes_runner_delete_runner_backoff_duration_seconds",
        "histogram",
        "runner_uuid",
        When::Fed,
    ),
    ("myshoes_runner_delete_runner_retry_total", "counter", "runner_uuid", When::Fed),
    ("myshoes_scaleset_listener_running", "gauge", "target_scope", When::Fed),
    ("myshoes_scaleset_desired_runners", "gauge", "target_scope", When::Fed),
    ("myshoes_scaleset_active_runners", "gauge", "target_scope", When::Fed),
    ("myshoes_scaleset_jobs_completed_total", "counter", "target_scope", When::Fed),
    ("myshoes_scaleset_provision_errors_total", "counter", "target_scope", When::Fed),
];

/// What a page has: each name with its type, and the labels of each of its series. Each says first what it is.
fn names(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut names: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let (mut at, mut told) = (String::new(), String::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.'), "{line}");
            told = name.to_owned();
            continue;
        }
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (name, kind) = head.split_once(' ').unwrap();
            let news = names.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
            assert!(news.is_none(), "{name} is there twice\n{page}");
            assert_eq!(told, name, "it does not say what it is");
            at = name.to_owned();
            continue;
        }
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        assert!(name.starts_with(at.as_str()), "{line} stands under {at}");
        // No value of the scene has `=\"` in it.
        let labels = labels.split("=\"").map(|it| it.rsplit([',', '"']).next().unwrap_or(it));
        let labels: Vec<&str> = labels.filter(|it| !matches!(*it, "" | "}" | "le")).collect();
        names.get_mut(&at).unwrap().1.insert(labels.join(","));
    }
    names
}

#[test]
fn every_name_of_the_list_has_its_type_and_its_labels() {
    let (mut shown, pools, health) = scene();
    let durations = ShownDurations { sum: 1.0, ..ShownDurations::default() };
    shown.calls = vec![ShownCalls {
        path: "/app/installations".to_owned(),
        method: "GET".to_owned(),
        is_rest: true,
        ended: [("2xx", ShownDurations { buckets: [1; BUCKETS.len() + 1], ..durations })].into(),
        errors: [("timeout", 1)].into(),
        hits: 1,
        ..ShownCalls::default()
    }];
    shown.limits = vec![ShownLimit { scope: "acme".to_owned(), limit: 9, remaining: 1 }];
    let page = render(&shown, &pools, &health, NOW, OURS);
    let there = names(&page);
    for (name, kind, labels, when) in LIST {
        let expected = (kind.to_owned(), BTreeSet::from([labels.to_owned()]));
        let found = there.get(name);
        match when {
            When::Always | When::Fed => assert_eq!(found, Some(&expected), "{name}\n{page}"),
            When::Webhook => assert_eq!(found, None, "{name}"),
        }
    }
    let known: BTreeSet<&str> = LIST.iter().map(|row| row.0).collect();
    assert_eq!(known.len(), LIST.len());
    let more: Vec<&String> = there.keys().filter(|name| !known.contains(name.as_str())).collect();
    assert!(more.iter().all(|name| name.starts_with("fleetfoot_")), "{more:?}");
    // Before anything is known, those are there that need nothing, and no others.
    let page = render(&Shown::default(), &Pools::new(), &Health::default(), NOW, "");
    let there = names(&page);
    let first: BTreeSet<&str> =
        there.keys().map(String::as_str).filter(|name| name.starts_with("myshoes_")).collect();
    let always = LIST.iter().filter(|row| row.3 == When::Always).map(|row| row.0);
    assert_eq!(first, always.collect());
}
