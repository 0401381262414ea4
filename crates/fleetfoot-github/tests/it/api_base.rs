//! A REST API at another address than the one that follows from the host: behind a gateway's path.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use fleetfoot_github::{
    ConfigUrl, Connection, Credentials, Http, HttpSettings, ScaleSetSpec, TokenSource,
};
use fleetfoot_sim::{BoxConfig, DEFAULT_TOKEN, GithubBox, QueueJobs};

const PATH: &str = "/gateway/github/rest";

#[derive(Clone)]
struct Gateway {
    target: String,
    client: reqwest::Client,
    paths: Arc<Mutex<Vec<String>>>,
}

/// Passes what comes under its path on to the box's own.
async fn pass(State(gateway): State<Gateway>, request: Request) -> Response {
    let answer = |status: u16, body: Body| Response::builder().status(status).body(body).unwrap();
    let path = request.uri().to_string();
    gateway.paths.lock().unwrap().push(path.clone());
    let Some(rest) = path.strip_prefix(PATH) else { return answer(404, Body::empty()) };
    let url = format!("{}/api/v3{rest}", gateway.target);
    let (parts, body) = request.into_parts();
    let mut headers = parts.headers;
    headers.remove("host");
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let passed = gateway.client.request(parts.method, url).headers(headers).body(body);
    let passed = passed.send().await.unwrap();
    answer(passed.status().as_u16(), Body::from(passed.bytes().await.unwrap()))
}

async fn gateway(target: String) -> (String, Gateway) {
    let gateway = Gateway { target, client: reqwest::Client::new(), paths: Arc::default() };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(pass).with_state(gateway.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), gateway)
}

#[tokio::test]
async fn everything_of_the_rest_api_goes_by_the_stated_address() {
    let github = GithubBox::start(BoxConfig::default()).await.unwrap();
    let config_url = github.config_url("acme");
    let target = config_url.strip_suffix("/acme").unwrap().to_owned();
    let (address, gateway) = gateway(target).await;
    let url = ConfigUrl::parse(&config_url).unwrap();
    let url = url.with_api_base(&format!("{address}{PATH}/")).unwrap();
    assert_eq!(url.api_base(), format!("{address}{PATH}"));
    assert_eq!(url.as_str(), config_url);
    let token = TokenSource::fixed("test", DEFAULT_TOKEN.into());
    let http = Http::new(HttpSettings::default()).unwrap();
    let connection = Connection::new(&http, &url, &Credentials::Token(token)).unwrap();

    let spec = ScaleSetSpec {
        name: "linux".into(),
        group_id: 1,
        labels: vec!["linux".into()],
        label_kind: fleetfoot_github::LabelKind::User,
    };
    let set = connection.create_scale_set(&spec).await.unwrap();
    let session = connection.open_session(set.id, "here").await.unwrap();
    github.queue_jobs(&QueueJobs::for_scale_set("acme", "linux", 1, 50));
    let message = session.poll(None, 1).await.unwrap().unwrap();
    assert_eq!(message.assigned.len(), 1);
    session.acknowledge(message.id).await.unwrap();
    connection.jit_config(set.id, "linux-1").await.unwrap();
    assert_eq!(connection.list_runners().await.unwrap().len(), 1);
    session.close().await.unwrap();

    let paths = gateway.paths.lock().unwrap();
    let asked = |end: &str| paths.iter().filter(|path| path.contains(end)).count();
    // One way in for control calls and sessions alike.
    assert_eq!(asked("/orgs/acme/actions/runners/registration-token"), 1, "{paths:?}");
    assert_eq!(asked("/actions/runner-registration"), 1, "{paths:?}");
    assert_eq!(asked("/orgs/acme/actions/runners?"), 1, "{paths:?}");
    assert!(paths.iter().all(|path| path.starts_with(PATH)), "{paths:?}");
}

#[test]
fn an_address_that_cannot_be_one_is_refused() {
    let url = |text: &str| ConfigUrl::parse(text).unwrap();
    let github = url("https://github.com/acme");
    for (base, part) in [
        ("ghes", "relative URL"),
        ("ftp://a.example/", "https://"),
        ("https://a.example/api?x=1", "its path"),
        ("https://user@a.example/api", "no user"),
        ("http://a.example/api", "in the clear"),
    ] {
        let error = github.clone().with_api_base(base).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let same = github.clone().with_api_base("https://api.github.com/").unwrap();
    assert_eq!(same, github, "where it is anyway");
    let near = github.with_api_base("http://127.0.0.1:8080/github").unwrap();
    assert_eq!(near.api_base(), "http://127.0.0.1:8080/github");
    let ghes = url("http://ghes.example/acme").with_api_base("http://ghes.example/rest").unwrap();
    assert_eq!(ghes.api_base(), "http://ghes.example/rest");
}
