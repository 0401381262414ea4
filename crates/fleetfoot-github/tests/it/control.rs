//! Control calls: what is sent, and what an answer comes to.

use std::time::Duration;

use fleetfoot_github::{
    Advice, ConfigUrl, Connection, ErrorKind, Http, HttpSettings, Removal, ScaleSetSpec,
};
use serde_json::json;

use crate::stub::{Reply, Stub, exception, now_seconds, reply, scale_set, token};

#[tokio::test]
async fn a_scale_set_is_created_as_the_original_does() {
    let stub = Stub::good().await;
    let labels = vec!["linux".into(), "gpu".into()];
    let spec = ScaleSetSpec {
        name: "my set".into(),
        group_id: 1,
        labels,
        label_kind: fleetfoot_github::LabelKind::User,
    };
    assert_eq!(stub.connection().create_scale_set(&spec).await.unwrap().id, 7);
    let asked = &stub.asked("POST", "/runnerscalesets")[0];
    let user = |name: &str| json!({"name": name, "type": "User"});
    assert_eq!(
        asked.body,
        json!({
            "name": "my set", "runnerGroupId": 1, "labels": [user("linux"), user("gpu")],
            "RunnerSetting": {"disableUpdate": true},
        })
    );
    assert_eq!(asked.query, "api-version=6.0-preview");
    assert!(asked.header("authorization").starts_with("Bearer ey"));
    let agent: serde_json::Value = serde_json::from_str(asked.header("user-agent")).unwrap();
    assert_eq!((&agent["system"], &agent["kind"]), (&json!("fleetfoot"), &json!("scaleset")));
    let registration = &stub.asked("POST", "/runner-registration")[0];
    assert_eq!(registration.header("authorization"), "RemoteAuth reg");
    assert_eq!(registration.body["url"], stub.url().as_str());
    assert_eq!(registration.body["runner_event"], "register");
}

#[tokio::test]
async fn labels_are_replaced_and_the_rest_goes_back_as_received() {
    let stub = Stub::good().await;
    let set = stub
        .connection()
        .update_scale_set_labels(7, &["new".into()], fleetfoot_github::LabelKind::User)
        .await
        .unwrap();
    assert_eq!((set.labels.len(), set.labels[0].kind.as_str()), (1, "User"));
    let mut expected = scale_set();
    expected["labels"] = json!([{"name": "new", "type": "User"}]);
    assert_eq!(stub.asked("PATCH", "/runnerscalesets/7")[0].body, expected);
}

#[tokio::test]
async fn names_are_percent_encoded() {
    let stub = Stub::good().await;
    stub.connection().scale_set(1, "a b&c#d+ä%20").await.unwrap();
    let query = &stub.asked("GET", "/runnerscalesets")[0].query;
    assert_eq!(query, "api-version=6.0-preview&name=a+b%26c%23d%2B%C3%A4%2520&runnerGroupId=1");
}

#[tokio::test]
async fn if_another_was_faster_its_scale_set_is_taken() {
    for status in [400, 409] {
        let stub = Stub::start(move |asked, _| match asked.method.as_str() {
            "POST" if asked.path.ends_with("runnerscalesets") => {
                Some(exception(status, "RunnerScaleSetExistsException"))
            }
            "GET" => Some(reply(200, json!({"count": 1, "value": [scale_set()]}))),
            _ => None,
        })
        .await;
        let spec = ScaleSetSpec {
            name: "linux".into(),
            group_id: 1,
            labels: Vec::new(),
            label_kind: fleetfoot_github::LabelKind::User,
        };
        assert_eq!(stub.connection().create_scale_set(&spec).await.unwrap().id, 7);
    }
}

#[tokio::test]
async fn one_token_exchange_serves_many_callers() {
    let stub = Stub::good().await;
    let connection = stub.connection();
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { connection.scale_set(1, "linux").await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(stub.count("POST", "/registration-token"), 1);
    assert_eq!(stub.count("POST", "/runner-registration"), 1);
}

#[tokio::test]
async fn a_byte_order_mark_does_no_harm() {
    let stub = Stub::start(|asked, _| {
        asked
            .is("GET", "/runnerscalesets")
            .then(|| reply(200, json!({"count": 1, "value": [scale_set()]})).with_bom())
    })
    .await;
    assert_eq!(stub.connection().scale_set(1, "linux").await.unwrap().unwrap().id, 7);
}

#[tokio::test]
async fn a_removal_has_three_ends() {
    for (answer, removal) in [
        (reply(204, ""), Some(Removal::Gone)),
        (reply(404, ""), Some(Removal::Gone)),
        (exception(400, "AgentNotFoundException"), Some(Removal::Gone)),
        (exception(400, "JobStillRunningException"), Some(Removal::Busy)),
        (reply(422, json!({"message": "Runner is currently running a job"})), Some(Removal::Busy)),
        (reply(500, ""), None),
        (reply(400, ""), None),
        // A page in between is no word of GitHub.
        (reply(200, "<html>"), None),
    ] {
        let shown = format!("{answer:?}");
        let stub =
            Stub::start(move |asked, _| asked.is("DELETE", "/11").then(|| answer.clone())).await;
        assert_eq!(stub.connection().remove_runner(11).await.ok(), removal, "{shown}");
    }
}

#[tokio::test]
async fn what_may_be_asked_twice_survives_a_bad_gateway() {
    let stub = Stub::start(|asked, earlier| {
        (asked.is("DELETE", "/11") && earlier == 0).then(|| reply(502, "<html>bad</html>"))
    })
    .await;
    assert_eq!(stub.connection().remove_runner(11).await.unwrap(), Removal::Gone);
    assert_eq!(stub.count("DELETE", "/11"), 2);
}

#[tokio::test]
async fn runners_are_listed_completely_or_not_at_all() {
    let runner = |id: usize| json!({"id": id, "name": format!("r{id}"), "status": "online", "busy": id == 3});
    let page = move |asked: &crate::stub::Asked, total: usize, have: usize| {
        let number: usize = asked.query.rsplit('=').next().unwrap().parse().unwrap();
        let runners: Vec<_> = ((number - 1) * 100..(number * 100).min(have)).map(runner).collect();
        reply(200, json!({"total_count": total, "runners": runners}))
    };
    let stub = Stub::start(move |asked, _| {
        asked.is("GET", "/actions/runners").then(|| page(asked, 250, 250))
    })
    .await;
    let runners = stub.connection().list_runners().await.unwrap();
    assert_eq!((runners.len(), runners[3].busy, runners[4].online), (250, true, true));
    let asked = &stub.asked("GET", "/actions/runners")[2];
    assert_eq!(asked.path, "/api/v3/orgs/acme/actions/runners");
    assert_eq!(asked.header("authorization"), "Bearer ghp_good");

    let short = Stub::start(move |asked, _| {
        asked.is("GET", "/actions/runners").then(|| page(asked, 250, 120))
    })
    .await;
    assert_eq!(short.connection().list_runners().await.unwrap_err().kind(), &ErrorKind::Unusable);
    let forbidden = Stub::start(|asked, _| {
        asked.is("GET", "/actions/runners").then(|| reply(403, json!({"message": "nope"})))
    })
    .await;
    let text = forbidden.connection().list_runners().await.unwrap_err().chain();
    assert!(text.contains("Self-hosted runners: read and write"), "{text}");
}

#[tokio::test]
async fn a_runner_group_that_admits_public_repositories_is_seen() {
    let stub = Stub::start(|asked, _| {
        if asked.is("GET", "/runnergroups/") {
            let group = json!({"id": 4, "name": "open", "size": 1, "isDefaultGroup": false});
            return Some(reply(200, json!({"count": 1, "value": [group]})));
        }
        asked.is("GET", "/runner-groups").then(|| {
            let group = json!({"name": "Open", "allows_public_repositories": true});
            reply(200, json!({"runner_groups": [group]}))
        })
    })
    .await;
    let group = stub.connection().runner_group("open").await.unwrap().unwrap();
    assert_eq!((group.id, group.allows_public_repositories), (4, Some(true)));
}

#[tokio::test]
async fn check_reports_what_an_operator_should_know() {
    let stub = Stub::start(|asked, _| {
        asked.is("GET", "/actions/runners").then(|| {
            reply(200, json!({"total_count": 0, "runners": []}))
                .header("github-authentication-token-expiration", "2030-01-01 00:00:00 UTC")
        })
    })
    .await;
    let report = stub.connection().check().await.unwrap();
    assert!(report.service.ends_with("/svc/"));
    assert!(report.token_expires_at.is_some());
    assert_eq!(report.missing_permission, None);
    assert_eq!(
        (report.clock_ahead_seconds.map(|s| s.abs() < 3), report.is_clock_off),
        (Some(true), false)
    );

    let stub = Stub::start(|asked, _| {
        asked
            .is("GET", "/actions/runners")
            .then(|| reply(403, "").header("date", "Sun, 06 Nov 1994 08:49:37 GMT"))
    })
    .await;
    let report = stub.connection().check().await.unwrap();
    assert!(report.missing_permission.unwrap().contains("admin:org"));
    assert!(report.is_clock_off);
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    for status in [403, 404] {
        let stub = Stub::start(move |asked, _| {
            asked.is("POST", "/registration-token").then(|| {
                reply(status, json!({"message": "Resource not accessible"})).header(
                    "x-accepted-github-permissions",
                    "organization_self_hosted_runners=write",
                )
            })
        })
        .await;
        let error = stub.connection().check().await.unwrap_err();
        let permission = Some("organization_self_hosted_runners=write".to_owned());
        assert_eq!(error.kind(), &ErrorKind::Forbidden { permission });
        assert!(error.chain().contains("organization acme"), "{}", error.chain());
        assert!(error.kind().is_local());
    }
}

#[tokio::test]
async fn a_fresh_registration_token_may_be_refused_once() {
    let stub = Stub::start(|asked, earlier| {
        (asked.is("POST", "/runner-registration") && earlier == 0).then(|| reply(403, ""))
    })
    .await;
    stub.connection().scale_set(1, "linux").await.unwrap();
    assert_eq!(stub.count("POST", "/runner-registration"), 2);
    assert_eq!(stub.count("POST", "/registration-token"), 1);
}

#[tokio::test]
async fn a_token_file_is_read_again_when_its_token_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ghp_old\n").unwrap();
    let stub = Stub::start(|asked, _| {
        let is_old = asked.header("authorization") == "Bearer ghp_old";
        let is_rest = asked.path.starts_with("/api/v3");
        (is_rest && is_old).then(|| reply(401, json!({"message": "Bad credentials"})))
    })
    .await;
    let source = fleetfoot_github::TokenSource::file(file.path());
    let connection = stub.connection_with(&fleetfoot_github::Credentials::Token(source));
    let error = connection.scale_set(1, "linux").await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unauthorized);
    std::fs::write(file.path(), "ghp_new\n").unwrap();
    connection.scale_set(1, "linux").await.unwrap();
    connection.open_session(7, "here").await.expect("the session's client took the new one too");
}

#[tokio::test]
async fn a_session_opens_by_the_way_in_that_is_there() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ghp_1").unwrap();
    let now_good = std::sync::Arc::new(std::sync::Mutex::new("Bearer ghp_1"));
    let good = std::sync::Arc::clone(&now_good);
    let stub = Stub::start(move |asked, _| {
        let is_good = asked.header("authorization") == *good.lock().unwrap();
        (asked.path.ends_with("/registration-token") && !is_good).then(|| reply(401, ""))
    })
    .await;
    let source = fleetfoot_github::TokenSource::file(file.path());
    let connection = stub.connection_with(&fleetfoot_github::Credentials::Token(source));
    connection.scale_set(1, "linux").await.unwrap();
    // Revoked while the admin token is still good: nobody asks for another one.
    *now_good.lock().unwrap() = "Bearer ghp_2";
    connection.open_session(7, "here").await.unwrap();
    assert_eq!(stub.asked("POST", "/registration-token").len(), 1);
}

#[tokio::test]
async fn names_are_resolved() {
    let stub = Stub::good().await;
    let http = Http::new(HttpSettings::default()).unwrap();
    let url = stub.url().as_str().replace("127.0.0.1", "localhost");
    let url = ConfigUrl::parse(&url).unwrap();
    let connection = Connection::new(&http, &url, &token("ghp")).unwrap();
    connection.scale_set(1, "linux").await.unwrap();
    let url = ConfigUrl::parse("http://no-such-host.invalid/acme").unwrap();
    let connection = Connection::new(&http, &url, &token("ghp")).unwrap();
    let error = connection.scale_set(1, "linux").await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unreachable);
}

#[tokio::test]
async fn equal_credentials_share_a_budget() {
    let stub = Stub::start(|asked, _| {
        asked.is("POST", "/generatejitconfig").then(|| reply(429, "").header("retry-after", 60))
    })
    .await;
    let http = Http::new(HttpSettings::default()).unwrap();
    let connection = |value| Connection::new(&http, &stub.url(), &token(value)).unwrap();
    let (one, same, other) = (connection("a"), connection("a"), connection("b"));
    one.jit_config(7, "r1").await.unwrap_err();
    assert!(same.budget().is_exhausted());
    assert!(!other.budget().is_exhausted());
}

#[tokio::test]
async fn what_is_wrong_here_is_said_before_any_request() {
    let http = Http::new(HttpSettings::default()).unwrap();
    let url = ConfigUrl::parse("https://github.com/acme").unwrap();
    for (value, text) in
        [("", "GITHUB_TOKEN is empty"), ("two\nlines", "characters that HTTP cannot carry")]
    {
        let error = Connection::new(&http, &url, &token(value)).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Credentials);
        assert!(error.chain().contains(text), "{}", error.chain());
    }
}

#[tokio::test]
async fn nobody_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let http = Http::new(HttpSettings::default()).unwrap();
    let url = ConfigUrl::parse(&format!("http://{address}/acme")).unwrap();
    let connection = Connection::new(&http, &url, &token("ghp")).unwrap();
    let error = connection.check().await.unwrap_err();
    assert_eq!((error.kind(), error.advice()), (&ErrorKind::Unreachable, Advice::Retry));
    assert!(error.chain().to_lowercase().contains("refused"), "{}", error.chain());
    assert!(!error.chain().contains('\n'));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_one_clear_line() {
    let proxy = Stub::start(|_, _| Some(reply(403, "denied by policy"))).await;
    let proxy = proxy.url().as_str().replace("/acme", "");
    let http = Http::new(HttpSettings { proxy: Some(proxy), ..HttpSettings::default() }).unwrap();
    let url = ConfigUrl::parse("https://git.acme.example/acme").unwrap();
    let connection = Connection::new(&http, &url, &token("ghp")).unwrap();
    let error = connection.check().await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unreachable, "{}", error.chain());
    assert!(error.chain().contains("the proxy 127.0.0.1:"), "{}", error.chain());
    assert!(error.chain().contains(" refuses the connection"), "{}", error.chain());
}

#[tokio::test(start_paused = true)]
async fn a_hung_call_ends() {
    let stub =
        Stub::start(|asked, _| asked.is("POST", "/generatejitconfig").then(Reply::hang)).await;
    let connection = stub.connection();
    connection.scale_set(1, "linux").await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = connection.jit_config(7, "r1").await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Timeout);
    assert!(error.may_have_landed());
    assert!(begun.elapsed() <= Duration::from_secs(46));
    assert_eq!(stub.count("POST", "/generatejitconfig"), 1, "never twice");
}

#[tokio::test]
async fn the_wait_that_github_states_is_kept() {
    let reset = now_seconds() + 90;
    for (answer, seconds) in [
        (reply(429, "").header("retry-after", 7), 7),
        (reply(403, "").header("retry-after", 3600), 3600),
        (reply(403, "").header("x-ratelimit-remaining", 0).header("x-ratelimit-reset", reset), 90),
    ] {
        let stub = Stub::start(move |asked, _| {
            asked.is("POST", "/generatejitconfig").then(|| answer.clone())
        })
        .await;
        let connection = stub.connection();
        assert!(!connection.budget().is_exhausted());
        let error = connection.jit_config(7, "r1").await.unwrap_err();
        let Advice::Wait(wait) = error.advice() else { panic!("{error}") };
        assert!(wait.as_secs().abs_diff(seconds) <= 2, "{wait:?}");
        assert!(connection.budget().is_exhausted());
        assert!(connection.budget().resume_at.is_some());
        let again = connection.jit_config(7, "r2").await.unwrap_err();
        assert!(again.retry_after().is_some());
        assert_eq!(stub.count("POST", "/generatejitconfig"), 1, "not asked again too early");
        // Everything else goes on.
        connection.scale_set(1, "linux").await.unwrap();
    }
}

#[tokio::test]
async fn jit_refusals_have_their_kinds() {
    for (answer, kind) in [
        (exception(409, "AgentExistsException"), ErrorKind::RunnerExists),
        (exception(404, "RunnerScaleSetNotFoundException"), ErrorKind::ScaleSetGone),
        (reply(404, ""), ErrorKind::ScaleSetGone),
        (reply(403, ""), ErrorKind::Forbidden { permission: None }),
        (reply(500, ""), ErrorKind::Server(500)),
        (reply(200, ""), ErrorKind::Unusable),
        (reply(200, json!({"runner": null, "encodedJITConfig": "x"})), ErrorKind::Unusable),
        (reply(401, ""), ErrorKind::Unauthorized),
    ] {
        let stub = Stub::start(move |asked, _| {
            asked.is("POST", "/generatejitconfig").then(|| answer.clone())
        })
        .await;
        let error = stub.connection().jit_config(7, "r1").await.unwrap_err();
        assert_eq!(error.kind(), &kind, "{}", error.chain());
    }
}
