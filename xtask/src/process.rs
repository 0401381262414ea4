//! Child processes: short commands that are run to their end, and daemons that are started,
//! waited for and stopped by their pid.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a level is looked at while we wait for it.
const POLL: Duration = Duration::from_millis(50);

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on SIGINT and SIGTERM are noted instead of ending us, so that what we started is
/// stopped in order. Every wait for a child looks at the note.
pub(crate) fn note_interrupts() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&INTERRUPTED))?;
    }
    Ok(())
}

/// Whether we were asked to end.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Looks at `level` until it holds or `limit` is over. Says whether it came to hold.
pub(crate) fn wait_until(limit: Duration, mut level: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if level() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Finds a program in `PATH` and in the directories where Debian keeps programs for root.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}

/// Runs a command to its end, quietly. On failure its output is part of the error.
pub(crate) fn run_quiet(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{shown}`"))?;
    if !output.status.success() {
        bail!(
            "`{shown}` failed ({}): {}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end with our own standard streams. Asked to end ourselves, we pass it on.
pub(crate) fn run_loud(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    wait_for(child, &shown)
}

/// As [`run_loud`], and `line` sees each line of the standard output.
pub(crate) fn run_watched(command: &mut Command, mut line: impl FnMut(&str)) -> Result<()> {
    let shown = show(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let pipe = child.stdout.take().context("the child has no standard output")?;
    // The lines come through a thread of their own: the wait below must not hang on a pipe that a
    // grandchild holds open.
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for text in BufReader::new(pipe).lines().map_while(Result::ok) {
            println!("{text}");
            if sender.send(text).is_err() {
                break;
            }
        }
    });
    let result = wait_for(child, &shown);
    while let Ok(text) = receiver.recv_timeout(Duration::from_secs(1)) {
        line(&text);
    }
    result
}

fn wait_for(mut child: Child, shown: &str) -> Result<()> {
    let mut passed_on = false;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("`{shown}` failed ({status})");
        }
        if is_interrupted() && !passed_on {
            passed_on = true;
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        std::thread::sleep(POLL);
    }
}

/// A command line as a person would type it.
fn show(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A daemon that we started, with its output in a file.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
    stop_signal: Signal,
}

impl Daemon {
    /// Starts `command` in a process group of its own, so that a Ctrl-C in the terminal reaches
    /// only us and we end it in order.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        log: &Path,
        stop_signal: Signal,
    ) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log: log.to_owned(), stop_signal })
    }

    /// The daemon's pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` holds; fails at once if the daemon ends, with the end of its log.
    pub(crate) fn wait_ready(
        &mut self,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<()> {
        let mut ended = None;
        let child = &mut self.child;
        let came = wait_until(limit, || {
            if ready() {
                return true;
            }
            ended = child.try_wait().ok().flatten();
            ended.is_some() || is_interrupted()
        });
        if is_interrupted() {
            self.stop(Duration::from_secs(10));
            bail!("interrupted");
        }
        match (came, ended) {
            (true, None) => Ok(()),
            (_, Some(status)) => bail!("{} ended at once ({status}): {}", self.name, self.tail()),
            (false, None) => {
                bail!("{} is not ready after {} s: {}", self.name, limit.as_secs(), self.tail())
            }
        }
    }

    fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n  ")
    }

    /// Asks the daemon to end, and ends it by force after `limit`.
    pub(crate) fn stop(&mut self, limit: Duration) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // A stopped process would not see the request: tests freeze daemons.
            let _ = kill_process(pid, Signal::CONT);
            let _ = kill_process(pid, self.stop_signal);
        }
        let child = &mut self.child;
        if !wait_until(limit, || matches!(child.try_wait(), Ok(Some(_)) | Err(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What components and tests start; anything else that names a directory of ours only looks at it.
const STARTED_BY_US: &[&str] = &[
    "catatonit",
    "conmon",
    "containerd",
    "containerd-shim",
    "containerd-shim-runc-v2",
    "docker-init",
    "dockerd",
    "fleetfoot",
    "fleetfoot-process-shim",
    "mariadbd",
    "plugin",
    "podman",
    "postgres",
    "run.sh",
    "runc",
];

/// Every process of [`STARTED_BY_US`] whose command line names `dir`, a directory that only we use.
pub(crate) fn processes_naming(dir: &Path) -> Vec<Pid> {
    let needle = format!("{}/", dir.display());
    let me = std::process::id().cast_signed();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != me)
        .filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let program = line.split('\0').next().and_then(|path| path.rsplit('/').next());
            line.contains(&needle) && program.is_some_and(|name| STARTED_BY_US.contains(&name))
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// A process in words: its pid and its command line.
pub(crate) fn command_line(pid: Pid) -> String {
    let number = pid.as_raw_nonzero();
    let line = std::fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
    format!("{number} {}", String::from_utf8_lossy(&line).replace('\0', " "))
}

/// Ends a process that is known to be ours, by its pid.
pub(crate) fn end(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, Signal::CONT);
    let _ = kill_process(pid, signal);
}
