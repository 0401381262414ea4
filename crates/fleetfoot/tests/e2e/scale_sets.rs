//! `fleetfoot scale-set`: what a pool that is gone from the file leaves at GitHub, and how it goes.

use serde_json::Value;

use crate::harness::Bed;

async fn scale_set(bed: &Bed, words: &[&str]) -> (i32, String, String) {
    let config = bed.config_file();
    let mut all = vec!["scale-set"];
    all.extend_from_slice(words);
    all.extend_from_slice(&["--config", config.to_str().unwrap()]);
    let output = bed.cli(&all).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_a_pool_left_behind_is_shown_and_deleted() {
    let bed = Bed::new().await;
    bed.process_pools(&[("old", 2), ("linux", 2)]);
    let mut daemon = bed.start();
    daemon.ready().await;
    let (code, _, error) = scale_set(&bed, &["delete", "old"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("scale set `old` is used by pool `old`"), "{error}");
    bed.queue("old", 2, 60_000);
    bed.running(2).await;
    daemon.stop().await;

    bed.process_pools(&[("linux", 2)]);
    let (code, shown, error) = scale_set(&bed, &["show", "old", "--output", "json"]).await;
    assert_eq!(code, 0, "{error}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown[0]["name"], "old");
    assert_eq!(shown[0]["pool"], Value::Null);
    assert_eq!((&shown[0]["jobs_running"], &shown[0]["runners"]), (&2.into(), &2.into()));

    let (code, _, error) = scale_set(&bed, &["delete", "old"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("is not empty: 0 jobs waiting, 2 jobs running, 2 runners"), "{error}");
    assert!(error.contains("--force"), "{error}");
    let (code, said, error) = scale_set(&bed, &["delete", "old", "--force"]).await;
    assert_eq!(code, 0, "{error}");
    assert!(said.contains("is deleted"), "{said}");
    let sets: Vec<String> = bed.github.state().scale_sets.into_iter().map(|set| set.name).collect();
    assert_eq!(sets, ["linux"]);

    let (code, _, error) = scale_set(&bed, &["delete", "old"]).await;
    assert_eq!(code, 1);
    assert!(error.contains("there is no scale set `old`"), "{error}");
}
