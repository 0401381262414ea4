//! Runners: registered, removed, lost, and as programs of their own.

use std::process::Stdio;
use std::time::Duration;

use fleetfoot_sim::runner::Exit;
use fleetfoot_sim::{JobState, QueueJobs, Settings};
use scaleset::JitRunnerSetting;
use tokio::process::{Child, Command};

use crate::common::{SOON, github, jit, jobs, listening, quick, runner, take};

/// The program that cargo built beside this test.
pub(crate) fn program() -> Command {
    let beside = std::env::current_exe().unwrap();
    let path = beside.ancestors().nth(2).unwrap().join("examples/stand-in-runner");
    let hint = "build it first: cargo build -p fleetfoot-sim --examples";
    assert!(path.exists(), "{}: {hint}", path.display());
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let mut command = Command::new(path);
    command.env_clear().stdout(Stdio::piped()).kill_on_drop(true);
    command
}

fn with_environment(encoded: &str) -> Child {
    program().env("ACTIONS_RUNNER_INPUT_JITCONFIG", encoded).spawn().unwrap()
}

async fn ended(child: Child) -> (Option<i32>, String) {
    let output = tokio::time::timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn the_program_does_one_job_with_each_way_of_getting_its_config() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    let names = ["argument", "environment", "files"];
    github.queue_jobs(&QueueJobs { log_lines: 2, ..jobs(3, 20) });
    take(&session, 3).await;

    let directory = tempfile::tempdir().unwrap();
    let encoded = jit(&client, set.id, "files").await;
    unpack(&encoded, directory.path());
    let children = [
        program().arg("--jitconfig").arg(jit(&client, set.id, "argument").await).spawn().unwrap(),
        with_environment(&jit(&client, set.id, "environment").await),
        program().current_dir(directory.path()).spawn().unwrap(),
    ];
    for child in children {
        let (code, log) = ended(child).await;
        assert_eq!(code, Some(0), "{log}");
        for line in
            ["√ Connected to GitHub", "Listening for Jobs", "Running job: job-", "line 2 of 2"]
        {
            assert!(log.contains(line), "{log}");
        }
        assert!(log.contains("completed with result: Succeeded"), "{log}");
    }
    let state = github.state();
    assert_eq!(state.summary.jobs_succeeded, 3);
    let mut ran: Vec<_> = state.jobs.iter().filter_map(|job| job.runner.as_deref()).collect();
    ran.sort_unstable();
    assert_eq!(ran, names);
}

fn unpack(encoded: &str, directory: &std::path::Path) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let files: serde_json::Value =
        serde_json::from_slice(&STANDARD.decode(encoded).unwrap()).unwrap();
    for (name, content) in files.as_object().unwrap() {
        std::fs::write(directory.join(name), STANDARD.decode(content.as_str().unwrap()).unwrap())
            .unwrap();
    }
}

#[tokio::test]
async fn a_program_that_never_had_a_job_ends_with_zero_too() {
    let github = github(quick()).await;
    let (client, set, _) = listening(&github).await;
    let encoded = jit(&client, set.id, "one").await;
    let child = with_environment(&encoded);
    github.wait_until(SOON, |state| state.summary.runners_online == 1).await.unwrap();
    let id = client.get_runner_by_name("one").await.unwrap().unwrap().id;
    client.remove_runner(id).await.unwrap();
    let (code, log) = ended(child).await;
    assert_eq!(code, Some(0));
    assert!(log.contains("deleted from the server"), "{log}");

    let (code, log) = ended(with_environment(&encoded)).await;
    assert_eq!(code, Some(0), "a spent config: {log}");
    let (code, log) = ended(with_environment("nonsense")).await;
    assert_eq!(code, Some(0), "no config: {log}");
}

#[tokio::test]
async fn a_program_whose_version_is_too_old_says_seven_only_when_asked() {
    let github = github(Settings { runner_version_deprecated: true, ..quick() }).await;
    let (client, set, _) = listening(&github).await;
    let (code, _) = ended(with_environment(&jit(&client, set.id, "one").await)).await;
    assert_eq!(code, Some(0));
    let asked = program()
        .env("ACTIONS_RUNNER_INPUT_JITCONFIG", jit(&client, set.id, "two").await)
        .env("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1")
        .spawn()
        .unwrap();
    assert_eq!(ended(asked).await.0, Some(7));
}

#[tokio::test]
async fn a_terminated_program_leaves_when_idle_and_cancels_its_job_when_busy() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    let idle = with_environment(&jit(&client, set.id, "idle").await);
    github.wait_until(SOON, |state| state.summary.runners_online == 1).await.unwrap();
    send("TERM", &idle);
    assert_eq!(ended(idle).await.0, Some(0));
    let state = github.state();
    assert!(!state.runner("idle").unwrap().online, "the registration stays");

    github.queue_jobs(&jobs(1, 60_000));
    take(&session, 1).await;
    let busy = with_environment(&jit(&client, set.id, "busy").await);
    github.wait_until(SOON, |state| state.jobs[0].starts == 1).await.unwrap();
    send("TERM", &busy);
    let (code, log) = ended(busy).await;
    assert_eq!(code, Some(0));
    assert!(log.contains("Canceled"), "{log}");
    assert_eq!(github.state().jobs[0].result.as_deref(), Some("canceled"));
}

#[tokio::test]
async fn a_killed_machine_stays_busy_for_a_while_and_then_its_job_is_lost() {
    let github = github(Settings { runner_lost_after_ms: 300, ..quick() }).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&jobs(1, 60_000));
    take(&session, 1).await;
    let mut child = with_environment(&jit(&client, set.id, "one").await);
    github.wait_until(SOON, |state| state.jobs[0].starts == 1).await.unwrap();
    take(&session, 1).await;
    child.kill().await.unwrap();
    let id = client.get_runner_by_name("one").await.unwrap().unwrap().id;
    assert!(client.remove_runner(id).await.unwrap_err().is_job_still_running());
    let completed = take(&session, 1).await;
    assert_eq!(completed.jobs_completed().next().unwrap().result, "failed");
    let state = github.state();
    assert!(state.jobs[0].lost);
    assert_eq!(
        (state.summary.jobs_lost, state.summary.runners, state.summary.runners_busy),
        (1, 0, 0)
    );
    assert!(client.remove_runner(id).await.unwrap_err().is_runner_not_found());
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_job_says_nothing_to_the_box() {
    let github = github(Settings { runner_lost_after_ms: 100, ..quick() }).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&QueueJobs { crash: true, ..jobs(1, 10) });
    take(&session, 1).await;
    let (code, _) = ended(with_environment(&jit(&client, set.id, "one").await)).await;
    assert_eq!(code, Some(137));
    github.wait_until(SOON, |state| state.summary.jobs_lost == 1).await.unwrap();
}

#[tokio::test]
async fn names_are_taken_once_and_an_unconnected_runner_is_offline() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    let encoded = jit(&client, set.id, "one").await;
    let again = client.generate_jit_config(set.id, &JitRunnerSetting::new("one")).await;
    assert!(again.unwrap_err().is_runner_exists());
    github.queue_jobs(&jobs(1, 10));
    let message = take(&session, 1).await;
    let counts = message.statistics.unwrap();
    assert_eq!((counts.total_registered_runners, counts.total_idle_runners), (1, 0));
    assert_eq!(github.state().jobs[0].state, JobState::Assigned, "nobody is there to take it");
    assert_eq!(runner(&encoded).0.await.unwrap(), Exit::JobDone);
}

#[tokio::test]
async fn an_idle_runner_whose_machine_died_is_offered_nothing() {
    let github = github(Settings { runner_offline_after_ms: 50, ..quick() }).await;
    let (client, set, session) = listening(&github).await;
    let mut child = with_environment(&jit(&client, set.id, "dead").await);
    github.wait_until(SOON, |state| state.summary.runners_online == 1).await.unwrap();
    child.kill().await.unwrap();
    github.wait_until(SOON, |state| state.summary.runners_online == 0).await.unwrap();
    github.queue_jobs(&jobs(1, 10));
    take(&session, 1).await;
    assert_eq!(github.state().jobs[0].state, JobState::Assigned);
}

#[tokio::test]
async fn with_auto_runners_nobody_has_to_start_one() {
    let github = github(Settings { auto_runner_boot_ms: Some(20), ..quick() }).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&jobs(3, 20));
    take(&session, 3).await;
    for name in ["one", "two", "three"] {
        jit(&client, set.id, name).await;
    }
    let state =
        github.wait_until(Duration::from_secs(5), |state| state.summary.jobs_succeeded == 3).await;
    assert_eq!(state.unwrap().summary.runners, 0);
}

#[tokio::test]
async fn a_job_that_a_frozen_runner_was_sent_goes_to_another_and_starts_once() {
    let github =
        github(Settings { runner_lost_after_ms: 200, runner_poll_ms: 60_000, ..quick() }).await;
    let (client, set, session) = listening(&github).await;
    let frozen = with_environment(&jit(&client, set.id, "frozen").await);
    // Online counts from the connect; the poll comes after it.
    let polls = |state: &fleetfoot_sim::BoxState| {
        state.requests.get(&fleetfoot_sim::Endpoint::RunnerPoll).copied().unwrap_or(0)
    };
    github.wait_until(SOON, |state| polls(state) == 1).await.unwrap();
    send("STOP", &frozen);
    github.queue_jobs(&jobs(1, 20));
    take(&session, 1).await;
    github.wait_until(SOON, |state| state.jobs[0].state == JobState::Offered).await.unwrap();
    github.wait_until(SOON, |state| state.jobs[0].state == JobState::Assigned).await.unwrap();
    let (other, _) = runner(&jit(&client, set.id, "other").await);
    assert_eq!(other.await.unwrap(), Exit::JobDone);
    send("CONT", &frozen);
    let (code, _) = ended(frozen).await;
    assert_eq!(code, Some(0));
    let state = github.state();
    assert_eq!((state.jobs[0].starts, state.jobs[0].runner.as_deref()), (1, Some("other")));
    assert_eq!((state.summary.jobs_succeeded, state.summary.runners), (1, 0));
}

#[tokio::test]
async fn process_one_ignores_a_signal_unless_it_was_told_to_pass_it_on() {
    let unshare = std::path::Path::new("/usr/bin/unshare");
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    for (number, trap) in [(0, false), (1, true)] {
        // Long enough for the signal to come in the middle, short where it is waited for.
        github.queue_jobs(&jobs(1, if trap { 60_000 } else { 700 }));
        take_assigned(&session).await;
        let own = program().as_std().get_program().to_owned();
        #[allow(clippy::disallowed_methods, reason = "the program under test, as process 1")]
        let mut command = Command::new(unshare);
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"]).arg(own);
        let name = format!("one-{number}");
        command.env("ACTIONS_RUNNER_INPUT_JITCONFIG", jit(&client, set.id, &name).await);
        if trap {
            command.env("RUNNER_MANUALLY_TRAP_SIG", "1");
        }
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let Ok(child) = command.spawn() else {
            println!("SKIPPED: needs unshare");
            return;
        };
        let parent = child.id().unwrap();
        let started = github.wait_until(SOON, |state| state.jobs[number].starts == 1).await;
        if started.is_err() {
            println!("SKIPPED: needs unshare with user namespaces");
            return;
        }
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let inner = children.unwrap().trim().to_owned();
        signal("TERM", &inner);
        let (code, log) = ended(child).await;
        assert_eq!(code, Some(0), "{log}");
        let result = github.state().jobs[number].result.clone();
        assert_eq!(result.as_deref(), Some(if trap { "canceled" } else { "succeeded" }), "{log}");
    }
}

async fn take_assigned(session: &scaleset::MessageSession) {
    while take(session, 2).await.jobs_assigned().count() == 0 {}
}

fn send(name: &str, child: &Child) {
    signal(name, &child.id().unwrap().to_string());
}

fn signal(name: &str, pid: &str) {
    #[allow(clippy::disallowed_methods, reason = "a signal to the program under test")]
    let status =
        std::process::Command::new("kill").args([&format!("-{name}"), pid]).status().unwrap();
    assert!(status.success());
}
