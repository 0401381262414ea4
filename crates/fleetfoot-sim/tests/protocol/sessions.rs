//! Sessions: one at a time, and what becomes of old ones.

use std::time::Duration;

use fleetfoot_sim::{DeadSession, Expire, ExpireRequest, Settings};

use crate::common::{SOON, client, github, jobs, listening, quick, scale_set, take};

fn exception(error: &scaleset::Error) -> String {
    let exception = error.api_error().and_then(|error| error.exception.as_ref());
    exception.map(|exception| exception.type_name.clone()).unwrap_or_default()
}

fn expire(what: Expire) -> ExpireRequest {
    ExpireRequest { what, scope: None, scale_set: None }
}

#[tokio::test]
async fn a_second_session_is_refused_until_the_first_is_deleted_or_lapses() {
    let github = github(Settings { session_lapse_ms: 1_000, ..quick() }).await;
    let (client, set, session) = listening(&github).await;
    let refused = client.create_message_session(set.id, "test").await.unwrap_err();
    assert!(refused.is_conflict());
    assert!(exception(&refused).contains("RunnerScaleSetSessionConflictException"));
    session.close().await.unwrap();

    // A client that dies without a word, in the middle of a poll.
    let session = client.create_message_session(set.id, "test").await.unwrap();
    let poll = session.get_message(None, 1);
    assert!(tokio::time::timeout(Duration::from_millis(50), poll).await.is_err());
    assert!(client.create_message_session(set.id, "test").await.unwrap_err().is_conflict());
    github.wait_until(SOON, |state| state.summary.sessions == 0).await.unwrap();
    client.create_message_session(set.id, "test").await.unwrap();
    let state = github.state();
    let closed: Vec<_> = state.sessions.iter().map(|one| one.closed_by.as_deref()).collect();
    assert_eq!(closed, [Some("deleted"), Some("lapsed"), None]);
}

#[tokio::test]
async fn a_poll_in_flight_keeps_its_session() {
    let settings = Settings { session_lapse_ms: 500, long_poll_ms: 1_200, ..quick() };
    let github = github(settings).await;
    let (_, _, session) = listening(&github).await;
    for _ in 0..2 {
        assert_eq!(session.get_message(None, 1).await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_in_the_next_session() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&jobs(1, 10));
    let before = crate::common::message(&session, 1).await;
    session.close().await.unwrap();
    let session = client.create_message_session(set.id, "successor").await.unwrap();
    assert_eq!(session.info().statistics.unwrap().total_assigned_jobs, 1);
    assert_eq!(take(&session, 1).await.jobs, before.jobs);
}

#[tokio::test]
async fn a_dead_session_is_told_as_the_settings_say() {
    let github = github(quick()).await;
    let (_, _, session) = listening(&github).await;
    github.expire(&expire(Expire::Sessions));
    let told = session.get_message(None, 1).await.unwrap_err();
    assert!(told.is_bad_request());
    assert!(exception(&told).contains("RunnerScaleSetSessionExpiredException"));
    github.change(|settings| settings.dead_session = DeadSession::NotFound);
    assert!(session.get_message(None, 1).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn tokens_expire_and_are_renewed() {
    let github = github(Settings { long_poll_ms: 60_000, ..quick() }).await;
    let (client, set, session) = listening(&github).await;
    let old = session.info();
    let waiting = session.get_message(None, 1);
    let expired = async {
        github.wait_until(SOON, |state| state.summary.polls == 1).await.unwrap();
        github.expire(&expire(Expire::QueueTokens));
        github.wait_until(SOON, |state| state.summary.polls == 1).await.unwrap();
        github.queue_jobs(&jobs(1, 10));
    };
    let (got, ()) = tokio::join!(waiting, expired);
    assert_eq!(got.unwrap().unwrap().jobs.len(), 1);
    assert_eq!(session.info().session_id, old.session_id, "refreshed, not replaced");

    github.expire(&expire(Expire::AdminTokens));
    client.get_runner_scale_set_by_id(set.id).await.unwrap();
    let requests = github.state().requests;
    assert_eq!(requests[&fleetfoot_sim::Endpoint::AdminConnection], 2);
}

#[tokio::test]
async fn a_set_that_vanishes_is_not_found_and_its_jobs_move_to_the_next_of_its_name() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&jobs(2, 10));
    assert_eq!(take(&session, 1).await.jobs.len(), 1);
    assert!(github.vanish("ACME", "linux"));
    let told = session.get_message(None, 1).await.unwrap_err();
    assert!(told.is_not_found());
    assert!(exception(&told).contains("RunnerScaleSetNotFoundException"));
    assert!(client.get_runner_scale_set_by_id(set.id).await.unwrap_err().is_not_found());

    let set = scale_set(&client, "linux").await;
    let session = client.create_message_session(set.id, "test").await.unwrap();
    assert_eq!(take(&session, 5).await.jobs.len(), 2);
}

#[tokio::test]
async fn scopes_are_worlds_of_their_own() {
    let github = github(quick()).await;
    for scope in ["acme", "acme/app", "enterprises/big"] {
        let client = client(&github, scope);
        let set = scale_set(&client, "linux").await;
        let known = client.get_runner_scale_set_by_name(set.runner_group_id, "linux").await;
        assert_eq!(known.unwrap().unwrap().id, set.id);
    }
    assert_eq!(github.state().scale_sets.len(), 3);
}
