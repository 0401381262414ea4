//! What happens to one controller, and what the others do about it.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::bed::{Bed, DECIDED};
use crate::database::Kind;
use crate::proxy::Way;
use crate::{BOUND, eventually};

const POOLS: [&str; 6] = ["p1", "p2", "p3", "p4", "p5", "p6"];

/// Three controllers with two pools each, and a job that runs for long in every pool.
async fn at_work(bed: &mut Bed, duration_ms: u64) {
    bed.shared_pools(&POOLS);
    bed.start_all().await;
    bed.until_balanced(&["a", "b", "c"], 2).await;
    for pool in POOLS {
        bed.queue(pool, 1, duration_ms);
    }
    bed.started(POOLS.len(), BOUND).await;
}

/// New jobs in the pools of a controller that is gone start in time.
async fn decided_by_others(bed: &Bed, pools: &BTreeSet<String>, before: usize) -> usize {
    let began = Instant::now();
    for pool in pools {
        bed.queue(pool, 1, 100);
    }
    bed.started(before + pools.len(), DECIDED).await;
    eprintln!("decided by others after {:?}", began.elapsed());
    before + pools.len()
}

/// Killed in the middle of its work: others decide in time, its jobs go on, and the balance returns with it.
/// The clocks of the hosts are 30 s apart, which no lease notices.
pub(crate) async fn one_is_killed_and_comes_back(bed: &mut Bed) {
    for (host, off) in [("b", "30000"), ("c", "-30000")] {
        let host = bed.hosts.get_mut(host).unwrap();
        host.environment.insert("FLEETFOOT_TEST_CLOCK_OFF_MS", off.to_owned());
    }
    at_work(bed, 25_000).await;
    let pools = bed.owned_by("a", "b").await;
    bed.kill("a").await;
    let jobs = decided_by_others(bed, &pools, POOLS.len()).await;
    bed.all_owned_by_others("a", "b", POOLS.len()).await;

    bed.start("a");
    bed.until_balanced(&["b", "a", "c"], 2).await;
    for pool in POOLS {
        bed.queue(pool, 1, 100);
    }
    bed.all_succeeded((jobs + POOLS.len()) as u64).await;
    bed.nothing_left("b").await;
    bed.stop_all().await;
}

/// Frozen, and woken when others have its pools: it writes nothing, says so, and gets its share again.
pub(crate) async fn one_is_frozen_and_wakes(bed: &mut Bed) {
    at_work(bed, 25_000).await;
    let pools = bed.owned_by("a", "b").await;
    // In the middle of its work: some of this is begun, some is not.
    for pool in &pools {
        bed.queue(pool, 2, 100);
    }
    bed.daemon("a").signal(Signal::STOP);
    let jobs = decided_by_others(bed, &pools, POOLS.len() + 2 * pools.len()).await;
    bed.all_owned_by_others("a", "b", POOLS.len()).await;

    bed.daemon("a").signal(Signal::CONT);
    bed.daemon("a")
        .logs_where("lease lost, stopping the pools until the database answers", |_| true)
        .await;
    bed.until_balanced(&["b", "a", "c"], 2).await;
    for pool in POOLS {
        bed.queue(pool, 1, 100);
    }
    bed.all_succeeded((jobs + POOLS.len()) as u64).await;
    bed.nothing_left("b").await;
    bed.stop_all().await;
}

/// Cut off from the database, with an end or in silence: it stops by itself, and others decide.
pub(crate) async fn one_is_cut_off_from_the_database(bed: &mut Bed) {
    at_work(bed, 25_000).await;
    let pools = bed.owned_by("a", "b").await;
    let way = match bed.database.kind {
        Kind::Postgres => Way::Mute,
        Kind::Mariadb => Way::Cut,
    };
    let cut_at = Instant::now();
    bed.hosts["a"].proxy.set(way);
    let jobs = decided_by_others(bed, &pools, POOLS.len()).await;
    let lost = "lease lost, stopping the pools until the database answers";
    bed.daemon("a").logs(lost).await;
    assert!(cut_at.elapsed() < DECIDED + Duration::from_secs(5), "{:?}", cut_at.elapsed());
    let ended = || async {
        (bed.hosts["a"].daemon.as_ref()?.count("pool is served here no longer") >= 2).then_some(())
    };
    eventually("its pools have stopped", Duration::from_secs(15), ended).await;
    assert_eq!(bed.daemon("a").count(lost), 1, "said once");

    bed.hosts["a"].proxy.set(Way::Open);
    bed.until_balanced(&["b", "a", "c"], 2).await;
    for pool in POOLS {
        bed.queue(pool, 1, 100);
    }
    bed.all_succeeded((jobs + POOLS.len()) as u64).await;
    bed.nothing_left("b").await;
    bed.stop_all().await;
}

/// The server ends in the middle of transactions and is away for a while: shorter than a lease, nothing changes
/// hands; longer, all stop, and all begin again.
pub(crate) async fn the_database_is_restarted(bed: &mut Bed) {
    at_work(bed, 35_000).await;
    // All of them: a beat may be late where everything is slow.
    let all = || async {
        let owners = bed.owners("b").await;
        (owners.len() == POOLS.len()).then_some(owners)
    };
    let before = eventually("every pool has a living owner", BOUND, all).await;
    for pool in POOLS {
        bed.queue(pool, 6, 300);
    }
    for pause in [2_000, 14_000] {
        let began = Instant::now();
        restart(bed, Duration::from_millis(pause)).await;
        let away = began.elapsed();
        eprintln!("{:?}: the database was away for {away:?}", bed.database.kind);
        if pause < 10_000 {
            let jobs = POOLS.len() * 2;
            bed.started(jobs, BOUND).await;
            // Where everything is slow the server was away for as long as a lease.
            if away < Duration::from_secs(5) {
                let same = || async { (bed.owners("b").await == before).then_some(()) };
                eventually("nothing changed hands", Duration::from_secs(5), same).await;
            }
        }
    }
    bed.until_balanced(&["a", "b", "c"], 2).await;
    bed.all_succeeded((POOLS.len() * 7) as u64).await;
    bed.nothing_left("b").await;
    bed.stop_all().await;
}

/// Kills the server and starts it again after a pause. Where there is none of its own, every connection ends and no
/// new one is had meanwhile.
async fn restart(bed: &mut Bed, pause: Duration) {
    if let Some(server) = &mut bed.database.server {
        server.crash().await;
        tokio::time::sleep(pause).await;
        server.begin().await;
        return;
    }
    for host in bed.hosts.values() {
        host.proxy.set(Way::Cut);
    }
    bed.database.end_connections().await;
    tokio::time::sleep(pause).await;
    for host in bed.hosts.values() {
        host.proxy.set(Way::Open);
    }
}
