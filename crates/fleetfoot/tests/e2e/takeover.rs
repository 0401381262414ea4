//! The binary replaced under load: by `run --takeover`, and by a stop and a start.

use std::time::Duration;

use fleetfoot_sim::BoxState;

use crate::harness::{BOUND, Bed, Daemon, Engine, Recorder, Sampler, unique};

const ROUNDS: u64 = 3;

/// Between the end of the old sessions and the first polls of the new ones: generous, since the machine may
/// be busy; what was measured is printed.
const GAP_MAX: Duration = Duration::from_secs(15);

/// The second process takes over; the first one exits with 0.
async fn take_over(bed: &Bed, mut old: Daemon) -> Daemon {
    let config = bed.config_file();
    let begun = bed.github.state().now_us;
    let mut new = bed.start_with(&["run", "--takeover", "--config", config.to_str().unwrap()]);
    let status = old.ended(BOUND).await;
    assert!(status.success(), "{status}\n{}", old.stderr());
    new.ready().await;
    measure(bed, "takeover", begun, 2).await;
    new
}

async fn stop_and_start(bed: &Bed, old: Daemon) -> Daemon {
    old.stop().await;
    let begun = bed.github.state().now_us;
    let new = bed.start_ready().await;
    measure(bed, "stop and start", begun, 2).await;
    new
}

/// How long nobody polled a pool, and how long the new process took from its start to its last first poll.
async fn measure(bed: &Bed, how: &str, begun_us: u64, pools: usize) {
    let polled = |state: &BoxState| {
        let open = state.sessions.iter().filter(|session| session.closed_us.is_none());
        open.filter(|session| session.first_poll_us.is_some()).count() == pools
    };
    bed.github.wait_until(BOUND, polled).await.unwrap();
    let state = bed.github.state();
    let mut first_polls = Vec::new();
    for set in state.scale_sets.iter() {
        let mut sessions: Vec<_> =
            state.sessions.iter().filter(|session| session.scale_set_id == set.id).collect();
        sessions.sort_by_key(|session| session.opened_us);
        let [.., before, last] = sessions.as_slice() else { continue };
        assert_eq!(before.closed_by.as_deref(), Some("deleted"), "the old one was closed");
        let (closed, polled) = (before.closed_us.unwrap(), last.first_poll_us.unwrap());
        assert!(closed <= last.opened_us, "never two sessions at once");
        let gap = Duration::from_micros(polled - closed);
        eprintln!("{how}: {} without a poll for {} ms", set.name, gap.as_millis());
        assert!(gap < GAP_MAX, "{gap:?}");
        first_polls.push(polled);
    }
    assert_eq!(first_polls.len(), pools);
    let last = first_polls.into_iter().max().unwrap();
    eprintln!("{how}: all polled {} ms after the start", (last.saturating_sub(begun_us)) / 1000);
}

async fn completed(bed: &Bed, count: u64) {
    let enough = |state: &BoxState| state.summary.jobs_completed >= count;
    bed.github.wait_until(Duration::from_secs(120), enough).await.unwrap();
}

/// Sixty jobs over two pools, four replacements in the midst of them.
async fn under_load(bed: &Bed, large: &str, small: &str) -> Daemon {
    let mut daemon = bed.start_ready().await;
    for (count, duration_ms) in [(20, 400), (14, 1500), (6, 4000)] {
        bed.queue(large, count, duration_ms);
        bed.queue(small, count / 2, duration_ms);
    }
    for round in 0..ROUNDS {
        completed(bed, 6 + round * 14).await;
        daemon = take_over(bed, daemon).await;
    }
    completed(bed, 48).await;
    stop_and_start(bed, daemon).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_processes() {
    let pools = [("large", 4), ("small", 2)];
    let bed = Bed::new().await;
    bed.process_pools(&pools);
    let sampler = Sampler::start(bed.instances());
    let daemon = under_load(&bed, "large", "small").await;
    bed.all_succeeded(60, Duration::from_secs(120)).await;
    bed.nothing_left().await;
    sampler.never_above(&pools);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_containers() {
    let Some(engine) = Engine::shared().await else { return };
    let (large, small) = (unique("large"), unique("small"));
    let pools = [(large.as_str(), 4), (small.as_str(), 2)];
    let bed = Bed::new().await;
    bed.write(&bed.config("", &pools, &engine.lines()));
    let recorder = Recorder::start(&engine, &[&large, &small]).await;
    let daemon = under_load(&bed, &large, &small).await;
    bed.all_succeeded(60, Duration::from_secs(180)).await;
    bed.nothing_left().await;
    engine.no_containers(&[&large, &small]).await;
    recorder.never_above(&pools);
    daemon.stop().await;
}
