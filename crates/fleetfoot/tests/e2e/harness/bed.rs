//! One test's box, directory and configuration.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use fleetfoot_sim::{BoxConfig, DEFAULT_TOKEN, GithubBox, QueueJobs, Settings};
use serde_json::Value;
use tempfile::TempDir;

use super::daemon::{self, Daemon};
use super::{BOUND, eventually, left};

/// The organization that all tests use.
pub(crate) const ORG: &str = "acme";

/// The binary that is tested.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_fleetfoot");

/// Everything of one test. What is still alive when it falls is ended.
pub(crate) struct Bed {
    pub(crate) github: GithubBox,
    dir: TempDir,
}

impl Bed {
    pub(crate) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let parent =
            std::env::var_os("FLEETFOOT_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = tempfile::Builder::new().prefix("e").rand_bytes(6).tempdir_in(parent).unwrap();
        std::fs::write(dir.path().join("token"), DEFAULT_TOKEN).unwrap();
        let runner = dir.path().join("runner");
        std::fs::create_dir(&runner).unwrap();
        // A link is all that an instance has to copy; by this name the binary is a runner.
        std::os::unix::fs::symlink(PROGRAM, runner.join("run.sh")).unwrap();
        let github = GithubBox::start(BoxConfig::with_settings(settings)).await.unwrap();
        Self { github, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn instances(&self) -> PathBuf {
        self.state_dir().join("instances")
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.path("fleetfoot.yml")
    }

    /// The lines of a runner that make it a process in a clean directory.
    pub(crate) fn process(&self) -> String {
        format!("    process:\n      runner_dir: {}\n", self.path("runner").display())
    }

    /// The text of a configuration: pools by name and limit, each with these further lines.
    ///
    /// A runner that nobody wants any more is known to be idle past half of `boot_timeout`, and gone
    /// `idle_timeout` later: both are short, so that the end is not long in coming.
    pub(crate) fn config(&self, top: &str, pools: &[(&str, u32)], lines: &str) -> String {
        let mut text = format!(
            "url: {}\ntoken_file: {}\nstate_dir: {}\nlog:\n  format: json\n{top}runners:\n",
            self.github.config_url(ORG),
            self.path("token").display(),
            self.state_dir().display()
        );
        for (pool, limit) in pools {
            let _ = write!(
                text,
                "  {pool}:\n    labels: [{pool}]\n    max_runners: {limit}\n    idle_timeout: 1s\n    boot_timeout: 30s\n{lines}"
            );
        }
        text
    }

    /// Writes the configuration file.
    pub(crate) fn write(&self, text: &str) {
        std::fs::write(self.config_file(), text).unwrap();
    }

    /// Writes a configuration with process pools.
    pub(crate) fn process_pools(&self, pools: &[(&str, u32)]) {
        self.write(&self.config("", pools, &self.process()));
    }

    /// Starts `fleetfoot run`.
    pub(crate) fn start(&self) -> Daemon {
        let config = self.config_file();
        self.start_with(&["run", "--config", config.to_str().unwrap()])
    }

    /// Starts the binary as a daemon with these words.
    pub(crate) fn start_with(&self, words: &[&str]) -> Daemon {
        let mut command = self.command();
        command.args(words);
        Daemon::start(command, &self.dir)
    }

    /// Starts `fleetfoot run` and waits until every poll is open.
    pub(crate) async fn start_ready(&self) -> Daemon {
        let mut daemon = self.start();
        daemon.ready().await;
        daemon
    }

    /// The binary with an environment of its own.
    pub(crate) fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(PROGRAM);
        daemon::plain(&mut command, self.dir.path());
        command
    }

    /// The binary under the original's name, with its state here and no other credential than a file's.
    pub(crate) fn outrunner(&self) -> tokio::process::Command {
        let program = self.path("outrunner");
        if !program.exists() {
            std::os::unix::fs::symlink(PROGRAM, &program).unwrap();
        }
        let mut command = tokio::process::Command::new(program);
        daemon::plain(&mut command, self.dir.path());
        command.env("STATE_DIRECTORY", self.state_dir());
        command
    }

    /// Starts a command as a daemon.
    pub(crate) fn daemon(&self, command: tokio::process::Command) -> Daemon {
        Daemon::start(command, &self.dir)
    }

    /// Runs the binary to its end.
    pub(crate) async fn cli(&self, words: &[&str]) -> Output {
        let output = self.command().args(words).output();
        tokio::time::timeout(BOUND, output).await.expect("the command ends").unwrap()
    }

    /// Runs a command that takes `--state-dir` and `--output json`.
    pub(crate) async fn json(&self, words: &[&str]) -> Value {
        let state = self.state_dir();
        let more = ["--state-dir", state.to_str().unwrap(), "--output", "json"];
        let output = self.cli(&[words, &more].concat()).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {}: {stderr}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) async fn status(&self) -> Value {
        self.json(&["status"]).await
    }

    /// The pool as `status` shows it.
    pub(crate) async fn pool(&self, name: &str) -> Value {
        let status = self.status().await;
        let pools = status["pools"].as_array().unwrap().clone();
        pools.into_iter().find(|pool| pool["name"] == name).expect("the pool is in status")
    }

    pub(crate) fn queue(&self, pool: &str, count: usize, duration_ms: u64) -> Vec<u64> {
        self.github.queue_jobs(&QueueJobs::for_scale_set(ORG, pool, count, duration_ms))
    }

    /// Waits until so many jobs run.
    pub(crate) async fn running(&self, count: u64) {
        let waited =
            self.github.wait_until(BOUND, |state| state.summary.jobs_running >= count).await;
        waited.unwrap_or_else(|error| panic!("{count} running jobs: {error}"));
    }

    /// Waits until every job has ended, and checks that each ran once and to its end.
    pub(crate) async fn all_succeeded(&self, count: u64, bound: Duration) {
        let wanted = |state: &fleetfoot_sim::BoxState| state.summary.jobs_completed >= count;
        let waited = self.github.wait_until(bound, wanted).await;
        let state = waited.unwrap_or_else(|error| panic!("{count} jobs: {error}"));
        let summary = state.summary;
        assert_eq!(summary.jobs_started_twice, 0, "{summary:?}");
        assert_eq!(summary.jobs_lost, 0, "{summary:?}");
        assert_eq!(summary.jobs_succeeded, count, "{summary:?}");
        assert!(state.jobs.iter().all(|job| job.starts == 1), "each job starts once");
    }

    /// Waits until nothing of ours is left: in status, at GitHub, on disk.
    pub(crate) async fn nothing_left(&self) {
        eventually("no instance in status", BOUND, || async {
            let status = self.status().await;
            status["instances"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
        let waited = self.github.wait_until(BOUND, |state| state.runners.is_empty()).await;
        waited.unwrap_or_else(|error| panic!("no runner at GitHub: {error}"));
        left::no_directories(&self.instances());
        left::no_processes(&self.instances()).await;
    }

    /// A JIT config of a runner in another organization, which waits for ever.
    pub(crate) async fn foreign_jit(&self) -> String {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let url =
            format!("{}/api/v3/orgs/other/actions/runners/generate-jitconfig", self.github.url());
        let body = serde_json::json!({
            "name": super::unique("foreign"), "runner_group_id": 1, "labels": ["foreign"],
        });
        let answer = http.post(url).bearer_auth(DEFAULT_TOKEN).json(&body).send().await.unwrap();
        let answer: Value = answer.error_for_status().unwrap().json().await.unwrap();
        answer["encoded_jit_config"].as_str().unwrap().to_owned()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            daemon::show_logs(self.dir.path());
        }
        left::end_processes(self.dir.path());
    }
}
