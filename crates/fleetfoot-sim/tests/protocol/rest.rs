//! Tokens and the REST calls.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fleetfoot_sim::{
    App, BoxConfig, DEFAULT_TOKEN, Expire, ExpireRequest, GithubBox, Group, Installation,
    RateLimit, Settings, Token,
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, Response};
use scaleset::{Client, Credentials, RunnerScaleSetSpec};
use serde_json::{Value, json};

use crate::common::{SOON, client, client_with, github, jit, jobs, listening, quick, runner, take};

/// A key pair made for this run: private and public, in PEM.
static KEYS: LazyLock<(String, String)> = LazyLock::new(|| {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
    let public = key.public_key().as_der().unwrap();
    (pem("PRIVATE KEY", private.as_ref()), pem("PUBLIC KEY", public.as_ref()))
});

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

async fn call(github: &GithubBox, method: Method, path: &str, token: &str) -> Response {
    let url = format!("{}/api/v3{path}", github.url());
    let request = reqwest::Client::new().request(method, url).bearer_auth(token);
    request.json(&json!({})).send().await.unwrap()
}

async fn get(github: &GithubBox, path: &str) -> Value {
    let response = call(github, Method::GET, path, DEFAULT_TOKEN).await;
    assert_eq!(response.status(), 200, "{path}");
    response.json().await.unwrap()
}

fn app() -> App {
    App {
        id: 17,
        client_id: "Iv1.box".to_owned(),
        public_key_pem: Some(KEYS.1.clone()),
        installations: vec![Installation::new(5, "acme")],
    }
}

fn assertion(iss: &str, iat: i64, exp: i64) -> String {
    let now = jiff::Timestamp::now().as_second();
    let key = EncodingKey::from_rsa_pem(KEYS.0.as_bytes()).unwrap();
    let claims = json!({ "iss": iss, "iat": now + iat, "exp": now + exp });
    jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap()
}

#[tokio::test]
async fn an_app_gets_tokens_that_administer_its_account_only() {
    let github = github(Settings { app: Some(app()), ..quick() }).await;
    let connect = |scope: &str, installation: i64| {
        let credentials = Credentials::github_app("Iv1.box", installation, &KEYS.0).unwrap();
        let policy = scaleset::RetryPolicy::default().max_retries(0);
        Client::builder(github.config_url(scope), credentials)
            .allow_http(true)
            .retry_policy(policy)
            .build()
            .unwrap()
    };
    let spec = RunnerScaleSetSpec::new("linux");
    connect("acme", 5).create_runner_scale_set(&spec).await.unwrap();
    connect("acme/app", 5).create_runner_scale_set(&spec).await.unwrap();
    assert!(connect("other", 5).create_runner_scale_set(&spec).await.unwrap_err().is_not_found());
    assert!(connect("acme", 6).create_runner_scale_set(&spec).await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn an_assertion_is_checked_for_its_key_issuer_and_times() {
    let github = github(Settings { app: Some(app()), ..quick() }).await;
    let status = async |jwt: String| {
        let path = "/app/installations/5/access_tokens";
        call(&github, Method::POST, path, &jwt).await.status().as_u16()
    };
    assert_eq!(status(assertion("Iv1.box", -60, 540)).await, 201);
    assert_eq!(status(assertion("17", 0, 600)).await, 201);
    assert_eq!(status(assertion("18", 0, 600)).await, 401, "issuer");
    assert_eq!(status(assertion("17", 0, 700)).await, 401, "too long");
    assert_eq!(status(assertion("17", -700, -100)).await, 401, "expired");
    assert_eq!(status(assertion("17", 60, 600)).await, 401, "issued in the future");
    let mut forged = assertion("17", 0, 600);
    forged.truncate(forged.len() - 8);
    assert_eq!(status(format!("{forged}AAAAAAAA")).await, 401, "signature");
    github.change(|settings| settings.clock_skew_s = 3600);
    assert_eq!(status(assertion("17", 0, 600)).await, 401, "an hour apart");
    let answer = call(&github, Method::GET, "/meta", "").await;
    let date = answer.headers()["date"].to_str().unwrap().to_owned();
    assert!(date.ends_with("GMT"), "{date}");
}

#[tokio::test]
async fn an_installation_tells_its_permissions_and_lacks_what_it_lacks() {
    let mut app = app();
    app.installations[0].permissions =
        Some([("metadata".to_owned(), "read".to_owned())].into_iter().collect());
    let github = github(Settings { app: Some(app), ..quick() }).await;
    let jwt = assertion("17", 0, 600);
    let path = "/app/installations/5/access_tokens";
    let answer: Value = call(&github, Method::POST, path, &jwt).await.json().await.unwrap();
    assert_eq!(answer["permissions"], json!({ "metadata": "read" }));
    let token = answer["token"].as_str().unwrap();
    let runners = "/orgs/acme/actions/runners";
    assert_eq!(call(&github, Method::GET, runners, token).await.status(), 403);
    let request = ExpireRequest { what: Expire::InstallationTokens, scope: None, scale_set: None };
    github.expire(&request);
    assert_eq!(call(&github, Method::GET, runners, token).await.status(), 401);
    let of: Value =
        call(&github, Method::GET, "/orgs/acme/installation", &jwt).await.json().await.unwrap();
    assert_eq!(of["id"], 5);
}

#[tokio::test]
async fn tokens_are_wrong_or_weak_or_tell_when_they_end() {
    let mut weak = Token::new("weak");
    weak.insufficient = true;
    let mut ends = Token::new("ends");
    ends.expiration = Some("2026-12-01 10:00:00 UTC".to_owned());
    ends.scopes = vec!["acme".to_owned()];
    let github = github(Settings {
        tokens: vec![weak, ends],
        rate_limit: Some(RateLimit { limit: 5000, remaining: 3, reset_in_s: 60 }),
        ..quick()
    })
    .await;
    let path = "/orgs/acme/actions/runners";
    assert_eq!(call(&github, Method::GET, path, "unknown").await.status(), 401);
    assert_eq!(call(&github, Method::GET, path, "weak").await.status(), 403);
    let answer = call(&github, Method::GET, path, "ends").await;
    assert_eq!(answer.status(), 200);
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("github-authentication-token-expiration"), "2026-12-01 10:00:00 UTC");
    assert_eq!(header("x-ratelimit-remaining"), "3");
    let other = "/orgs/other/actions/runners";
    assert_eq!(call(&github, Method::GET, other, "ends").await.status(), 404);
    let url = github.config_url("acme");
    let refused = client_with(&url, "unknown").list_runner_scale_sets(1.into()).await;
    assert!(refused.unwrap_err().is_unauthorized());
}

#[tokio::test]
async fn runners_are_listed_in_pages_and_a_busy_one_is_not_removed() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&jobs(1, 60_000));
    take(&session, 1).await;
    for number in 0..5 {
        jit(&client, set.id, &format!("idle-{number}")).await;
    }
    let (running, stop) = runner(&jit(&client, set.id, "busy").await);
    github.wait_until(SOON, |state| state.summary.runners_busy == 1).await.unwrap();
    let page = get(&github, "/orgs/acme/actions/runners?per_page=4&page=2").await;
    assert_eq!(
        (page["total_count"].as_u64(), page["runners"].as_array().unwrap().len()),
        (Some(6), 2)
    );
    let busy = &page["runners"][1];
    assert_eq!(busy["busy"], true);
    assert_eq!(busy["status"], "online");
    assert_eq!(busy["labels"][0]["name"], "linux");
    let path = format!("/orgs/acme/actions/runners/{}", busy["id"]);
    assert_eq!(call(&github, Method::DELETE, &path, DEFAULT_TOKEN).await.status(), 422);
    let idle = get(&github, "/orgs/acme/actions/runners?name=idle-1").await;
    let path = format!("/orgs/acme/actions/runners/{}", idle["runners"][0]["id"]);
    assert_eq!(call(&github, Method::DELETE, &path, DEFAULT_TOKEN).await.status(), 204);
    assert_eq!(call(&github, Method::DELETE, &path, DEFAULT_TOKEN).await.status(), 404);
    stop.stop();
    running.await.unwrap();
    assert_eq!(call(&github, Method::GET, "/repos/acme/app", DEFAULT_TOKEN).await.status(), 200);
}

#[tokio::test]
async fn groups_are_found_by_name_and_tell_whether_they_are_public() {
    let mut open = Group::new("open");
    open.allows_public_repositories = true;
    let github = github(Settings { groups: vec![open, Group::new("closed")], ..quick() }).await;
    let client = client(&github, "acme");
    let default = client.get_runner_group_by_name("default").await.unwrap().unwrap();
    assert!(default.is_default && default.id.get() == 1);
    let closed = client.get_runner_group_by_name("closed").await.unwrap().unwrap();
    assert!(client.get_runner_group_by_name("none").await.unwrap().is_none());
    for group in [default.id, closed.id] {
        let spec = RunnerScaleSetSpec::new("linux").runner_group_id(group);
        client.create_runner_scale_set(&spec).await.unwrap();
        let again = client.create_runner_scale_set(&spec).await.unwrap_err();
        assert!(again.is_conflict(), "one name a group");
        let found = client.get_runner_scale_set_by_name(group, "linux").await.unwrap().unwrap();
        assert_eq!(found.runner_group_id, group);
    }
    let listed = get(&github, "/orgs/acme/actions/runner-groups").await;
    assert_eq!(listed["runner_groups"][1]["allows_public_repositories"], true);
    assert_eq!(listed["total_count"], 3);
}

#[tokio::test]
async fn labels_keep_their_type_and_strange_types_are_refused() {
    let github = GithubBox::start(BoxConfig::with_settings(quick())).await.unwrap();
    let client = client(&github, "acme");
    let spec = RunnerScaleSetSpec::new("linux").labels(["linux", "x64"]).disable_update(true);
    let set = client.create_runner_scale_set(&spec).await.unwrap();
    assert!(set.labels.iter().all(|label| label.label_type == "System"));
    assert!(set.runner_setting.disable_update);
    let mut user = scaleset::Label::new("gpu");
    user.label_type = "User".to_owned();
    let change = RunnerScaleSetSpec::default().label(user.clone());
    let set = client.update_runner_scale_set(set.id, &change).await.unwrap();
    assert_eq!((set.labels.len(), set.name.as_str()), (1, "linux"));
    assert_eq!(github.state().scale_sets[0].labels[0].label_type, "User");
    user.label_type = "scope".to_owned();
    let change = RunnerScaleSetSpec::default().label(user);
    assert!(client.update_runner_scale_set(set.id, &change).await.unwrap_err().is_bad_request());
    client.delete_runner_scale_set(set.id).await.unwrap();
    github.change(|settings| settings.labels_dropped = true);
    let set = client.create_runner_scale_set(&spec).await.unwrap();
    let kept: Vec<_> = set.labels.iter().map(|label| label.name.as_str()).collect();
    assert_eq!(kept, ["linux"], "as GHES 3.18 does");
    client.delete_runner_scale_set(set.id).await.unwrap();
    assert!(client.list_runner_scale_sets(1.into()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_runner_made_through_rest_takes_a_job_by_its_labels() {
    let github = github(quick()).await;
    let by_label = fleetfoot_sim::QueueJobs {
        scope: "acme".to_owned(),
        labels: vec!["gpu".to_owned()],
        duration_ms: 10,
        ..Default::default()
    };
    github.queue_jobs(&by_label);
    let url = format!("{}/api/v3/orgs/acme/actions/runners/generate-jitconfig", github.url());
    let body = json!({ "name": "one", "runner_group_id": 1, "labels": ["gpu", "x64"] });
    let request = reqwest::Client::new().post(url).bearer_auth(DEFAULT_TOKEN).json(&body);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let (running, _) = runner(answer["encoded_jit_config"].as_str().unwrap());
    running.await.unwrap();
    assert_eq!(github.summary().jobs_succeeded, 1);
}
