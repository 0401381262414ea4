//! The REST API of myshoes over a real port, by its bytes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use fleetfoot_myshoes::rules::Failure;
use fleetfoot_server::listen;
use fleetfoot_server::myshoes::{MyshoesState, Scopes, Switch, router, serve};
use fleetfoot_store::{
    Durability, Location, Options, Store, StoredToken, TargetKey, TargetRow, TargetWrite,
};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// GitHub's word about scopes: what is not named here is admitted.
#[derive(Default)]
struct Word(Mutex<BTreeMap<String, Failure>>);

impl Scopes for Word {
    fn admit<'a>(
        &'a self,
        scope: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Option<StoredToken>, Failure>> + Send + 'a>> {
        let word = self.0.lock().unwrap().get(scope).copied();
        Box::pin(async move { word.map_or(Ok(None), Err) })
    }
}

struct Server {
    store: Store,
    word: Arc<Word>,
    strict: Arc<AtomicBool>,
    address: SocketAddr,
    _dir: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

/// An answer as it came.
#[derive(Debug, PartialEq, Eq)]
struct Raw {
    status: u16,
    head: String,
    body: String,
}

impl Raw {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(": ")?;
            own.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn is(&self, status: u16, body: &str) {
        assert_eq!((self.status, self.body.as_str()), (status, body), "{}", self.head);
    }

    fn is_error(&self, status: u16, words: &str) {
        self.is(status, &format!("{{\"error\":\"{words}\"}}\n"));
        assert_eq!(self.header("content-type"), Some("application/json;charset=utf-8"));
    }
}

impl Server {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut MyshoesState)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { durability: Durability::Off, ..Options::default() };
        let file = Location::Sqlite(dir.path().join("store.sqlite"));
        let store = Store::open(file, options).await.unwrap();
        let strict = Arc::new(AtomicBool::new(true));
        let turned = strict.clone();
        let turn: Switch = Arc::new(move |on| turned.store(on, Ordering::SeqCst));
        let word = Arc::new(Word::default());
        let mut state = MyshoesState {
            store: store.clone(),
            scopes: word.clone(),
            ghe_domain: None,
            debug: Arc::new(|_| ()),
            strict: turn,
            metrics: Arc::new(|| Box::pin(std::future::ready("up 1\n".to_owned()))),
            token: None,
            is_read_only: false,
        };
        change(&mut state);
        let listener = listen::bind_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            serve(listener, router(state), std::future::pending()).await.unwrap();
        });
        Self { store, word, strict, address, _dir: dir, _tasks: tasks }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Raw {
        self.ask_with(method, path, "", body).await
    }

    async fn ask_with(&self, method: &str, path: &str, headers: &str, body: &str) -> Raw {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head[9..12].parse().unwrap();
        Raw { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn create(&self, body: &str) -> Raw {
        self.ask("POST", "/target", body).await
    }

    async fn row(&self, scope: &str) -> TargetRow {
        self.store.target(TargetKey::Scope(scope.to_owned())).await.unwrap().unwrap()
    }

    async fn set_status(&self, scope: &str, status: &'static str) {
        let key = TargetKey::Scope(scope.to_owned());
        let write = move |row: Option<&TargetRow>| {
            (vec![TargetWrite::StatusOnly(row.unwrap().id.clone(), status)], ())
        };
        self.store.change_target(key, write).await.unwrap();
    }

    fn says(&self, scope: &str, failure: Failure) {
        self.word.0.lock().unwrap().insert(scope.to_owned(), failure);
    }
}

fn time(at: fleetfoot_core::Timestamp) -> String {
    let at = jiff::Timestamp::from_second(at.0 / 1000).unwrap();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A target as it is answered.
fn shown(row: &TargetRow) -> String {
    format!(
        "{{\"id\":\"{}\",\"scope\":\"{}\",\"token_expired_at\":\"2000-01-01T00:00:00Z\",\"resource_type\":\"{}\",\
         \"provider_url\":\"{}\",\"status\":\"{}\",\"status_description\":\"{}\",\"created_at\":\"{}\",\"updated_at\":\"{}\"}}",
        row.id,
        row.scope,
        row.resource_type,
        row.provider_url.as_deref().unwrap_or_default(),
        row.status,
        row.status_description.as_deref().unwrap_or_default(),
        time(row.created_at),
        time(row.updated_at),
    )
}

#[tokio::test]
async fn health_is_told() {
    let server = Server::start().await;
    server.ask("GET", "/healthz", "").await.is(200, "{\"health\":\"ok\"}\n");
}

/// As Go's server writes it: each header in its spelling and its place.
#[tokio::test]
async fn heads_are_written_as_the_original_writes_them() {
    let server = Server::start().await;
    let head = async |method: &str, path: &str, body: &str| {
        let answer = server.ask(method, path, body).await;
        let mut lines: Vec<String> = answer.head.lines().map(str::to_owned).collect();
        let dated = |line: &&mut String| line.starts_with("Date: ");
        let date = lines.iter_mut().find(dated).unwrap();
        let (_, told) = date.split_once(' ').unwrap();
        jiff::fmt::rfc2822::parse(told).unwrap();
        assert!(told.len() == 29 && told.ends_with(" GMT"), "{told}");
        *date = "Date".to_owned();
        lines.join("; ")
    };
    let json = "Content-Type: application/json;charset=utf-8; Date; ";
    let healthy = head("GET", "/healthz", "").await;
    assert_eq!(healthy, format!("HTTP/1.1 200 OK; {json}Content-Length: 16; Connection: close"));
    let refused = head("POST", "/target", "{").await;
    assert_eq!(
        refused,
        format!("HTTP/1.1 400 Bad Request; {json}Content-Length: 30; Connection: close")
    );
    let switched = head("POST", "/config/debug", "{}").await;
    assert_eq!(switched, "HTTP/1.1 204 No Content; Date; Connection: close");
    let nowhere = head("GET", "/", "").await;
    assert_eq!(
        nowhere,
        "HTTP/1.1 404 Not Found; Content-Type: text/plain; charset=utf-8; \
         X-Content-Type-Options: nosniff; Date; Content-Length: 19; Connection: close"
    );
}

#[tokio::test]
async fn a_target_is_made_with_the_fields_of_the_original() {
    let server = Server::start().await;
    let answer = server
        .create(r#"{"scope":"acme","resource_type":"nano","ghe_domain":"x","runner_user":"y"}"#)
        .await;
    let row = server.row("acme").await;
    assert_eq!(row.status, "active");
    answer.is(201, &format!("{}\n", shown(&row)));
    assert_eq!(answer.header("content-type"), Some("application/json;charset=utf-8"));
    let answer = server
        .create(r#"{"scope":"acme/app","resource_type":"4xlarge","provider_url":"https://a&b"}"#)
        .await;
    let row = server.row("ACME/app").await;
    assert_eq!(row.provider_url.as_deref(), Some("https://a&b"));
    answer.is(201, &format!("{}\n", shown(&row)).replace('&', "\\u0026"));
}

#[tokio::test]
async fn creations_are_refused_in_the_originals_words() {
    let server = Server::start().await;
    let missing = "scope, resource_type must be set";
    for body in [
        r#"{"resource_type":"nano"}"#,
        r#"{"scope":"a"}"#,
        r#"{"scope":"a","resource_type":"huge"}"#,
        "null",
    ] {
        server.create(body).await.is_error(400, missing);
    }
    for body in [r#"{"scope":"a","resource_type":1}"#, "", "[]", "{"] {
        server.create(body).await.is_error(400, "json decode error");
    }
    for (scope, failure, status, words) in [
        (
            "a1",
            Failure::NotInstalled,
            400,
            "failed to check to install GitHub Apps. Are you installed?",
        ),
        ("a2", Failure::Scope, 400, "github scope is invalid (maybe, repository is not found)"),
        ("a3", Failure::Purge, 500, "failed to purge installation cache"),
        ("a4", Failure::Token, 500, "failed to generate GitHub Apps token"),
        (
            "a5",
            Failure::Runners,
            400,
            "failed to get list of registered runners (maybe, invalid scope or token?)",
        ),
    ] {
        server.says(scope, failure);
        let body = format!(r#"{{"scope":"{scope}","resource_type":"nano"}}"#);
        server.create(&body).await.is_error(status, words);
    }
    let body = r#"{"scope":"Acme","resource_type":"nano"}"#;
    assert_eq!(server.create(body).await.status, 201);
    for (status, body) in [("active", body), ("suspend", &body.to_lowercase()), ("error", body)] {
        server.set_status("acme", status).await;
        let scope = if body.contains("Acme") { "Acme" } else { "acme" };
        let words = format!("{scope} is already registered, current status is {status}.");
        server.create(body).await.is_error(400, &words);
    }
    assert_eq!(server.store.targets().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_deleted_target_comes_back_under_its_own_id() {
    let server = Server::start().await;
    server.create(r#"{"scope":"acme","resource_type":"nano","provider_url":"https://p"}"#).await;
    let id = server.row("acme").await.id;
    let gone = server.ask("DELETE", &format!("/target/{id}"), "").await;
    gone.is(204, "");
    assert_eq!(gone.header("content-type"), Some("application/json;charset=utf-8"));
    let kept = server.ask("GET", &format!("/target/{id}"), "").await;
    assert!(kept.body.contains("\"status\":\"deleted\""), "{}", kept.body);
    server
        .ask("DELETE", &format!("/target/{id}"), "")
        .await
        .is_error(400, "target is already deleted");
    let (key, of) = (TargetKey::Id(id.clone()), id.clone());
    let words = Some("an operator's word".to_owned());
    let write = move |_: Option<&TargetRow>| (vec![TargetWrite::Status(of, "deleted", words)], ());
    server.store.change_target(key, write).await.unwrap();
    let again = server.create(r#"{"scope":"ACME","resource_type":"large"}"#).await;
    let row = server.row("acme").await;
    again.is(201, &format!("{}\n", shown(&row)));
    assert_eq!(
        (row.id.as_str(), row.status.as_str(), row.scope.as_str()),
        (id.as_str(), "active", "acme")
    );
    assert_eq!(row.status_description.as_deref(), Some(""), "what was said before is over");
    assert_eq!(
        (row.resource_type.word(), row.provider_url.as_deref()),
        ("large", Some("https://p"))
    );
    server.ask("DELETE", &format!("/target/{id}"), "").await.is(204, "");
    server.create(r#"{"scope":"acme","resource_type":"large","provider_url":""}"#).await;
    assert_eq!(server.row("acme").await.provider_url, None);
}

#[tokio::test]
async fn targets_are_listed_the_newest_first_and_those_that_get_jobs_only() {
    let server = Server::start().await;
    server.ask("GET", "/target", "").await.is(200, "[]\n");
    for (scope, size) in [("b", "micro"), ("a", "nano"), ("gone", "nano"), ("off", "nano")] {
        let body = format!(r#"{{"scope":"{scope}","resource_type":"{size}"}}"#);
        assert_eq!(server.create(&body).await.status, 201);
    }
    server.set_status("gone", "deleted").await;
    server.set_status("off", "suspend").await;
    let list = server.ask("GET", "/target", "").await;
    let rows = [server.row("a").await, server.row("b").await];
    // Made in one second, most likely; else the newer one comes first all the same.
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| std::cmp::Reverse(row.created_at));
    list.is(200, &format!("[{},{}]\n", shown(&rows[0]), shown(&rows[1])));
    assert!(!list.body.contains("token\""));
    let off = server.row("off").await;
    let one = server.ask("GET", &format!("/target/{}", off.id), "").await;
    one.is(200, &format!("{}\n", shown(&off)));
    let head = server.ask("HEAD", "/target", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn ids_are_read_as_leniently_as_ever() {
    let server = Server::start().await;
    server.create(r#"{"scope":"acme","resource_type":"nano"}"#).await;
    let row = server.row("acme").await;
    let plain = row.id.replace('-', "");
    let braces = format!("%7B{}%7D", row.id);
    for id in [row.id.clone(), row.id.to_uppercase(), plain, braces, format!("urn:uuid:{}", row.id)]
    {
        server
            .ask("GET", &format!("/target/{id}"), "")
            .await
            .is(200, &format!("{}\n", shown(&row)));
    }
    let unknown = "/target/00000000-0000-4000-8000-000000000000";
    for id in ["not-a-uuid", "%ff", "a%2Fb", "%00"] {
        server.ask("GET", &format!("/target/{id}"), "").await.is_error(400, "incorrect target id");
    }
    server.ask("GET", unknown, "").await.is_error(404, "datastore read error");
    for method in ["POST", "DELETE"] {
        let words = "incorrect target id (not found)";
        server.ask(method, unknown, r#"{"scope":"a"}"#).await.is_error(400, words);
        server.ask(method, "/target/x", "rubbish").await.is_error(400, "incorrect target id");
    }
}

#[tokio::test]
async fn updates_change_what_they_name() {
    let server = Server::start().await;
    server.create(r#"{"scope":"acme","resource_type":"nano","provider_url":"https://p"}"#).await;
    let first = server.row("acme").await;
    let path = format!("/target/{}", first.id);
    for body in [r#"{"resource_type":"large"}"#, r#"{"scope":"Acme"}"#, "null"] {
        let words = "invalid input: can't updatable fields (Scope)";
        server.ask("POST", &path, body).await.is_error(400, words);
    }
    server.ask("POST", &path, "nonsense").await.is_error(400, "json decode error");
    let same = server.ask("POST", &path, r#"{"scope":"acme","resource_type":"huge"}"#).await;
    same.is(200, &format!("{}\n", shown(&first)));
    let changed = server
        .ask("POST", &path, r#"{"scope":"acme","resource_type":"large","provider_url":""}"#)
        .await;
    let row = server.row("acme").await;
    changed.is(200, &format!("{}\n", shown(&row)));
    assert_eq!((row.resource_type.word(), row.provider_url.as_deref()), ("large", None));
    // What the published client sends, and what was got.
    let sdk = r#"{"id":"00000000-0000-0000-0000-000000000000","scope":"acme","github_token":"","token_expired_at":"0001-01-01T00:00:00Z","ghe_domain":null,"resource_type":"micro","runner_user":null,"provider_url":null,"status":"","status_description":{"String":"","Valid":false},"created_at":"0001-01-01T00:00:00Z","updated_at":"0001-01-01T00:00:00Z"}"#;
    assert_eq!(server.ask("POST", &path, sdk).await.status, 200);
    assert_eq!(server.row("acme").await.resource_type.word(), "micro");
    let got = server.ask("GET", &path, "").await;
    let back = server.ask("POST", &path, &got.body).await;
    assert_eq!(back.status, 200);
    // A deleted target is updated and stays deleted.
    server.set_status("acme", "deleted").await;
    let deleted = server.ask("POST", &path, r#"{"scope":"acme","resource_type":"small"}"#).await;
    assert!(
        deleted.body.contains("\"resource_type\":\"small\"")
            && deleted.body.contains("\"deleted\"")
    );
    server.set_status("acme", "running").await;
    let words = "target has running runner now, please stop all runner";
    server.ask("DELETE", &path, "").await.is_error(400, words);
}

#[tokio::test]
async fn a_store_that_fails_is_told_in_the_words_of_the_step_that_failed() {
    let server = Server::start().await;
    let long = "u".repeat(256);
    let with = |scope: &str| {
        format!(r#"{{"scope":"{scope}","resource_type":"nano","provider_url":"{long}"}}"#)
    };
    server.create(&with("acme")).await.is_error(500, "datastore create error");
    server.create(r#"{"scope":"acme","resource_type":"nano"}"#).await;
    let path = format!("/target/{}", server.row("acme").await.id);
    server.ask("POST", &path, &with("acme")).await.is_error(500, "datastore update error");
    server.ask("DELETE", &path, "").await.is(204, "");
    server.create(&with("acme")).await.is_error(500, "update resource type error");
    assert_eq!(server.row("acme").await.status, "deleted");
    // Nobody can look anything up before a change any more.
    server.store.close().await;
    let body = r#"{"scope":"acme","resource_type":"nano"}"#;
    server.create(body).await.is_error(500, "datastore error");
    server.ask("POST", &path, body).await.is_error(400, "incorrect target id (not found)");
    server.ask("DELETE", &path, "").await.is_error(400, "incorrect target id (not found)");
}

#[tokio::test]
async fn what_is_no_route_is_no_page() {
    let server = Server::start().await;
    for (method, path) in [
        ("PUT", "/target/x"),
        ("POST", "/metrics"),
        ("GET", "/target/"),
        ("POST", "/github/events"),
        ("GET", "/"),
        ("GET", "/config/debug"),
        ("OPTIONS", "/target"),
        ("DELETE", "/healthz"),
        ("GET", "/target/a/b"),
    ] {
        let answer = server.ask(method, path, "").await;
        answer.is(404, "404 page not found\n");
        assert_eq!(answer.header("allow"), None, "{method} {path}");
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn switches_are_turned() {
    let server = Server::start().await;
    let answer = server.ask("POST", "/config/strict", "{}").await;
    answer.is(204, "");
    assert_eq!(answer.header("content-type"), None);
    assert!(!server.strict.load(Ordering::SeqCst));
    server.ask("POST", "/config/strict", r#"{"strict":true}"#).await.is(204, "");
    assert!(server.strict.load(Ordering::SeqCst));
    server.ask("POST", "/config/strict", "x").await.is_error(400, "json decode error");
    server.ask("POST", "/config/debug", r#"{"debug":true}"#).await.is(204, "");
    let metrics = server.ask("GET", "/metrics", "").await;
    metrics.is(200, "up 1\n");
    let kind = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    assert_eq!(metrics.header("content-type"), Some(kind));
}

/// Metrics are packed for who takes that, and for nobody else; HEAD has the head alone.
#[tokio::test]
async fn metrics_are_packed_for_who_takes_gzip() {
    let server = Server::start().await;
    for (takes, is_packed) in [
        ("gzip", true),
        ("deflate, GZIP;q=0.5", true),
        ("*", true),
        ("gzip;q=0", false),
        ("gzip;q=0, *", false),
        ("identity", false),
        ("zstd,br", false),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let text = format!(
            "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept-encoding: {takes}\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let end = answer.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
        assert_eq!(head.contains("Content-Encoding: gzip"), is_packed, "{takes}: {head}");
        let mut page = String::new();
        if is_packed {
            let mut unpacking = flate2::read::GzDecoder::new(body);
            std::io::Read::read_to_string(&mut unpacking, &mut page).unwrap();
        } else {
            page = String::from_utf8_lossy(body).into_owned();
        }
        assert_eq!(page, "up 1\n", "{takes}");
    }
    for path in ["/metrics", "/healthz", "/target"] {
        let answer = server.ask("HEAD", path, "").await;
        answer.is(200, "");
    }
}

#[tokio::test]
async fn a_token_and_a_mode_without_orders_may_be_asked_for() {
    let token = Some(Arc::new(SecretString::from("s3cret")));
    let server = Server::start_with(|state| state.token = token).await;
    server.ask("GET", "/target", "").await.is_error(401, "a bearer token is needed");
    let with = "authorization: Bearer s3cret\r\n";
    server.ask_with("GET", "/target", with, "").await.is(200, "[]\n");
    assert_eq!(server.ask("GET", "/healthz", "").await.status, 200);
    let server = Server::start_with(|state| state.is_read_only = true).await;
    server.ask("GET", "/target", "").await.is(200, "[]\n");
    let refused = server.create(r#"{"scope":"acme","resource_type":"nano"}"#).await;
    refused.is_error(403, "targets are read-only here");
    server.ask("POST", "/config/strict", "{}").await.is_error(403, "targets are read-only here");
    server.ask("PUT", "/target/x", "").await.is(404, "404 page not found\n");
}

#[tokio::test]
async fn what_a_target_says_of_its_own_is_shown_only_then() {
    let server = Server::start().await;
    let answer = server
        .create(r#"{"scope":"acme","resource_type":"nano","mode":"webhook","max_runners":3}"#)
        .await;
    let row = server.row("acme").await;
    let plain = shown(&row);
    let with = |more: &str| format!("{},{more}}}\n", plain.strip_suffix('}').unwrap());
    answer.is(201, &with(r#""mode":"webhook","max_runners":3"#));
    let update = async |body: &str| {
        server.ask("POST", &format!("/target/{}", row.id), body).await.body.trim().to_owned()
    };
    // What is not said stays; the empty text is as for all.
    let kept = update(r#"{"scope":"acme"}"#).await;
    assert!(kept.ends_with(r#","mode":"webhook","max_runners":3}"#), "{kept}");
    let one = update(r#"{"scope":"acme","mode":"","max_runners":0}"#).await;
    assert!(one.ends_with(r#"","max_runners":0}"#) && !one.contains("mode"), "{one}");
    let none = update(r#"{"scope":"acme","max_runners":""}"#).await;
    assert!(none.ends_with(r#"Z"}"#), "{none}");
    for bad in [r#"{"scope":"acme","mode":"push"}"#, r#"{"scope":"acme","max_runners":"many"}"#] {
        let refused = server.ask("POST", &format!("/target/{}", row.id), bad).await;
        refused.is_error(400, "json decode error");
    }
    // It comes back with what it had.
    update(r#"{"scope":"acme","max_runners":5}"#).await;
    server.set_status("acme", "deleted").await;
    let again = server.create(r#"{"scope":"acme","resource_type":"nano"}"#).await;
    assert!(again.body.ends_with("\"max_runners\":5}\n"), "{}", again.body);
}
