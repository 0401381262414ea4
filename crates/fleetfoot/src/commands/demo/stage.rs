//! What the demonstration stands on: a directory, a box, a runner, a configuration, a controller.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_sim::{BoxConfig, DEFAULT_TOKEN, GithubBox, QueueJobs};

use super::containers::Containers;
use super::screen::Screen;
use super::script::{Job, ORGANIZATION, POOLS};
use crate::commands::sim::{Controller, ControllerFiles, DataDirectory};

/// From its start until every pool polls.
const READY_BOUND: Duration = Duration::from_secs(30);
/// From SIGTERM to its end; the controller promises ten seconds.
const STOP_BOUND: Duration = Duration::from_secs(15);

/// Everything that is to be gone at the end.
pub(super) struct Stage {
    docker: bool,
    data: DataDirectory,
    containers: Option<Containers>,
    github: Option<GithubBox>,
    files: Option<ControllerFiles>,
    /// The running controller; none while it is dead.
    pub(super) controller: Option<Controller>,
}

impl Stage {
    pub(super) fn new(docker: bool) -> Result<Self> {
        let data = DataDirectory::new("demo")?;
        Ok(Self { docker, data, containers: None, github: None, files: None, controller: None })
    }

    /// Starts everything.
    pub(super) async fn set(&mut self, screen: &mut Screen) -> Result<()> {
        let github = GithubBox::start(BoxConfig::default()).await?;
        screen.line(&format!("GitHub in a box       {}", github.config_url(ORGANIZATION)));
        let token = self.data.path().join("token");
        std::fs::write(&token, DEFAULT_TOKEN).context("cannot write the token file")?;
        let backend = if self.docker {
            let containers = Containers::connect().await?;
            screen.line(&format!("containers by         {}", containers.address()));
            let containers = self.containers.insert(containers);
            containers.build().await?;
            containers.config()
        } else {
            let runner = runner_directory(self.data.path())?;
            format!("    process:\n      runner_dir: {}\n", runner.display())
        };
        let config = config(&github, &token, &backend);
        let files = ControllerFiles::write(self.data.path(), &config)?;
        (self.github, self.files) = (Some(github), Some(files));
        self.start_controller()?;
        if let Some(controller) = &mut self.controller {
            controller.wait_ready(READY_BOUND).await?;
            screen.line(&format!("fleetfoot run         pid {}, ready", controller.pid()));
        }
        Ok(())
    }

    pub(super) fn start_controller(&mut self) -> Result<()> {
        let files = self.files.as_ref().context("the stage is not set")?;
        self.controller = Some(Controller::start(files)?);
        Ok(())
    }

    /// Kills the controller as a crash would; its pid.
    pub(super) async fn kill_controller(&mut self) -> Result<Option<i32>> {
        let Some(controller) = self.controller.take() else { return Ok(None) };
        let pid = controller.pid();
        controller.kill().await?;
        Ok(Some(pid))
    }

    /// Stops the controller as an operator would.
    pub(super) async fn stop_controller(&mut self) -> Result<()> {
        let Some(controller) = self.controller.take() else { return Ok(()) };
        let status = controller.stop(STOP_BOUND).await?;
        anyhow::ensure!(status.success(), "fleetfoot run ended with {status}");
        Ok(())
    }

    pub(super) fn github(&self) -> Result<&GithubBox> {
        self.github.as_ref().context("the stage is not set")
    }

    pub(super) fn queue(&self, job: &Job) -> Result<()> {
        let jobs = QueueJobs::for_scale_set(ORGANIZATION, job.pool, 1, job.duration_ms);
        self.github()?.queue_jobs(&QueueJobs { name: Some(job.name.clone()), ..jobs });
        Ok(())
    }

    pub(super) fn is_docker(&self) -> bool {
        self.docker
    }

    pub(super) fn data(&self) -> &DataDirectory {
        &self.data
    }

    pub(super) fn state_directory(&self) -> PathBuf {
        self.data.path().join("state")
    }

    pub(super) fn containers(&self) -> Option<&Containers> {
        self.containers.as_ref()
    }

    /// Ends and removes everything, however far it came.
    pub(super) async fn clear(mut self) -> Result<()> {
        if let Some(controller) = self.controller.take() {
            // What runs is removed with its data below, so a graceful end has nothing to save.
            let _ = controller.kill().await;
        }
        if let Some(containers) = self.containers.take() {
            containers.clear(&self.state_directory()).await?;
        }
        self.data.end_processes().await;
        drop(self.github.take());
        self.data.remove()
    }
}

/// A runner's directory with this program in it, by a link: that is all an instance has to copy.
fn runner_directory(parent: &Path) -> Result<PathBuf> {
    let directory = parent.join("runner");
    std::fs::create_dir(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let exe = std::env::current_exe().context("cannot find the own program")?;
    std::os::unix::fs::symlink(exe, directory.join("run.sh")).context("cannot link the runner")?;
    Ok(directory)
}

fn config(github: &GithubBox, token: &Path, backend: &str) -> String {
    let mut text = format!(
        "url: {}\ntoken_file: {}\nrunners:\n",
        github.config_url(ORGANIZATION),
        token.display()
    );
    for (pool, limit) in POOLS {
        // Runners that a crash left without a job go soon, so that the end is not long in coming.
        let _ = write!(
            text,
            "  {pool}:\n    labels: [{pool}]\n    max_runners: {limit}\n    idle_timeout: 1s\n{backend}"
        );
    }
    text
}
