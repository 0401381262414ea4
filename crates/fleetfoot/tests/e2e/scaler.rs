//! What messages and ends do to instances: nothing that was said twice, late or wrongly changes the end.

use std::time::Duration;

use fleetfoot_sim::{Endpoint, QueueJobs, Settings, Told};

use crate::harness::{BOUND, Bed, ORG, eventually};

async fn phase(bed: &Bed, wanted: &[&str]) -> String {
    eventually(&format!("an instance in {wanted:?}"), BOUND, || async {
        let status = bed.status().await;
        let instances = status["instances"].as_array().unwrap();
        let mut phases = instances.iter().filter_map(|one| one["phase"].as_str());
        phases.find(|phase| wanted.contains(phase)).map(str::to_owned)
    })
    .await
}

/// A start that takes long delays no poll; the instance is shown as starting, then as what it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_start_delays_no_poll() {
    let bed = Bed::new().await;
    bed.github.change(|settings| {
        settings.endpoint_latency_ms.insert(Endpoint::GenerateJitConfig, 3000);
    });
    bed.process_pools(&[("one", 2)]);
    let daemon = bed.start_ready().await;
    bed.queue("one", 1, 1500);
    let asked = |state: &fleetfoot_sim::BoxState| {
        let blocked = state.jit_calls.iter().any(|call| call.answered_us.is_none());
        let set = state.scale_set(ORG, "one");
        // The message was taken in and the next poll waits, while the start is still under way.
        blocked && state.summary.polls == 1 && set.is_some_and(|set| set.acknowledged > 0)
    };
    bed.github.wait_until(Duration::from_secs(3), asked).await.unwrap();
    phase(&bed, &["pending", "creating", "warm", "starting"]).await;
    phase(&bed, &["running"]).await;
    let status = bed.status().await;
    assert!(status["instances"][0]["job"]["repository"].is_string(), "{status}");
    bed.all_succeeded(1, BOUND).await;
    bed.nothing_left().await;
    daemon.stop().await;
}

/// The same demand stated again, and assignments told again, make no more runners.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_messages_make_no_more_runners() {
    let bed = Bed::new().await;
    bed.process_pools(&[("five", 5)]);
    let daemon = bed.start_ready().await;
    let jobs = bed.queue("five", 3, 3000);
    bed.running(3).await;
    for told in [Told::Assigned, Told::Started, Told::Assigned] {
        for job in &jobs {
            assert!(bed.github.tell(*job, &told));
        }
    }
    bed.all_succeeded(3, BOUND).await;
    for job in &jobs {
        assert!(bed.github.tell(*job, &Told::Completed { result: "succeeded".to_owned() }));
        assert!(bed.github.tell(*job, &Told::Started));
    }
    bed.queue("five", 1, 100);
    bed.all_succeeded(4, BOUND).await;
    bed.nothing_left().await;
    assert_eq!(bed.github.summary().runners_registered_total, 4);
    assert_eq!(daemon.count("listener failed"), 0);
    daemon.stop().await;
}

/// Completions with an empty runner name, and starts of jobs that nobody knows, are no errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_about_nobody_are_no_errors() {
    let bed = Bed::new().await;
    bed.github.change(|settings| {
        settings.endpoint_latency_ms.insert(Endpoint::GenerateJitConfig, 1500);
    });
    bed.process_pools(&[("one", 1)]);
    let daemon = bed.start_ready().await;
    let job = bed.queue("one", 1, 100)[0];
    let asked = |state: &fleetfoot_sim::BoxState| !state.jit_calls.is_empty();
    bed.github.wait_until(BOUND, asked).await.unwrap();
    // No runner took it yet: the message names none.
    bed.github.tell(job, &Told::Started);
    bed.github.tell(job, &Told::Completed { result: "canceled".to_owned() });
    bed.all_succeeded(1, BOUND).await;
    bed.nothing_left().await;
    assert_eq!(daemon.count("listener failed"), 0);
    daemon.stop().await;
}

/// A job that is cancelled before a runner took it: the runner waits for `idle_timeout`, then it goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_surplus_runner_goes_after_its_idle_timeout() {
    let bed = Bed::new().await;
    bed.github.change(|settings| {
        settings.endpoint_latency_ms.insert(Endpoint::GenerateJitConfig, 1000);
    });
    let text = bed.config("", &[("one", 2)], &bed.process());
    // Past half of `boot_timeout` GitHub is asked whether it is online.
    bed.write(&text.replace(
        "idle_timeout: 1s\n    boot_timeout: 30s",
        "idle_timeout: 4s\n    boot_timeout: 6s",
    ));
    let daemon = bed.start_ready().await;
    let job = bed.queue("one", 1, 100)[0];
    let asked = |state: &fleetfoot_sim::BoxState| !state.jit_calls.is_empty();
    bed.github.wait_until(BOUND, asked).await.unwrap();
    assert!(bed.github.cancel_job(job));
    let online = |state: &fleetfoot_sim::BoxState| state.summary.runners_online == 1;
    let seen = bed.github.wait_until(BOUND, online).await.unwrap();
    let connected = seen.runners[0].connected_us.unwrap();
    let gone = |state: &fleetfoot_sim::BoxState| state.runners.is_empty();
    let after = bed.github.wait_until(BOUND, gone).await.unwrap();
    assert!(after.now_us - connected > 3_000_000, "it was given time");
    bed.nothing_left().await;
    daemon.stop().await;
}

/// An environment that ends without a message frees its slot, although GitHub calls its runner busy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_runner_frees_its_slot() {
    let bed = Bed::with(Settings { runner_lost_after_ms: 8000, ..Settings::default() }).await;
    bed.process_pools(&[("one", 1)]);
    let daemon = bed.start_ready().await;
    let crash = QueueJobs { crash: true, ..QueueJobs::for_scale_set(ORG, "one", 1, 300) };
    let crashed = bed.github.queue_jobs(&crash)[0];
    bed.running(1).await;
    let job = bed.queue("one", 1, 100)[0];
    let ended = |state: &fleetfoot_sim::BoxState| {
        [job, crashed].iter().all(|id| state.job(*id).unwrap().completed_us.is_some())
    };
    let state = bed.github.wait_until(BOUND, ended).await.unwrap();
    let (job, crashed) = (state.job(job).unwrap(), state.job(crashed).unwrap());
    assert_eq!((job.starts, crashed.starts), (1, 1));
    assert!(crashed.lost && !job.lost);
    assert_eq!(job.result.as_deref(), Some("succeeded"));
    bed.nothing_left().await;
    let lost =
        daemon.lines().into_iter().find(|line| line["message"] == "instance lost in its job");
    assert!(lost.is_some(), "it is told which job was lost, and how");
    let pool = bed.pool("one").await;
    assert_eq!(pool["circuit"]["failures"], 0, "{pool}");
    daemon.stop().await;
}

/// A completion that is not true kills nothing: the job goes on to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_completion_kills_nothing() {
    let bed = Bed::new().await;
    bed.process_pools(&[("one", 1)]);
    let daemon = bed.start_ready().await;
    let job = bed.queue("one", 1, 20_000)[0];
    bed.running(1).await;
    phase(&bed, &["running"]).await;
    assert!(bed.github.tell(job, &Told::Completed { result: "succeeded".to_owned() }));
    bed.all_succeeded(1, BOUND).await;
    let state = bed.github.state();
    let job = state.job(job).unwrap();
    assert!(job.completed_us.unwrap() - job.started_us.unwrap() >= 19_000_000);
    let refused = state.requests.get(&Endpoint::RemoveRunner).copied().unwrap_or(0);
    assert!(refused >= 1, "the gate was asked, and said no");
    bed.nothing_left().await;
    daemon.stop().await;
}

/// A job that is cancelled while it runs: its runner ends by itself, and the books are closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_closes_its_books() {
    let bed = Bed::new().await;
    bed.process_pools(&[("one", 1)]);
    let daemon = bed.start_ready().await;
    let job = bed.queue("one", 1, 30_000)[0];
    bed.running(1).await;
    assert!(bed.github.cancel_job(job));
    bed.queue("one", 1, 100);
    let done = |state: &fleetfoot_sim::BoxState| state.summary.jobs_completed == 2;
    bed.github.wait_until(Duration::from_secs(20), done).await.unwrap();
    bed.nothing_left().await;
    let pool = bed.pool("one").await;
    assert_eq!(pool["circuit"]["failures"], 0, "{pool}");
    daemon.stop().await;
}

/// An operator stops an idle runner without more ado and a busy one only with `--force`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_stops_instances() {
    let bed = Bed::new().await;
    let lines = format!("    min_idle: 1\n{}", bed.process());
    bed.write(&bed.config("", &[("one", 2)], &lines));
    let daemon = bed.start_ready().await;
    let online = |state: &fleetfoot_sim::BoxState| state.summary.runners_online == 1;
    bed.github.wait_until(BOUND, online).await.unwrap();
    bed.queue("one", 1, 60_000);
    bed.running(1).await;
    phase(&bed, &["running"]).await;
    let busy = bed.github.state().jobs[0].runner.clone().unwrap();
    let state = bed.state_dir().display().to_string();
    let refused = bed.cli(&["stop", &busy, "--state-dir", &state]).await;
    assert_eq!(refused.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(stderr.contains("--force"), "{stderr}");
    assert_eq!(bed.github.summary().jobs_running, 1);
    bed.json(&["drain", "one"]).await;
    bed.json(&["stop", &busy, "--force"]).await;
    bed.nothing_left().await;
    assert_eq!(bed.github.summary().jobs_started_twice, 0);
    daemon.stop().await;
}
