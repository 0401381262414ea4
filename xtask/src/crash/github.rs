//! GitHub in a box: started as a process of its own, spoken to by its control API.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::unix_http;

/// The organization of all cases.
pub(super) const ORG: &str = "acme";

/// The request that lists all runners.
const LISTING: &str = "rest_get_runners";

/// A box that runs.
pub(super) struct Github {
    child: Child,
    address: String,
    /// The organization of its jobs.
    scope: String,
    /// What a configuration names.
    pub(super) config_url: String,
    /// A token that it takes.
    pub(super) token: String,
}

#[derive(Deserialize)]
struct Ready {
    url: String,
    config_url: String,
    token: String,
}

/// What it knows, as far as a case asks.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) jobs: Vec<Job>,
    pub(super) runners: Vec<Runner>,
    pub(super) scale_sets: Vec<ScaleSet>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) state: String,
    pub(super) result: Option<String>,
    pub(super) starts: u32,
    pub(super) lost: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Runner {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ScaleSet {
    pub(super) name: String,
    pub(super) session_id: Option<String>,
}

impl State {
    pub(super) fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    /// Whether the job has come so far.
    pub(super) fn is(&self, id: u64, state: &str) -> bool {
        self.job(id).is_some_and(|job| job.state == state)
    }
}

impl Github {
    /// Starts a box. `command` is the binary with a plain environment.
    pub(super) fn start(mut command: Command, more: &Value) -> Result<Self> {
        // A runner that is gone is known to be so at once, and a session of a dead client lapses soon.
        let mut settings = json!({ "groups": [{ "name": "crew" }] });
        for (key, value) in more.as_object().into_iter().flatten() {
            settings[key] = value.clone();
        }
        command.args(["sim", "serve", "--org", ORG, "--lapse", "1s", "--settings"]);
        command.arg(settings.to_string());
        Self::spawn(command)
    }

    /// Starts a box with an engine behind a socket, whose environments it plays itself.
    pub(super) fn start_with_engine(
        mut command: Command,
        more: &Value,
        socket: &Path,
    ) -> Result<Self> {
        let mut settings = json!({ "session_lapse_ms": 1000 });
        for (key, value) in more.as_object().into_iter().flatten() {
            settings[key] = value.clone();
        }
        command.args(["bench", "--outside-settings"]).arg(settings.to_string());
        command.arg("--outside").arg(socket);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a box")?;
        let mut line = String::new();
        let out = child.stdout.take().context("a box without standard output")?;
        BufReader::new(out).read_line(&mut line)?;
        let ready: Ready = serde_json::from_str(&line).context("the box did not come up")?;
        let address = ready.url.trim_start_matches("http://").to_owned();
        let scope = ready.config_url.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self { child, address, scope, config_url: ready.config_url, token: ready.token })
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut stream = TcpStream::connect(&self.address).context("the box is not there")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let text = body.map(Value::to_string).unwrap_or_default();
        let body = body.map(|_| ("application/json", text.as_bytes()));
        let (status, answer) =
            unix_http::exchange(&mut stream, method, &format!("/_box/{path}"), body)?;
        ensure!(status < 300, "{method} {path}: {status} {answer}");
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&answer)?)
    }

    pub(super) fn state(&self) -> Result<State> {
        Ok(serde_json::from_value(self.call("GET", "state", None)?)?)
    }

    /// Queues jobs for a pool; their numbers.
    pub(super) fn queue(&self, pool: &str, count: u64, duration_ms: u64) -> Result<Vec<u64>> {
        let jobs = json!({
            "scope": self.scope, "scale_set": pool, "count": count, "duration_ms": duration_ms,
        });
        let queued = self.call("POST", "jobs", Some(&jobs))?;
        Ok(serde_json::from_value(queued["ids"].clone())?)
    }

    pub(super) fn cancel(&self, job: u64) -> Result<()> {
        self.call("POST", &format!("jobs/{job}/cancel"), None).map(|_| ())
    }

    /// Removes the scale set of a pool, as GitHub does after idle days.
    pub(super) fn vanish(&self, pool: &str) -> Result<()> {
        self.call("POST", "vanish", Some(&json!({ "scope": self.scope, "scale_set": pool })))
            .map(|_| ())
    }

    /// The tokens of all message queues end: the next poll is refused, and asks for another one.
    pub(super) fn expire_queue_tokens(&self) -> Result<()> {
        self.call("POST", "expire", Some(&json!({ "what": "queue_tokens" }))).map(|_| ())
    }

    /// The next request of one kind for a pool is answered otherwise.
    pub(super) fn fault(&self, endpoint: &str, pool: &str, response: &Value) -> Result<()> {
        let fault = json!({
            "endpoint": endpoint, "scale_set": pool, "times": 1, "response": response,
        });
        self.call("POST", "faults", Some(&fault)).map(|_| ())
    }

    /// The next listing of all runners fails.
    pub(super) fn fail_listing(&self) -> Result<()> {
        let response = json!({ "kind": "status", "status": 500 });
        let fault = json!({ "endpoint": LISTING, "times": 1, "response": response });
        self.call("POST", "faults", Some(&fault)).map(|_| ())
    }

    /// Whether one failed.
    pub(super) fn listing_failed(&self) -> Result<bool> {
        let faults = self.call("GET", "faults", None)?;
        let mut faults = faults.as_array().into_iter().flatten();
        Ok(faults.any(|fault| fault["endpoint"] == LISTING && fault["struck"] != 0))
    }
}

impl Drop for Github {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
