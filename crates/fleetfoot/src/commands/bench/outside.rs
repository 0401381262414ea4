//! Everything outside of a measured controller as a process of its own: a box that plays the runners
//! itself, and a simulated engine whose environments end with them. So thousands of jobs cost what the
//! controller makes of them, not what a thousand stand-in programs do.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result};
use fleetfoot_provisioner::simulated::{SimulatedEngine, serve};
use fleetfoot_provisioner::{Exit, InstanceName};
use fleetfoot_sim::{
    BoxConfig, BoxState, ControlClient, DEFAULT_TOKEN, GithubBox, Settings, Summary,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixListener;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::rig::SCOPE;
use crate::commands::sim::program;

/// The line that the process prints when it is ready.
#[derive(Serialize, Deserialize)]
struct Ready {
    url: String,
    /// What a configuration names, and a token that the box takes.
    config_url: String,
    token: String,
}

/// Launches that wait to be played; at most this many.
const LAUNCHES_MAX: usize = 65_536;

/// Is that process: serves a box on a free port and an engine on `socket` until it is killed.
pub(super) async fn run(socket: &Path, settings: &str) -> Result<()> {
    let settings: Settings = serde_json::from_str(settings).context("no settings of a box")?;
    let github = Arc::new(GithubBox::start(BoxConfig::with_settings(settings)).await?);
    let listener = UnixListener::bind(socket).context("cannot bind the engine's socket")?;
    let engine = SimulatedEngine::new();
    let (launched_tx, mut launched) = mpsc::channel::<InstanceName>(LAUNCHES_MAX);
    engine.on_launch(move |name, _| {
        // What does not fit is an environment that never ends; the measurement notices.
        let _ = launched_tx.try_send(name.clone());
    });
    let config_url = github.config_url(SCOPE);
    let ready = Ready { url: github.url(), config_url, token: DEFAULT_TOKEN.to_owned() };
    let ready = serde_json::to_string(&ready)?;
    writeln!(std::io::stdout(), "{ready}").context("cannot write to standard output")?;
    let mut runners = JoinSet::new();
    let serving = serve(listener, engine.clone());
    tokio::pin!(serving);
    loop {
        tokio::select! {
            served = &mut serving => return served.context("the engine's socket is gone"),
            next = launched.recv() => {
                let Some(name) = next else { return Ok(()) };
                let (engine, github) = (engine.clone(), Arc::clone(&github));
                runners.spawn(async move {
                    github.play_runner(SCOPE, name.as_str());
                    github.runner_gone(SCOPE, name.as_str()).await;
                    engine.end(&name, Exit { code: Some(0), out_of_memory: false, message: None });
                });
            }
            Some(_) = runners.join_next() => {}
        }
    }
}

/// The process, seen from the one that measures.
pub(super) struct Outside {
    child: Child,
    pub(super) url: String,
    pub(super) control: ControlClient,
    pub(super) socket: PathBuf,
}

impl Outside {
    /// Starts it with its socket in `directory`.
    pub(super) async fn start(directory: &Path, settings: &Settings) -> Result<Self> {
        let socket = directory.join("engine.sock");
        let mut command = program()?;
        command.args(["bench", "--outside-settings", &serde_json::to_string(settings)?]);
        command.arg("--outside").arg(&socket);
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a box with an engine")?;
        let out = child.stdout.take().context("the box has no output")?;
        let line =
            BufReader::new(out).lines().next_line().await?.context("the box did not start")?;
        let ready: Ready =
            serde_json::from_str(&line).context("the box did not say where it is")?;
        Ok(Self { child, control: ControlClient::new(&ready.url), url: ready.url, socket })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Result<i32> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok()).context("the box has ended")
    }

    /// The counts now.
    pub(super) async fn summary(&self) -> Result<Summary> {
        Ok(self.control.summary().await?)
    }

    /// Everything now; dear when it is much.
    pub(super) async fn state(&self) -> Result<BoxState> {
        Ok(self.control.state().await?)
    }

    /// Ends it.
    pub(super) async fn end(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end the box")
    }
}
