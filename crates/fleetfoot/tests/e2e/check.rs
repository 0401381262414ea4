//! `fleetfoot check`, against a GitHub and backends that have something to find.

use fleetfoot_sim::{DEFAULT_TOKEN, Group, Settings, Token};
use serde_json::Value;

use crate::harness::Bed;

/// The notes of a check, and its exit code.
async fn check(bed: &Bed, words: &[&str]) -> (i32, Value) {
    let config = bed.config_file();
    let mut all = vec!["check", "--config", config.to_str().unwrap(), "--output", "json"];
    all.extend_from_slice(words);
    let output = bed.cli(&all).await;
    let text = String::from_utf8(output.stdout).unwrap();
    let checked = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().unwrap(), checked)
}

fn has(checked: &Value, severity: &str, part: &str) -> bool {
    checked["notes"].as_array().unwrap().iter().any(|note| {
        note["severity"] == severity && note["message"].as_str().unwrap().contains(part)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_file_shows_what_it_would_start_and_starts_nothing() {
    let bed = Bed::new().await;
    bed.process_pools(&[("linux", 4)]);
    let (code, checked) = check(&bed, &[]).await;
    assert_eq!(code, 0, "{checked}");
    assert_eq!(checked["ok"], true);
    assert_eq!(checked["plan"]["pools"][0]["name"], "linux");
    assert_eq!(checked["plan"]["pools"][0]["max_runners"], 4);
    let state = bed.github.state();
    assert!(state.scale_sets.is_empty() && state.sessions.is_empty() && state.runners.is_empty());
    assert!(!bed.state_dir().join("store.sqlite").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_ends_soon_and_an_open_group_are_told() {
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(3 * 24);
    let token = Token {
        expiration: Some(soon.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
        ..Token::new(DEFAULT_TOKEN)
    };
    let open = Group { allows_public_repositories: true, ..Group::new("open") };
    let settings = Settings { tokens: vec![token], groups: vec![open], ..Settings::default() };
    let bed = Bed::with(settings).await;
    let lines = format!("    runner_group: open\n{}", bed.process());
    bed.write(&bed.config("", &[("linux", 1)], &lines));
    let (code, checked) = check(&bed, &[]).await;
    assert_eq!(code, 0, "{checked}");
    assert!(has(&checked, "warning", "expires in 2 days"), "{checked}");
    assert!(has(&checked, "warning", "admits public repositories"), "{checked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_not_run_is_named_with_its_pool() {
    let bed = Bed::new().await;
    let missing = "    runner_group: nobody\n    process:\n      runner_dir: /nowhere/runner\n";
    bed.write(&bed.config("", &[("linux", 1)], missing));
    let (code, checked) = check(&bed, &[]).await;
    assert_eq!(code, 1, "{checked}");
    assert!(has(&checked, "error", "no runner group is named `nobody`"), "{checked}");
    assert!(has(&checked, "error", "/nowhere/runner"), "{checked}");
    assert!(
        checked["notes"].as_array().unwrap().iter().all(|note| note["pool"] == "linux"),
        "{checked}"
    );
    let (code, checked) = check(&bed, &["--offline"]).await;
    assert_eq!((code, &checked["notes"]), (0, &serde_json::json!([])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_is_missing_is_named() {
    let token = Token { insufficient: true, ..Token::new(DEFAULT_TOKEN) };
    let bed = Bed::with(Settings { tokens: vec![token], ..Settings::default() }).await;
    bed.process_pools(&[("linux", 1)]);
    let (code, checked) = check(&bed, &[]).await;
    assert_eq!(code, 1, "{checked}");
    assert!(has(&checked, "error", "permission"), "{checked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_of_a_file_is_told_at_once() {
    let bed = Bed::new().await;
    bed.write(&bed.config(
        "",
        &[("linux", 1)],
        "    max_runers: 2\n    process: {}\n    min_idle: -1\n",
    ));
    let (code, checked) = check(&bed, &[]).await;
    assert_eq!(code, 78, "{checked}");
    assert!(checked["notes"].as_array().unwrap().len() >= 3, "{checked}");
    let output = bed.cli(&["check", "--config", bed.config_file().to_str().unwrap()]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("max_runers") && text.contains('^') && text.contains("min_idle"),
        "{text}"
    );
}
