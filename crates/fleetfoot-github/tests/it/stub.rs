//! A GitHub that answers as told. One scale set (7), one session, one runner; everything that was
//! asked is recorded.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, Response, Uri};
use fleetfoot_github::{ConfigUrl, Connection, Credentials, Http, HttpSettings, TokenSource};
use serde_json::{Value, json};
use tokio::time::Instant;

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) at: Instant,
    /// Of its connection.
    pub(crate) from: SocketAddr,
}

impl Asked {
    pub(crate) fn is(&self, method: &str, path_end: &str) -> bool {
        self.method.as_str() == method && self.path.ends_with(path_end)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    delay: Duration,
}

pub(crate) fn reply(status: u16, body: impl ToString) -> Reply {
    Reply { status, body: body.to_string().into_bytes(), ..Reply::default() }
}

pub(crate) fn exception(status: u16, name: &str) -> Reply {
    reply(status, json!({"typeName": format!("GitHub.{name}, GitHub.X"), "message": "no"}))
}

impl Reply {
    pub(crate) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Never answers.
    pub(crate) fn hang() -> Self {
        reply(200, "").after(Duration::from_secs(100_000))
    }

    /// Begins with a byte order mark.
    pub(crate) fn with_bom(mut self) -> Self {
        self.body.splice(0..0, *b"\xEF\xBB\xBF");
        self
    }
}

type Script = dyn Fn(&Asked, usize) -> Option<Reply> + Send + Sync;

#[derive(Clone)]
pub(crate) struct Stub {
    inner: Arc<Inner>,
}

struct Inner {
    base: String,
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
    service: Option<String>,
    seconds_behind: i64,
}

impl Stub {
    /// A stub that behaves.
    pub(crate) async fn good() -> Self {
        Self::start(|_, _| None).await
    }

    /// A stub that answers as `script` says, and well where it says `None`. The number counts the
    /// earlier requests with the same method and path.
    pub(crate) async fn start(
        script: impl Fn(&Asked, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(None, 0, script).await
    }

    /// A stub whose clock is that many seconds behind this machine's.
    pub(crate) async fn start_behind(
        seconds: i64,
        script: impl Fn(&Asked, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(None, seconds, script).await
    }

    pub(crate) async fn start_with(
        service: Option<String>,
        seconds_behind: i64,
        script: impl Fn(&Asked, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let script = Box::new(script);
        let stub = Self {
            inner: Arc::new(Inner {
                base,
                script,
                asked: Mutex::default(),
                service,
                seconds_behind,
            }),
        };
        let app = axum::Router::new().fallback(handle).with_state(stub.clone());
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, app).await });
        stub
    }

    pub(crate) fn connection(&self) -> Connection {
        self.connection_with(&token("ghp_good"))
    }

    pub(crate) fn connection_with(&self, credentials: &Credentials) -> Connection {
        let http = Http::new(HttpSettings::default()).unwrap();
        Connection::new(&http, &self.url(), credentials).unwrap()
    }

    pub(crate) fn url(&self) -> ConfigUrl {
        ConfigUrl::parse(&format!("{}/acme", self.inner.base)).unwrap()
    }

    pub(crate) fn asked(&self, method: &str, path_end: &str) -> Vec<Asked> {
        let asked = self.inner.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.is(method, path_end)).cloned().collect()
    }

    pub(crate) fn count(&self, method: &str, path_end: &str) -> usize {
        self.asked(method, path_end).len()
    }

    fn behave(&self, asked: &Asked) -> Reply {
        let base = &self.inner.base;
        let end = asked.path.rsplit('/').next().unwrap_or_default();
        match (asked.method.as_str(), end) {
            ("POST", "registration-token") => {
                reply(201, json!({"token": "reg", "expires_at": timestamp(3600)}))
            }
            ("POST", "access_tokens") => {
                reply(201, json!({"token": "ghs_installed", "expires_at": timestamp(3600)}))
            }
            ("POST", "runner-registration") => {
                let service = self.inner.service.clone().unwrap_or(format!("{base}/svc/"));
                reply(200, json!({"url": service, "token": admin_token(3600)}))
            }
            ("GET", "runnerscalesets") => reply(200, json!({"count": 0, "value": []})),
            ("POST", "runnerscalesets") => {
                let mut set = asked.body.clone();
                set["id"] = json!(7);
                reply(200, set)
            }
            ("GET", "7") => reply(200, scale_set()),
            ("PATCH", "7") => reply(200, &asked.body),
            ("DELETE", "7") => reply(204, ""),
            ("POST", "sessions") => reply(200, session(base, "queue-1")),
            ("PATCH", "session-a") => reply(200, session(base, "queue-2")),
            ("DELETE", "session-a") => reply(204, ""),
            ("POST", "generatejitconfig") => {
                let runner = json!({"id": 11, "name": asked.body["name"], "runnerScaleSetId": 7});
                reply(200, json!({"runner": runner, "encodedJITConfig": "jit-secret"}))
            }
            ("POST", "acquirejobs") => {
                let taken = asked.body.as_array().map_or(0, Vec::len);
                reply(200, json!({"count": taken, "value": asked.body}))
            }
            ("DELETE", _) => reply(204, ""),
            ("GET", "queue") => reply(202, ""),
            _ => reply(404, json!({"message": "Not Found"})),
        }
    }
}

async fn handle(
    State(stub): State<Stub>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let asked = Asked {
        method,
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        at: Instant::now(),
        from,
    };
    let earlier = {
        let mut all = stub.inner.asked.lock().unwrap();
        let same = |other: &&Asked| other.path == asked.path && other.method == asked.method;
        let earlier = all.iter().filter(same).count();
        all.push(asked.clone());
        earlier
    };
    let reply = (stub.inner.script)(&asked, earlier).unwrap_or_else(|| stub.behave(&asked));
    tokio::time::sleep(reply.delay).await;
    let mut response = Response::builder().status(reply.status);
    if !reply.headers.iter().any(|(name, _)| *name == "date") {
        response = response.header("date", http_date(stub.inner.seconds_behind));
    }
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body)).unwrap()
}

pub(crate) fn token(value: &str) -> Credentials {
    Credentials::Token(TokenSource::fixed("GITHUB_TOKEN", value.into()))
}

pub(crate) fn scale_set() -> Value {
    json!({
        "id": 7, "name": "linux", "runnerGroupId": 1, "runnerGroupName": "Default",
        "labels": [{"type": "System", "name": "linux"}],
        "RunnerSetting": {"disableUpdate": false},
        "createdOn": "2026-01-01T00:00:00Z", "somethingNew": {"a": 1},
    })
}

pub(crate) fn session(base: &str, queue_token: &str) -> Value {
    json!({
        "sessionId": "session-a", "ownerName": "here",
        "messageQueueUrl": if base.is_empty() { String::new() } else { format!("{base}/queue?keep=1") },
        "messageQueueAccessToken": queue_token,
        "statistics": {"totalAssignedJobs": 3, "totalBusyRunners": 1},
    })
}

pub(crate) fn message(id: i64, jobs: &Value) -> Value {
    json!({
        "messageId": id, "messageType": "RunnerScaleSetJobMessages", "body": jobs.to_string(),
        "statistics": {"totalAssignedJobs": 2},
    })
}

pub(crate) fn now_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

pub(crate) fn timestamp(seconds_from_now: i64) -> String {
    let at = jiff::Timestamp::from_second(now_seconds() + seconds_from_now).unwrap();
    at.to_string()
}

/// A token that says when it ends, as the service's does.
pub(crate) fn admin_token(seconds_from_now: i64) -> String {
    let claims = json!({"exp": now_seconds() + seconds_from_now});
    let key = jsonwebtoken::EncodingKey::from_secret(b"stub");
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

fn http_date(seconds_behind: i64) -> String {
    let at = jiff::Timestamp::from_second(now_seconds() - seconds_behind).unwrap();
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
