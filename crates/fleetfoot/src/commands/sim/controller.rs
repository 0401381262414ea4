//! `fleetfoot run` as a process of its own: started, watched, killed.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fleetfoot_api::{Client, Status};
use rustix::process::{Pid, Signal};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// What of our environment a controller under trial gets: nothing that could be a token or a proxy.
const INHERITED: [&str; 7] = ["PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "RUST_BACKTRACE", "USER"];
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A command that starts this very program.
#[expect(
    clippy::disallowed_methods,
    reason = "the commands of the binary start programs; these do it here"
)]
pub(crate) fn program() -> Result<Command> {
    let exe = std::env::current_exe().context("cannot find the own program")?;
    let mut command = Command::new(exe);
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// The files a controller is started with.
#[derive(Debug, Clone)]
pub(crate) struct ControllerFiles {
    /// Its configuration.
    pub(crate) config: PathBuf,
    /// Its state directory.
    pub(crate) state: PathBuf,
    /// What it prints.
    pub(crate) log: PathBuf,
}

impl ControllerFiles {
    /// The usual names in `directory`; writes the configuration.
    pub(crate) fn write(directory: &Path, config: &str) -> Result<Self> {
        let files = Self {
            config: directory.join("fleetfoot.yml"),
            state: directory.join("state"),
            log: directory.join("fleetfoot.log"),
        };
        std::fs::write(&files.config, config)
            .with_context(|| format!("cannot write {}", files.config.display()))?;
        std::fs::create_dir_all(&files.state)
            .with_context(|| format!("cannot make {}", files.state.display()))?;
        Ok(files)
    }

    /// The last lines of what was printed, for an error.
    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

/// A running `fleetfoot run`. Dropping it kills it; what it started lives on.
pub(crate) struct Controller {
    child: Child,
    pid: i32,
    files: ControllerFiles,
    client: Client,
    started: Instant,
}

impl Controller {
    /// Starts it, in a process group of its own so that a Ctrl-C reaches only us.
    pub(crate) fn start(files: &ControllerFiles) -> Result<Self> {
        let open = std::fs::File::options().create(true).append(true).open(&files.log);
        let log = open.with_context(|| format!("cannot write {}", files.log.display()))?;
        let mut command = program()?;
        command.arg("run").arg("--config").arg(&files.config).arg("--state-dir").arg(&files.state);
        command.stdout(log.try_clone()?).stderr(log);
        let child = command.process_group(0).kill_on_drop(true).spawn();
        let child = child.context("cannot start fleetfoot run")?;
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .context("fleetfoot run has no process id")?;
        let client = Client::unix(&files.state.join("control.sock"))?;
        Ok(Self { child, pid, files: files.clone(), client, started: Instant::now() })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// What it says of itself; `None` while its socket is not there.
    pub(crate) async fn status(&self) -> Option<Status> {
        let asked = tokio::time::timeout(Duration::from_secs(2), self.client.status()).await;
        asked.ok()?.ok()
    }

    /// Its numbers, in Prometheus' text format.
    pub(crate) async fn metrics(&self) -> Result<String> {
        self.client.metrics().await.context("cannot read the numbers of fleetfoot run")
    }

    /// Tells it to take no more jobs into a pool.
    pub(crate) async fn drain(&self, pool: &str) -> Result<()> {
        self.client.drain(pool).await.with_context(|| format!("cannot drain {pool}"))?;
        Ok(())
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("fleetfoot run ended ({status}):\n{}", self.files.tail()),
        }
    }

    /// Waits until its status is as wanted.
    pub(crate) async fn wait_status(
        &mut self,
        bound: Duration,
        mut wanted: impl FnMut(&Status) -> bool,
    ) -> Result<Status> {
        let deadline = Instant::now() + bound;
        loop {
            let status = self.status().await;
            if let Some(status) = status.filter(|status| wanted(status)) {
                return Ok(status);
            }
            self.check()?;
            if Instant::now() >= deadline {
                bail!(
                    "fleetfoot run is not as it should be after {bound:?}:\n{}",
                    self.files.tail()
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until every pool polls.
    pub(crate) async fn wait_ready(&mut self, bound: Duration) -> Result<Status> {
        self.wait_status(bound, |status| status.ready).await
    }

    fn signal(&self, signal: Signal) {
        // Not waited for yet, so the number is still its own.
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Kills it without a word of warning.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.signal(Signal::KILL);
        self.child.wait().await.context("cannot wait for fleetfoot run")?;
        Ok(())
    }

    /// Asks it to stop and waits for its end; kills it if that takes too long.
    pub(crate) async fn stop(mut self, bound: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        if let Ok(ended) = tokio::time::timeout(bound, self.child.wait()).await {
            return ended.context("cannot wait for fleetfoot run");
        }
        let tail = self.files.tail();
        self.kill().await?;
        bail!("fleetfoot run did not stop within {bound:?}:\n{tail}")
    }
}
