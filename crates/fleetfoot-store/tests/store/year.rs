//! A year of jobs: the past stays within its retention, the files within their bounds, and no name is
//! given twice.

use std::collections::HashSet;
use std::fs;

use fleetfoot_core::{
    FailureKind, Instance, InstanceName, Observation, Outcome, PoolName, Span, Timestamp, naming,
};
use fleetfoot_store::{
    Durability, Execution, FinishedJob, Location, Options, Retention, Store, Txn, inspect,
};

use crate::bed::{job, pool_name, with_pools};

const DAY: i64 = 86_400_000;
/// The first of January 2026.
const BEGINNING: i64 = 1_767_225_600_000;
/// Jobs in one commit: a test has no year's time.
const AT_ONCE: i64 = 25;

/// One job from its assignment to the end of its instance, as a controller writes it.
fn one_job(txn: &mut Txn<'_>, number: i64, at: Timestamp) -> InstanceName {
    let pool: PoolName = pool_name("p");
    let row = txn.pool_mut(&pool).unwrap();
    row.last_name = naming::next_number(row.last_name, 0, at);
    let installation = fleetfoot_core::InstallationId::new("year").unwrap();
    let name = naming::numbered(&installation, &pool, row.last_name);
    let mut job = job(&format!("job-{number:036}"));
    job.seen_at = at;
    let id = job.id.clone();
    txn.put_job(&pool, job.clone());
    txn.insert_instance(Instance::pending(name.clone(), pool.clone(), at)).unwrap();
    let detail = "the image `registry.example/runner:latest` is not there".to_owned();
    let failed = Observation::Failed { kind: FailureKind::Create, detail: detail.clone() };
    txn.observe(&name, &Observation::CreateBegun, at).unwrap();
    txn.observe(&name, &failed, at).unwrap();
    let outcome = Outcome::Failed { kind: FailureKind::Create, detail };
    txn.observe(&name, &Observation::Closed { outcome }, at).unwrap();
    txn.remove_job(&pool, &id, Some("succeeded"), at);
    let (instance, result) = (Some(name.clone()), Some("succeeded".to_owned()));
    txn.finish(FinishedJob { pool, job, instance, result, finished_at: at });
    name
}

struct Year {
    store: Store,
    path: std::path::PathBuf,
    names: HashSet<InstanceName>,
    jobs: i64,
}

impl Year {
    /// So many jobs, evenly from one day to another.
    async fn pass(&mut self, jobs: i64, from: i64, to: i64) {
        let step = (to - from) * DAY / jobs;
        let mut done = 0;
        while done < jobs {
            let (first, count) = (self.jobs, AT_ONCE.min(jobs - done));
            let begin = BEGINNING + from * DAY + done * step;
            let given = self.store.update(move |txn| {
                let at = |one| Timestamp(begin + one * step);
                (0..count).map(|one| one_job(txn, first + one, at(one))).collect::<Vec<_>>()
            });
            for name in given.await.unwrap() {
                assert!(self.names.insert(name.clone()), "{name} was given before");
            }
            done += count;
            self.jobs += count;
            let log =
                fs::metadata(self.path.with_extension("sqlite-wal")).map_or(0, |meta| meta.len());
            assert!(log <= 8 << 20, "the log has {log} bytes");
        }
    }

    async fn report(&self) -> fleetfoot_store::Report {
        inspect(&Location::Sqlite(self.path.clone())).await.unwrap()
    }
}

#[tokio::test]
async fn a_year_stays_within_its_retention() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    let retention = Retention { events_max: 9_000, closed_max: 1_500, ..Retention::default() };
    let options = Options {
        durability: Durability::Off,
        execution: Execution::Inline,
        retention,
        now: Some(Timestamp(BEGINNING)),
        ..Options::default()
    };
    let store = Store::open(Location::Sqlite(path.clone()), options).await.unwrap();
    with_pools(&store, &["p"]).await;
    let mut year = Year { store, path, names: HashSet::new(), jobs: 0 };

    // Few jobs: age rules.
    year.pass(3_000, 0, 90).await;
    let quiet = year.report().await;
    assert!(quiet.is_good(), "{quiet:?}");
    let oldest = quiet.oldest_event.unwrap();
    assert!(oldest.0 >= BEGINNING + 58 * DAY, "{oldest:?}");
    // So many that counts rule.
    year.pass(6_000, 90, 180).await;
    let full = year.report().await;
    year.pass(9_000, 180, 365).await;
    let end = year.report().await;
    for report in [&full, &end] {
        assert!(report.is_good(), "{report:?}");
        let rows = |table| *report.rows.get(table).unwrap_or(&0);
        // Between two prunes some are written.
        assert!(rows("events") <= 9_000 + 600, "{report:?}");
        assert!(report.closed_instances <= 1_500 + 100, "{report:?}");
        assert!(rows("finished_jobs") <= 1_500 + 100, "{report:?}");
        assert_eq!(rows("jobs"), 0);
    }
    let (before, after) = (full.file_bytes.unwrap(), end.file_bytes.unwrap());
    assert!(after <= before + before / 10, "{before} bytes in summer, {after} at the end");
    assert!(after < 12 << 20, "{after} bytes");
    println!("{after} bytes for {:?}", end.rows);
    assert_eq!(year.names.len(), 18_000);
    year.store.close().await;
}

#[tokio::test]
async fn names_forgotten_by_the_history_are_not_given_again() {
    // The same numbers whatever the history holds: a pool that makes 700,000 names.
    let installation = fleetfoot_core::InstallationId::new("i").unwrap();
    let mut last = 0;
    let mut names = HashSet::new();
    for step in 0..700_000 {
        last = naming::next_number(last, 0, Timestamp(BEGINNING) + Span(step * 40));
        assert!(names.insert(naming::numbered(&installation, &pool_name("p"), last)));
    }
}
