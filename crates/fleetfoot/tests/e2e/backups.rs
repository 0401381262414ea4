//! `fleetfoot store`: copies under load, and an older copy put back while jobs run.

use std::collections::BTreeSet;
use std::time::Duration;

use fleetfoot_sim::Settings;
use serde_json::Value;

use crate::harness::{Bed, Sampler, shims};

/// One line on standard error, a hint, exit 1, nothing on standard output.
async fn refused(bed: &Bed, words: &[&str], part: &str) {
    let state = bed.state_dir();
    let words = [words, &["--state-dir", state.to_str().unwrap()]].concat();
    let output = bed.cli(&words).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {stderr}");
    assert!(output.stdout.is_empty());
    assert!(stderr.starts_with("fleetfoot: ") && stderr.contains(part), "{stderr}");
    assert!(stderr.lines().count() <= 2, "{stderr}");
}

fn names_given(bed: &Bed) -> Vec<String> {
    bed.github.state().jit_calls.iter().map(|call| call.name.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_under_load_are_whole() {
    let bed = Bed::new().await;
    bed.process_pools(&[("load", 6)]);
    let daemon = bed.start_ready().await;
    bed.queue("load", 60, 150);
    let mut instances = BTreeSet::new();
    for number in 0..8_u32 {
        let file = bed.path(&format!("copy.{number}"));
        let file = file.to_str().unwrap();
        let taken = bed.json(&["store", "backup", file]).await;
        assert_eq!(taken["file"], file);
        let found = bed.json(&["store", "check", file]).await;
        assert_eq!(found["ok"], true, "{found}");
        assert_eq!(found["backup_taken_at"], taken["taken_at"]);
        instances.insert(found["rows"]["instances"].as_u64().unwrap_or_default());
        let live = bed.json(&["store", "check"]).await;
        assert_eq!((&live["ok"], &live["behind"]), (&Value::Bool(true), &Value::Null), "{live}");
    }
    assert!(instances.len() > 1, "they were taken while things changed: {instances:?}");
    let last = bed.path("copy.7");
    refused(&bed, &["store", "backup", last.to_str().unwrap()], "exists").await;
    bed.json(&["store", "backup", last.to_str().unwrap(), "--force"]).await;
    refused(&bed, &["store", "restore", last.to_str().unwrap()], "is in use by process").await;
    bed.all_succeeded(60, Duration::from_secs(90)).await;
    daemon.stop().await;
}

/// The store goes back to before the jobs that run now, and before many that are over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_is_put_back_while_jobs_run() {
    // The id of the session of now is not in the copy: it has to lapse.
    let bed = Bed::with(Settings { session_lapse_ms: 2000, ..Settings::default() }).await;
    bed.process_pools(&[("back", 4)]);
    let daemon = bed.start_ready().await;
    let sampler = Sampler::start(bed.instances());
    // Some of these are in the copy in the midst of their lives.
    bed.queue("back", 12, 200);
    bed.github
        .wait_until(Duration::from_secs(60), |state| state.summary.jobs_completed >= 3)
        .await
        .unwrap();
    let copy = bed.path("copy");
    bed.json(&["store", "backup", copy.to_str().unwrap()]).await;
    bed.all_succeeded(12, Duration::from_secs(60)).await;
    bed.queue("back", 4, 12_000);
    bed.running(4).await;
    let before = shims(&bed.instances());
    daemon.kill().await;
    let put = bed.json(&["store", "restore", copy.to_str().unwrap()]).await;
    let kept = put["kept"].as_str().unwrap();
    assert_eq!(bed.json(&["store", "check", kept]).await["ok"], true);
    assert_eq!(bed.status().await["behind"]["cause"], "restored");
    bed.queue("back", 8, 100);
    let mut daemon = bed.start_ready().await;
    let said = daemon.logs_where("the store was restored from a backup, looking at everything outside before making anything", |_| true);
    assert_eq!(said.await["cause"], "restored");
    assert_eq!(before, shims(&bed.instances()), "they run on, and none was added");
    assert_eq!(bed.github.state().summary.jobs_running, 4);
    daemon.logs("careful pass is over").await;
    assert_eq!(bed.status().await["behind"], Value::Null);
    bed.all_succeeded(24, Duration::from_secs(90)).await;
    bed.nothing_left().await;
    sampler.never_above(&[("back", 4)]);
    let given = names_given(&bed);
    let distinct: BTreeSet<&String> = given.iter().collect();
    assert_eq!(distinct.len(), given.len(), "no name twice");
    let found = bed.json(&["store", "check"]).await;
    assert_eq!(found["ok"], true, "{found}");
    daemon.stop().await;
}
