//! Every word of every enum comes back as itself; a word nobody wrote is one clear error.

use fleetfoot_core::{
    Instance, Intent, JobState, Outcome, Phase, Pool, Reason, Registration, RunnerId, Timestamp,
};
use fleetfoot_store::{FinishedJob, FinishedJobFilter, OpenError, Options, RowError, Store};

use crate::bed::{Bed, instance_name, job_id, on_every_database, pending, pool_name, with_pools};
use crate::generate::{ENVIRONMENTS, FAILURES};

/// One instance for each word.
fn every_word() -> Vec<Instance> {
    let mut out = Vec::new();
    let mut add = |change: &dyn Fn(&mut Instance)| {
        let mut instance = pending(&format!("words-{:08x}", out.len()), "words");
        change(&mut instance);
        out.push(instance);
    };
    for phase in Phase::ALL {
        add(&|instance| instance.phase = phase);
    }
    for environment in ENVIRONMENTS {
        add(&|instance| instance.environment = environment);
    }
    for registration in [
        Registration::None,
        Registration::Requested,
        Registration::Registered(RunnerId(7)),
        Registration::Gone,
    ] {
        add(&|instance| instance.registration = registration);
    }
    for reason in Reason::ALL {
        add(&|instance| instance.reason = Some(reason));
        add(&|instance| instance.outcome = Some(Outcome::Removed(reason)));
    }
    for kind in FAILURES {
        add(&|instance| instance.failure = Some((kind, "why".to_owned())));
        let outcome = Outcome::Failed { kind, detail: "why".to_owned() };
        add(&|instance| instance.outcome = Some(outcome.clone()));
    }
    for outcome in [
        Outcome::Completed { result: None },
        Outcome::Completed { result: Some("succeeded".to_owned()) },
        Outcome::Lost { detail: "killed".to_owned() },
        Outcome::HostRebooted,
        Outcome::RegistrationUnverified,
    ] {
        add(&|instance| instance.outcome = Some(outcome.clone()));
    }
    out
}

async fn every_word_comes_back(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["words", "a-draining", "a-removed"]).await;
    let instances = every_word();
    let rows = instances.clone();
    store
        .update(move |txn| {
            for instance in rows {
                txn.insert_instance(instance).unwrap();
            }
            txn.pool_mut(&pool_name("a-draining")).unwrap().intent = Intent::Draining;
            txn.pool_mut(&pool_name("a-removed")).unwrap().intent = Intent::Removed;
        })
        .await
        .unwrap();
    store.close().await;
    let store = bed.open().await;
    let state = store.pool(&pool_name("words")).unwrap();
    for instance in instances {
        if instance.phase == Phase::Closed {
            let found = store.closed_instance(&instance.name).await.unwrap();
            assert_eq!(found.as_ref(), Some(&instance));
        } else {
            assert_eq!(*state.instances[&instance.name], instance);
        }
    }
    assert_eq!(state.pool.intent, Intent::Active);
    assert_eq!(store.pool(&pool_name("a-draining")).unwrap().pool.intent, Intent::Draining);
    assert_eq!(store.pool(&pool_name("a-removed")).unwrap().pool.intent, Intent::Removed);
    store.close().await;
}

async fn names_differ_by_case(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["Linux", "linux"]).await;
    store
        .update(|txn| {
            txn.insert_instance(pending("Linux-0000000a", "Linux")).unwrap();
            txn.insert_instance(pending("linux-0000000a", "linux")).unwrap();
        })
        .await
        .unwrap();
    store.close().await;
    let store = bed.open().await;
    assert_eq!(store.pools().len(), 2);
    assert!(store.instance(&instance_name("Linux-0000000a")).is_some());
    assert!(store.instance(&instance_name("linux-0000000a")).is_some());
    store.close().await;
}

async fn finished_jobs_come_back(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let job = fleetfoot_core::Job {
        id: job_id("j1"),
        state: JobState::Started { instance: Some(instance_name("p-00000001")) },
        repository: "o/r".to_owned(),
        workflow: "w".to_owned(),
        display_name: "ünï \"quoted\"".to_owned(),
        run_id: 5,
        queued_at: Some(Timestamp(1)),
        seen_at: Timestamp(2),
        started_at: Some(Timestamp(3)),
    };
    let put = job.clone();
    store
        .update(move |txn| {
            txn.put_job(&pool_name("p"), put);
        })
        .await
        .unwrap();
    let removed = store
        .update(|txn| {
            txn.remove_job(&pool_name("p"), &job_id("j1"), Some("succeeded"), Timestamp(9))
        })
        .await
        .unwrap();
    assert_eq!(removed, Some(job.clone()));
    let again = store
        .update(|txn| txn.remove_job(&pool_name("p"), &job_id("j1"), None, Timestamp(10)))
        .await
        .unwrap();
    assert_eq!(again, None, "a message that comes again finds nothing to finish");
    store.close().await;
    let store = bed.open().await;
    let expected = FinishedJob {
        pool: pool_name("p"),
        job,
        instance: Some(instance_name("p-00000001")),
        result: Some("succeeded".to_owned()),
        finished_at: Timestamp(9),
    };
    for filter in [
        FinishedJobFilter::default(),
        FinishedJobFilter { job: Some(job_id("j1")), ..FinishedJobFilter::default() },
        FinishedJobFilter {
            pool: Some(pool_name("p")),
            instance: Some(instance_name("p-00000001")),
            limit: 1,
            ..FinishedJobFilter::default()
        },
    ] {
        assert_eq!(store.finished_jobs(filter).await.unwrap(), std::slice::from_ref(&expected));
    }
    let none = FinishedJobFilter { job: Some(job_id("j2")), ..FinishedJobFilter::default() };
    assert!(store.finished_jobs(none).await.unwrap().is_empty());
    assert!(store.pool(&pool_name("p")).unwrap().jobs.is_empty());
    store.close().await;
}

async fn an_unknown_word_is_one_clear_error(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let inserted =
        store.update(|txn| txn.insert_instance(pending("p-00000001", "p"))).await.unwrap();
    assert_eq!(inserted, Ok(()));
    store.close().await;
    bed.sql("UPDATE fleetfoot_instances SET phase = 'dreaming'").await;
    let error = Store::open(bed.location.clone(), Options::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("unknown phase `dreaming`") && text.contains("p-00000001"), "{text}");
    assert!(!text.contains('\n'));
    assert!(matches!(error, OpenError::Row { source: RowError::UnknownWord { .. }, .. }));
    bed.sql("UPDATE fleetfoot_instances SET phase = 'pending', data = 'nonsense'").await;
    let text = Store::open(bed.location.clone(), Options::default()).await.unwrap_err().to_string();
    assert!(text.contains("fleetfoot_instances cannot be read"), "{text}");
}

on_every_database!(
    every_word_comes_back,
    names_differ_by_case,
    finished_jobs_come_back,
    an_unknown_word_is_one_clear_error,
);

#[tokio::test]
async fn a_pool_remembers_everything() {
    use proptest::strategy::{Strategy, ValueTree};
    let bed = Bed::sqlite().await.unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let drawn: Pool =
        crate::generate::pool(pool_name("p")).new_tree(&mut runner).unwrap().current();
    let store = bed.open().await;
    let put = drawn.clone();
    store.update(move |txn| txn.put_pool(put)).await.unwrap();
    store.close().await;
    assert_eq!(*bed.open().await.pool(&pool_name("p")).unwrap().pool, drawn);
}
