//! The daemon as a process: started, signalled, waited for, its log read.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{BOUND, eventually};

/// A daemon that this test started. It is killed when it falls.
pub(crate) struct Daemon {
    child: Child,
    pid: Pid,
    log: PathBuf,
    out: PathBuf,
}

/// Nothing of the caller's environment but what every program needs.
pub(crate) fn plain(command: &mut Command, home: &Path) {
    command.env_clear().current_dir(home).stdin(Stdio::null());
    command.env("HOME", home).env("TMPDIR", home);
    for name in ["PATH", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

impl Daemon {
    pub(crate) fn start(mut command: Command, dir: &TempDir) -> Self {
        let number = (1..).find(|n| !dir.path().join(format!("log.{n}")).exists()).unwrap();
        let log = dir.path().join(format!("log.{number}"));
        let out = dir.path().join(format!("out.{number}"));
        command.stderr(std::fs::File::create(&log).unwrap());
        command.stdout(std::fs::File::create(&out).unwrap());
        let child = command.kill_on_drop(true).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
        Self { child, pid, log, out }
    }

    /// Waits for the log's `ready`.
    pub(crate) async fn ready(&mut self) {
        self.logs("ready").await;
    }

    /// Waits until the log has a line with this message.
    pub(crate) async fn logs(&mut self, message: &str) -> Value {
        self.logs_where(message, |_| true).await
    }

    /// Waits until the log has a line with this message that is as wanted.
    pub(crate) async fn logs_where(
        &mut self,
        message: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let deadline = tokio::time::Instant::now() + BOUND;
        loop {
            let lines = self.lines();
            let line = lines.into_iter().find(|line| line["message"] == message && wanted(line));
            if let Some(line) = line {
                return line;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended with {status} before it logged `{message}`");
            }
            assert!(tokio::time::Instant::now() < deadline, "no `{message}` in the log");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The log so far, line by line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How many lines have this message.
    pub(crate) fn count(&self, message: &str) -> usize {
        self.lines().iter().filter(|line| line["message"] == message).count()
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Standard output so far.
    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self, bound: Duration) -> ExitStatus {
        let waited = tokio::time::timeout(bound, self.child.wait()).await;
        waited.unwrap_or_else(|_| panic!("the daemon did not end within {bound:?}")).unwrap()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL, as a crash.
    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended(BOUND).await;
    }

    /// SIGTERM, and the clean end that must follow.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.ended(Duration::from_secs(10)).await;
        assert!(status.success(), "{status}");
    }

    /// Waits until standard output has a line that contains this.
    pub(crate) async fn says(&mut self, part: &str) -> String {
        let out = self.out.clone();
        eventually(&format!("`{part}` on standard output"), BOUND, || async {
            let text = std::fs::read_to_string(&out).unwrap();
            text.lines().find(|line| line.contains(part)).map(str::to_owned)
        })
        .await
    }
}

/// The last lines of every daemon's log, for a test that failed.
pub(crate) fn show_logs(dir: &Path) {
    for number in 1..20 {
        for kind in ["log", "out"] {
            let Ok(text) = std::fs::read_to_string(dir.join(format!("{kind}.{number}"))) else {
                continue;
            };
            let lines: Vec<&str> = text.lines().collect();
            let first = lines.len().saturating_sub(120);
            if !lines.is_empty() {
                eprintln!("--- {kind}.{number}, {} lines", lines.len());
            }
            for line in lines.get(first..).unwrap_or_default() {
                eprintln!("{line}");
            }
        }
    }
}
