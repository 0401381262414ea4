//! Whatever is written comes back, field by field.

use std::collections::BTreeMap;

use fleetfoot_core::{Instance, InstanceName, Job, Phase};
use fleetfoot_store::{Durability, Execution, Location, Options, Store};
use proptest::prelude::*;

use crate::bed::{Bed, on_every_database, pool_name};
use crate::generate;

async fn survives(
    location: &Location,
    options: &Options,
    pool: fleetfoot_core::Pool,
    instances: BTreeMap<InstanceName, Instance>,
    jobs: BTreeMap<fleetfoot_core::JobId, fleetfoot_core::Job>,
) {
    let store = Store::open(location.clone(), options.clone()).await.unwrap();
    let name = pool.name.clone();
    let (rows, live_jobs) = (instances.clone(), jobs.clone());
    store
        .update(move |txn| {
            let pool_name = pool.name.clone();
            txn.put_pool(pool);
            for instance in rows.into_values() {
                txn.insert_instance(instance).unwrap();
            }
            for job in live_jobs.into_values() {
                assert!(txn.put_job(&pool_name, job));
            }
        })
        .await
        .unwrap();
    let before = store.pools();
    store.close().await;
    let again = Store::open(location.clone(), options.clone()).await.unwrap();
    assert_eq!(again.pools(), before, "what was published is what is read again");
    let state = again.pool(&name).unwrap();
    let found: BTreeMap<_, _> =
        state.jobs.iter().map(|(id, job)| (id.clone(), Job::clone(job))).collect();
    assert_eq!(found, jobs);
    for (name, instance) in instances {
        let found = if instance.phase == Phase::Closed {
            again.closed_instance(&name).await.unwrap()
        } else {
            state.instances.get(&name).map(|found| (**found).clone())
        };
        assert_eq!(found.as_ref(), Some(&instance));
    }
    again.close().await;
}

/// A pool with instances and jobs, all drawn.
fn world() -> impl Strategy<
    Value = (
        fleetfoot_core::Pool,
        BTreeMap<InstanceName, Instance>,
        BTreeMap<fleetfoot_core::JobId, fleetfoot_core::Job>,
    ),
> {
    let name = pool_name("drawn");
    let instances = proptest::collection::vec(generate::instance(name.clone()), 0..8)
        .prop_map(|drawn| drawn.into_iter().map(|one| (one.name.clone(), one)).collect());
    (generate::pool(name), instances, generate::jobs())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn anything_survives_a_restart((pool, instances, jobs) in world()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("store.sqlite"));
        let options = Options {
            durability: Durability::Off,
            execution: Execution::Inline,
            ..Options::default()
        };
        runtime.block_on(survives(&location, &options, pool, instances, jobs));
    }
}

async fn drawn_rows_survive(bed: &Bed) {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..10 {
        let (pool, instances, jobs) = world().new_tree(&mut runner).unwrap().current();
        survives(&bed.location, &Options::default(), pool, instances, jobs).await;
        bed.sql("DELETE FROM fleetfoot_instances").await;
        bed.sql("DELETE FROM fleetfoot_jobs").await;
    }
}

on_every_database!(drawn_rows_survive);
