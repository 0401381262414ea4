//! Cgroups: limits, a verdict on memory, and the surest way to end a whole tree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proc;

/// One group to make: its directory, and what to write into which of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) directory: PathBuf,
    pub(crate) settings: Vec<(String, String)>,
}

impl Group {
    /// Makes the group and sets its limits. What this kernel has no file for (swap accounting) is passed over.
    pub(crate) fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for (file, value) in &self.settings {
            let path = self.directory.join(file);
            if path.exists() {
                fs::write(path, value)?;
            }
        }
        Ok(())
    }
}

/// Moves the calling process into a group.
pub(crate) fn join(directory: &Path) -> io::Result<()> {
    fs::write(directory.join("cgroup.procs"), "0")
}

/// How often the kernel ended something in these groups for want of memory.
pub(crate) fn oom_kills(directories: &[PathBuf]) -> u64 {
    let count = |file: PathBuf| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
            .unwrap_or(0)
    };
    directories
        .iter()
        .map(|dir| count(dir.join("memory.events")) + count(dir.join("memory.oom_control")))
        .sum()
}

/// Sends SIGKILL to everything in these groups, and in groups that a job made below them.
pub(crate) fn kill(directories: &[PathBuf]) {
    for directory in directories {
        if fs::write(directory.join("cgroup.kill"), "1").is_err() {
            kill_members(directory);
        }
    }
}

fn kill_members(directory: &Path) {
    for child in below(directory) {
        kill_members(&child);
    }
    let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in members.lines().filter_map(|line| proc::pid(line.parse().ok()?)) {
        // A process that ended meanwhile is what we want.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Removes these groups, deepest first. Zombies may hold a group for a moment, so it tries for up to `bound`; true if all
/// are gone.
pub(crate) fn remove(directories: &[PathBuf], bound: Duration) -> bool {
    let begun = std::time::Instant::now();
    loop {
        let gone = directories.iter().all(|directory| remove_one(directory));
        if gone || begun.elapsed() >= bound {
            return gone;
        }
        kill(directories);
        pause(Duration::from_millis(5));
    }
}

fn remove_one(directory: &Path) -> bool {
    for child in below(directory) {
        remove_one(&child);
    }
    match fs::remove_dir(directory) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Waits for the kernel; called on blocking threads and in the shim only.
pub(crate) fn pause(time: Duration) {
    let nanoseconds = i64::from(time.subsec_nanos());
    let time = rustix::fs::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: nanoseconds,
    };
    let _ = rustix::thread::nanosleep(&time);
}
