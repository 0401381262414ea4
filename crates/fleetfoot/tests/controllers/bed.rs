//! One case: a box, an engine, a database, and controllers that come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use fleetfoot_sim::{BoxConfig, DEFAULT_TOKEN, GithubBox, QueueJobs, Settings};
use serde_json::Value;
use tempfile::TempDir;

use crate::daemon::{self, Daemon};
use crate::database::Database;
use crate::engine::Engine;
use crate::proxy::Proxy;
use crate::{BOUND, eventually};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fleetfoot");
const ORG: &str = "acme";

/// A dead or frozen controller's pools are decided on by another one within this.
pub(crate) const DECIDED: Duration = Duration::from_secs(15);

/// One host, whether or not its controller runs.
pub(crate) struct Host {
    dir: TempDir,
    pub(crate) proxy: Proxy,
    /// What the next start is told.
    pub(crate) environment: BTreeMap<&'static str, String>,
    pub(crate) daemon: Option<Daemon>,
}

pub(crate) struct Bed {
    pub(crate) github: GithubBox,
    pub(crate) engine: Engine,
    pub(crate) database: Database,
    pub(crate) hosts: BTreeMap<&'static str, Host>,
    dir: TempDir,
}

fn directory() -> TempDir {
    let parent =
        std::env::var_os("FLEETFOOT_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::Builder::new().prefix("c").rand_bytes(6).tempdir_in(parent).unwrap()
}

impl Bed {
    pub(crate) async fn new(database: Database) -> Self {
        let dir = directory();
        std::fs::write(dir.path().join("token"), DEFAULT_TOKEN).unwrap();
        let runner = dir.path().join("runner");
        std::fs::create_dir(&runner).unwrap();
        std::os::unix::fs::symlink(PROGRAM, runner.join("run.sh")).unwrap();
        // What a dead controller left at GitHub lapses late: whoever comes after deletes it itself.
        let settings = Settings { session_lapse_ms: 120_000, ..Settings::default() };
        let github = GithubBox::start(BoxConfig::with_settings(settings)).await.unwrap();
        let engine = Engine::start(dir.path());
        let mut hosts = BTreeMap::new();
        for name in ["a", "b", "c"] {
            let proxy = Proxy::to(database.address()).await;
            let mut environment = BTreeMap::new();
            environment.insert("FLEETFOOT_TEST_HOST", name.to_owned());
            environment.insert("FLEETFOOT_STORE_URL", database.through(proxy.port));
            hosts.insert(name, Host { dir: directory(), proxy, environment, daemon: None });
        }
        Self { github, engine, database, hosts, dir }
    }

    /// The lines of a pool on the engine that all can see.
    pub(crate) fn shared(&self) -> String {
        format!("    simulated:\n      socket: {}\n", self.engine.socket.display())
    }

    /// The lines of a pool of processes of one host.
    pub(crate) fn process(&self) -> String {
        format!("    process:\n      runner_dir: {}\n", self.dir.path().join("runner").display())
    }

    /// Writes a host's configuration: pools by name, limit and backend.
    pub(crate) fn write(&self, host: &str, pools: &[(&str, u32, &str)]) {
        let dir = self.hosts[host].dir.path();
        let mut text = format!(
            "url: {}\ntoken_file: {}\nstate_dir: {}\nlog:\n  format: json\nrunners:\n",
            self.github.config_url(ORG),
            self.dir.path().join("token").display(),
            dir.join("state").display()
        );
        for (pool, limit, backend) in pools {
            let _ = write!(
                text,
                "  {pool}:\n    labels: [{pool}]\n    max_runners: {limit}\n    idle_timeout: 1s\n    boot_timeout: 30s\n{backend}"
            );
        }
        std::fs::write(dir.join("fleetfoot.yml"), text).unwrap();
    }

    /// The same shared pools for every host.
    pub(crate) fn shared_pools(&self, pools: &[&str]) {
        let backend = self.shared();
        let pools: Vec<_> = pools.iter().map(|pool| (*pool, 3, backend.as_str())).collect();
        for host in self.hosts.keys() {
            self.write(host, &pools);
        }
    }

    fn command(&self, host: &str) -> tokio::process::Command {
        let Host { dir, environment, .. } = &self.hosts[host];
        let mut command = tokio::process::Command::new(PROGRAM);
        daemon::plain(&mut command, dir.path());
        command.envs(environment);
        command
    }

    pub(crate) fn start(&mut self, host: &'static str) {
        let mut command = self.command(host);
        command.args(["run", "--config", "fleetfoot.yml"]);
        let host = self.hosts.get_mut(host).unwrap();
        assert!(host.daemon.is_none());
        host.daemon = Some(Daemon::start(command, &host.dir));
    }

    pub(crate) async fn start_all(&mut self) {
        for host in ["a", "b", "c"] {
            self.start(host);
        }
        for host in ["a", "b", "c"] {
            self.daemon(host).ready().await;
        }
    }

    pub(crate) fn daemon(&mut self, host: &str) -> &mut Daemon {
        self.hosts.get_mut(host).unwrap().daemon.as_mut().unwrap()
    }

    pub(crate) async fn kill(&mut self, host: &str) {
        self.hosts.get_mut(host).unwrap().daemon.take().unwrap().kill().await;
    }

    pub(crate) async fn stop_all(&mut self) {
        for host in self.hosts.values_mut() {
            if let Some(daemon) = host.daemon.take() {
                daemon.stop().await;
            }
        }
    }

    /// Runs a command on a host to its end.
    pub(crate) async fn cli(&self, host: &str, words: &[&str]) -> std::process::Output {
        let output = self.command(host).args(words).args(["--state-dir", "state"]).output();
        tokio::time::timeout(BOUND, output).await.expect("the command ends").unwrap()
    }

    /// What `status` says on a host.
    pub(crate) async fn status(&self, host: &str) -> Value {
        let output = self.cli(host, &["status", "--output", "json"]).await;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {stderr}", output.status);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Who owns each pool, as a host sees it; living owners only.
    pub(crate) async fn owners(&self, seen_by: &str) -> BTreeMap<String, String> {
        let status = self.status(seen_by).await;
        let pools = status["pools"].as_array().unwrap().clone();
        let owned = pools.iter().filter(|pool| pool["owner"]["alive"] == true);
        let owner = |pool: &Value| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&pool["name"]), text(&pool["owner"]["host"]))
        };
        owned.map(owner).collect()
    }

    /// The pools of a host, as another one sees it.
    pub(crate) async fn owned_by(&self, host: &str, seen_by: &str) -> BTreeSet<String> {
        let owners = self.owners(seen_by).await;
        owners.into_iter().filter(|(_, owner)| owner == host).map(|(pool, _)| pool).collect()
    }

    /// Waits until every pool has a living owner that is not `gone`.
    pub(crate) async fn all_owned_by_others(&self, gone: &str, seen_by: &str, pools: usize) {
        eventually("others own every pool", DECIDED, || async {
            let owners = self.owners(seen_by).await;
            (owners.len() == pools && owners.values().all(|it| it != gone)).then_some(())
        })
        .await;
    }

    /// Waits until each of these hosts owns so many pools.
    pub(crate) async fn until_balanced(&self, hosts: &[&str], each: usize) {
        eventually("the pools are dealt out evenly", BOUND, || async {
            let owners = self.owners(hosts[0]).await;
            let count = |host: &str| owners.values().filter(|owner| *owner == host).count();
            hosts.iter().all(|host| count(host) == each).then_some(())
        })
        .await;
    }

    pub(crate) fn queue(&self, pool: &str, count: usize, duration_ms: u64) -> Vec<u64> {
        self.github.queue_jobs(&QueueJobs::for_scale_set(ORG, pool, count, duration_ms))
    }

    /// Waits until so many jobs have started.
    pub(crate) async fn started(&self, count: usize, bound: Duration) {
        let wanted = |state: &fleetfoot_sim::BoxState| {
            state.jobs.iter().filter(|job| job.starts > 0).count() >= count
        };
        let waited = self.github.wait_until(bound, wanted).await;
        waited.unwrap_or_else(|error| panic!("{count} jobs started within {bound:?}: {error}"));
    }

    /// Waits until every job has ended, each having run once and to its end.
    pub(crate) async fn all_succeeded(&self, count: u64) {
        let wanted = |state: &fleetfoot_sim::BoxState| state.summary.jobs_completed >= count;
        let waited = self.github.wait_until(BOUND, wanted).await;
        let state = waited.unwrap_or_else(|error| panic!("{count} jobs: {error}"));
        let summary = state.summary;
        assert_eq!(summary.jobs_started_twice, 0, "{summary:?}");
        assert_eq!(summary.jobs_lost, 0, "{summary:?}");
        assert_eq!(summary.jobs_succeeded, count, "{summary:?}");
    }

    /// Waits until nothing is left: in the store, at GitHub, at the engine.
    pub(crate) async fn nothing_left(&self, seen_by: &str) {
        eventually("no instance in status", BOUND, || async {
            let status = self.status(seen_by).await;
            status["instances"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
        let waited = self.github.wait_until(BOUND, |state| state.runners.is_empty()).await;
        waited.unwrap_or_else(|error| panic!("no runner at GitHub: {error}"));
        eventually("nothing at the engine", BOUND, || async {
            self.engine.engine.environments().is_empty().then_some(())
        })
        .await;
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for (name, host) in &self.hosts {
            if std::thread::panicking() {
                eprintln!("=== host {name}");
                daemon::show_logs(host.dir.path());
            }
        }
    }
}
