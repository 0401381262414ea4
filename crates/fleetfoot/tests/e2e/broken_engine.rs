//! An engine that freezes, and one that is restarted.

use std::time::Duration;

use crate::harness::{BOUND, Bed, OwnEngine, Recorder, eventually, unique};

/// Frozen for 20 s with creates in flight: another pool goes on, and everything ends as if not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_engine() {
    let bed = Bed::new().await;
    let Some(own) = OwnEngine::start(&bed.path("dk")).await else { return };
    let hurt = unique("hurt");
    let text = bed.config("", &[(&hurt, 4)], &own.engine.lines());
    bed.write(&format!(
        "{text}  well:\n    labels: [well]\n    max_runners: 2\n    idle_timeout: 1s\n    boot_timeout: 30s\n{}",
        bed.process()
    ));
    let daemon = bed.start_ready().await;
    let recorder = Recorder::start(&own.engine, &[&hurt]).await;
    bed.queue(&hurt, 20, 100);
    eventually("the first container", BOUND, || async {
        (!own.engine.containers(&[&hurt]).await.is_empty()).then_some(())
    })
    .await;
    own.freeze();
    let frozen = tokio::time::Instant::now();
    let well = bed.queue("well", 8, 100);
    let done = |state: &fleetfoot_sim::BoxState| {
        well.iter().all(|id| state.job(*id).is_some_and(|job| job.completed_us.is_some()))
    };
    let state = bed.github.wait_until(Duration::from_secs(20), done).await.unwrap();
    assert!(state.summary.jobs_completed < 28, "the other pool cannot go on");
    tokio::time::sleep_until(frozen + Duration::from_secs(20)).await;
    own.thaw();
    bed.all_succeeded(28, Duration::from_secs(120)).await;
    bed.nothing_left().await;
    own.engine.no_containers(&[&hurt]).await;
    recorder.never_above(&[(&hurt, 4)]);
    daemon.stop().await;
    own.end().await;
}

/// Restarted while containers run: they live on, and are taken up again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_engine() {
    let bed = Bed::new().await;
    let Some(mut own) = OwnEngine::start(&bed.path("dk")).await else { return };
    let pool = unique("again");
    bed.write(&bed.config("", &[(&pool, 3)], &own.engine.lines()));
    let daemon = bed.start_ready().await;
    bed.queue(&pool, 3, 6000);
    bed.running(3).await;
    bed.queue(&pool, 6, 100);
    own.restart().await;
    bed.all_succeeded(9, Duration::from_secs(90)).await;
    bed.nothing_left().await;
    own.engine.no_containers(&[&pool]).await;
    daemon.stop().await;
    own.end().await;
}
