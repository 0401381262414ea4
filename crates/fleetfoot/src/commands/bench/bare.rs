//! The bare minimum of a scale set client: plain requests, plain SQL, nothing kept, nothing retried.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, RequestBuilder};
use rusqlite::Connection;
use serde_json::{Value, json};

/// A client of one scope.
#[derive(Clone)]
pub(super) struct Bare {
    http: Client,
    service: String,
    token: String,
}

/// An open session of one scale set.
#[derive(Clone)]
pub(super) struct BareSession {
    pub(super) set: i64,
    pub(super) id: String,
    queue: String,
    token: String,
}

/// A message, as far as anybody here wants to know.
pub(super) struct BareMessage {
    pub(super) id: i64,
    /// Jobs that the statistics say are assigned.
    pub(super) total_assigned: usize,
    /// Jobs that this very message assigns.
    pub(super) assigned: usize,
}

impl Bare {
    /// The token exchange every client does first.
    pub(super) async fn connect(url: &str, scope: &str) -> Result<Self> {
        let http = Client::builder().no_proxy().tls_certs_only([]).build()?;
        let registration = http
            .post(format!("{url}/api/v3/orgs/{scope}/actions/runners/registration-token"))
            .bearer_auth(fleetfoot_sim::DEFAULT_TOKEN);
        let registration = answer(registration).await?;
        let admin = http
            .post(format!("{url}/api/v3/actions/runner-registration"))
            .header("authorization", format!("RemoteAuth {}", text(&registration, "token")?))
            .json(&json!({ "url": format!("{url}/{scope}"), "runner_event": "register" }));
        let admin = answer(admin).await?;
        let service = text(&admin, "url")?.trim_end_matches('/').to_owned();
        Ok(Self { http, service, token: text(&admin, "token")? })
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let url =
            format!("{}/_apis/runtime/runnerscalesets{path}?api-version=6.0-preview", self.service);
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// Makes a scale set.
    pub(super) async fn scale_set(&self, name: &str) -> Result<i64> {
        let body = json!({
            "name": name,
            "runnerGroupId": 1,
            "labels": [{ "name": name, "type": "System" }],
            "RunnerSetting": { "ephemeral": true, "disableUpdate": true },
        });
        let set = answer(self.call(Method::POST, "").json(&body)).await?;
        set["id"].as_i64().context("a scale set without an id")
    }

    /// Opens a session.
    pub(super) async fn open(&self, set: i64) -> Result<BareSession> {
        let call = self.call(Method::POST, &format!("/{set}/sessions"));
        let session = answer(call.json(&json!({ "ownerName": "bare" }))).await?;
        Ok(BareSession {
            set,
            id: text(&session, "sessionId")?,
            queue: text(&session, "messageQueueUrl")?,
            token: text(&session, "messageQueueAccessToken")?,
        })
    }

    /// Deletes a session, its own or an old one.
    pub(super) async fn close(&self, set: i64, session: &str) -> Result<()> {
        answer(self.call(Method::DELETE, &format!("/{set}/sessions/{session}"))).await.map(drop)
    }

    /// One poll.
    pub(super) async fn poll(
        &self,
        session: &BareSession,
        capacity: usize,
    ) -> Result<Option<BareMessage>> {
        let call = self.http.get(&session.queue).bearer_auth(&session.token);
        let call = call.header("x-scalesetmaxcapacity", capacity.to_string());
        let message = answer(call).await?;
        let Some(id) = message["messageId"].as_i64() else { return Ok(None) };
        let jobs: Vec<Value> = serde_json::from_str(message["body"].as_str().unwrap_or("[]"))?;
        let assigned = jobs.iter().filter(|job| job["messageType"] == "JobAssigned").count();
        let total = message["statistics"]["totalAssignedJobs"].as_u64().unwrap_or(0);
        Ok(Some(BareMessage { id, total_assigned: usize::try_from(total)?, assigned }))
    }

    /// Acknowledges a message.
    pub(super) async fn acknowledge(&self, session: &BareSession, message: i64) -> Result<()> {
        let (path, query) = session.queue.split_once('?').unwrap_or((&session.queue, ""));
        let call = self.http.delete(format!("{path}/{message}?{query}"));
        answer(call.bearer_auth(&session.token)).await.map(drop)
    }

    /// A JIT config.
    pub(super) async fn jit(&self, set: i64, name: &str) -> Result<String> {
        let call = self.call(Method::POST, &format!("/{set}/generatejitconfig"));
        let jit = answer(call.json(&json!({ "name": name, "workFolder": "_work" }))).await?;
        text(&jit, "encodedJITConfig")
    }
}

async fn answer(request: RequestBuilder) -> Result<Value> {
    let response = request.send().await?;
    let status = response.status();
    let body = response.text().await?;
    ensure!(status.is_success(), "the box answered {status} to bare code: {body}");
    Ok(if body.is_empty() { Value::Null } else { serde_json::from_str(&body)? })
}

fn text(value: &Value, key: &str) -> Result<String> {
    value[key].as_str().map(str::to_owned).with_context(|| format!("an answer without {key}"))
}

/// As durable a commit as the store's: one row, `synchronous=FULL`.
#[derive(Clone)]
pub(super) struct Ledger(Arc<std::sync::Mutex<Connection>>);

impl Ledger {
    /// A new file in `directory`.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let connection = Connection::open(directory.join("bare.sqlite"))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE facts (id INTEGER PRIMARY KEY, fact TEXT)",
        )?;
        Ok(Self(Arc::new(std::sync::Mutex::new(connection))))
    }

    /// Commits one fact.
    pub(super) fn commit(&self, fact: &str) -> Result<()> {
        let connection = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        connection.prepare_cached("INSERT INTO facts (fact) VALUES (?1)")?.execute([fact])?;
        Ok(())
    }

    /// Commits so many facts together, each as long as a row of the store's.
    pub(super) fn commit_rows(&self, rows: usize) -> Result<()> {
        let mut connection = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let fact = "fact ".repeat(40);
        let transaction = connection.transaction()?;
        for _ in 0..rows {
            transaction.prepare_cached("INSERT INTO facts (fact) VALUES (?1)")?.execute([&fact])?;
        }
        transaction.commit()?;
        Ok(())
    }
}
