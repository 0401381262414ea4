//! One case's surroundings: its directory, box, configuration and daemon.

mod files;
mod peer;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::Backend;
use super::backend::plain;
use super::case::{self, SHIMS};
use super::database::{Database, Server};
use super::engine::Engine;
use super::github::Github;
use super::hypervisor::Hypervisor;
use super::mac;
use super::scenario::Scenario;
use crate::process::{end, is_interrupted, processes_naming};

/// How often a level is looked at.
const LOOK: Duration = Duration::from_millis(60);

/// What all cases of one backend share.
#[derive(Clone)]
pub(super) struct Ground {
    pub(super) binary: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) backend: Backend,
    pub(super) engine: Option<Engine>,
    /// The stand-in for `tart`.
    pub(super) tart: Option<PathBuf>,
    /// The stand-in for libvirt's daemon.
    pub(super) hypervisor: Option<Hypervisor>,
    /// The database server, where two controllers are tested.
    pub(super) server: Option<Server>,
    /// A shoes plugin.
    pub(super) plugin: Option<PathBuf>,
    /// A mistake that every daemon makes, by its name.
    pub(super) defect: Option<String>,
}

/// A pool of a case.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) limit: usize,
    pub(super) lines: String,
}

/// One case.
pub(super) struct Bed {
    pub(super) github: Github,
    pub(super) pools: Vec<Pool>,
    ground: Ground,
    dir: PathBuf,
    daemon: Option<Child>,
    /// The other controller.
    peer: Option<Child>,
    /// What both of them share.
    database: Option<Database>,
    /// The daemon that is tested is not started again when it ended at the point.
    stays_away: bool,
    /// `point#pass` for the daemon that is tested, until it ended there.
    crash: Option<String>,
    trace: PathBuf,
    pub(super) starts: u32,
    /// Lines of its configuration beside pools and credential.
    pub(super) more: String,
    /// The daemon that is tested ended at the point.
    pub(super) crashed: bool,
    /// More of a pool lived at once than its limit.
    pub(super) above: Option<String>,
    /// Everything is left where it is, to be looked at.
    pub(super) keep: bool,
}

impl Bed {
    /// A box and a directory of its own; `number` tells them from those of other cases.
    pub(super) fn new(ground: &Ground, number: usize, scenario: Scenario) -> Result<Self> {
        let dir = ground.dir.join(format!("c{number}"));
        std::fs::create_dir(&dir)?;
        if let Some(tart) = &ground.tart {
            mac::set_up(tart, &dir)?;
        }
        if ground.hypervisor.is_some() {
            std::fs::create_dir(dir.join("overlays"))?;
        }
        let (command, settings) = (plain(ground, &dir), scenario.settings(&ground.dir)?);
        let github = match &ground.server {
            Some(_) => Github::start_with_engine(command, &settings, &dir.join("engine.sock"))?,
            None => Github::start(command, &settings)?,
        };
        let database = ground.server.as_ref().map(|it| it.database(&format!("c{number}")));
        std::fs::write(dir.join("token"), &github.token)?;
        std::fs::write(dir.join("token.other"), &github.token)?;
        let trace = dir.join("points");
        let ground = ground.clone();
        let mut bed = Self {
            github,
            pools: Vec::new(),
            ground,
            dir,
            daemon: None,
            peer: None,
            database: database.transpose()?,
            stays_away: false,
            crash: None,
            trace,
            starts: 0,
            more: String::new(),
            crashed: false,
            above: None,
            keep: false,
        };
        bed.make_runners()?;
        bed.pools = scenario.pools(&bed, number);
        if scenario == Scenario::Targets {
            bed.more = bed.set_up_targets()?;
        }
        Ok(bed)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn backend(&self) -> Backend {
        self.ground.backend
    }

    pub(super) fn ground(&self) -> &Ground {
        &self.ground
    }

    pub(super) fn engine(&self) -> Option<&Engine> {
        self.ground.engine.as_ref()
    }

    pub(super) fn hypervisor(&self) -> Option<&Hypervisor> {
        self.ground.hypervisor.as_ref()
    }

    pub(super) fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(super) fn instances(&self) -> PathBuf {
        self.state_dir().join("instances")
    }

    /// Starts the daemon that is tested: it ends at `crash`, if it comes there.
    pub(super) fn start_tested(&mut self, crash: Option<String>) -> Result<()> {
        self.crash = crash;
        let trace = self.trace.clone();
        self.spawn(|command, crash| {
            command.env("FLEETFOOT_POINTS_TO", trace);
            if let Some(crash) = crash {
                command.env("FLEETFOOT_CRASH_AT", crash);
            }
        })
    }

    /// Starts a daemon that no point ends.
    pub(super) fn start_plain(&mut self) -> Result<()> {
        self.spawn(|_, _| {})
    }

    fn spawn(&mut self, more: impl FnOnce(&mut Command, Option<&str>)) -> Result<()> {
        self.starts += 1;
        let log = File::create(self.dir.join(format!("log.{}", self.starts)))?;
        let mut command = plain(&self.ground, &self.dir);
        self.share(&mut command, "a");
        command.arg("run").arg("--config").arg(self.dir.join("fleetfoot.yml"));
        // What may land late is waited for by its call's bound, twice: short, or a case takes minutes.
        command.env("FLEETFOOT_CALL_BOUND_MS", "2500");
        if let Some(defect) = &self.ground.defect {
            command.env("FLEETFOOT_DEFECT", defect);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        more(&mut command, self.crash.as_deref());
        self.daemon = Some(command.spawn().context("cannot start the daemon")?);
        Ok(())
    }

    /// Tells a command of this host which database it shares, if any.
    fn share(&self, command: &mut Command, host: &str) {
        if let Some(database) = &self.database {
            command.env("FLEETFOOT_STORE_URL", database.url()).env("FLEETFOOT_TEST_HOST", host);
        }
    }

    /// A crash that the case itself makes.
    pub(super) fn kill_daemon(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("no daemon runs")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// Looks after the daemon: one that ended at the point is started again, any other end is an error.
    fn tend(&mut self) -> Result<()> {
        ensure!(!is_interrupted(), "interrupted");
        self.tend_peer()?;
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        let Some(status) = daemon.try_wait()? else {
            if self.crash.is_some() && self.shim_crashed() {
                self.crashed = true;
                self.crash = None;
                self.kill_daemon()?;
                return self.start_plain();
            }
            return self.count_processes();
        };
        self.daemon = None;
        let at_point = status.signal() == Some(Signal::KILL.as_raw()) && self.crash.is_some();
        ensure!(at_point, "the daemon ended by itself: {status}");
        self.crashed = true;
        self.crash = None;
        if self.stays_away { Ok(()) } else { self.start_plain() }
    }

    /// The point was one of a shim's: the daemon lives, and each further shim would end there, too.
    fn shim_crashed(&self) -> bool {
        let is_shims = self.crash.as_ref().is_some_and(|crash| crash.starts_with(SHIMS));
        is_shims && self.passed().iter().any(|point| point.ends_with('!'))
    }

    /// Waits for a level while it looks after the daemon.
    pub(super) fn until(
        &mut self,
        what: &str,
        bound: Duration,
        mut level: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.tend()?;
            if level(self)? {
                return Ok(());
            }
            if begun.elapsed() > bound {
                bail!("not within {} s: {what}", bound.as_secs());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Runs one of the binary's commands; its standard output, or `None` if it failed.
    pub(super) fn command(&self, words: &[&str]) -> Result<Option<String>> {
        self.command_at(&self.state_dir(), "a", words)
    }

    fn command_at(&self, state: &Path, host: &str, words: &[&str]) -> Result<Option<String>> {
        let mut command = plain(&self.ground, &self.dir);
        self.share(&mut command, host);
        command.args(words).arg("--state-dir").arg(state);
        let output = command.stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(output.status.success().then_some(text))
    }

    /// What `status` says; `None` if it cannot say.
    pub(super) fn status(&self) -> Result<Option<Value>> {
        let said = self.command(&["status", "--output", "json"])?;
        said.map(|text| serde_json::from_str(&text).context("status is not JSON")).transpose()
    }

    /// Whether the pool is this controller's, as far as it says.
    pub(super) fn owns(&self, pool: &str) -> Result<bool> {
        let status = self.status()?.unwrap_or_default();
        let mut pools = status["pools"].as_array().into_iter().flatten();
        Ok(pools.any(|it| it["name"] == *pool && it["owner"]["here"] == true))
    }

    /// How many living controllers own pools, as this one sees it.
    pub(super) fn owners(&self) -> Result<usize> {
        let status = self.status()?.unwrap_or_default();
        let pools = status["pools"].as_array().into_iter().flatten();
        let owned = pools.filter(|pool| pool["owner"]["alive"] == true);
        Ok(owned.map(|pool| pool["owner"]["host"].to_string()).collect::<BTreeSet<_>>().len())
    }

    /// Whether a daemon answers that has the pool.
    pub(super) fn serves(&self, pool: &str) -> Result<bool> {
        let status = self.status()?.unwrap_or_default();
        let mut pools = status["pools"].as_array().into_iter().flatten();
        Ok(status["source"] == "daemon" && pools.any(|it| it["name"] == *pool))
    }

    /// Tells the daemon that its configuration is another one; one that just crashed reads it at its start.
    pub(super) fn hang_up(&mut self) -> Result<()> {
        let Some(daemon) = &mut self.daemon else { return Ok(()) };
        if daemon.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = rustix::process::Pid::from_raw(daemon.id().cast_signed());
        Ok(rustix::process::kill_process(pid.context("no process id")?, Signal::HUP)?)
    }

    /// Ends the daemon with SIGTERM; one that comes to the point on its way is started and ended again.
    pub(super) fn stop(&mut self) -> Result<()> {
        for _ in 0..2 {
            let Some(daemon) = &mut self.daemon else { break };
            if let Some(pid) = rustix::process::Pid::from_raw(daemon.id().cast_signed()) {
                rustix::process::kill_process(pid, Signal::TERM)?;
            }
            let ended = crate::process::wait_until(Duration::from_secs(15), || {
                !matches!(daemon.try_wait(), Ok(None))
            });
            ensure!(ended, "the daemon does not end");
            if daemon.wait()?.success() {
                self.daemon = None;
                return Ok(());
            }
            self.tend()?;
            // Its control socket answers once it can be told to stop in order.
            self.until("the daemon answers", Duration::from_secs(20), |bed| {
                Ok(bed.status()?.is_some_and(|status| status["source"] == "daemon"))
            })?;
        }
        bail!("the daemon did not end in order")
    }

    /// Every point that the tested daemon passed, in order; the last one that ended it has a `!`.
    pub(super) fn passed(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.trace).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Counts the live instances on disk, twice: only what lives at both looks lived at once.
    fn count_processes(&mut self) -> Result<()> {
        if self.ground.backend != Backend::Process {
            return Ok(());
        }
        let alive = |name: &String| {
            let dir = self.instances().join(name);
            dir.join("pid").exists() && !dir.join("exit.json").exists()
        };
        let names: BTreeSet<String> = directories(&self.instances()).into_iter().collect();
        let mut names: Vec<String> = names.into_iter().filter(alive).collect();
        names.retain(alive);
        for pool in &self.pools {
            let prefix = format!("{}-", pool.name);
            let count = names.iter().filter(|name| name.starts_with(&prefix)).count();
            if count > pool.limit && self.above.is_none() {
                let limit = pool.limit;
                self.above = Some(format!("{count} processes of pool {}, not {limit}", pool.name));
            }
        }
        Ok(())
    }
}

/// The directories of instances.
pub(super) fn directories(instances: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(instances) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

impl Drop for Bed {
    fn drop(&mut self) {
        for mut daemon in [self.daemon.take(), self.peer.take()].into_iter().flatten() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let pools: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
        if let Some(engine) = &self.ground.engine {
            engine.clear(&pools);
        }
        for pid in processes_naming(&self.dir) {
            end(pid, Signal::KILL);
        }
        if self.keep {
            // The directory of the run goes with the run.
            let _ = std::fs::rename(&self.dir, case::kept(&self.dir));
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
