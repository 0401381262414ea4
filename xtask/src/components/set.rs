//! All components of one run, and the directory they live in.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{Kind, NotStarted, Outcome, Started, Usage, usage};
use crate::process::{command_line, end, find_program, processes_naming, run_quiet, wait_until};
use crate::unix_http;

/// How long a component may take to end before it is ended by force.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A component that is up, and what it had counted before the tests.
struct Running {
    kind: Kind,
    started: Started,
    counted_before: u64,
}

/// The components of one run. Dropping it stops them and removes their directory.
pub(crate) struct Set {
    dir: PathBuf,
    started: Vec<Running>,
    /// What became of each kind.
    pub(crate) outcomes: Vec<(Kind, Outcome)>,
    /// What tests are told.
    pub(crate) env: BTreeMap<&'static str, String>,
    keep: bool,
}

impl Set {
    /// A new directory with nothing in it yet. Sets of runs that were killed are cleared first.
    pub(crate) fn new() -> Result<Self> {
        clear_abandoned();
        let dir = make_short_dir()?;
        let tests_dir = dir.join("t");
        std::fs::create_dir(&tests_dir)?;
        std::fs::set_permissions(&tests_dir, std::fs::Permissions::from_mode(0o1777))?;
        let env = BTreeMap::from([("FLEETFOOT_TEST_DIR", tests_dir.display().to_string())]);
        Ok(Self { dir, started: Vec::new(), outcomes: Vec::new(), env, keep: false })
    }

    /// The directory of this set.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where tests put what they make.
    pub(crate) fn tests_dir(&self) -> PathBuf {
        self.dir.join("t")
    }

    /// Starts what is found of one kind.
    pub(crate) fn start(&mut self, kind: Kind) {
        let outcome = if kind.is_found() { self.start_found(kind) } else { Outcome::NotFound };
        self.outcomes.push((kind, outcome));
    }

    fn start_found(&mut self, kind: Kind) -> Outcome {
        let dir = self.dir.join(kind.word());
        let result =
            std::fs::create_dir(&dir).map_err(NotStarted::from).and_then(|()| match kind {
                Kind::Docker => super::dockerd::start(&dir),
                Kind::Podman => super::podman::start(&dir),
                Kind::Libvirt => super::libvirtd::start(&dir),
                Kind::Bubblewrap => super::bubblewrap::start(),
                Kind::Strace => super::strace::start(),
                Kind::Postgres => super::postgres::start(&dir),
                Kind::MariaDb => super::mariadb::start(&dir),
                Kind::Shellcheck => super::shellcheck::start(),
                Kind::Rpm => super::rpm::start(),
                Kind::Systemd => super::systemd::start(),
                Kind::Shoes => super::shoes::start(),
            });
        match result {
            Ok(started) => {
                let version = started.version.clone();
                self.env.extend(started.env.iter().cloned());
                let counted_before = usage::count(kind, &dir).unwrap_or(0);
                self.started.push(Running { kind, started, counted_before });
                Outcome::Up { version, usage: None }
            }
            Err(NotStarted::Skipped(reason)) => Outcome::Skipped { reason },
            Err(NotStarted::Failed(error)) => Outcome::Failed { reason: format!("{error:#}") },
        }
    }

    /// The words of the components that came up, for `FLEETFOOT_TEST_REQUIRE`.
    pub(crate) fn up(&self) -> String {
        let up = self.outcomes.iter().filter_map(|(kind, outcome)| match outcome {
            Outcome::Up { .. } => Some(kind.word()),
            Outcome::NotFound | Outcome::Skipped { .. } | Outcome::Failed { .. } => None,
        });
        up.collect::<Vec<_>>().join(",")
    }

    /// Leaves everything running when this value goes.
    pub(crate) fn keep(&mut self) -> Result<()> {
        self.keep = true;
        std::fs::write(self.dir.join(MARKER), KEPT)?;
        Ok(())
    }

    /// Asks each component what it did for the tests.
    pub(crate) fn take_usage(&mut self) {
        for running in &self.started {
            let kind = running.kind;
            let Some(now) = usage::count(kind, &self.dir.join(kind.word())) else { continue };
            let count = now.saturating_sub(running.counted_before + usage::own(kind));
            for (of, outcome) in &mut self.outcomes {
                if let (true, Outcome::Up { usage, .. }) = (*of == kind, outcome) {
                    *usage = Some(Usage { count, noun: usage::noun(kind) });
                }
            }
        }
    }

    /// Stops what was started, newest first, and removes the directory.
    pub(crate) fn stop(&mut self) {
        while let Some(Running { mut started, .. }) = self.started.pop() {
            if let Some(socket) = &started.engine {
                remove_containers(socket);
            }
            if let Some(daemon) = &mut started.daemon {
                daemon.stop(STOP_LIMIT);
            }
        }
        for pid in processes_naming(&self.tests_dir()) {
            eprintln!("xtask: a test left this behind: {}", command_line(pid));
        }
        clear(&self.dir);
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        if !self.keep {
            self.stop();
        }
    }
}

/// Stops a set that an earlier run was told to keep, by the directory it lives in.
pub(crate) fn stop_kept(dir: &Path) -> Result<()> {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    anyhow::ensure!(
        name.starts_with(DIR_PREFIX) && dir.join(MARKER).is_file(),
        "{} is not a directory of ours",
        dir.display()
    );
    for socket in ["docker/d.sock", "podman/p.sock"] {
        remove_containers(&dir.join(socket));
    }
    let pids = processes_naming(dir);
    for pid in &pids {
        end(*pid, Signal::TERM);
    }
    wait_until(STOP_LIMIT, || processes_naming(dir).is_empty());
    clear(dir);
    Ok(())
}

const DIR_PREFIX: &str = "ffx-";
/// A file in each directory of ours: the pid of the run it belongs to, or [`KEPT`].
const MARKER: &str = "made-by-xtask";
const KEPT: &str = "kept";

/// Clears the directories of runs that were killed and could not do it themselves.
fn clear_abandoned() {
    for entry in std::fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let dir = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(DIR_PREFIX);
        let Ok(owner) = std::fs::read_to_string(dir.join(MARKER)) else { continue };
        let is_run = owner.bytes().all(|byte| byte.is_ascii_digit()) && !owner.is_empty();
        if is_ours && is_run && !Path::new("/proc").join(&owner).exists() {
            eprintln!("xtask: clearing {} of a run that was killed", dir.display());
            clear(&dir);
        }
    }
}

/// A new directory right under /tmp: a socket path has room for 107 bytes only.
fn make_short_dir() -> Result<PathBuf> {
    let me = std::process::id();
    for number in 0..1000 {
        let dir = PathBuf::from(format!("/tmp/{DIR_PREFIX}{me}-{number}"));
        match std::fs::create_dir(&dir) {
            Ok(()) => {
                std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755))?;
                std::fs::write(dir.join(MARKER), me.to_string())?;
                return Ok(dir);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(format!("cannot make {}", dir.display())),
        }
    }
    anyhow::bail!("no free name for a directory in /tmp")
}

/// Removes every container of an engine that is ours alone.
fn remove_containers(socket: &Path) {
    let limit = Duration::from_secs(10);
    let Ok((200, body)) = unix_http::request(socket, "GET", "/containers/json?all=1", limit) else {
        return;
    };
    let Ok(containers) = serde_json::from_str::<Vec<serde_json::Value>>(&body) else {
        return;
    };
    for id in containers.iter().filter_map(|container| container["Id"].as_str()) {
        let path = format!("/containers/{id}?force=1&v=1");
        let _ = unix_http::request(socket, "DELETE", &path, limit);
    }
}

/// Ends what still runs from the directory, unmounts what is still mounted in it, removes it.
fn clear(dir: &Path) {
    for _ in 0..3 {
        for pid in processes_naming(dir) {
            end(pid, Signal::KILL);
        }
        if wait_until(Duration::from_secs(2), || processes_naming(dir).is_empty()) {
            break;
        }
    }
    unmount_below(dir);
    remove_bridges(dir);
    let gone = wait_until(Duration::from_secs(5), || {
        let _ = std::fs::remove_dir_all(dir);
        !dir.exists()
    });
    if !gone {
        eprintln!("xtask: cannot remove {}", dir.display());
    }
}

fn unmount_below(dir: &Path) {
    let prefix = format!("{}/", dir.display());
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    // Later mounts lie upon earlier ones.
    for point in points.filter(|point| point.starts_with(&prefix)).collect::<Vec<_>>().iter().rev()
    {
        let _ = run_quiet(std::process::Command::new("umount").args(["-l", point]));
    }
}

/// Removes the network bridges that `dockerd.sh` wrote down.
fn remove_bridges(dir: &Path) {
    let Some(ip) = find_program("ip") else { return };
    let bridges = std::fs::read_to_string(dir.join("docker/bridges")).unwrap_or_default();
    for bridge in bridges.lines() {
        let _ = run_quiet(std::process::Command::new(&ip).args(["link", "delete", bridge]));
    }
}
