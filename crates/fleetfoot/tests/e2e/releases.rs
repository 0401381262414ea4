//! Releases of the runner that are kept on this host: hosts and images need none of their own.

use std::path::{Path, PathBuf};

use fleetfoot_sim::{Endpoint, Fault, FaultAction, RunnerRelease};

use crate::harness::{BOUND, Bed, Engine, PROGRAM, eventually, host_programs, unique};

/// A pool whose runner is kept, looked after every second.
fn config(bed: &Bed, wanted: &str) -> String {
    let lines = format!("    process:\n      runner_release: {wanted}\n");
    bed.config("runner_releases:\n  check_interval: 1s\n", &[("kept", 4)], &lines)
}

fn offer(bed: &Bed, releases: &[&str]) {
    let program = Path::new(PROGRAM);
    bed.github.change(|settings| {
        settings.runner_releases =
            releases.iter().map(|version| RunnerRelease::new(*version, program)).collect();
    });
}

/// Which release each instance that lives was made of.
fn made_of(bed: &Bed) -> Vec<String> {
    let instances = std::fs::read_dir(bed.instances()).into_iter().flatten().flatten();
    let release = |path: PathBuf| std::fs::read_to_string(path.join("runner/bin/release")).ok();
    let mut found: Vec<String> = instances.filter_map(|entry| release(entry.path())).collect();
    found.sort();
    found
}

async fn runs(bed: &Bed, releases: &[&str]) {
    eventually(&format!("instances of {releases:?}"), BOUND, || async {
        (made_of(bed) == releases).then_some(())
    })
    .await;
}

fn cut_off(bed: &Bed) {
    let mut fault = Fault::once(Endpoint::RunnerReleases, FaultAction::Cut);
    fault.times = None;
    bed.github.inject(fault);
}

/// A host without any runner: the release is fetched, verified and unpacked, and jobs run with it. A newer one takes over
/// for the next instances while the older one runs; without a network what is there goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetched_used_replaced_and_kept() {
    let bed = Bed::new().await;
    offer(&bed, &["2.335.0"]);
    bed.write(&config(&bed, "latest"));
    let mut daemon = bed.start_ready().await;
    bed.queue("kept", 1, 30_000);
    bed.running(1).await;
    assert_eq!(made_of(&bed), ["2.335.0"]);
    offer(&bed, &["2.335.0", "2.336.0"]);
    daemon.logs_where("runner release in use", |line| line["version"] == "2.336.0").await;
    bed.queue("kept", 1, 30_000);
    bed.running(2).await;
    assert_eq!(made_of(&bed), ["2.335.0", "2.336.0"]);
    let pool = bed.pool("kept").await;
    assert_eq!(pool["runner"]["version"], "2.336.0", "{pool}");
    assert!(bed.state_dir().join("runners/2.335.0").is_dir(), "something may use it");
    // Nobody answers any more: the next daemon starts with what is there.
    cut_off(&bed);
    daemon.stop().await;
    let mut daemon = bed.start_ready().await;
    daemon.logs("runner releases not looked at").await;
    bed.queue("kept", 2, 100);
    let waited = bed.github.wait_until(BOUND, |state| state.summary.jobs_completed >= 2).await;
    waited.unwrap();
    assert_eq!(daemon.count("runner releases not looked at"), 1, "said once");
    daemon.stop().await;
}

/// GitHub takes the kept runner no more, hours before the next look: the newer one is fetched at once, and the job runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_is_refused_is_replaced_at_once() {
    let bed = Bed::new().await;
    offer(&bed, &["2.335.0"]);
    bed.write(&config(&bed, "latest").replace("check_interval: 1s", "check_interval: 6h"));
    let mut daemon = bed.start_ready().await;
    daemon.logs_where("runner release in use", |line| line["version"] == "2.335.0").await;
    bed.github.change(|settings| settings.runner_version_deprecated = true);
    offer(&bed, &["2.335.0", "2.336.0"]);
    bed.queue("kept", 1, 100);
    daemon.logs_where("runner release in use", |line| line["version"] == "2.336.0").await;
    bed.github.change(|settings| settings.runner_version_deprecated = false);
    bed.all_succeeded(1, BOUND).await;
    let looks = daemon.count("a runner was refused for its version, looking for a newer one");
    assert!(looks >= 1, "{looks}");
    daemon.stop().await;
}

/// What GitHub does not state is not unpacked; the pool says what it waits for, and goes on once it is mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_checksum_is_refused() {
    let bed = Bed::new().await;
    bed.github.change(|settings| {
        let mut wrong = RunnerRelease::new("2.336.0", PROGRAM);
        wrong.sha256 = Some("ab".repeat(32));
        settings.runner_releases = vec![wrong];
    });
    bed.write(&config(&bed, "latest"));
    let mut daemon = bed.start_ready().await;
    bed.queue("kept", 1, 100);
    let line = daemon.logs("runner release is missing").await;
    let said = line["error"].as_str().unwrap().to_owned();
    assert!(said.starts_with("runner 2.336.0 is refused: its SHA-256 is "), "{said}");
    eventually("the cause", BOUND, || async {
        let pool = bed.pool("kept").await;
        let causes = pool["causes"].as_array().unwrap().clone();
        causes.iter().any(|cause| cause["code"] == "runner_missing").then_some(())
    })
    .await;
    let state = bed.state_dir();
    let state = state.to_str().unwrap();
    let why = bed.cli(&["why", "kept", "--state-dir", state]).await;
    let text = String::from_utf8(why.stdout).unwrap();
    assert!(text.contains("no release of the runner is in"), "{text}");
    assert!(text.contains("is refused: its SHA-256"), "{text}");
    let left = std::fs::read_dir(bed.state_dir().join("runners")).unwrap().count();
    assert_eq!(left, 0, "nothing of it stays");
    assert_eq!(daemon.count("instance start failed"), 0, "waiting is no failure");
    assert_eq!(bed.pool("kept").await["circuit"]["failures"], 0);
    offer(&bed, &["2.336.0"]);
    bed.all_succeeded(1, BOUND).await;
    assert_eq!(daemon.count("runner release is missing"), 1, "one line");
    daemon.stop().await;
}

/// A version that is not the newest is found by its notes, stays, and is told to be old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_one_by_its_version() {
    let bed = Bed::new().await;
    offer(&bed, &["2.335.0", "2.336.0"]);
    bed.github.change(|settings| settings.runner_releases[1].days = 10);
    bed.write(&config(&bed, "2.335.0"));
    let mut daemon = bed.start_ready().await;
    bed.queue("kept", 1, 30_000);
    bed.running(1).await;
    runs(&bed, &["2.335.0"]).await;
    let line = daemon.logs("runner release is not the newest").await;
    assert_eq!(line["newest"], "2.336.0");
    assert!((19..=20).contains(&line["days"].as_i64().unwrap()), "{line}");
    let pool = bed.pool("kept").await;
    assert_eq!(pool["runner"]["newest"], "2.336.0");
    assert!(pool["runner"]["accepted_until"].is_string(), "{pool}");
    let state = bed.state_dir();
    let status = bed.cli(&["status", "--state-dir", state.to_str().unwrap()]).await;
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("2.336.0 is out, and GitHub takes this one until about"), "{status}");
    daemon.stop().await;
}

/// Containers of an image that has no runner, only this host's shell: the kept one is mounted, read-only, and runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_without_a_runner() {
    let Some(engine) = Engine::shared().await else { return };
    let bed = Bed::new().await;
    offer(&bed, &["2.336.0"]);
    let pool = unique("kept");
    let mut lines: String = engine
        .lines()
        .lines()
        .filter(|line| !line.contains("runner_cmd"))
        .map(|line| format!("{line}\n"))
        .collect();
    lines.push_str("      runner_release: latest\n");
    lines.push_str(&host_programs());
    bed.write(&bed.config("", &[(&pool, 2)], &lines));
    let daemon = bed.start_ready().await;
    bed.queue(&pool, 1, 4000);
    bed.running(1).await;
    let name = engine.containers(&[&pool]).await.into_keys().next().unwrap();
    let options = None::<bollard::query_parameters::InspectContainerOptions>;
    let container = engine.docker.inspect_container(&name, options).await.unwrap();
    let mounts = container.mounts.unwrap();
    let kept =
        mounts.iter().find(|mount| mount.destination.as_deref() == Some("/opt/fleetfoot-runner"));
    let kept = kept.unwrap();
    assert_eq!(kept.rw, Some(false));
    let source = kept.source.clone().unwrap();
    assert!(source.ends_with("/runners/2.336.0"), "the release itself and not the link: {source}");
    bed.queue(&pool, 3, 100);
    bed.all_succeeded(4, BOUND).await;
    bed.nothing_left().await;
    engine.no_containers(&[&pool]).await;
    daemon.stop().await;
}

/// `check` asks whether a release can be had, and fetches nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_tells_what_can_be_had() {
    let bed = Bed::new().await;
    bed.write(&config(&bed, "latest"));
    let file = bed.config_file();
    let words = ["check", "--config", file.to_str().unwrap()];
    let nothing = bed.cli(&words).await;
    let text = String::from_utf8(nothing.stdout).unwrap();
    assert!(!nothing.status.success() && text.contains("GitHub offers no runner"), "{text}");
    offer(&bed, &["2.336.0"]);
    let good = bed.cli(&words).await;
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stdout));
    assert!(!bed.state_dir().join("runners").exists());
}
