//! Plugins of a daemon that was killed: nobody else would end them.
//!
//! Beside the socket of each plugin lies a note of who started it and which process it is, each with the time at
//! which it began, so that a number that was given anew is nobody's.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, geteuid, kill_process};

/// What the directories of plugins begin with.
pub(crate) const PREFIX: &str = "fleetfoot-plugin-";
const NOTE: &str = "processes";

/// A process that cannot be taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    /// Ticks since the machine's start, as `/proc/PID/stat` has it.
    began: u64,
}

impl Process {
    /// The process of this number, if there is one that still runs.
    fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before the last parenthesis may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let began = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, began })
    }

    fn runs(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// Writes down in the plugin's directory who started it and which process it is.
pub(crate) fn note(directory: &Path, plugin: Option<u32>) -> io::Result<()> {
    let ours = i32::try_from(std::process::id()).ok().and_then(Process::of);
    let plugin = plugin.and_then(|pid| i32::try_from(pid).ok()).and_then(Process::of);
    let (Some(ours), Some(plugin)) = (ours, plugin) else { return Ok(()) };
    let text = format!("{} {}\n{} {}\n", ours.pid, ours.began, plugin.pid, plugin.began);
    fs::write(directory.join(NOTE), text)
}

/// Ends the plugins of daemons that are gone, and removes what is left of them.
pub(crate) fn end(temporary: &Path) {
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            end_one(&entry.path());
        }
    }
}

fn end_one(directory: &Path) {
    let is_ours = fs::symlink_metadata(directory)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == geteuid().as_raw());
    let Some((daemon, plugin)) = is_ours.then(|| read(&directory.join(NOTE))).flatten() else {
        return;
    };
    if daemon.runs() {
        return;
    }
    if plugin.runs()
        && let Some(pid) = Pid::from_raw(plugin.pid)
    {
        match kill_process(pid, Signal::KILL) {
            Ok(()) => tracing::info!(pid = plugin.pid, "plugin of a daemon that is gone ended"),
            Err(error) => {
                tracing::warn!(pid = plugin.pid, %error, "plugin of a daemon that is gone could not be ended");
                return;
            }
        }
    }
    // What cannot be removed now is found by the next start.
    let _ = fs::remove_dir_all(directory);
}

fn read(note: &Path) -> Option<(Process, Process)> {
    let text = fs::read_to_string(note).ok()?;
    let mut processes = text.lines().filter_map(|line| {
        let (pid, began) = line.split_once(' ')?;
        Some(Process { pid: pid.parse().ok()?, began: began.parse().ok()? })
    });
    Some((processes.next()?, processes.next()?))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    fn noted(temporary: &Path, daemon: Process, plugin: Process) -> std::path::PathBuf {
        let directory = temporary.join(format!("{PREFIX}{}", fastrand::u32(..)));
        fs::create_dir(&directory).unwrap();
        let text = format!("{} {}\n{} {}\n", daemon.pid, daemon.began, plugin.pid, plugin.began);
        fs::write(directory.join(NOTE), text).unwrap();
        directory
    }

    #[test]
    fn only_what_nobody_serves_is_ended() {
        let temporary = tempfile::tempdir().unwrap();
        let (mut left, mut served, mut other) = (sleeper(), sleeper(), sleeper());
        let process = |child: &Child| Process::of(i32::try_from(child.id()).unwrap()).unwrap();
        let us = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let gone = Process { began: us.began + 1, ..us };
        let of_left = noted(temporary.path(), gone, process(&left));
        let of_served = noted(temporary.path(), us, process(&served));
        let renumbered = Process { began: 1, ..process(&other) };
        let of_other = noted(temporary.path(), gone, renumbered);
        end(temporary.path());
        assert!(!left.wait().unwrap().success(), "it was killed");
        assert!(served.try_wait().unwrap().is_none() && other.try_wait().unwrap().is_none());
        assert_eq!([of_left, of_served, of_other].map(|it| it.exists()), [false, true, false]);
        for child in [&mut served, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_note_names_both() {
        let directory = tempfile::tempdir().unwrap();
        let mut plugin = sleeper();
        note(directory.path(), Some(plugin.id())).unwrap();
        let (daemon, noted) = read(&directory.path().join(NOTE)).unwrap();
        assert!(daemon.runs() && noted.runs());
        plugin.kill().unwrap();
        plugin.wait().unwrap();
        assert!(!noted.runs());
    }
}
