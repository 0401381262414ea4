//! Not a benchmark: only that the order of magnitude is right, and a figure to read.

use std::time::Instant;

use fleetfoot_store::{Location, Options, Store};
use tokio::task::JoinSet;

use crate::bed::{pending, with_pools};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_are_grouped_at_full_durability() {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(dir.path().join("store.sqlite"));
    let store = Store::open(location, Options::default()).await.unwrap();
    with_pools(&store, &["p"]).await;
    let before = store.counters();
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 0..30 {
                let name = format!("p-{task}-{number}");
                let insert = store.update(move |txn| txn.insert_instance(pending(&name, "p")));
                insert.await.unwrap().unwrap();
            }
        });
    }
    tasks.join_all().await;
    let elapsed = started.elapsed();
    let after = store.counters();
    let (updates, commits) = (after.updates - before.updates, after.commits - before.commits);
    println!("{updates} updates, {commits} commits, {} ms", elapsed.as_millis());
    assert!(commits * 4 < updates, "{updates} updates took {commits} commits");
    store.close().await;
}
