//! Several controllers on one database: one owner at a time, and whoever lost a pool cannot write it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fleetfoot_core::{Candidacy, Pool, PoolName, Span, Timestamp, Wish, WishWord};
use fleetfoot_store::{Behind, Membership, Options, Store, Taken, Ticks, UpdateError};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bed::{Bed, instance_name, on_every_database, pending, pool_name};

const LONG: Duration = Duration::from_secs(30);

fn member(name: &str) -> Membership {
    Membership { valid: Span::minutes(5), ..Membership::new(name, &format!("host-{name}"), name) }
}

async fn open(bed: &Bed, member: Membership) -> Store {
    bed.open_with(Options { member: Some(member), ..Options::default() }).await
}

async fn take(store: &Store, pool: &str) -> Taken {
    store.take(&pool_name(pool), false).await.unwrap()
}

fn epoch(taken: &Taken) -> i64 {
    match taken {
        Taken::Yes { epoch, .. } => *epoch,
        Taken::Held { .. } | Taken::Elsewhere { .. } => panic!("{taken:?}"),
    }
}

async fn write(store: &Store, pool: &str, failures: u32) -> Result<(), UpdateError> {
    let name = pool_name(pool);
    store
        .update(move |txn| {
            let mut row = txn
                .pool(&name)
                .map_or_else(|| Pool::new(name.clone(), Timestamp(1)), |it| (*it.pool).clone());
            row.circuit.failures = failures;
            txn.put_pool(row);
        })
        .await
}

fn failures(store: &Store, pool: &str) -> Option<u32> {
    store.pool(&pool_name(pool)).map(|state| state.pool.circuit.failures)
}

fn nothing() -> BTreeMap<PoolName, Candidacy> {
    BTreeMap::new()
}

/// The database believes this controller dead.
async fn kill(bed: &Bed, controller: &str) {
    bed.sql(&format!("UPDATE fleetfoot_controllers SET deadline = 0 WHERE id = '{controller}'"))
        .await;
}

async fn one_owner_at_a_time(bed: &Bed) {
    let (first, second) = (open(bed, member("a")).await, open(bed, member("b")).await);
    let refused = write(&first, "p", 1).await.unwrap_err();
    assert!(matches!(refused, UpdateError::NotOwner { .. }), "{refused}");
    assert_eq!(epoch(&take(&first, "p").await), 1);
    assert!(first.owns(&pool_name("p")) && !second.owns(&pool_name("p")));
    write(&first, "p", 1).await.unwrap();
    assert_eq!(take(&second, "p").await, Taken::Held { owner: "a".to_owned() });
    let refused = write(&second, "p", 2).await.unwrap_err();
    assert_eq!(refused.not_ours(), Some(&pool_name("p")));
    assert!(!refused.is_transient());

    write(&first, "p", 3).await.unwrap();
    first.let_go(&pool_name("p")).await.unwrap();
    assert!(write(&first, "p", 4).await.is_err());
    assert_eq!(epoch(&take(&second, "p").await), 2);
    assert_eq!(failures(&second, "p"), Some(3), "its rows were read anew");
    write(&second, "p", 5).await.unwrap();
    // Leaving gives everything back at once.
    second.close().await;
    assert_eq!(epoch(&take(&first, "p").await), 3);
    assert_eq!(failures(&first, "p"), Some(5));
    first.close().await;
}

async fn whoever_lost_a_pool_is_fenced_and_told(bed: &Bed) {
    let (first, second) = (open(bed, member("a")).await, open(bed, member("b")).await);
    for pool in ["p", "q", "r", "s"] {
        take(&first, pool).await;
        write(&first, pool, 1).await.unwrap();
    }
    kill(bed, "a").await;
    let taken = take(&second, "p").await;
    assert_eq!(taken, Taken::Yes { epoch: 2, before: Some("a".to_owned()) });
    // Its heart beats again, and it does not know yet.
    bed.sql("UPDATE fleetfoot_controllers SET deadline = 9000000000000 WHERE id = 'a'").await;
    assert!(first.owns(&pool_name("p")));

    // All in one batch: what touches `p` fails, what built on it fails, the others commit.
    let (begun, begins) = tokio::sync::oneshot::channel();
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let holds = first.update(move |_| {
        let _ = begun.send(());
        let _ = held.recv_timeout(LONG);
    });
    let on = |pools: &'static [&'static str], number: u32| {
        first.update(move |txn| {
            for pool in pools {
                txn.pool_mut(&pool_name(pool)).unwrap().circuit.failures = number;
            }
        })
    };
    let behind = async {
        begins.await.unwrap();
        tokio::join!(
            on(&["r"], 7),
            on(&["p", "q"], 8),
            on(&["q"], 9),
            on(&["s"], 10),
            on(&["p"], 11),
            async { go_on.send(()).unwrap() }
        )
    };
    let (_, results) = tokio::join!(holds, behind);
    let fenced = |result: &Result<(), UpdateError>| matches!(result, Err(UpdateError::Fenced { pool } | UpdateError::NotOwner { pool }) if pool.as_str() == "p");
    assert!(results.0.is_ok() && results.3.is_ok(), "{results:?}");
    assert!(fenced(&results.1) && fenced(&results.2) && fenced(&results.4), "{results:?}");
    assert_eq!(failures(&first, "q"), Some(1));
    assert!(!first.owns(&pool_name("p")), "it knows now");
    assert_eq!(failures(&first, "p"), Some(1), "nothing was published");
    for (pool, expected) in [("r", 7), ("s", 10)] {
        assert_eq!(failures(&first, pool), Some(expected));
        let beaten = second.beat(&nothing()).await.unwrap();
        assert_eq!(beaten.fleet.living_owner(&pool_name(pool)).unwrap().controller, "a");
        assert_eq!(failures(&second, pool), Some(expected), "others see it with a heartbeat");
    }
    first.close().await;
    second.close().await;
}

async fn a_heartbeat_tells_what_was_lost(bed: &Bed) {
    let (first, second) = (open(bed, member("a")).await, open(bed, member("b")).await);
    take(&first, "p").await;
    take(&first, "q").await;
    let candidacy = Candidacy { digest: "d1".to_owned(), removed: false, host_bound: false };
    let pools = BTreeMap::from([(pool_name("p"), candidacy.clone())]);
    assert!(first.beat(&pools).await.unwrap().lost.is_empty());
    kill(bed, "a").await;
    take(&second, "p").await;
    let beat = first.beat(&pools).await.unwrap();
    assert_eq!(beat.lost, [pool_name("p")]);
    assert!(first.owns(&pool_name("q")), "nobody took it");
    assert!(first.beat(&pools).await.unwrap().lost.is_empty(), "told once");
    let fleet = second.beat(&nothing()).await.unwrap().fleet;
    assert_eq!(fleet.peers["a"].pools[&pool_name("p")], candidacy);
    assert_eq!(fleet.host_name("host-a"), Some("a"));
    assert_eq!(second.read_fleet().await.unwrap().pools, fleet.pools);
    first.close().await;
    let fleet = second.beat(&nothing()).await.unwrap().fleet;
    assert!(!fleet.peers.contains_key("a") && fleet.owner(&pool_name("q")).is_none());
    second.close().await;
}

async fn a_lease_that_lapsed_writes_nothing(bed: &Bed) {
    let time = Arc::new(AtomicI64::new(0));
    let told = time.clone();
    let clock = Ticks::new(move || told.load(Ordering::Relaxed));
    let store = open(bed, Membership { clock, ..member("a") }).await;
    take(&store, "p").await;
    write(&store, "p", 1).await.unwrap();
    assert_eq!(store.lease_left(&pool_name("p")), Some(Span::minutes(5)));
    // It froze: its own clock went on.
    time.store(Span::minutes(5).0, Ordering::Relaxed);
    assert!(!store.owns(&pool_name("p")));
    let refused = write(&store, "p", 2).await.unwrap_err();
    assert!(matches!(refused, UpdateError::NotOwner { .. }), "{refused}");
    // Nobody took it meanwhile: with the next heartbeat it goes on.
    store.beat(&nothing()).await.unwrap();
    write(&store, "p", 3).await.unwrap();
    store.close().await;
}

async fn the_databases_clock_ends_a_lease(bed: &Bed) {
    let short = Membership { valid: Span::seconds(2), ..member("a") };
    let (first, second) = (open(bed, short).await, open(bed, member("b")).await);
    take(&first, "p").await;
    write(&first, "p", 1).await.unwrap();
    let began = Instant::now();
    loop {
        if let Taken::Yes { epoch, .. } = take(&second, "p").await {
            assert_eq!(epoch, 2);
            break;
        }
        assert!(began.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(write(&first, "p", 2).await.is_err());
    write(&second, "p", 3).await.unwrap();
    first.close().await;
    second.close().await;
}

async fn a_hosts_pool_stays_with_its_host(bed: &Bed) {
    let (first, second) = (open(bed, member("a")).await, open(bed, member("b")).await);
    let p = pool_name("p");
    epoch(&first.take(&p, true).await.unwrap());
    write(&first, "p", 1).await.unwrap();
    let elsewhere = Taken::Elsewhere { host_id: "host-a".to_owned() };
    assert_eq!(second.take(&p, true).await.unwrap(), elsewhere);
    first.close().await;
    assert_eq!(second.take(&p, true).await.unwrap(), elsewhere, "dead or alive");
    assert_eq!(second.take(&p, false).await.unwrap(), elsewhere);
    let again = open(bed, Membership { controller: "a2".to_owned(), ..member("a") }).await;
    epoch(&again.take(&p, true).await.unwrap());
    // The pool is gone for good: its name is free.
    again
        .update(|txn| {
            if let Some(row) = txn.pool_mut(&pool_name("p")) {
                row.last_name = 1 << 50;
            }
        })
        .await
        .unwrap();
    again.update(|txn| txn.remove_pool(&pool_name("p"))).await.unwrap().unwrap();
    epoch(&second.take(&p, true).await.unwrap());
    // Not its names: whoever puts it back learns of them.
    second.look_at_names().await.unwrap();
    assert_eq!(second.name_floor(), (1 << 50) + 1);
    again.close().await;
    second.close().await;
}

async fn a_successor_on_the_same_boot_waits_for_nothing(bed: &Bed) {
    let on_boot = |name: &str, boot: &str| Membership {
        controller: name.to_owned(),
        boot_id: boot.to_owned(),
        ..member("a")
    };
    let first = open(bed, on_boot("a1", "boot-1")).await;
    take(&first, "p").await;
    write(&first, "p", 1).await.unwrap();
    let second = open(bed, on_boot("a2", "boot-1")).await;
    assert_eq!(epoch(&take(&second, "p").await), 2);
    assert!(write(&first, "p", 2).await.is_err(), "a predecessor that is not dead after all");
    // Another boot may be another machine with a copied directory: it waits for the lease.
    let third = open(bed, on_boot("a3", "boot-2")).await;
    assert_eq!(take(&third, "p").await, Taken::Held { owner: "a2".to_owned() });
    first.close().await;
    second.close().await;
    third.close().await;
}

async fn wishes_reach_the_owner(bed: &Bed) {
    let (first, second) = (open(bed, member("a")).await, open(bed, member("b")).await);
    take(&first, "p").await;
    let wish = |instance: Option<&str>, word| Wish {
        id: 0,
        pool: pool_name("p"),
        instance: instance.map(instance_name),
        word,
        at: Timestamp(5),
    };
    second.wish(wish(None, WishWord::Drain)).await.unwrap();
    second.wish(wish(Some("p-00000001"), WishWord::StopForce)).await.unwrap();
    let heard = first.beat(&nothing()).await.unwrap().fleet.wishes.clone();
    let words: Vec<WishWord> = heard.iter().map(|wish| wish.word).collect();
    assert_eq!(words, [WishWord::Drain, WishWord::StopForce]);
    assert_eq!(heard[1].instance, Some(instance_name("p-00000001")));
    for wish in heard {
        first.wish_done(wish.id).await.unwrap();
    }
    assert!(first.beat(&nothing()).await.unwrap().fleet.wishes.is_empty());
    first.close().await;
    second.close().await;
}

async fn names_of_a_taken_pool_are_not_used_again(bed: &Bed) {
    let (first, second) = (open(bed, member("a")).await, open(bed, member("b")).await);
    take(&first, "p").await;
    write(&first, "p", 1).await.unwrap();
    first
        .update(|txn| {
            let name = instance_name("p-00000001");
            txn.insert_instance(pending("p-00000001", "p")).unwrap();
            let outcome = fleetfoot_core::Outcome::RegistrationUnverified;
            let failed = fleetfoot_core::Observation::Failed {
                kind: fleetfoot_core::FailureKind::Create,
                detail: String::new(),
            };
            txn.observe(&name, &failed, Timestamp(2)).unwrap();
            let closed = fleetfoot_core::Observation::Closed { outcome };
            txn.observe(&name, &closed, Timestamp(3)).unwrap();
        })
        .await
        .unwrap();
    first.let_go(&pool_name("p")).await.unwrap();
    take(&second, "p").await;
    let again = second.update(|txn| txn.insert_instance(pending("p-00000001", "p"))).await.unwrap();
    assert!(again.is_err());
    first.close().await;
    second.close().await;
}

async fn many_open_a_new_database_at_once(bed: &Bed) {
    let mut opening = JoinSet::new();
    for number in 0..4 {
        let location = bed.location.clone();
        let member = Some(member(&format!("c{number}")));
        let options = Options { member, ..Options::default() };
        opening.spawn(async move { Store::open(location, options).await.unwrap() });
    }
    let stores = opening.join_all().await;
    for store in &stores {
        assert_eq!(store.installation(), stores[0].installation());
        assert_eq!(store.beat(&nothing()).await.unwrap().fleet.peers.len(), 4);
    }
    for store in stores {
        store.close().await;
    }
}

/// A controller that remembers, of a host of its own.
async fn open_remembering(bed: &Bed, name: &str, seen: &std::path::Path) -> Store {
    let seen = Some(seen.join(format!("{name}.seen")));
    bed.open_with(Options { member: Some(member(name)), seen, ..Options::default() }).await
}

async fn a_database_that_was_put_back_is_behind(bed: &Bed) {
    let memory = tempfile::tempdir().unwrap();
    let first = open_remembering(bed, "a", memory.path()).await;
    assert_eq!(first.behind(), None);
    take(&first, "p").await;
    for number in 1..=3 {
        write(&first, "p", number).await.unwrap();
    }
    first.close().await;
    let first = open_remembering(bed, "a", memory.path()).await;
    assert_eq!(first.behind(), None, "it is as it was left");
    first.close().await;
    // As an older copy says it.
    bed.sql("UPDATE fleetfoot_owners SET writes = writes - 2").await;
    let other = open_remembering(bed, "b", memory.path()).await;
    assert_eq!(other.behind(), None, "this host never saw more");
    other.close().await;
    for _ in 0..2 {
        // So until somebody looked at what is outside, over restarts, and by whoever opens it.
        let first = open_remembering(bed, "a", memory.path()).await;
        assert_eq!(first.behind(), Some(Behind::Older));
        first.close().await;
    }
    let other = open_remembering(bed, "b", memory.path()).await;
    assert_eq!(other.behind(), Some(Behind::Older));
    other.strays_seen().await.unwrap();
    other.close().await;
    let first = open_remembering(bed, "a", memory.path()).await;
    assert_eq!(first.behind(), None);
    first.close().await;
}

async fn a_database_that_is_put_back_under_us_is_written_no_more(bed: &Bed) {
    let memory = tempfile::tempdir().unwrap();
    let store = open_remembering(bed, "a", memory.path()).await;
    take(&store, "p").await;
    for number in 1..=3 {
        write(&store, "p", number).await.unwrap();
        store.beat(&nothing()).await.unwrap();
    }
    assert!(
        tokio::time::timeout(Duration::from_millis(50), store.put_back()).await.is_err(),
        "nothing happened to it"
    );
    bed.sql("UPDATE fleetfoot_owners SET writes = writes - 2").await;
    store.beat(&nothing()).await.unwrap_err();
    tokio::time::timeout(LONG, store.put_back()).await.unwrap();
    assert!(!store.owns(&pool_name("p")));
    assert!(write(&store, "p", 9).await.is_err() && store.beat(&nothing()).await.is_err());
    assert!(store.take(&pool_name("p"), false).await.is_err());
    store.close().await;
    // Whoever opens it next is told, whether or not it remembers.
    let next = open(bed, member("c")).await;
    assert_eq!(next.behind(), Some(Behind::Older));
    assert_eq!(failures(&next, "p"), Some(3));
    next.close().await;
}

on_every_database!(
    a_database_that_was_put_back_is_behind,
    a_database_that_is_put_back_under_us_is_written_no_more,
    one_owner_at_a_time,
    whoever_lost_a_pool_is_fenced_and_told,
    a_heartbeat_tells_what_was_lost,
    a_lease_that_lapsed_writes_nothing,
    the_databases_clock_ends_a_lease,
    a_hosts_pool_stays_with_its_host,
    a_successor_on_the_same_boot_waits_for_nothing,
    wishes_reach_the_owner,
    names_of_a_taken_pool_are_not_used_again,
);

mod at_once {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn postgres() {
        if let Some(bed) = crate::bed::Bed::postgres().await {
            super::many_open_a_new_database_at_once(&bed).await;
            bed.done().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mariadb() {
        if let Some(bed) = crate::bed::Bed::mariadb().await {
            super::many_open_a_new_database_at_once(&bed).await;
            bed.done().await;
        }
    }
}

/// Two controllers in one thread on one file, with the world's own time.
#[tokio::test(start_paused = true)]
async fn a_world_has_its_own_time() {
    let bed = Bed::sqlite().await.unwrap();
    let start = Instant::now();
    let clock = Ticks::new(move || i64::try_from(start.elapsed().as_millis()).unwrap());
    let open = async |name: &str| {
        let member = Membership { clock: clock.clone(), ..Membership::new(name, name, name) };
        let execution = fleetfoot_store::Execution::Inline;
        let file_clock = Some(clock.clone());
        bed.open_with(Options { member: Some(member), file_clock, execution, ..Options::default() })
            .await
    };
    let (first, second) = (open("a").await, open("b").await);
    take(&first, "p").await;
    write(&first, "p", 1).await.unwrap();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(take(&second, "p").await, Taken::Held { owner: "a".to_owned() });
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(epoch(&take(&second, "p").await), 2);
    assert!(!first.owns(&pool_name("p")));
    first.beat(&nothing()).await.unwrap();
    assert!(!first.owns(&pool_name("p")));
    assert_eq!(failures(&second, "p"), Some(1));
    first.close().await;
    second.close().await;
}
