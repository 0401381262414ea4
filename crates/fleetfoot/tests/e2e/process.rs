//! The main job with the process backend.

use std::time::Duration;

use crate::harness::{Bed, Sampler};

const POOLS: [(&str, u32); 2] = [("large", 4), ("small", 2)];

/// Sixty jobs over two pools: each starts once, all complete, the limits hold, nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_jobs() {
    let bed = Bed::new().await;
    bed.process_pools(&POOLS);
    let daemon = bed.start_ready().await;
    let sampler = Sampler::start(bed.instances());
    bed.queue("large", 40, 100);
    bed.queue("small", 20, 100);
    bed.all_succeeded(60, Duration::from_secs(90)).await;
    bed.nothing_left().await;
    sampler.never_above(&POOLS);
    daemon.stop().await;
    let store = bed.status().await;
    assert_eq!(store["source"], "store");
    assert_eq!(store["instances"].as_array().unwrap().len(), 0);
}

/// Jobs of a second one behind the other with room for one: the slot is refilled at once and no
/// short job counts as a failed start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_jobs_one_behind_the_other() {
    let bed = Bed::new().await;
    bed.process_pools(&[("one", 1)]);
    let daemon = bed.start_ready().await;
    bed.queue("one", 6, 1000);
    bed.all_succeeded(6, Duration::from_secs(60)).await;
    let state = bed.github.state();
    let mut jobs = state.jobs.clone();
    jobs.sort_by_key(|job| job.started_us);
    for pair in jobs.windows(2) {
        let (before, after) = (pair[0].completed_us.unwrap(), pair[1].started_us.unwrap());
        // A poll is held for 50 s: whoever waited for one would be far beyond the length of a job.
        let gap = after.saturating_sub(before);
        assert!(gap < 10_000_000, "the slot was empty for {gap} us");
        assert!(before < pair[1].runner_registered_us.unwrap(), "one at a time");
    }
    let pool = bed.pool("one").await;
    assert_eq!(pool["circuit"]["open"], false, "{pool}");
    assert_eq!(pool["circuit"]["failures"], 0, "{pool}");
    bed.nothing_left().await;
    daemon.stop().await;
}
