//! Killing what is left of an instance whose shim no longer does it.
//!
//! A process is only signaled on evidence: it is in the instance's cgroup, or carries the instance's directory in its
//! environment, or runs a program from that directory, or runs as the user id that is this instance's alone. (Not: stands in
//! that directory. That may be an operator's shell.) The evidence is looked at again after a descriptor of the process was
//! opened, so a reused process id is never hit.

use std::time::{Duration, Instant};

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup;
use crate::directory::{self, Directory, ExitRecord, PidRecord};
use crate::life::SHIM_LOST;
use crate::proc;

/// How long the kernel may take to end what was killed.
const BOUND: Duration = Duration::from_secs(5);

/// Kills what is left and removes the cgroups; true if nothing is left.
pub(crate) fn kill(directory: &Directory, record: Option<&PidRecord>, uid: Option<u32>) -> bool {
    let cgroups = record.map(|record| record.cgroups.as_slice()).unwrap_or_default();
    let begun = Instant::now();
    cgroup::kill(cgroups);
    let mut clean = 0;
    // Twice clean, because a process may have forked while the first look went on.
    while clean < 2 && begun.elapsed() < BOUND {
        if kill_once(directory, uid) == 0 {
            clean += 1;
        } else {
            clean = 0;
            cgroup::pause(Duration::from_millis(2));
        }
    }
    cgroup::remove(cgroups, BOUND.saturating_sub(begun.elapsed())) && clean == 2
}

/// The instance's shim was killed: kills its tree and writes down how it ended, if that can be written (otherwise the next look
/// comes to the same). Not while it is being deleted, which does the same and takes the files away meanwhile.
pub(crate) fn settle(directory: &Directory, record: &PidRecord, uid: Option<u32>) {
    if !directory.deleting().exists() {
        kill(directory, Some(record), uid);
        let _ = directory::write(&directory.exit(), &ExitRecord::of_reason(SHIM_LOST));
    }
}

fn kill_once(directory: &Directory, uid: Option<u32>) -> usize {
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let mut found = 0;
    for raw in proc::all() {
        if raw == me || !belongs(raw, directory, uid) {
            continue;
        }
        let Some(pid) = proc::pid(raw) else { continue };
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if belongs(raw, directory, uid) {
            found += 1;
            // It may end by itself meanwhile; the next look tells.
            let _ = pidfd_send_signal(descriptor, Signal::KILL);
        }
    }
    found
}

fn belongs(pid: i32, directory: &Directory, uid: Option<u32>) -> bool {
    if proc::stat(pid).is_none_or(|stat| stat.ended()) {
        return false;
    }
    (uid.is_some() && proc::uid(pid) == uid)
        || proc::has_env(pid, &directory.cookie())
        || proc::program(pid).is_some_and(|program| program.starts_with(directory.path()))
}
