//! The configuration, changed while the daemon runs: nothing that runs is killed, no job is lost.

use std::os::unix::fs::symlink;

use fleetfoot_sim::{BoxState, Token};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{BOUND, Bed, Daemon, ORG, eventually, shims};

const APPLIED: &str = "configuration applied";
const REFUSED: &str = "configuration refused, nothing changed";

/// As editors do it: another file in the old one's place.
fn replace(bed: &Bed, text: &str) {
    let fresh = bed.path("fresh.yml");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, bed.config_file()).unwrap();
}

fn pools(bed: &Bed, pools: &[(&str, u32)]) -> String {
    bed.config("", pools, &bed.process())
}

/// Waits until the log has so many lines with this message; the last of them.
async fn nth(daemon: &Daemon, message: &str, count: usize) -> Value {
    eventually(&format!("`{message}` {count} times"), BOUND, || async {
        let lines = daemon.lines();
        let mut found = lines.into_iter().filter(|line| line["message"] == message);
        found.nth(count - 1)
    })
    .await
}

async fn asked(bed: &Bed, daemon: &Daemon, text: &str) {
    let count = daemon.count(APPLIED) + 1;
    bed.write(text);
    daemon.signal(Signal::HUP);
    nth(daemon, APPLIED, count).await;
}

fn sessions_of(state: &BoxState, pool: &str) -> usize {
    let Some(set) = state.scale_set(ORG, pool) else { return 0 };
    state.sessions.iter().filter(|session| session.scale_set_id == set.id).count()
}

async fn capacity(bed: &Bed, pool: &str, wanted: u32) {
    let told = |state: &BoxState| {
        state.scale_set(ORG, pool).is_some_and(|set| set.capacity == Some(wanted))
    };
    bed.github.wait_until(BOUND, told).await.unwrap();
}

/// A limit raised, then lowered, by a file that was replaced; nobody sends a signal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_changes_with_the_file() {
    let bed = Bed::new().await;
    bed.write(&pools(&bed, &[("one", 1), ("other", 1)]));
    let daemon = bed.start_ready().await;
    bed.queue("one", 4, 8000);
    bed.running(1).await;
    let first = shims(&bed.instances());
    replace(&bed, &pools(&bed, &[("one", 3), ("other", 1)]));
    let change = nth(&daemon, "setting changes", 1).await;
    assert_eq!(change["key"], "runners.one.max_runners", "{change}");
    assert_eq!((&change["from"], &change["to"]), (&"1".into(), &"3".into()), "{change}");
    bed.running(3).await;
    assert!(first.is_subset(&shims(&bed.instances())), "what ran runs");
    // The other way, in place and through a link: what runs above the limit ends by itself.
    std::fs::rename(bed.config_file(), bed.path("real.yml")).unwrap();
    symlink("real.yml", bed.config_file()).unwrap();
    std::fs::write(bed.path("real.yml"), pools(&bed, &[("one", 2), ("other", 1)])).unwrap();
    nth(&daemon, APPLIED, 2).await;
    capacity(&bed, "one", 2).await;
    assert_eq!(shims(&bed.instances()).len(), 3, "nothing is killed for a limit");
    bed.all_succeeded(4, BOUND).await;
    bed.nothing_left().await;
    let state = bed.github.state();
    assert_eq!((sessions_of(&state, "one"), sessions_of(&state, "other")), (1, 1));
    assert_eq!(daemon.count(APPLIED), 2);
    daemon.stop().await;
}

/// A pool more, a pool less, a pool by another name, while jobs run in all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_come_and_go() {
    let bed = Bed::new().await;
    bed.write(&pools(&bed, &[("stays", 2), ("goes", 2), ("before", 1)]));
    let daemon = bed.start_ready().await;
    for pool in ["stays", "goes", "before"] {
        bed.queue(pool, 1, 6000);
    }
    bed.running(3).await;
    let running = shims(&bed.instances());
    asked(&bed, &daemon, &pools(&bed, &[("stays", 2), ("comes", 2), ("after", 1)])).await;
    assert_eq!(daemon.count("pool is removed: it is drained, what runs finishes"), 2);
    assert_eq!(daemon.count("pool is added"), 2);
    for pool in ["stays", "comes", "after"] {
        bed.queue(pool, 3, 100);
    }
    assert!(running.is_subset(&shims(&bed.instances())), "what ran runs");
    bed.all_succeeded(12, BOUND).await;
    bed.nothing_left().await;
    let names = || async {
        let status = bed.status().await;
        let pools = status["pools"].as_array().unwrap().clone();
        pools.iter().map(|pool| pool["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually("the others are gone", BOUND, || async {
        (names().await == ["after", "comes", "stays"]).then_some(())
    })
    .await;
    let state = bed.github.state();
    assert_eq!(sessions_of(&state, "stays"), 1, "the one that stays did not notice");
    assert!(state.scale_set(ORG, "goes").unwrap().session_id.is_none());
    daemon.stop().await;
}

/// Another environment, other labels, a directory elsewhere: for the next instance, or the next session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_pool_change() {
    let bed = Bed::new().await;
    let plain = pools(&bed, &[("one", 2)]);
    bed.write(&plain);
    let daemon = bed.start_ready().await;
    bed.queue("one", 1, 5000);
    bed.running(1).await;
    let running = shims(&bed.instances());
    let env = format!("{plain}      env:\n        CHANNEL: hunter2\n");
    asked(&bed, &daemon, &env).await;
    let change = nth(&daemon, "setting changes", 1).await;
    assert_eq!(change["key"], "runners.one.process.env.CHANNEL", "{change}");
    assert_eq!(change["effect"], "from the next instance on", "{change}");
    assert!(!daemon.stderr().contains("hunter2"), "it may be a secret");
    assert_eq!(sessions_of(&bed.github.state(), "one"), 1);
    bed.queue("one", 1, 3000);
    bed.running(2).await;
    assert!(running.is_subset(&shims(&bed.instances())), "what ran runs");
    let new = |(_, shim): &(String, i64)| environment_below(*shim).contains("CHANNEL=hunter2");
    let now = shims(&bed.instances());
    assert!(now.difference(&running).all(new) && !running.iter().any(new), "only the new one");
    asked(&bed, &daemon, &env.replace("[one]", "[one, two]")).await;
    let labelled = |state: &BoxState| {
        state.scale_set(ORG, "one").is_some_and(|set| set.labels.len() == 2)
            && sessions_of(state, "one") == 2
    };
    bed.github.wait_until(BOUND, labelled).await.unwrap();
    bed.all_succeeded(2, BOUND).await;
    bed.nothing_left().await;
    daemon.stop().await;
}

/// What the processes below a shim were started with.
fn environment_below(shim: i64) -> String {
    let mut all = String::new();
    let children = std::fs::read_to_string(format!("/proc/{shim}/task/{shim}/children"));
    for child in children.unwrap_or_default().split_whitespace() {
        let bytes = std::fs::read(format!("/proc/{child}/environ")).unwrap_or_default();
        all.push_str(&String::from_utf8_lossy(&bytes));
    }
    all
}

/// A file that cannot be used changes nothing, says why with lines and carets, and is said once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_changes_nothing() {
    let bed = Bed::new().await;
    let good = pools(&bed, &[("one", 1)]);
    bed.write(&good);
    let daemon = bed.start_ready().await;
    bed.queue("one", 1, 3000);
    bed.running(1).await;
    replace(&bed, &good.replace("max_runners: 1", "max_runners: many"));
    let line = nth(&daemon, REFUSED, 1).await;
    assert_eq!(line["level"], "ERROR", "{line}");
    let report = line["report"].as_str().unwrap();
    assert!(report.contains("runners.one.max_runners") && report.contains("^^^^"), "{report}");
    // Half a file, then a credential that is not there.
    replace(&bed, &good[..good.len() / 2]);
    nth(&daemon, REFUSED, 2).await;
    bed.write(&good.replace("/token\n", "/nowhere\n"));
    daemon.signal(Signal::HUP);
    let line = nth(&daemon, REFUSED, 3).await;
    assert!(line["error"].as_str().unwrap().contains("nowhere"), "{line}");
    std::fs::remove_file(bed.config_file()).unwrap();
    daemon.signal(Signal::HUP);
    nth(&daemon, REFUSED, 4).await;
    assert_eq!(daemon.count(APPLIED), 0);
    bed.queue("one", 1, 100);
    bed.all_succeeded(2, BOUND).await;
    assert_eq!(sessions_of(&bed.github.state(), "one"), 1);
    asked(&bed, &daemon, &pools(&bed, &[("one", 2)])).await;
    capacity(&bed, "one", 2).await;
    bed.nothing_left().await;
    daemon.stop().await;
}

/// What only a restart changes is named; the rest of the same file holds at once, and the books say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_restart_is_named() {
    let bed = Bed::new().await;
    let top = "listen: 127.0.0.1:0\n";
    let text = |top: &str, limit| bed.config(top, &[("one", limit)], &bed.process());
    bed.write(&text(top, 1));
    let daemon = bed.start_ready().await;
    let elsewhere = bed.path("elsewhere").display().to_string();
    let changed = text("listen: 127.0.0.1:1\n", 2)
        .replace(&bed.state_dir().display().to_string(), &elsewhere);
    asked(&bed, &daemon, &changed).await;
    let needs = "setting needs a restart, the old one stays";
    let keys: Vec<Value> = [nth(&daemon, needs, 1).await, nth(&daemon, needs, 2).await]
        .map(|line| line["key"].clone())
        .to_vec();
    assert_eq!(keys, ["listen", "state_dir"]);
    capacity(&bed, "one", 2).await;
    assert_eq!(bed.pool("one").await["max_runners"], 2);
    daemon.stop().await;
}

/// A token that was rotated: SIGHUP reads it again, and the pool goes on with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_is_read_again() {
    let bed = Bed::new().await;
    bed.process_pools(&[("one", 2)]);
    let daemon = bed.start_ready().await;
    bed.queue("one", 1, 3000);
    bed.running(1).await;
    let fresh = "ghp_fresh_token_of_the_test";
    bed.github.change(|settings| {
        let token = Token { token: fresh.to_owned(), ..settings.tokens[0].clone() };
        settings.tokens = vec![token];
    });
    std::fs::write(bed.path("token"), fresh).unwrap();
    daemon.signal(Signal::HUP);
    nth(&daemon, "credential was replaced", 1).await;
    nth(&daemon, "configuration is the same, credentials were read again", 1).await;
    bed.github.wait_until(BOUND, |state| sessions_of(state, "one") == 2).await.unwrap();
    bed.queue("one", 3, 100);
    bed.all_succeeded(4, BOUND).await;
    bed.nothing_left().await;
    assert!(!daemon.stderr().contains(fresh));
    // The same again changes nothing.
    daemon.signal(Signal::HUP);
    nth(&daemon, "configuration is the same, credentials were read again", 2).await;
    assert_eq!(daemon.count("credential was replaced"), 1);
    assert_eq!(sessions_of(&bed.github.state(), "one"), 2);
    daemon.stop().await;
}

/// Under the original's name a file does not act by being saved; SIGHUP reads it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_originals_name_only_a_signal_reads_it() {
    let bed = Bed::new().await;
    let text = |limit: u32| {
        format!(
            "url: {}\ntoken_file: {}\nrunners:\n  one:\n    labels: [one]\n    max_runners: {limit}\n{}",
            bed.github.config_url(ORG),
            bed.path("token").display(),
            bed.process()
        )
    };
    bed.write(&text(1));
    let mut command = bed.outrunner();
    command.args(["--config", bed.config_file().to_str().unwrap()]);
    let mut daemon = bed.daemon(command);
    daemon.says("Listening").await;
    capacity(&bed, "one", 1).await;
    replace(&bed, &text(2).replace("max_runners: 2", "max_runners: x"));
    daemon.signal(Signal::HUP);
    daemon.says("configuration refused").await;
    assert!(daemon.stdout().lines().all(|line| line.starts_with("20")), "{}", daemon.stdout());
    replace(&bed, &text(3));
    daemon.signal(Signal::HUP);
    daemon.says("configuration applied").await;
    capacity(&bed, "one", 3).await;
    daemon.stop().await;
}
