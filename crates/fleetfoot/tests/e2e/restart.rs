//! SIGKILL at the worst moments, and a start one second later.

use std::time::Duration;

use fleetfoot_sim::{Endpoint, Fault, FaultAction};

use crate::harness::{BOUND, Bed, Sampler, eventually, shims};

const POOLS: [(&str, u32); 2] = [("large", 4), ("small", 2)];
/// Between a kill and the next start.
const DEAD: Duration = Duration::from_secs(1);

async fn finish(bed: &Bed, sampler: Sampler, jobs: u64) {
    bed.all_succeeded(jobs, Duration::from_secs(90)).await;
    bed.nothing_left().await;
    sampler.never_above(&POOLS);
}

/// Killed while jobs run: they do not notice, and the next start takes them up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_jobs_run() {
    let bed = Bed::new().await;
    bed.process_pools(&POOLS);
    let daemon = bed.start_ready().await;
    let sampler = Sampler::start(bed.instances());
    bed.queue("large", 4, 5000);
    bed.queue("small", 2, 5000);
    bed.running(6).await;
    bed.queue("large", 36, 100);
    bed.queue("small", 18, 100);
    let before = shims(&bed.instances());
    assert_eq!(before.len(), 6);
    daemon.kill().await;
    tokio::time::sleep(DEAD).await;
    let daemon = bed.start_ready().await;
    let after = shims(&bed.instances());
    assert!(before.is_subset(&after), "{before:?} {after:?}");
    let state = bed.github.state();
    let long: Vec<_> = state.jobs.iter().filter(|job| job.duration_ms == 5000).collect();
    assert!(long.iter().all(|job| job.result.is_none()), "untouched");
    finish(&bed, sampler, 60).await;
    daemon.stop().await;
}

/// Killed while GitHub works on JIT configs and environments are made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_instances_are_created() {
    let bed = Bed::new().await;
    bed.github.change(|settings| {
        settings.endpoint_latency_ms.insert(Endpoint::GenerateJitConfig, 700);
    });
    bed.process_pools(&POOLS);
    let daemon = bed.start_ready().await;
    let sampler = Sampler::start(bed.instances());
    bed.queue("large", 40, 100);
    bed.queue("small", 20, 100);
    let asked = |state: &fleetfoot_sim::BoxState| {
        state.jit_calls.iter().filter(|call| call.answered_us.is_none()).count() >= 3
    };
    bed.github.wait_until(BOUND, asked).await.unwrap();
    daemon.kill().await;
    tokio::time::sleep(DEAD).await;
    bed.github.change(|settings| settings.endpoint_latency_ms.clear());
    let daemon = bed.start_ready().await;
    finish(&bed, sampler, 60).await;
    daemon.stop().await;
}

/// Killed right after a message came, before it was acknowledged: it comes again and changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_right_after_a_message() {
    let bed = Bed::new().await;
    bed.process_pools(&POOLS);
    let daemon = bed.start_ready().await;
    let sampler = Sampler::start(bed.instances());
    bed.github.inject(Fault::once(Endpoint::DeleteMessage, FaultAction::Hang).scale_set("large"));
    bed.queue("large", 40, 100);
    bed.queue("small", 20, 100);
    let control = bed.github.control();
    eventually("the acknowledgement hangs", BOUND, || async {
        let faults = control.faults().await.unwrap();
        faults.iter().any(|fault| fault.struck > 0).then_some(())
    })
    .await;
    daemon.kill().await;
    tokio::time::sleep(DEAD).await;
    let daemon = bed.start_ready().await;
    finish(&bed, sampler, 60).await;
    daemon.stop().await;
}
