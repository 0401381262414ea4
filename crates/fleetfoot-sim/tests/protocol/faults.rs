//! Faults by request, and latency.

use std::time::{Duration, Instant};

use fleetfoot_sim::{Endpoint, Fault, FaultAction, Settings};
use scaleset::JitRunnerSetting;

use crate::common::{SOON, client, github, jit, jobs, listening, quick, runner, scale_set, take};

#[tokio::test]
async fn a_status_strikes_the_chosen_set_only_and_as_often_as_told() {
    let github = github(quick()).await;
    let client = client(&github, "acme");
    let (one, two) = (scale_set(&client, "one").await, scale_set(&client, "two").await);
    let limited = Fault::once(Endpoint::GenerateJitConfig, FaultAction::rate_limited(403, 7));
    github.inject(limited.scale_set("one").scope("ACME").skip(1));
    let setting = |name: &str| JitRunnerSetting::new(name);
    client.generate_jit_config(one.id, &setting("a")).await.unwrap();
    client.generate_jit_config(two.id, &setting("b")).await.unwrap();
    let told = client.generate_jit_config(one.id, &setting("c")).await.unwrap_err();
    assert_eq!(told.rate_limit().unwrap().retry_after, Some(Duration::from_secs(7)));
    client.generate_jit_config(one.id, &setting("d")).await.unwrap();

    let calls = github.state().jit_calls;
    let statuses: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.status)).collect();
    let expected = [("a", Some(200)), ("b", Some(200)), ("c", Some(403)), ("d", Some(200))];
    assert_eq!(statuses, expected);
}

#[tokio::test]
async fn an_exception_an_empty_body_and_a_cut_connection_reach_the_poll() {
    let github = github(quick()).await;
    let (_, _, session) = listening(&github).await;
    let strike = |action| github.inject(Fault::once(Endpoint::GetMessage, action));
    strike(FaultAction::exception(400, "RunnerScaleSetSessionExpiredException"));
    assert!(session.get_message(None, 1).await.unwrap_err().is_bad_request());
    strike(FaultAction::EmptyBody);
    let told = session.get_message(None, 1).await.unwrap_err();
    assert!(matches!(told, scaleset::Error::Decode { .. }), "{told:?}");
    strike(FaultAction::Cut);
    let told = session.get_message(None, 1).await.unwrap_err();
    assert!(matches!(told, scaleset::Error::Transport { .. }), "{told:?}");
    strike(FaultAction::Hang);
    let poll = tokio::time::timeout(Duration::from_millis(400), session.get_message(None, 1)).await;
    assert!(poll.is_err(), "it hangs beyond the 200 ms of an idle poll");
    assert_eq!(session.get_message(None, 1).await.unwrap(), None);
}

#[tokio::test]
async fn a_lost_answer_leaves_what_it_did() {
    let github = github(quick()).await;
    let (client, set, _) = listening(&github).await;
    github.inject(Fault::once(Endpoint::GenerateJitConfig, FaultAction::LoseAnswer));
    let setting = JitRunnerSetting::new("one");
    client.generate_jit_config(set.id, &setting).await.unwrap_err();
    let told = client.generate_jit_config(set.id, &setting).await.unwrap_err();
    assert!(told.is_runner_exists());
    let left = client.get_runner_by_name("one").await.unwrap().unwrap();
    client.remove_runner(left.id).await.unwrap();
    client.generate_jit_config(set.id, &setting).await.unwrap();
    assert_eq!(github.state().jit_calls[0].status, None);
}

#[tokio::test]
async fn a_job_offered_in_the_moment_of_the_removal_keeps_the_runner() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    let (running, _) = runner(&jit(&client, set.id, "one").await);
    github.wait_until(SOON, |state| state.summary.runners_online == 1).await.unwrap();
    let action = FaultAction::OfferJob { duration_ms: 50 };
    github.inject(Fault::once(Endpoint::RemoveRunner, action));
    let id = client.get_runner_by_name("one").await.unwrap().unwrap().id;
    assert!(client.remove_runner(id).await.unwrap_err().is_job_still_running());
    assert_eq!(running.await.unwrap(), fleetfoot_sim::runner::Exit::JobDone);
    let started = take(&session, 1).await;
    assert_eq!(started.jobs_started().next().unwrap().runner_name, "one");
    assert_eq!(github.summary().jobs_succeeded, 1);
}

#[tokio::test]
async fn latency_is_added_to_control_calls_and_not_to_polls() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    github.change(|settings| settings.control_latency_ms = 1_000);
    let before = Instant::now();
    jit(&client, set.id, "one").await;
    assert!(before.elapsed() >= Duration::from_millis(1_000));
    let call = github.state().jit_calls.remove(0);
    assert!(call.answered_us.unwrap() - call.arrived_us >= 1_000_000, "arrival is before the wait");
    github.queue_jobs(&jobs(1, 10));
    let before = Instant::now();
    assert!(session.get_message(None, 1).await.unwrap().is_some());
    assert!(before.elapsed() < Duration::from_millis(900));
}

#[tokio::test]
async fn settings_and_faults_travel_through_the_control_api() {
    let github = github(Settings::default()).await;
    let control = github.control();
    let changed = control.change(&serde_json::json!({ "control_latency_ms": 5 })).await.unwrap();
    assert_eq!((changed.control_latency_ms, changed.long_poll_ms), (5, 50_000));
    let refused = control.change(&serde_json::json!({ "no_such_key": 5 })).await.unwrap_err();
    assert_eq!(refused.status(), Some(400));

    let fault = Fault::always(Endpoint::Any, FaultAction::status(503)).scope("acme");
    control.inject(&fault).await.unwrap();
    assert!(client(&github, "acme").list_runner_scale_sets(1.into()).await.is_err());
    client(&github, "other").list_runner_scale_sets(1.into()).await.unwrap();
    assert_eq!(control.faults().await.unwrap()[0].struck, 1);
    control.clear_faults().await.unwrap();
    client(&github, "acme").list_runner_scale_sets(1.into()).await.unwrap();

    let ids = control.queue_jobs(&jobs(2, 10)).await.unwrap();
    assert_eq!(control.job(ids[1]).await.unwrap().id, ids[1]);
    control.cancel_job(ids[0]).await.unwrap();
    assert_eq!(control.cancel_job(ids[0]).await.unwrap_err().status(), Some(404));
    let none = control.queue_jobs(&fleetfoot_sim::QueueJobs::default()).await.unwrap_err();
    assert_eq!(none.status(), Some(400));
    control.reset().await.unwrap();
    assert_eq!(control.summary().await.unwrap(), fleetfoot_sim::Summary::default());
}

#[tokio::test]
async fn all_connections_can_be_cut_and_the_end_of_the_box_cuts_them_too() {
    let github = github(Settings { long_poll_ms: 60_000, ..quick() }).await;
    let (_, _, session) = listening(&github).await;
    let control = github.control();
    let cut = async {
        github.wait_until(SOON, |state| state.summary.polls == 1).await.unwrap();
        control.cut_connections().await.unwrap();
    };
    let (polled, ()) = tokio::join!(session.get_message(None, 1), cut);
    assert!(matches!(polled.unwrap_err(), scaleset::Error::Transport { .. }));
    github.wait_until(SOON, |state| state.summary.polls == 0).await.unwrap();

    let end = async {
        github.wait_until(SOON, |state| state.summary.polls == 1).await.unwrap();
        drop(github);
    };
    let (polled, ()) = tokio::join!(session.get_message(None, 1), end);
    assert!(matches!(polled.unwrap_err(), scaleset::Error::Transport { .. }));
    assert!(control.summary().await.is_err());
}

#[tokio::test]
async fn jit_configs_have_a_budget() {
    let github = github(Settings { jit_per_minute: Some(3), ..quick() }).await;
    let (client, set, _) = listening(&github).await;
    for name in ["a", "b", "c"] {
        jit(&client, set.id, name).await;
    }
    let told = client.generate_jit_config(set.id, &JitRunnerSetting::new("d")).await.unwrap_err();
    let wait = told.rate_limit().unwrap().retry_after.unwrap().as_secs();
    assert!((5..=20).contains(&wait), "at most a third of a minute, not {wait}");
    assert_eq!(github.state().jit_calls[3].status, Some(429));
}

#[tokio::test]
async fn faults_find_connections_and_runners_by_scope() {
    let github = github(quick()).await;
    let refused = Fault::always(Endpoint::AdminConnection, FaultAction::status(500)).scope("bad");
    github.inject(refused);
    assert!(client(&github, "bad").list_runner_scale_sets(1.into()).await.is_err());
    let (client, set, _) = listening(&github).await;
    let late = Fault::once(Endpoint::RunnerConnect, FaultAction::Delay { ms: 200 });
    github.inject(Fault { runner: Some("late".to_owned()), ..late });
    let (_late, stop) = runner(&jit(&client, set.id, "late").await);
    let (_quick, stop_too) = runner(&jit(&client, set.id, "quick").await);
    let state = github.wait_until(SOON, |state| state.summary.runners_online == 1).await.unwrap();
    assert!(state.runner("quick").unwrap().online);
    github.wait_until(SOON, |state| state.summary.runners_online == 2).await.unwrap();
    stop.stop();
    stop_too.stop();
}
