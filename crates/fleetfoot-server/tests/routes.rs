//! Every route, over a real socket and a real port, with a real store.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code, reason = "each test file uses its own part")]
mod common;

use std::os::unix::fs::PermissionsExt;

use common::{NOW, Server, TOKEN, before, health, name, pool};
use fleetfoot_api::{ErrorCode, EventQuery, Source, Subject};
use fleetfoot_core::{Intent, Observation, Outcome, Phase, Reason};
use fleetfoot_server::ControlRequest;
use serde_json::Value;

#[tokio::test]
async fn status_lists_what_scripts_rely_on() {
    let server = Server::start().await;
    let status = server.client.status().await.unwrap();
    assert_eq!(status.version, "1.2.3");
    assert_eq!(status.source, Source::Daemon);
    assert!(status.ready && !status.stopping);
    let json: Value = serde_json::to_value(&status).unwrap();
    let linux = &json["pools"][0];
    assert_eq!(linux["name"], "linux");
    assert_eq!(linux["phase"], "active");
    assert_eq!(linux["desired"], 2);
    assert_eq!(linux["occupying"], 3);
    assert_eq!(linux["idle"], 1);
    assert_eq!(linux["running"], 1);
    assert_eq!(linux["causes"][0]["code"], "pool_limit");
    assert_eq!(linux["waiting"][0]["display_name"], "test");
    let running = &json["instances"][0];
    assert_eq!(running["name"], "linux-00000001");
    assert_eq!(running["pool"], "linux");
    assert_eq!(running["phase"], "running");
    assert_eq!(running["job"]["repository"], "octo/app");
    assert_eq!(running["job"]["run_url"], "https://github.com/octo/app/actions/runs/501");
    assert!(json["instances"][1]["job"].is_null());
    assert_eq!(json["at"], "2026-05-28T20:26:40.000Z");
}

#[tokio::test]
async fn the_socket_is_the_owners_alone() {
    let server = Server::start().await;
    let mode =
        std::fs::metadata(server.dir.path().join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn things_are_shown_one_by_one() {
    let server = Server::start().await;
    let client = &server.client;
    assert_eq!(client.pools().await.unwrap().pools.len(), 2);
    assert_eq!(client.pool("mac").await.unwrap().name, "mac");
    assert_eq!(client.instances().await.unwrap().instances.len(), 3);
    assert_eq!(client.instance("linux-00000002").await.unwrap().phase, "idle");
    let two = EventQuery { limit: Some(2), ..EventQuery::default() };
    assert_eq!(client.events(&two).await.unwrap().events.len(), 2);
    let of_one =
        EventQuery { instance: Some("linux-00000003".to_owned()), ..EventQuery::default() };
    let events = client.events(&of_one).await.unwrap().events;
    assert!(!events.is_empty());
    assert!(events.iter().all(|event| event.instance.as_deref() == Some("linux-00000003")));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    let server = Server::start().await;
    let client = &server.client;
    let table = [
        client.pool("none").await.unwrap_err(),
        client.pool("../x y").await.unwrap_err(),
        client.instance("linux-ffffffff").await.unwrap_err(),
        client.drain("none").await.unwrap_err(),
        client.resume("none").await.unwrap_err(),
        client.stop("none", true).await.unwrap_err(),
        client.logs("none", 5).await.unwrap_err(),
        client.why("none").await.unwrap_err(),
    ];
    for error in table {
        assert_eq!(error.code(), Some(ErrorCode::NotFound), "{error}");
        assert!(error.hint().is_some(), "{error}");
    }
    let http = reqwest::Client::new();
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("GET", "/api/v1/nowhere", 404),
        ("DELETE", "/api/v1/status", 405),
        ("GET", "/api/v1/events?limit=many", 400),
        ("GET", "/api/v1/instances/linux-00000001/logs?lines=-1", 400),
    ] {
        let method = method.parse().unwrap();
        let answer = http.request(method, server.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert!(body["error"]["message"].is_string(), "{path}");
    }
    let stop = server.url("/api/v1/instances/linux-00000002/stop");
    let answer = http.post(stop).body("{").send().await.unwrap();
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn logs_are_the_last_lines() {
    let server = Server::start().await;
    let tail = server.client.logs("linux-00000001", 2).await.unwrap();
    assert_eq!(tail.text, "line 49 of 2\nline 50 of 2\n");
    let gone = server.client.logs("linux-00000002", 2).await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::Unavailable));
    assert!(gone.to_string().contains("no such container"), "{gone}");
}

#[tokio::test]
async fn drain_and_resume_change_the_intent() {
    let server = Server::start().await;
    let intent = || server.store.pool(&pool("linux")).unwrap().pool.intent;
    assert_eq!(server.client.drain("linux").await.unwrap().phase, "draining");
    assert_eq!(intent(), Intent::Draining);
    assert_eq!(server.client.drain("linux").await.unwrap().phase, "draining", "twice is once");
    assert_eq!(server.client.resume("linux").await.unwrap().phase, "active");
    assert_eq!(intent(), Intent::Active);
    let query = EventQuery { pool: Some("linux".to_owned()), ..EventQuery::default() };
    let events = server.client.events(&query).await.unwrap().events;
    let orders = events.iter().filter(|event| event.kind.ends_with("by an operator")).count();
    assert_eq!(orders, 2);
    server
        .store
        .update(|txn| txn.pool_mut(&pool("linux")).unwrap().intent = Intent::Removed)
        .await
        .unwrap();
    for asked in [server.client.drain("linux").await, server.client.resume("linux").await] {
        assert_eq!(asked.unwrap_err().code(), Some(ErrorCode::Conflict));
    }
    assert_eq!(intent(), Intent::Removed);
}

#[tokio::test]
async fn a_running_job_is_stopped_only_by_force() {
    let server = Server::start().await;
    let refused = server.client.stop("linux-00000001", false).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::Busy));
    assert!(refused.hint().unwrap().contains("--force"));
    let stored = || server.store.instance(&name("linux-00000001")).unwrap();
    assert_eq!((stored().phase, stored().forced), (Phase::Running, false));
    let stopped = server.client.stop("linux-00000001", true).await.unwrap();
    assert_eq!(stopped.phase, "stopping");
    assert_eq!(stopped.reason.as_deref(), Some("operator force"));
    assert!(stored().forced);
}

#[tokio::test]
async fn an_idle_one_is_stopped_through_the_gate_and_a_closed_one_not_at_all() {
    let server = Server::start().await;
    let stopped = server.client.stop("linux-00000002", false).await.unwrap();
    assert_eq!(stopped.reason.as_deref(), Some("operator"));
    let stored = || server.store.instance(&name("linux-00000002")).unwrap();
    assert!(!stored().forced, "the gate stays shut");
    assert_eq!(server.client.stop("linux-00000002", false).await.unwrap().phase, "stopping");
    server.client.stop("linux-00000002", true).await.unwrap();
    assert!(stored().forced, "a stronger word counts");
    let outcome = Outcome::Removed(Reason::Operator);
    server
        .store
        .update(move |txn| {
            let closed = Observation::Closed { outcome };
            txn.observe(&name("linux-00000002"), &closed, NOW).map(|_| ())
        })
        .await
        .unwrap()
        .unwrap();
    let closed = server.client.stop("linux-00000002", true).await.unwrap_err();
    assert_eq!(closed.code(), Some(ErrorCode::Conflict));
    let shown = server.client.instance("linux-00000002").await.unwrap();
    assert_eq!(shown.outcome.as_deref(), Some("removed (operator)"));
    let logs = server.client.logs("linux-00000002", 5).await.unwrap_err();
    assert!(logs.hint().unwrap().contains("closed"));
}

#[tokio::test]
async fn why_answers_for_pools_runners_and_jobs() {
    let server = Server::start().await;
    let table = [
        ("linux", Subject::Pool, "linux"),
        ("pool:mac", Subject::Pool, "mac"),
        ("linux-00000001", Subject::Runner, "linux-00000001"),
        ("12", Subject::Runner, "linux-00000002"),
        ("job-2", Subject::Job, "job-2"),
        ("BUILD", Subject::Job, "job-1"),
        ("502", Subject::Job, "job-2"),
        ("octo/app#501", Subject::Job, "job-1"),
        ("octo/app/502", Subject::Job, "job-2"),
        ("https://github.com/octo/app/actions/runs/501/job/9", Subject::Job, "job-1"),
    ];
    for (word, kind, subject) in table {
        let why = server.client.why(word).await.unwrap();
        assert_eq!((why.kind, why.subject.as_str()), (kind, subject), "{word}");
        assert!(!why.answer.is_empty());
    }
    let both = server.client.why("octo/app").await.unwrap_err();
    assert_eq!(both.code(), Some(ErrorCode::Ambiguous));
    assert!(both.hint().unwrap().contains("job:job-2 (test)"));
    let waits = server.client.why("job-2").await.unwrap();
    assert_eq!(waits.causes[0].code, "pool_limit");
    assert!(waits.answer[0].contains("waits in pool `linux`"), "{:?}", waits.answer);
}

#[tokio::test]
async fn why_remembers_what_is_over() {
    let server = Server::start().await;
    server
        .store
        .update(|txn| {
            let id = fleetfoot_core::JobId::new("job-1");
            let runner = name("linux-00000001");
            txn.remove_job(&pool("linux"), &id, Some("succeeded"), NOW);
            for seen in [
                Observation::JobCompleted { job: Some(id), result: Some("succeeded".to_owned()) },
                Observation::RunnerGone,
                Observation::EnvironmentGone,
                Observation::Closed {
                    outcome: Outcome::Completed { result: Some("succeeded".to_owned()) },
                },
            ] {
                txn.observe(&runner, &seen, NOW).map(|_| ()).unwrap();
            }
        })
        .await
        .unwrap();
    let job = server.client.why("build").await.unwrap();
    assert_eq!((job.kind, job.subject.as_str()), (Subject::Job, "job-1"));
    assert!(job.answer[0].contains("is over (succeeded)"), "{:?}", job.answer);
    assert!(job.answer[1].contains("linux-00000001"), "{:?}", job.answer);
    let runner = server.client.why("linux-00000001").await.unwrap();
    assert!(runner.answer[1].contains("its job ended: succeeded"), "{:?}", runner.answer);
}

#[tokio::test]
async fn the_network_face_wants_its_token() {
    let server = Server::start_with(Some(TOKEN)).await;
    let http = reqwest::Client::new();
    for path in ["/api/v1/status", "/metrics", "/nowhere"] {
        let answer = http.get(server.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        let wrong = http.get(server.url(path)).bearer_auth("wrong").send().await.unwrap();
        assert_eq!(wrong.status(), 401, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http.get(server.url(path)).send().await.unwrap().status(), 200, "{path}");
    }
    let client = fleetfoot_api::Client::tcp(&server.url(""), Some(TOKEN.into())).unwrap();
    assert_eq!(client.status().await.unwrap().pools.len(), 2);
    assert_eq!(client.drain("mac").await.unwrap().phase, "draining");
    assert_eq!(server.client.status().await.unwrap().pools.len(), 2, "the socket needs none");
}

#[tokio::test]
async fn without_a_token_foreign_pages_give_no_orders() {
    let server = Server::start().await;
    let http = reqwest::Client::new();
    let drain = server.url("/api/v1/pools/mac/drain");
    let foreign = http.post(&drain).header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    let rebound = http.post(&drain).header("host", "evil.example").send().await.unwrap();
    assert_eq!(rebound.status(), 403);
    assert_eq!(server.store.pool(&pool("mac")).unwrap().pool.intent, Intent::Active);
    assert_eq!(http.post(&drain).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_takeover_is_asked_for_over_the_socket_only() {
    let mut server = Server::start().await;
    let over_tcp =
        reqwest::Client::new().post(server.url("/api/v1/takeover")).send().await.unwrap();
    assert_eq!(over_tcp.status(), 403);
    assert!(server.requests.try_recv().is_err());
    let answer = server.client.takeover().await.unwrap();
    assert_eq!(answer.pid, std::process::id());
    server.client.takeover().await.expect("the same wish twice is one");
    assert_eq!(server.requests.recv().await, Some(ControlRequest::Takeover));
    server.requests.close();
    let late = server.client.takeover().await.unwrap_err();
    assert_eq!(late.code(), Some(ErrorCode::Unavailable));
}

#[tokio::test]
async fn probes_tell_life_from_readiness() {
    let server = Server::start().await;
    let http = reqwest::Client::new();
    let probe = async |path: &str| {
        let answer = http.get(server.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(probe("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(probe("/readyz").await, (200, "ready\n".to_owned()));
    let mut starting = health();
    starting.ready = false;
    let mac = fleetfoot_core::PoolHealth::default();
    starting.pools.insert(pool("mac"), std::sync::Arc::new(mac));
    server.health.send_replace(starting);
    assert_eq!(probe("/readyz").await, (503, "no poll is open yet for: mac\n".to_owned()));
    assert_eq!(probe("/healthz").await.0, 200);
    server.health.send_replace(fleetfoot_core::Health {
        last_pass_at: before(1200),
        started_at: before(1800),
        ..health()
    });
    assert_eq!(probe("/healthz").await, (503, "no pass over the pools for 1200 s\n".to_owned()));
    server.health.send_replace(fleetfoot_core::Health { stopping: true, ..health() });
    assert_eq!(probe("/readyz").await.0, 503);
}

#[tokio::test]
async fn an_instance_of_the_first_hour_is_stopped_before_it_began() {
    let server = Server::start().await;
    let pending = fleetfoot_core::Instance::pending(name("linux-00000009"), pool("linux"), NOW);
    server.store.update(move |txn| txn.insert_instance(pending).unwrap()).await.unwrap();
    assert_eq!(server.client.stop("linux-00000009", false).await.unwrap().phase, "stopping");
}
