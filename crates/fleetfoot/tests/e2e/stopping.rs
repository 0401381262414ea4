//! The end of a daemon that was asked to end.

use std::time::{Duration, Instant};

use fleetfoot_sim::{Endpoint, Fault, FaultAction};
use rustix::process::Signal;

use crate::harness::{BOUND, Bed, eventually};

/// SIGTERM with three jobs running: exit 0 within 10 s, the jobs go on to their end, the next start
/// closes their books.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_running_jobs_alone() {
    let bed = Bed::new().await;
    bed.process_pools(&[("three", 3)]);
    let mut daemon = bed.start_ready().await;
    bed.queue("three", 3, 4000);
    bed.running(3).await;
    eventually("the daemon knows of them", BOUND, || async {
        (bed.pool("three").await["running"] == 3).then_some(())
    })
    .await;
    let asked = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.ended(Duration::from_secs(10)).await;
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    let stderr = daemon.stderr();
    assert!(stderr.contains("3 running; `drain --wait` removes them"), "{stderr}");
    assert_eq!(bed.github.summary().sessions, 0, "the session is closed");
    bed.all_succeeded(3, Duration::from_secs(30)).await;
    let daemon = bed.start_ready().await;
    bed.nothing_left().await;
    let pool = bed.pool("three").await;
    assert_eq!(pool["circuit"]["failures"], 0, "{pool}");
    daemon.stop().await;
}

/// A second signal does not wait for anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_exits_at_once() {
    let bed = Bed::new().await;
    bed.process_pools(&[("one", 1)]);
    let mut daemon = bed.start_ready().await;
    // The session's end hangs, so an orderly stop takes its three seconds.
    bed.github.inject(Fault::always(Endpoint::DeleteSession, FaultAction::Hang));
    daemon.signal(Signal::TERM);
    let asked = Instant::now();
    eventually("the session is being closed", BOUND, || async {
        let count = bed.github.state().requests;
        count.get(&Endpoint::DeleteSession).map(|_| ())
    })
    .await;
    daemon.signal(Signal::INT);
    let status = daemon.ended(Duration::from_secs(2)).await;
    assert_eq!(status.code(), Some(1));
    assert!(asked.elapsed() < Duration::from_millis(2900), "it waited for the session");
}

/// Stopped while GitHub makes a registration: what was not launched is given back, and fast.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_launched_is_given_back() {
    let bed = Bed::new().await;
    bed.github.change(|settings| {
        settings.endpoint_latency_ms.insert(Endpoint::GenerateJitConfig, 1500);
    });
    bed.process_pools(&[("two", 2)]);
    let daemon = bed.start_ready().await;
    bed.queue("two", 2, 100);
    let asked = |state: &fleetfoot_sim::BoxState| state.jit_calls.len() == 2;
    bed.github.wait_until(BOUND, asked).await.unwrap();
    daemon.stop().await;
    let state = bed.github.state();
    assert!(state.runners.is_empty(), "{:?}", state.runners);
    assert_eq!(state.summary.sessions, 0);
    // The jobs still wait, and the next start serves them.
    let daemon = bed.start_ready().await;
    bed.all_succeeded(2, BOUND).await;
    bed.nothing_left().await;
    daemon.stop().await;
}

/// Stopped with nothing to do: at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_daemon_stops_at_once() {
    let bed = Bed::new().await;
    bed.process_pools(&[("one", 1)]);
    let mut daemon = bed.start_ready().await;
    let asked = Instant::now();
    daemon.signal(Signal::INT);
    let status = daemon.ended(Duration::from_secs(3)).await;
    assert!(status.success() && asked.elapsed() < Duration::from_secs(3), "{status}");
    assert_eq!(bed.github.summary().sessions, 0);
    assert!(daemon.stderr().contains("left: 0 idle, 0 running"));
}
