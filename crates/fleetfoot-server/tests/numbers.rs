//! The numbers: valid text, bounded labels, and what happened is counted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{NOW, Server, job, name, pool};
use fleetfoot_core::health::{Discrepancies, Present};
use fleetfoot_core::{Discrepancy, JobId, JobState, Observation, Outcome, Reason};

async fn scrape(server: &Server) -> String {
    let answer = reqwest::get(server.url("/metrics")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    answer.text().await.unwrap()
}

/// Name, label pairs and value of one sample, by the letter of the text format.
fn sample(line: &str) -> (String, Vec<(String, String)>, f64) {
    let (head, value) = line.rsplit_once(' ').unwrap();
    let (metric, labels) = match head.split_once('{') {
        None => (head, Vec::new()),
        Some((metric, rest)) => {
            let inner = rest.strip_suffix('}').unwrap();
            let pair = |text: &str| {
                let (label, value) = text.split_once('=').unwrap();
                let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap();
                (label.to_owned(), value.to_owned())
            };
            (metric, inner.split(',').map(pair).collect())
        }
    };
    assert!(metric.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
    (metric.to_owned(), labels, value.parse().unwrap())
}

fn value(text: &str, wanted: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(wanted)?.trim().parse().ok())
}

#[tokio::test]
async fn the_text_is_valid_and_its_labels_are_bounded() {
    let server = Server::start().await;
    server.metrics.instance_created(&pool("linux"));
    server.metrics.job_finished(&pool("linux"), Some("a word that GitHub made up"));
    let text = scrape(&server).await;
    let known =
        ["pool", "phase", "cause", "state", "version", "leg", "le", "outcome", "result", "kind"];
    let known: BTreeSet<&str> = known.into();
    let mut families = BTreeSet::new();
    let mut samples = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(family) = comment.strip_prefix("TYPE ") {
                assert!(families.insert(family.split(' ').next().unwrap().to_owned()), "{line}");
            }
            continue;
        }
        let (metric, labels, _) = sample(line);
        let is_known = ["fleetfoot_", "process_"].iter().any(|room| metric.starts_with(room));
        assert!(is_known, "{line}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| metric.strip_suffix(end));
        assert!(families.contains(&metric) || families.contains(family.unwrap_or("")), "{line}");
        for (label, _) in &labels {
            assert!(known.contains(label.as_str()), "{line}");
        }
        assert!(samples.insert((metric, labels)), "said twice: {line}");
    }
    for secret in ["linux-0000", "job-1", "job-2", "octo", "501", "made up"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(value(&text, "fleetfoot_instances{pool=\"linux\",phase=\"idle\"}"), Some(1.0));
    assert_eq!(
        value(&text, "fleetfoot_pool_cause{pool=\"linux\",cause=\"pool_limit\"}"),
        Some(1.0)
    );
    assert_eq!(value(&text, "fleetfoot_pool_desired{pool=\"linux\"}"), Some(2.0));
    assert_eq!(value(&text, "fleetfoot_ready"), Some(1.0));
    assert_eq!(
        value(&text, "fleetfoot_jobs_finished_total{pool=\"linux\",result=\"other\"}"),
        Some(1.0)
    );
}

#[tokio::test]
async fn what_the_sides_disagree_about_is_counted_listed_and_told() {
    let server = Server::start().await;
    let whose = name("linux-00000002");
    let told = Discrepancies {
        present: vec![Present {
            kind: Discrepancy::NeverRegistered,
            name: Some(whose.clone()),
            since: NOW,
            overdue: true,
        }],
        counts: [(Discrepancy::NeverRegistered, 1)].into(),
        seen: [(Discrepancy::NeverRegistered, 3), (Discrepancy::EndUnseen, 2)].into(),
    };
    server.health.send_modify(|health| {
        let linux = health.pools.get_mut(&pool("linux")).unwrap();
        std::sync::Arc::make_mut(linux).discrepancies = told.clone();
        health.unserved.insert("engine".into(), std::sync::Arc::new(told));
    });
    let text = scrape(&server).await;
    let of = |metric: &str, pool: &str, kind: Discrepancy| {
        let wanted = format!("fleetfoot_{metric}{{pool=\"{pool}\",kind=\"{}\"}}", kind.as_str());
        value(&text, &wanted)
    };
    for pool in ["linux", ""] {
        assert_eq!(of("discrepancies", pool, Discrepancy::NeverRegistered), Some(1.0));
        assert_eq!(
            of("discrepancies", pool, Discrepancy::EndUnseen),
            Some(0.0),
            "over, not absent"
        );
        assert_eq!(of("discrepancies_total", pool, Discrepancy::NeverRegistered), Some(3.0));
        assert_eq!(of("discrepancies_total", pool, Discrepancy::EndUnseen), Some(2.0));
    }
    assert!(text.contains("# TYPE fleetfoot_discrepancies_total counter"));
    let status = server.client.status().await.unwrap();
    let linux = status.pools.iter().find(|pool| pool.name == "linux").unwrap();
    assert_eq!(linux.discrepancies[0].kind, "never_registered");
    assert_eq!(linux.discrepancies[0].instance.as_deref(), Some(whose.as_str()));
    assert!(linux.discrepancies[0].overdue);
    assert_eq!(status.discrepancies.len(), 1);
    for subject in ["linux", whose.as_str()] {
        let why = server.client.why(subject).await.unwrap();
        let line = why.answer.iter().find(|line| line.contains("never_registered"));
        assert!(line.unwrap().contains("longer than it should"), "{:?}", why.answer);
    }
}

/// Scrapes until `wanted` shows `at_least`, within a bound.
async fn eventually(server: &Server, wanted: &str, at_least: f64) -> String {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let text = scrape(server).await;
        if value(&text, wanted).is_some_and(|value| value >= at_least) {
            return text;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{wanted} never reached {at_least}:\n{text}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_happens_is_counted() {
    let mut server = Server::start().await;
    server.watch();
    // The watch remembers what it finds first; only then does something happen.
    let probe = fleetfoot_core::Instance::pending(name("linux-0000000f"), pool("linux"), NOW);
    let mut made = 0;
    let created = "fleetfoot_instances_created_total{pool=\"linux\"}";
    while value(&scrape(&server).await, created).is_none() && made < 200 {
        made += 1;
        let another = fleetfoot_core::Instance {
            name: fleetfoot_core::InstanceName::of_pool(&pool("linux"), 0x1000 + made),
            ..probe.clone()
        };
        server.store.update(move |txn| txn.insert_instance(another).unwrap()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server
        .store
        .update(|txn| {
            let state = JobState::Started { instance: Some(name("linux-00000002")) };
            assert!(txn.put_job(&pool("linux"), job("job-2", "test", 502, state)));
            let started = Observation::JobStarted { job: JobId::new("job-2") };
            txn.observe(&name("linux-00000002"), &started, NOW).map(|_| ()).unwrap();
            txn.observe(&name("linux-00000003"), &Observation::Online, NOW).map(|_| ()).unwrap();
        })
        .await
        .unwrap();
    let legs = "fleetfoot_queue_to_start_seconds";
    let text =
        eventually(&server, &format!("{legs}_count{{pool=\"linux\",leg=\"total\"}}"), 1.0).await;
    assert_eq!(value(&text, &format!("{legs}_sum{{pool=\"linux\",leg=\"total\"}}")), Some(30.0));
    assert_eq!(value(&text, &format!("{legs}_sum{{pool=\"linux\",leg=\"delivery\"}}")), Some(1.0));
    assert_eq!(value(&text, "fleetfoot_jobs_started_total{pool=\"linux\"}"), Some(1.0));
    assert_eq!(value(&text, "fleetfoot_boot_seconds_count{pool=\"linux\"}"), Some(1.0));
    server
        .store
        .update(|txn| {
            txn.remove_job(&pool("linux"), &JobId::new("job-2"), Some("Failed"), NOW);
            let idle = name("linux-00000003");
            let outcome = Outcome::Removed(Reason::Surplus);
            for seen in [
                Observation::Removal { reason: Reason::Surplus },
                Observation::Deregistered,
                Observation::EnvironmentGone,
                Observation::Closed { outcome },
            ] {
                txn.observe(&idle, &seen, NOW).map(|_| ()).unwrap();
            }
        })
        .await
        .unwrap();
    eventually(&server, "fleetfoot_jobs_finished_total{pool=\"linux\",result=\"failed\"}", 1.0)
        .await;
    let closed = "fleetfoot_instances_closed_total{pool=\"linux\",outcome=\"removed\"}";
    eventually(&server, closed, 1.0).await;
}
