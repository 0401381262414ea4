//! Every cause of waiting, produced in the real binary, as `why` and `status` tell it.

use fleetfoot_sim::{Endpoint, Fault, FaultAction, Settings};
use serde_json::Value;

use crate::harness::{BOUND, Bed, Daemon, Engine, Gate, eventually, unique};

/// Waits until `why POOL` has the cause, and checks that it comes with a sentence and a remedy.
async fn cause(bed: &Bed, pool: &str, code: &str) -> Value {
    let cause = eventually(&format!("the cause {code}"), BOUND, || async {
        let why = bed.json(&["why", pool]).await;
        why["causes"].as_array().unwrap().iter().find(|cause| cause["code"] == code).cloned()
    })
    .await;
    for part in ["message", "remedy"] {
        assert!(!cause[part].as_str().unwrap().is_empty(), "{cause}");
    }
    // The text for people says the same.
    let state = bed.state_dir();
    let output = bed.cli(&["why", pool, "--state-dir", state.to_str().unwrap()]).await;
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("remedy: "));
    cause
}

async fn one(lines: &str, top: &str, settings: Settings) -> (Bed, Daemon) {
    let bed = Bed::with(settings).await;
    let process = bed.process();
    bed.write(&bed.config(top, &[("one", 1)], &format!("{lines}{process}")));
    let daemon = bed.start();
    (bed, daemon)
}

async fn ready(lines: &str, top: &str, settings: Settings) -> (Bed, Daemon) {
    let (bed, mut daemon) = one(lines, top, settings).await;
    daemon.ready().await;
    (bed, daemon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_limit() {
    let (bed, daemon) = ready("", "", Settings::default()).await;
    bed.queue("one", 2, 3000);
    bed.running(1).await;
    let cause = cause(&bed, "one", "pool_limit").await;
    assert!(cause["message"].as_str().unwrap().contains("max_runners: 1"), "{cause}");
    bed.all_succeeded(2, BOUND).await;
    bed.nothing_left().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_budget() {
    let bed = Bed::new().await;
    let top = "host:\n  max_instances: 1\n";
    bed.write(&bed.config(top, &[("a", 2), ("b", 2)], &bed.process()));
    let daemon = bed.start_ready().await;
    bed.queue("a", 1, 3000);
    bed.running(1).await;
    bed.queue("b", 1, 100);
    cause(&bed, "b", "host_budget").await;
    bed.all_succeeded(2, BOUND).await;
    bed.nothing_left().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jit_budget() {
    let bed = Bed::with(Settings { jit_per_minute: Some(1), ..Settings::default() }).await;
    bed.process_pools(&[("one", 4)]);
    let daemon = bed.start_ready().await;
    bed.queue("one", 4, 100);
    let cause = cause(&bed, "one", "jit_budget").await;
    assert!(cause["until"].is_string(), "{cause}");
    let pool = bed.pool("one").await;
    assert_eq!(pool["circuit"]["failures"], 0, "waiting for a permit is no failure: {pool}");
    daemon.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn circuit_open() {
    let bed = Bed::new().await;
    let lines = format!("{}      runner_cmd: ./missing.sh\n", bed.process());
    bed.write(&bed.config("", &[("one", 1)], &lines));
    let daemon = bed.start_ready().await;
    bed.queue("one", 2, 100);
    let cause = cause(&bed, "one", "circuit_open").await;
    assert!(cause["message"].as_str().unwrap().contains("missing.sh"), "{cause}");
    assert!(cause["until"].is_string(), "{cause}");
    bed.github.cancel_job(1);
    bed.github.cancel_job(2);
    bed.nothing_left().await;
    daemon.stop().await;
}

/// GitHub takes no runner of this version any more: said as such, not as an exit code alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_is_too_old() {
    let bed = Bed::with(Settings { runner_version_deprecated: true, ..Settings::default() }).await;
    bed.process_pools(&[("one", 1)]);
    let daemon = bed.start_ready().await;
    bed.queue("one", 1, 100);
    let cause = cause(&bed, "one", "circuit_open").await;
    let message = cause["message"].as_str().unwrap();
    assert!(message.contains("GitHub takes no runner of this version any more"), "{cause}");
    bed.github.cancel_job(1);
    bed.nothing_left().await;
    daemon.stop().await;
}

/// After five failed starts the time between attempts has grown, and nothing of them is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_starts_are_spaced_out() {
    let bed = Bed::new().await;
    let lines = format!("{}      runner_cmd: ./missing.sh\n", bed.process());
    bed.write(&bed.config("", &[("one", 1)], &lines));
    let daemon = bed.start_ready().await;
    bed.queue("one", 1, 100);
    let at = eventually("five failed starts", BOUND, || async {
        let lines = daemon.lines();
        let failed = lines.iter().filter(|line| line["message"] == "instance start failed");
        let at: Vec<jiff::Timestamp> =
            failed.map(|line| line["timestamp"].as_str().unwrap().parse().unwrap()).collect();
        (at.len() >= 5).then_some(at)
    })
    .await;
    let gap = |n: usize| at[n + 1].duration_since(at[n]);
    assert!(gap(3) > gap(2) && gap(2) > gap(0), "{at:?}");
    assert_eq!(bed.github.summary().runners_registered_total, 0, "no JIT config is wasted on it");
    bed.github.cancel_job(1);
    bed.nothing_left().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backend_unavailable() {
    let bed = Bed::new().await;
    let nowhere = bed.path("no.sock");
    let lines =
        format!("    docker:\n      image: x:1\n      host: unix://{}\n", nowhere.display());
    bed.write(&bed.config("", &[("one", 1)], &lines));
    let daemon = bed.start_ready().await;
    bed.queue("one", 1, 100);
    let cause = cause(&bed, "one", "backend_unavailable").await;
    assert!(cause["message"].as_str().unwrap().contains("no.sock"), "{cause}");
    let pool = bed.pool("one").await;
    assert_eq!(pool["circuit"]["failures"], 0, "the backend's failure counts against none: {pool}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_unavailable_and_demand_unknown() {
    let (bed, daemon) = one("", "", Settings::default()).await;
    bed.github.inject(Fault::always(Endpoint::CreateSession, FaultAction::status(500)));
    let mut daemon = daemon;
    daemon.logs("listener failed").await;
    let told = cause(&bed, "one", "github_unavailable").await;
    assert!(told["message"].as_str().unwrap().contains("500"), "{told}");
    cause(&bed, "one", "demand_unknown").await;
    bed.github.clear_faults();
    daemon.ready().await;
    daemon.stop().await;
}

/// Demand that is unknown creates nothing, and what runs goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_conflict() {
    let (bed, daemon) = ready("", "", Settings::default()).await;
    // Another program at the same scale set: the same configuration, another state directory.
    let other = bed.path("other");
    let config = bed.config_file();
    let words = ["run", "--config", config.to_str().unwrap(), "--state-dir"];
    let mut second = bed.start_with(&[&words[..], &[other.to_str().unwrap()]].concat());
    second.logs("another session holds the scale set, waiting").await;
    let more = ["--state-dir", other.to_str().unwrap(), "--output", "json"];
    let output = bed.cli(&[&["why", "one"][..], &more].concat()).await;
    let why: Value = serde_json::from_slice(&output.stdout).unwrap();
    let causes = why["causes"].as_array().unwrap();
    let conflict = causes.iter().find(|cause| cause["code"] == "session_conflict");
    assert!(conflict.expect("session_conflict")["since"].is_string(), "{why}");
    assert!(second.is_running(), "it waits without end");
    // The first one leaves: the second one goes on by itself.
    daemon.stop().await;
    second.ready().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_and_resumed() {
    let (bed, daemon) = ready("", "", Settings::default()).await;
    bed.queue("one", 1, 1500);
    bed.running(1).await;
    let drained = bed.json(&["drain", "one"]).await;
    assert_eq!(drained["phase"], "draining", "{drained}");
    bed.queue("one", 1, 100);
    cause(&bed, "one", "draining").await;
    bed.json(&["drain", "one", "--wait", "--timeout", "30"]).await;
    let summary = bed.github.summary();
    assert_eq!((summary.jobs_succeeded, summary.jobs_lost), (1, 0), "{summary:?}");
    assert_eq!(summary.sessions, 0, "it polls no more: {summary:?}");
    bed.json(&["resume", "one"]).await;
    bed.all_succeeded(2, BOUND).await;
    bed.nothing_left().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting() {
    let (bed, daemon) = ready("", "", Settings::default()).await;
    bed.github.change(|settings| {
        settings.endpoint_latency_ms.insert(Endpoint::GenerateJitConfig, 3000);
    });
    bed.queue("one", 1, 100);
    cause(&bed, "one", "starting").await;
    // The job that waits is told the same, by its id.
    let id = bed.github.state().jobs[0].job_id.clone();
    cause(&bed, &id, "starting").await;
    bed.all_succeeded(1, BOUND).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_full() {
    let top = "host:\n  min_free_disk: 100000TiB\n";
    let (bed, daemon) = ready("", top, Settings::default()).await;
    bed.queue("one", 1, 100);
    cause(&bed, "one", "disk_full").await;
    assert_eq!(bed.github.summary().runners_registered_total, 0, "nothing is created");
    daemon.stop().await;
}

/// A pool that is taken out of the file: its running job goes on, its books are closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_removed() {
    let bed = Bed::new().await;
    bed.process_pools(&[("kept", 1), ("gone", 1)]);
    let daemon = bed.start_ready().await;
    bed.queue("gone", 1, 4000);
    bed.running(1).await;
    daemon.kill().await;
    bed.process_pools(&[("kept", 1)]);
    let daemon = bed.start_ready().await;
    cause(&bed, "gone", "pool_removed").await;
    bed.all_succeeded(1, BOUND).await;
    bed.nothing_left().await;
    daemon.stop().await;
}

/// The store was lost and the backend does not say what is there: nothing is made until it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn careful_pass() {
    let bed = Bed::with(Settings { session_lapse_ms: 500, ..Settings::default() }).await;
    let socket = bed.path("mute.sock");
    let _mute = tokio::net::UnixListener::bind(&socket).unwrap();
    let pool = unique("careful");
    let lines = format!("    docker:\n      image: x:1\n      host: unix://{}\n", socket.display());
    bed.write(&bed.config("", &[(&pool, 1)], &lines));
    let state = bed.state_dir();
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("installation-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let daemon = bed.start_ready().await;
    bed.queue(&pool, 1, 100);
    cause(&bed, &pool, "careful_pass").await;
    daemon.stop().await;
}

/// Ended instances that cannot be removed: beyond `remains_max` nothing is made, and it is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remains_full() {
    let Some(engine) = Engine::shared().await else { return };
    let bed = Bed::new().await;
    let pool = unique("remains");
    let gate = Gate::start(&engine, &bed.path("gate.sock"));
    let lines = engine.lines().replace(&engine.address, &gate.address);
    bed.write(&bed.config("", &[(&pool, 1)], &format!("    remains_max: 1\n{lines}")));
    let daemon = bed.start_ready().await;
    gate.refuse_deletes(true);
    bed.queue(&pool, 2, 100);
    cause(&bed, &pool, "remains_full").await;
    assert_eq!(bed.github.summary().jobs_completed, 1, "nothing more is made");
    gate.refuse_deletes(false);
    bed.all_succeeded(2, BOUND).await;
    bed.nothing_left().await;
    engine.no_containers(&[&pool]).await;
    daemon.stop().await;
}

/// Without a daemon the store answers, and says that nothing is started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_daemon() {
    let (bed, daemon) = ready("", "", Settings::default()).await;
    daemon.stop().await;
    let told = cause(&bed, "one", "no_daemon").await;
    assert!(told["remedy"].as_str().unwrap().contains("fleetfoot run"), "{told}");
}
