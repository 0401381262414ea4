//! Closures: one after another, durable together, all or nothing.

use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::{
    Exit, FailureKind, Observation, Outcome, Phase, Pool, RunnerId, ScaleSetId, Timestamp,
};
use fleetfoot_store::{
    Execution, InsertError, Location, ObserveError, Options, RemovePoolError, Store, UpdateError,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bed::{Bed, instance_name, on_every_database, pending, pool_name, with_pools};

const LONG: Duration = Duration::from_secs(30);

/// Stores can be used from any task.
#[test]
fn futures_can_move_between_threads() {
    fn movable<T: Send>(_: &T) {}
    fn check(store: &Store) {
        movable(&store.update(|txn| txn.pool_names()));
        movable(&store.events(fleetfoot_store::EventFilter::default()));
        movable(&store.close());
    }
    let _ = check;
    let open = Store::open(Location::Url(String::new()), Options::default());
    movable(&open);
}

async fn what_arrives_together_commits_together(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let before = store.counters();
    let mut tasks = JoinSet::new();
    for number in 0..300 {
        let store = store.clone();
        tasks.spawn(async move {
            let name = format!("p-{number:08x}");
            store
                .update(move |txn| txn.insert_instance(pending(&name, "p")))
                .await
                .unwrap()
                .unwrap();
        });
    }
    tasks.join_all().await;
    let after = store.counters();
    assert_eq!(after.updates - before.updates, 300);
    let commits = after.commits - before.commits;
    assert!((1..=150).contains(&commits), "{commits} commits for 300 updates");
    assert_eq!(store.pool(&pool_name("p")).unwrap().instances.len(), 300);
    store.close().await;
    assert_eq!(bed.open().await.pool(&pool_name("p")).unwrap().instances.len(), 300);
}

async fn nothing_changed_costs_no_commit(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let ticks = store.changes(&pool_name("p"));
    let before = store.counters().commits;
    store.update(|txn| txn.pool(&pool_name("p")).is_some()).await.unwrap();
    // Touched and put back as it was.
    store.update(|txn| txn.pool_mut(&pool_name("p")).unwrap().demand.known = false).await.unwrap();
    store
        .update(|txn| {
            txn.put_pool(fleetfoot_core::Pool::new(pool_name("other"), Timestamp(1)));
            txn.discard();
        })
        .await
        .unwrap();
    assert_eq!(store.counters().commits, before);
    assert!(!ticks.has_changed().unwrap());
    assert!(store.pool(&pool_name("other")).is_none());
    store.close().await;
}

async fn only_touched_pools_tick(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["a", "b"]).await;
    let mut a = store.changes(&pool_name("a"));
    let b = store.changes(&pool_name("b"));
    let mut all = store.changes_all();
    all.mark_unchanged();
    store.update(|txn| txn.pool_mut(&pool_name("a")).unwrap().demand.known = true).await.unwrap();
    timeout(LONG, a.changed()).await.unwrap().unwrap();
    timeout(LONG, all.changed()).await.unwrap().unwrap();
    assert!(store.pool(&pool_name("a")).unwrap().pool.demand.known, "published before the tick");
    assert!(!b.has_changed().unwrap());
    let none = store.update(|txn| txn.remove_pool(&pool_name("b"))).await.unwrap();
    assert_eq!(none, Ok(()));
    assert!(b.has_changed().unwrap());
    store.close().await;
}

async fn a_life_is_kept(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let name = instance_name("p-00000001");
    let steps = [
        Observation::StartBegun { scale_set: ScaleSetId(4) },
        Observation::Registered { runner: RunnerId(11) },
        Observation::LaunchBegun,
        Observation::Launched { handle: Some("c1".to_owned()) },
        Observation::Online,
        Observation::JobStarted { job: crate::bed::job_id("j") },
        Observation::Ended { exit: Exit { code: Some(0), ..Exit::default() } },
        Observation::EnvironmentGone,
        Observation::RunnerGone,
        Observation::Closed { outcome: Outcome::Completed { result: None } },
    ];
    store.update(|txn| txn.insert_instance(pending("p-00000001", "p"))).await.unwrap().unwrap();
    for (at, step) in steps.into_iter().enumerate() {
        let name = name.clone();
        let at = Timestamp(2_000 + i64::try_from(at).unwrap());
        let phase = store
            .update(move |txn| txn.observe(&name, &step, at).map(|instance| instance.phase))
            .await
            .unwrap();
        assert!(phase.is_ok(), "{phase:?}");
    }
    assert!(
        store.pool(&pool_name("p")).unwrap().instances.is_empty(),
        "closed ones leave the present"
    );
    store.close().await;
    let store = bed.open().await;
    assert!(store.pool(&pool_name("p")).unwrap().instances.is_empty());
    let closed = store.closed_instance(&name).await.unwrap().unwrap();
    assert_eq!(closed.phase, Phase::Closed);
    assert_eq!(closed.runner_id, Some(RunnerId(11)));
    assert_eq!(closed.outcome, Some(Outcome::Completed { result: None }));
    store.close().await;
}

async fn refusals_change_nothing(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    store.update(|txn| txn.insert_instance(pending("p-00000001", "p"))).await.unwrap().unwrap();
    let before = store.pools();
    let name = instance_name("p-00000001");
    let refused = store
        .update(move |txn| txn.observe(&name, &Observation::Online, Timestamp(2)).map(|_| ()))
        .await
        .unwrap();
    assert!(matches!(refused, Err(ObserveError::Refused(_))));
    let unknown = store
        .update(|txn| {
            txn.observe(&instance_name("p-00000002"), &Observation::Online, Timestamp(2))
                .map(|_| ())
        })
        .await
        .unwrap();
    assert_eq!(unknown, Err(ObserveError::Unknown(instance_name("p-00000002"))));
    let no_pool = store.update(|txn| txn.insert_instance(pending("q-1", "q"))).await.unwrap();
    assert_eq!(no_pool, Err(InsertError::NoPool(pool_name("q"))));
    let in_use = store.update(|txn| txn.remove_pool(&pool_name("p"))).await.unwrap();
    assert_eq!(in_use, Err(RemovePoolError::NotEmpty { pool: pool_name("p"), instances: 1 }));
    assert_eq!(store.pools(), before);
    store.close().await;
}

/// Its count goes with its row, and the clock may stand before what it gave: the floor goes on from there.
async fn a_removed_pool_leaves_the_count_of_its_names(bed: &Bed) {
    let counted = |store: &Store, name: &str, last: i64| {
        let (store, name) = (store.clone(), pool_name(name));
        async move {
            let remove = name.clone();
            let put = store.update(move |txn| {
                txn.put_pool(Pool { last_name: last, ..Pool::new(name, Timestamp(1)) });
            });
            put.await.unwrap();
            store.update(move |txn| txn.remove_pool(&remove)).await.unwrap().unwrap();
        }
    };
    let store = bed.open().await;
    let before = store.name_floor();
    counted(&store, "p", before + 900).await;
    assert_eq!(store.name_floor(), before + 901);
    counted(&store, "q", before + 99).await;
    assert_eq!(store.name_floor(), before + 901, "it never falls");
    store.close().await;
    let store = bed.open().await;
    assert_eq!(store.name_floor(), before + 901, "over restarts");
    // More digits, and a smaller first one.
    let wide = 10_i64.pow(15);
    counted(&store, "p", wide).await;
    store.close().await;
    let store = bed.open().await;
    assert_eq!(store.name_floor(), wide + 1);
    store.close().await;
}

async fn names_are_never_used_again(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let again = || InsertError::NameTaken(instance_name("p-00000001"));
    let insert = |store: Store| async move {
        store.update(|txn| txn.insert_instance(pending("p-00000001", "p"))).await.unwrap()
    };
    assert_eq!(insert(store.clone()).await, Ok(()));
    assert_eq!(insert(store.clone()).await, Err(again()), "live");
    let in_one = store
        .update(|txn| {
            let name = instance_name("p-00000001");
            let outcome = Outcome::RegistrationUnverified;
            let failed =
                Observation::Failed { kind: FailureKind::Create, detail: "no image".to_owned() };
            txn.observe(&name, &failed, Timestamp(5)).unwrap();
            txn.observe(&name, &Observation::Closed { outcome }, Timestamp(6)).unwrap();
            assert!(txn.is_closed(&name));
            txn.insert_instance(pending("p-00000001", "p"))
        })
        .await
        .unwrap();
    assert_eq!(in_one, Err(again()), "closed in the same closure");
    assert_eq!(insert(store.clone()).await, Err(again()), "closed");
    store.close().await;
    let store = bed.open().await;
    assert_eq!(insert(store.clone()).await, Err(again()), "closed before a restart");
    store.close().await;
}

async fn a_panic_loses_only_its_own(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let store = store.clone();
        tasks.spawn(async move {
            let name = format!("p-{number:08x}");
            let result = store
                .update(move |txn| {
                    txn.insert_instance(pending(&name, "p")).unwrap();
                    assert!(number % 4 != 0, "every fourth");
                })
                .await;
            if number % 4 == 0 {
                let message = result.unwrap_err().to_string();
                assert!(message.contains("every fourth"), "{message}");
            } else {
                result.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let state = store.pool(&pool_name("p")).unwrap();
    assert_eq!(state.instances.len(), 30);
    store.close().await;
    assert_eq!(bed.open().await.pool(&pool_name("p")).unwrap(), state);
}

async fn later_closures_see_earlier_ones(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let store = store.clone();
        tasks.spawn(async move {
            store
                .update(|txn| txn.pool_mut(&pool_name("p")).unwrap().circuit.failures += 1)
                .await
                .unwrap();
        });
    }
    tasks.join_all().await;
    assert_eq!(store.pool(&pool_name("p")).unwrap().pool.circuit.failures, 100);
    store.close().await;
}

async fn after_close_nothing_is_taken(bed: &Bed) {
    let store = bed.open().await;
    store.close().await;
    let error = store.update(|_| ()).await.unwrap_err();
    assert!(matches!(error, UpdateError::Closed));
    store.close().await;
}

on_every_database!(
    what_arrives_together_commits_together,
    nothing_changed_costs_no_commit,
    only_touched_pools_tick,
    a_life_is_kept,
    refusals_change_nothing,
    a_removed_pool_leaves_the_count_of_its_names,
    names_are_never_used_again,
    a_panic_loses_only_its_own,
    later_closures_see_earlier_ones,
    after_close_nothing_is_taken,
);

#[tokio::test(start_paused = true)]
async fn inline_stores_run_on_the_calling_thread() {
    let bed = Bed::sqlite().await.unwrap();
    let store = bed.open_with(Options { execution: Execution::Inline, ..Options::default() }).await;
    let started = tokio::time::Instant::now();
    with_pools(&store, &["p"]).await;
    let here = std::thread::current().id();
    let there = store.update(|_| std::thread::current().id()).await.unwrap();
    assert_eq!(here, there);
    for number in 0..50 {
        let name = format!("p-{number:08x}");
        store.update(move |txn| txn.insert_instance(pending(&name, "p"))).await.unwrap().unwrap();
    }
    let events = store.events(fleetfoot_store::EventFilter::default()).await.unwrap();
    assert_eq!(events.len(), 50);
    assert_eq!(started.elapsed(), Duration::ZERO, "the paused clock did not leap");
    store.close().await;
    assert!(matches!(store.update(|_| ()).await, Err(UpdateError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_stay_as_they_were() {
    let bed = Bed::sqlite().await.unwrap();
    let store = bed.open().await;
    with_pools(&store, &["a", "b"]).await;
    let held = store.pools();
    let a = Arc::clone(&held[&pool_name("a")]);
    store.update(|txn| txn.pool_mut(&pool_name("b")).unwrap().demand.known = true).await.unwrap();
    assert!(!held[&pool_name("b")].pool.demand.known);
    assert!(
        Arc::ptr_eq(&a, &store.pool(&pool_name("a")).unwrap()),
        "untouched pools are not copied"
    );
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modify_cannot_change_name_pool_or_phase() {
    let bed = Bed::sqlite().await.unwrap();
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    store.update(|txn| txn.insert_instance(pending("odd", "p"))).await.unwrap().unwrap();
    let done = store
        .update(|txn| {
            txn.modify_instance(&instance_name("odd"), |instance| {
                instance.phase = Phase::Running;
                instance.pool = pool_name("q");
                instance.attempts = 3;
            })
        })
        .await
        .unwrap();
    assert_eq!(done, Some(()));
    let instance = store.instance(&instance_name("odd")).unwrap();
    assert_eq!((instance.phase, instance.attempts), (Phase::Pending, 3));
    assert_eq!(instance.pool, pool_name("p"));
    store.close().await;
}
