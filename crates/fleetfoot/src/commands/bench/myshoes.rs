//! The program as `myshoes` between a box with an App and a plugin, for the rows `shoes` and `targets`.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetfoot_sim::{App, BoxConfig, GithubBox, Installation, Settings, Summary};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::time::Instant;

use super::rig::SCOPE;
use super::shoes::plugin::{self, Machines};
use crate::commands::sim::{DataDirectory, program};

const READY_BOUND: Duration = Duration::from_secs(60);
const STOP_BOUND: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Everything but the daemon.
pub(super) struct Stage {
    pub(super) data: DataDirectory,
    pub(super) github: Arc<GithubBox>,
    pub(super) machines: Machines,
    /// The plugin's program.
    pub(super) plugin: PathBuf,
    pub(super) socket: PathBuf,
    key: String,
    starts: u32,
}

impl Stage {
    /// A box whose App is installed in the one organization, and a plugin.
    pub(super) async fn new() -> Result<Self> {
        let data = DataDirectory::new("bench")?;
        let app = App {
            id: 4711,
            client_id: "Iv1.bench".to_owned(),
            public_key_pem: None,
            installations: vec![Installation::new(77, SCOPE)],
        };
        let settings = Settings { app: Some(app), ..Settings::default() };
        let github = Arc::new(GithubBox::start(BoxConfig::with_settings(settings)).await?);
        let socket = data.path().join("shoes.sock");
        let machines = Machines::hear(&socket, github.clone())?;
        let plugin = data.path().join(plugin::NAME);
        std::os::unix::fs::symlink(std::env::current_exe()?, &plugin)
            .context("cannot link the plugin")?;
        Ok(Self { data, github, machines, plugin, socket, key: key()?, starts: 0 })
    }

    /// Starts the daemon (again) with these variables besides, and waits until it serves its API.
    pub(super) async fn start(&mut self, more: &[(&str, &str)]) -> Result<Myshoes> {
        self.starts += 1;
        let log = self.data.path().join(format!("log.{}", self.starts));
        let file = std::fs::File::create(&log).context("cannot write a log")?;
        let mut command = program()?;
        command.arg("myshoes").stdout(Stdio::null()).stderr(file);
        command.current_dir(self.data.path()).process_group(0).kill_on_drop(true);
        command.envs([
            ("PORT", "0"),
            ("GITHUB_APP_ID", "4711"),
            ("GITHUB_APP_SECRET", "bench"),
            ("GITHUB_PRIVATE_KEY_BASE64", self.key.as_str()),
            ("GITHUB_URL", self.github.url().as_str()),
            ("RUNNER_VERSION", "v2.330.0"),
            ("SCALESET_ENABLED", "true"),
        ]);
        command.env("PLUGIN", &self.plugin).env(plugin::SOCKET, &self.socket);
        command.env("STATE_DIRECTORY", self.data.path().join("state"));
        command.envs(more.iter().copied());
        let child = command.spawn().context("cannot start fleetfoot myshoes")?;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        let mut daemon = Myshoes { child, log, base: String::new(), http };
        daemon.base = daemon.address().await?;
        Ok(daemon)
    }

    /// Waits until the box is as wanted.
    pub(super) async fn wait(
        &self,
        bound: Duration,
        wanted: impl FnMut(&Summary) -> bool,
    ) -> Result<Summary> {
        Ok(self.github.wait_counts(bound, wanted).await?)
    }

    /// Ends everything that is left.
    pub(super) async fn end(self) -> Result<()> {
        drop(self.machines);
        self.data.end_processes().await;
        self.data.remove()
    }
}

/// A key that nobody has but this run.
fn key() -> Result<String> {
    let key = KeyPair::generate(KeySize::Rsa2048).ok().context("cannot make a key")?;
    let der = key.as_der().ok().context("cannot write a key")?;
    let der = STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    Ok(STANDARD.encode(pem))
}

/// The daemon, and its API.
pub(super) struct Myshoes {
    child: Child,
    log: PathBuf,
    base: String,
    http: reqwest::Client,
}

impl Myshoes {
    pub(super) fn pid(&self) -> Result<i32> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok()).context("the daemon has ended")
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails if it has ended.
    fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("fleetfoot myshoes ended ({status}):\n{}", self.said()),
        }
    }

    async fn address(&mut self) -> Result<String> {
        const LINE: &str = "start webserver on ";
        let deadline = Instant::now() + READY_BOUND;
        loop {
            let said = self.said();
            let line = said.lines().find(|line| line.contains(LINE) && said.ends_with('\n'));
            if let Some((_, port)) = line.and_then(|line| line.rsplit_once(':')) {
                return Ok(format!("http://127.0.0.1:{}", port.trim()));
            }
            self.check()?;
            ensure!(Instant::now() < deadline, "fleetfoot myshoes does not serve:\n{said}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let sent = self.http.post(format!("{}{path}", self.base)).json(body).send();
        let answer = sent.await.with_context(|| format!("no answer; it said:\n{}", self.said()))?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{path} was answered with {status}: {text}");
        serde_json::from_str(&text).context("an answer that is no JSON")
    }

    /// Makes a target; its id.
    pub(super) async fn create(&self, scope: &str) -> Result<String> {
        let body = json!({ "scope": scope, "resource_type": "nano" });
        let target = self.post("/target", &body).await?;
        target["id"].as_str().map(str::to_owned).context("a target without an id")
    }

    /// Changes the size of a target's machines.
    pub(super) async fn resize(&self, id: &str, scope: &str, size: &str) -> Result<()> {
        let body = json!({ "scope": scope, "resource_type": size });
        self.post(&format!("/target/{id}"), &body).await.map(drop)
    }

    /// Waits until no target has a runner.
    pub(super) async fn quiet(&mut self, bound: Duration) -> Result<()> {
        const ACTIVE: &str = "myshoes_scaleset_active_runners{";
        let deadline = Instant::now() + bound;
        loop {
            let page = self.http.get(format!("{}/metrics", self.base)).send().await?.text().await?;
            if page.lines().filter(|line| line.starts_with(ACTIVE)).all(|it| it.ends_with(" 0")) {
                return Ok(());
            }
            self.check()?;
            ensure!(Instant::now() < deadline, "runners stay:\n{}", self.said());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks it to stop and waits for its end.
    pub(super) async fn stop(mut self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(self.pid()?) {
            rustix::process::kill_process(pid, Signal::TERM)?;
        }
        let ended = tokio::time::timeout(STOP_BOUND, self.child.wait()).await;
        let status = ended.context("fleetfoot myshoes did not stop")??;
        ensure!(status.success(), "fleetfoot myshoes stopped with {status}:\n{}", self.said());
        Ok(())
    }
}
