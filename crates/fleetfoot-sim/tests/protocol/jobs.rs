//! The life of jobs as messages and statistics tell it.

use fleetfoot_sim::runner::Exit;
use fleetfoot_sim::{Flavor, JobState, Settings, Told};
use scaleset::JobRequestId;

use crate::common::{SOON, github, jit, jobs, listening, message, quick, runner, take};

#[tokio::test]
async fn a_job_goes_from_the_queue_through_a_runner_to_its_end() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    assert_eq!(session.get_message(None, 5).await.unwrap(), None);
    let id = github.queue_jobs(&jobs(1, 30))[0];

    let assigned = take(&session, 5).await;
    let job = assigned.jobs_assigned().next().unwrap();
    assert_eq!(job.job.runner_request_id.get(), 0, "github.com sends no request id");
    assert_eq!((job.job.owner_name.as_str(), job.job.request_labels.len()), ("acme", 1));
    assert_eq!(assigned.statistics.unwrap().total_assigned_jobs, 1);

    let (running, _) = runner(&jit(&client, set.id, "linux-1").await);
    let started = take(&session, 5).await;
    assert_eq!(started.jobs_started().next().unwrap().runner_name, "linux-1");
    assert_eq!(started.statistics.unwrap().total_running_jobs, 1);
    let completed = take(&session, 5).await;
    let done = completed.jobs_completed().next().unwrap();
    assert_eq!((done.result.as_str(), done.runner_name.as_str()), ("succeeded", "linux-1"));
    assert_eq!(completed.statistics.unwrap(), scaleset::ScaleSetStatistics::default());
    assert_eq!(running.await.unwrap(), Exit::JobDone);

    let state = github.state();
    let job = state.job(id).unwrap();
    assert_eq!(
        (job.state, job.starts, job.runner.as_deref()),
        (JobState::Completed, 1, Some("linux-1"))
    );
    let times = [
        Some(job.queued_us),
        job.assigned_us,
        job.delivered_us,
        state.jit_calls[0].answered_us,
        job.offered_us,
        job.started_us,
        job.completed_us,
    ];
    assert!(times.iter().all(Option::is_some), "{times:?}");
    assert!(times.is_sorted(), "{times:?}");
    assert!(state.runners.is_empty(), "an ephemeral runner is gone after its job");
    assert!(state.session(set.id.get()).unwrap().first_poll_us.is_some());
}

#[tokio::test]
async fn a_message_comes_again_until_it_is_acknowledged_and_holds_at_most_fifty() {
    let github = github(quick()).await;
    let (_, _, session) = listening(&github).await;
    session.get_message(None, 200).await.unwrap();
    github.queue_jobs(&jobs(120, 10));

    let first = message(&session, 200).await;
    let again = message(&session, 200).await;
    assert_eq!(first.id, again.id);
    assert_eq!(first.jobs, again.jobs);
    assert_eq!(first.jobs.len(), 50);
    assert_eq!(first.statistics.unwrap().total_assigned_jobs, 120, "the level, not the batch");
    session.delete_message(first.id).await.unwrap();
    assert_eq!(take(&session, 200).await.jobs.len(), 50);
    assert_eq!(take(&session, 200).await.jobs.len(), 20);
}

#[tokio::test]
async fn no_more_is_assigned_than_the_poll_advertises() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&jobs(5, 10));
    let first = take(&session, 2).await;
    assert_eq!((first.jobs.len(), first.statistics.unwrap().total_assigned_jobs), (2, 2));
    assert_eq!(github.summary().jobs_waiting, 3);

    let (one, _) = runner(&jit(&client, set.id, "one").await);
    one.await.unwrap();
    github.wait_until(SOON, |state| state.summary.jobs_assigned == 2).await.unwrap();
    take(&session, 5).await;
    github.wait_until(SOON, |state| state.summary.jobs_assigned == 4).await.unwrap();
}

#[tokio::test]
async fn a_set_that_advertised_nothing_never_gets_what_was_queued_meanwhile() {
    let github = github(quick()).await;
    let (_, _, session) = listening(&github).await;
    session.get_message(None, 0).await.unwrap();
    let missed = github.queue_jobs(&jobs(1, 10))[0];
    session.get_message(None, 5).await.unwrap();
    let taken = github.queue_jobs(&jobs(1, 10))[0];
    assert_eq!(take(&session, 5).await.jobs.len(), 1);
    let state = github.state();
    assert!(state.job(missed).unwrap().excluded);
    assert_eq!(state.job(missed).unwrap().state, JobState::Queued);
    assert_eq!(state.job(taken).unwrap().state, JobState::Assigned);
}

#[tokio::test]
async fn an_assignment_nobody_serves_is_withdrawn_three_times_and_then_cancelled() {
    let github = github(Settings { withdraw_after_ms: 40, ..quick() }).await;
    let (_, _, session) = listening(&github).await;
    let id = github.queue_jobs(&jobs(1, 10))[0];
    let (mut assigned, mut canceled) = (0, 0);
    while canceled < 4 {
        let message = take(&session, 5).await;
        assigned += message.jobs_assigned().count();
        for done in message.jobs_completed() {
            canceled += 1;
            assert_eq!((done.result.as_str(), done.runner_name.as_str()), ("canceled", ""));
        }
    }
    assert_eq!(assigned, 4);
    let state = github.state();
    let job = state.job(id).unwrap();
    assert_eq!((job.withdrawals, job.state, job.starts), (3, JobState::Completed, 0));
    assert_eq!(job.result.as_deref(), Some("canceled"));
    assert_eq!(state.scale_sets[0].statistics.total_assigned_jobs, 0);
}

#[tokio::test]
async fn cancelling_ends_a_job_wherever_it_is() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    let ids = github.queue_jobs(&jobs(3, 60_000));
    let assigned = take(&session, 2).await;
    assert_eq!(assigned.jobs.len(), 2);
    let (running, _) = runner(&jit(&client, set.id, "one").await);
    github.wait_until(SOON, |state| state.job(ids[0]).unwrap().starts == 1).await.unwrap();
    for id in &ids {
        assert!(github.cancel_job(*id));
    }
    assert_eq!(running.await.unwrap(), Exit::JobDone);
    let state = github.wait_until(SOON, |state| state.summary.jobs_completed == 3).await.unwrap();
    assert!(state.jobs.iter().all(|job| job.result.as_deref() == Some("canceled")));
    assert!(!github.cancel_job(ids[0]), "it has ended");
}

#[tokio::test]
async fn a_started_message_can_be_late_and_silent() {
    let settings = Settings { long_poll_ms: 400, started_wakes_poll: false, ..quick() };
    let github = github(settings).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&jobs(1, 60_000));
    take(&session, 5).await;
    let (_running, stop) = runner(&jit(&client, set.id, "one").await);
    let before = std::time::Instant::now();
    let started = take(&session, 5).await;
    assert!(started.jobs_started().next().is_some());
    assert!(before.elapsed().as_millis() >= 390, "only the end of the poll brings it");
    stop.stop();
}

#[tokio::test]
async fn ghes_offers_and_only_acquired_jobs_are_assigned() {
    let flavors = [("ACME".to_owned(), Flavor::Ghes)].into_iter().collect();
    let github = github(Settings { flavors, ..quick() }).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&jobs(2, 10));
    let offer = take(&session, 5).await;
    let ids: Vec<JobRequestId> =
        offer.jobs_available().map(|offer| offer.job.runner_request_id).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(offer.statistics.unwrap().total_available_jobs, 2);
    assert_eq!(offer.statistics.unwrap().total_assigned_jobs, 0);
    assert_eq!(session.acquire_jobs(&ids[..1]).await.unwrap(), ids[..1]);
    assert_eq!(session.acquire_jobs(&ids).await.unwrap(), ids[1..], "the first is ours already");
    assert_eq!(take(&session, 5).await.jobs_assigned().count(), 2);
    for name in ["one", "two"] {
        let (running, _) = runner(&jit(&client, set.id, name).await);
        assert_eq!(running.await.unwrap(), Exit::JobDone);
    }
    assert_eq!(github.summary().jobs_succeeded, 2);
}

#[tokio::test]
async fn jobs_find_their_set_by_label_and_wait_for_one_that_comes_later() {
    let github = github(quick()).await;
    let by_label = fleetfoot_sim::QueueJobs {
        scope: "acme".to_owned(),
        labels: vec!["linux".to_owned()],
        ..Default::default()
    };
    github.queue_jobs(&by_label);
    let other = fleetfoot_sim::QueueJobs { scope: "other".to_owned(), ..by_label };
    github.queue_jobs(&other);
    let (_, _, session) = listening(&github).await;
    assert_eq!(take(&session, 5).await.jobs.len(), 1, "the other organization is another world");
}

#[tokio::test]
async fn messages_and_statistics_can_be_untrue() {
    let stated_assigned_jobs = [("linux".to_owned(), 7)].into_iter().collect();
    let github = github(Settings { stated_assigned_jobs, ..quick() }).await;
    let (client, set, session) = listening(&github).await;
    assert_eq!(session.info().statistics.unwrap().total_assigned_jobs, 7);
    let id = github.queue_jobs(&jobs(1, 60_000))[0];
    assert_eq!(take(&session, 1).await.statistics.unwrap().total_assigned_jobs, 7);
    let (running, stop) = runner(&jit(&client, set.id, "one").await);
    take(&session, 1).await;
    let early = Told::Completed { result: "succeeded".to_owned() };
    github.control().tell(id, &early).await.unwrap();
    let told = take(&session, 1).await;
    assert_eq!(told.jobs_completed().next().unwrap().runner_name, "one");
    assert_eq!(github.state().jobs[0].state, JobState::Running, "it still runs");
    stop.stop();
    running.await.unwrap();
}
