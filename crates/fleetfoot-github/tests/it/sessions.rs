//! Sessions: what a poll sends and what its answers come to.

use std::time::Duration;

use fleetfoot_github::ErrorKind;
use serde_json::json;

use crate::stub::{Asked, Reply, Stub, exception, message, reply, session};

/// A stub whose queue answers this.
async fn queue(answer: impl Fn(&Asked, usize) -> Option<Reply> + Send + Sync + 'static) -> Stub {
    Stub::start(move |asked, earlier| {
        asked.is("GET", "/queue").then(|| answer(asked, earlier)).flatten()
    })
    .await
}

#[tokio::test]
async fn a_poll_says_what_it_must() {
    let job = json!([{
        "messageType": "JobAssigned", "runnerRequestId": 0, "jobId": "j1",
        "repositoryName": "app", "ownerName": "acme", "workflowRunId": 99,
        "queueTime": "2026-01-01T00:00:00Z", "finishTime": "0001-01-01T00:00:00Z",
        "jobDisplayName": "build", "requestLabels": ["linux"],
    }]);
    let stub = queue(move |_, _| Some(reply(200, message(5, &job)))).await;
    let session = stub.connection().open_session(7, "here").await.unwrap();
    assert_eq!((session.id(), session.set_id()), ("session-a", 7));
    assert_eq!(session.statistics().unwrap().assigned, 3);
    let message = session.poll(None, 12).await.unwrap().unwrap();
    assert_eq!((message.id, message.statistics.unwrap().assigned), (5, 2));
    let job = &message.assigned[0];
    assert_eq!((job.job_id.as_str(), job.request_id, job.run_id), ("j1", 0, 99));
    assert!(job.queued_at.is_some() && job.finished_at.is_none());
    session.poll(Some(5), 3).await.unwrap();
    session.acknowledge(5).await.unwrap();
    let polls = stub.asked("GET", "/queue");
    assert_eq!(polls[0].query, "keep=1");
    assert_eq!(polls[0].header("x-scalesetmaxcapacity"), "12");
    assert_eq!(polls[0].header("authorization"), "Bearer queue-1");
    assert_eq!(polls[0].header("accept"), "application/json; api-version=6.0-preview");
    assert_eq!(polls[1].query, "keep=1&lastMessageId=5");
    assert_eq!(polls[1].header("x-scalesetmaxcapacity"), "3");
    let acknowledged = &stub.asked("DELETE", "/queue/5")[0];
    assert_eq!(acknowledged.query, "keep=1");
    let opened = &stub.asked("POST", "/sessions")[0];
    assert_eq!(opened.body["ownerName"], "here");
}

#[tokio::test]
async fn odd_messages_do_not_stop_a_listener() {
    let jobs = json!([
        {"messageType": "JobStarted", "runnerId": "not a number"},
        {"messageType": "FromTheFuture", "x": 1},
        {"messageType": "JobCompleted", "result": "canceled", "jobId": "j2", "runnerName": "", "runnerId": 0},
    ]);
    let stub = queue(move |_, earlier| {
        Some(match earlier {
            0 => reply(200, message(1, &jobs)).with_bom(),
            1 => reply(200, json!({"messageId": 2, "messageType": "Other", "body": "?"})),
            _ => reply(202, ""),
        })
    })
    .await;
    let session = stub.connection().open_session(7, "here").await.unwrap();
    let first = session.poll(None, 1).await.unwrap().unwrap();
    assert_eq!((first.started.len(), first.completed.len()), (0, 1));
    assert_eq!((first.completed[0].runner_name.as_str(), first.completed[0].runner_id), ("", 0));
    assert_eq!(session.poll(Some(1), 1).await.unwrap().unwrap().id, 2);
    assert_eq!(session.poll(Some(2), 1).await.unwrap(), None);
}

#[tokio::test]
async fn an_empty_answer_is_an_idle_poll() {
    let stub = queue(|_, _| Some(reply(200, ""))).await;
    let session = stub.connection().open_session(7, "here").await.unwrap();
    let begun = std::time::Instant::now();
    assert_eq!(session.poll(None, 1).await.unwrap(), None);
    assert!(begun.elapsed() >= Duration::from_millis(400), "it must not make a busy loop");
}

#[tokio::test]
async fn every_way_to_report_a_dead_session_is_understood() {
    for answer in [
        exception(400, "RunnerScaleSetSessionExpiredException"),
        exception(404, "RunnerScaleSetSessionNotFoundException"),
        reply(404, ""),
        reply(401, ""),
    ] {
        let shown = format!("{answer:?}");
        let stub = queue(move |_, _| Some(answer.clone())).await;
        let session = stub.connection().open_session(7, "here").await.unwrap();
        let error = session.poll(None, 1).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::SessionGone, "{shown}: {}", error.chain());
    }
    let stub = queue(|_, _| Some(exception(404, "RunnerScaleSetNotFoundException"))).await;
    let session = stub.connection().open_session(7, "here").await.unwrap();
    assert_eq!(session.poll(None, 1).await.unwrap_err().kind(), &ErrorKind::ScaleSetGone);
}

#[tokio::test]
async fn a_refused_queue_token_is_renewed_once() {
    let stub = queue(|asked, _| {
        (asked.header("authorization") == "Bearer queue-1").then(|| reply(401, ""))
    })
    .await;
    let session = stub.connection().open_session(7, "here").await.unwrap();
    assert_eq!(session.poll(None, 1).await.unwrap(), None);
    assert_eq!(stub.count("PATCH", "/sessions/session-a"), 1);

    let stub = Stub::start(|asked, _| {
        let is_old = asked.header("authorization") == "Bearer queue-1";
        (is_old && asked.is("DELETE", "/queue/5")).then(|| reply(401, ""))
    })
    .await;
    let session = stub.connection().open_session(7, "here").await.unwrap();
    session.acknowledge(5).await.unwrap();
    assert_eq!(stub.count("PATCH", "/sessions/session-a"), 1);
}

#[tokio::test]
async fn only_github_says_that_a_message_is_acknowledged() {
    for (answer, taken) in [
        (reply(204, ""), true),
        // An attempt before did it.
        (reply(404, ""), true),
        // A page in between is no word of GitHub.
        (reply(200, "<html>"), false),
        (reply(500, ""), false),
    ] {
        let shown = format!("{answer:?}");
        let stub =
            Stub::start(move |asked, _| asked.is("DELETE", "/queue/5").then(|| answer.clone()))
                .await;
        let session = stub.connection().open_session(7, "here").await.unwrap();
        let acknowledged = session.acknowledge(5).await;
        assert_eq!(acknowledged.is_ok(), taken, "{shown}");
    }
}

#[tokio::test]
async fn a_renewal_that_fails_is_a_dead_session() {
    for answer in [
        reply(404, ""),
        exception(400, "RunnerScaleSetSessionExpiredException"),
        reply(401, ""),
        reply(200, session("", "queue-2")),
    ] {
        let shown = format!("{answer:?}");
        let stub = Stub::start(move |asked, _| {
            if asked.is("GET", "/queue") && asked.header("authorization") == "Bearer queue-1" {
                return Some(reply(401, ""));
            }
            asked.is("PATCH", "/sessions/session-a").then(|| answer.clone())
        })
        .await;
        let session = stub.connection().open_session(7, "here").await.unwrap();
        let error = session.poll(None, 1).await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::SessionGone, "{shown}: {}", error.chain());
    }
}

#[tokio::test]
async fn a_session_without_a_queue_is_closed_again() {
    let stub = Stub::start(|asked, _| {
        asked.is("POST", "/sessions").then(|| reply(200, session("", "queue-1")))
    })
    .await;
    let error = stub.connection().open_session(7, "here").await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unusable);
    assert_eq!(stub.count("DELETE", "/sessions/session-a"), 1);
}

#[tokio::test]
async fn opening_has_its_refusals() {
    for (answer, kind) in [
        (exception(409, "RunnerScaleSetSessionConflictException"), ErrorKind::Conflict),
        (reply(409, ""), ErrorKind::Conflict),
        (exception(404, "RunnerScaleSetNotFoundException"), ErrorKind::ScaleSetGone),
        (reply(404, ""), ErrorKind::ScaleSetGone),
        (reply(503, ""), ErrorKind::Server(503)),
        (
            reply(429, "").header("retry-after", 9),
            ErrorKind::RateLimited { retry_after: Duration::from_secs(9) },
        ),
    ] {
        let stub =
            Stub::start(move |asked, _| asked.is("POST", "/sessions").then(|| answer.clone()))
                .await;
        let error = stub.connection().open_session(7, "here").await.unwrap_err();
        assert_eq!(error.kind(), &kind, "{}", error.chain());
        assert_eq!(stub.count("POST", "/sessions"), 1, "the listener decides when to try again");
    }
}

#[tokio::test]
async fn failures_of_a_poll_are_seen_at_once() {
    for (answer, kind) in [
        (reply(500, ""), ErrorKind::Server(500)),
        (
            reply(403, "").header("retry-after", 3600),
            ErrorKind::RateLimited { retry_after: Duration::from_secs(3600) },
        ),
        (reply(200, "not json"), ErrorKind::Unusable),
    ] {
        let stub = queue(move |_, _| Some(answer.clone())).await;
        let session = stub.connection().open_session(7, "here").await.unwrap();
        assert_eq!(session.poll(None, 1).await.unwrap_err().kind(), &kind);
        assert_eq!(stub.count("GET", "/queue"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_poll_ends() {
    let stub = queue(|_, _| Some(Reply::hang())).await;
    let session = stub.connection().open_session(7, "here").await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = session.poll(None, 1).await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Timeout, "{}", error.chain());
    assert!(begun.elapsed() >= Duration::from_secs(119), "longer than a quiet poll");
    assert!(begun.elapsed() <= Duration::from_secs(181));
}

#[tokio::test]
async fn offers_are_acquired_with_the_queue_token() {
    let stub = Stub::good().await;
    let session = stub.connection().open_session(7, "here").await.unwrap();
    assert_eq!(session.acquire(&[1, 2]).await.unwrap(), [1, 2]);
    assert_eq!(session.acquire(&[]).await.unwrap(), [] as [i64; 0]);
    let asked = stub.asked("POST", "/acquirejobs");
    assert_eq!(asked.len(), 1, "nothing to acquire, nothing to ask");
    assert_eq!(asked[0].body, json!([1, 2]));
    assert_eq!(asked[0].header("authorization"), "Bearer queue-1");
}

#[tokio::test]
async fn a_dropped_poll_loses_nothing() {
    let job = json!([{"messageType": "JobAssigned", "jobId": "j1"}]);
    let stub = queue(move |_, earlier| {
        let answer = reply(200, message(5, &job));
        Some(if earlier == 0 { answer.after(Duration::from_secs(60)) } else { answer })
    })
    .await;
    let session = stub.connection().open_session(7, "here").await.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(100), session.poll(None, 1)).await;
    assert!(dropped.is_err());
    assert_eq!(session.poll(None, 1).await.unwrap().unwrap().id, 5);
}

#[tokio::test]
async fn a_saved_id_cannot_leave_its_path() {
    let stub = Stub::good().await;
    let error = stub.connection().delete_session(7, "../../x").await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Settings);
    assert_eq!(stub.count("DELETE", ""), 0);
}

/// Two thousand listeners hold such a future each: what is large in it belongs in a box.
#[tokio::test]
async fn the_futures_of_calls_are_small() {
    let stub = Stub::good().await;
    let connection = stub.connection();
    let session = connection.open_session(7, "here").await.unwrap();
    for size in [
        size_of_val(&session.poll(None, 1)),
        size_of_val(&session.acknowledge(1)),
        size_of_val(&session.close()),
        size_of_val(&connection.open_session(7, "here")),
        size_of_val(&connection.jit_config(7, "r1")),
        size_of_val(&connection.update_scale_set_labels(7, &[], fleetfoot_github::LabelKind::User)),
    ] {
        assert!(size <= 2048, "{size}");
    }
}
