//! The end: wait until everything is gone, stop the controller, and count what is left.

use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_api::Status;
use fleetfoot_sim::{BoxState, Job};
use tokio::time::Instant;

use super::screen::Screen;
use super::script::POOLS;
use super::stage::Stage;
use crate::commands::sim::program;

/// What has a job to finish or nothing to wait for goes by itself.
const QUIET_BOUND: Duration = Duration::from_secs(4);
/// A runner without a job that a crash left goes when its pool is drained.
const DRAINED_BOUND: Duration = Duration::from_secs(30);

/// What was found when nothing should be left.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// The jobs as GitHub has them.
    pub(super) jobs: Vec<Job>,
    /// Runners still registered at GitHub.
    pub(super) runners: u64,
    /// Message sessions still open at GitHub.
    pub(super) sessions: u64,
    /// Containers, or processes, of ours.
    pub(super) environments: Vec<String>,
    /// Directories of instances.
    pub(super) directories: Vec<String>,
    /// Rows of instances in the store.
    pub(super) rows: Vec<String>,
}

impl Books {
    pub(super) fn left_over(&self) -> u64 {
        let lists = [&self.environments, &self.directories, &self.rows];
        let listed: usize = lists.iter().map(|list| list.len()).sum();
        self.runners + self.sessions + u64::try_from(listed).unwrap_or(u64::MAX)
    }

    /// What is left, for an error.
    pub(super) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        if self.runners > 0 {
            left.push(format!("{} runners registered at GitHub", self.runners));
        }
        if self.sessions > 0 {
            left.push(format!("{} sessions open at GitHub", self.sessions));
        }
        left.extend(self.environments.iter().map(|one| format!("environment {one}")));
        left.extend(self.directories.iter().map(|one| format!("directory {one}")));
        left.extend(self.rows.iter().map(|one| format!("row {one}")));
        left
    }
}

/// Closes the demonstration's books.
pub(super) async fn close(stage: &mut Stage, screen: &mut Screen) -> Result<Books> {
    if !wait_until_quiet(stage, QUIET_BOUND).await? {
        for (pool, _) in POOLS {
            if let Some(controller) = &stage.controller {
                controller.drain(pool).await?;
            }
        }
        wait_until_quiet(stage, DRAINED_BOUND).await?;
    }
    stage.stop_controller().await?;
    screen.close();
    screen.line("fleetfoot run         stopped; counting what is left");
    let github: BoxState = stage.github()?.state();
    let environments = match stage.containers() {
        Some(containers) => containers.of(&stage.state_directory()).await?,
        None => stage
            .data()
            .processes()
            .into_iter()
            .map(|(pid, words)| format!("{pid} {words}"))
            .collect(),
    };
    Ok(Books {
        runners: github.summary.runners,
        sessions: github.summary.sessions,
        jobs: github.jobs,
        environments,
        directories: directories(stage),
        rows: rows(stage).await?,
    })
}

/// What is not quiet in the end is counted as left.
async fn wait_until_quiet(stage: &mut Stage, bound: Duration) -> Result<bool> {
    let deadline = Instant::now() + bound;
    while Instant::now() < deadline {
        let Some(controller) = &mut stage.controller else { return Ok(true) };
        controller.check()?;
        let status = controller.status().await;
        let empty = status.is_some_and(|status| status.instances.is_empty());
        if empty && stage.github()?.summary().runners == 0 {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(false)
}

fn directories(stage: &Stage) -> Vec<String> {
    let entries = std::fs::read_dir(stage.state_directory().join("instances"))
        .into_iter()
        .flatten()
        .flatten();
    // Names of instances; what a backend keeps for itself begins with a dot.
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

/// The store as the next operator would read it, with no daemon there.
async fn rows(stage: &Stage) -> Result<Vec<String>> {
    let mut command = program()?;
    command.args(["status", "--output", "json", "--state-dir"]).arg(stage.state_directory());
    let output = command.output().await.context("cannot start fleetfoot status")?;
    let words = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "fleetfoot status failed: {}", words.trim());
    let status: Status = serde_json::from_slice(&output.stdout)
        .context("fleetfoot status did not print a status")?;
    Ok(status.instances.into_iter().map(|one| format!("{} ({})", one.name, one.phase)).collect())
}
