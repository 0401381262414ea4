//! The store's file is gone while jobs run, and directories that are not ours.

use std::time::Duration;

use fleetfoot_sim::Settings;

use crate::harness::{Bed, Sampler, shims};

fn lose_store(bed: &Bed) {
    for entry in std::fs::read_dir(bed.state_dir()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("store.sqlite") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// Nothing that runs is killed, the strays are adopted and count against the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strays_are_adopted() {
    // The old session's id is lost as well: it has to lapse.
    let bed = Bed::with(Settings { session_lapse_ms: 2000, ..Settings::default() }).await;
    bed.process_pools(&[("lost", 4)]);
    let daemon = bed.start_ready().await;
    let sampler = Sampler::start(bed.instances());
    bed.queue("lost", 4, 12_000);
    bed.running(4).await;
    let before = shims(&bed.instances());
    assert_eq!(before.len(), 4);
    daemon.kill().await;
    lose_store(&bed);
    bed.queue("lost", 6, 100);
    let daemon = bed.start_ready().await;
    assert_eq!(before, shims(&bed.instances()), "they run on, and none was added");
    let state = bed.github.state();
    assert_eq!(state.summary.jobs_running, 4);
    let running = bed.pool("lost").await["running"].as_u64().unwrap();
    assert_eq!(running, 4, "adopted");
    bed.all_succeeded(10, Duration::from_secs(60)).await;
    bed.nothing_left().await;
    sampler.never_above(&[("lost", 4)]);
    daemon.stop().await;
}

/// Directories beside ours: without a mark, with the mark of another installation, and files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_directories_are_never_touched() {
    let bed = Bed::new().await;
    bed.process_pools(&[("mine", 2)]);
    bed.start_ready().await.stop().await;
    let unmarked = bed.instances().join("mine-0123abcd");
    std::fs::create_dir_all(unmarked.join("data")).unwrap();
    let foreign = bed.instances().join("mine-0123abce");
    std::fs::create_dir_all(&foreign).unwrap();
    let meta = r#"{"version":1,"installation":"another","instance":"mine-0123abce","pool":"mine","boot_id":"x","uid":null}"#;
    std::fs::write(foreign.join("meta.json"), meta).unwrap();
    let file = bed.instances().join("mine-0123abcf");
    std::fs::write(&file, "x").unwrap();
    let daemon = bed.start_ready().await;
    bed.queue("mine", 4, 100);
    bed.all_succeeded(4, Duration::from_secs(60)).await;
    daemon.kill().await;
    let daemon = bed.start_ready().await;
    bed.queue("mine", 2, 100);
    bed.all_succeeded(6, Duration::from_secs(60)).await;
    daemon.stop().await;
    assert!(unmarked.join("data").is_dir());
    assert_eq!(std::fs::read_to_string(foreign.join("meta.json")).unwrap(), meta);
    assert!(file.is_file());
}
