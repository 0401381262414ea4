//! The last step before the runner: this process takes on the runner's limits and user, then becomes it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::{Gid, Signal, Uid};

use crate::{cgroup, program};

/// The kernel should end a job before the daemon and the shims.
const OOM_SCORE: &str = "500";
const BUSY_BOUND: Duration = Duration::from_secs(2);

/// `args`: user id or `-`, number of cgroups, the cgroups, then the command.
pub(super) fn main(args: &[OsString]) -> ExitCode {
    match become_runner(args) {
        Ok(never) => match never {},
        Err(message) => {
            // Standard error is the instance's output.
            let _ = writeln!(std::io::stderr(), "fleetfoot: {message}");
            ExitCode::from(127)
        }
    }
}

fn become_runner(args: &[OsString]) -> Result<std::convert::Infallible, String> {
    let usage = || "wrong arguments".to_owned();
    let [uid, count, rest @ ..] = args else { return Err(usage()) };
    let count: usize = count.to_str().and_then(|count| count.parse().ok()).ok_or_else(usage)?;
    if rest.len() <= count {
        return Err(usage());
    }
    let (groups, command) = rest.split_at(count);
    let [runner, arguments @ ..] = command else { return Err(usage()) };
    for group in groups {
        cgroup::join(Path::new(group))
            .map_err(|error| format!("cannot join cgroup {}: {error}", group.display()))?;
    }
    // Only a preference.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    if uid != "-" {
        let uid = uid.to_str().and_then(|uid| uid.parse().ok()).ok_or_else(usage)?;
        become_user(uid).map_err(|error| format!("cannot become user {uid}: {error}"))?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // After the change of user, which would clear it: the runner does not outlive its shim.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| error.to_string())?;
    Err(format!("cannot run {}: {}", runner.display(), exec(runner, arguments)))
}

/// Returns only with an error. The file was just copied by the daemon, and a process that the daemon starts in that moment holds it
/// open for writing until it runs a program itself: the kernel then calls it busy for a little while.
fn exec(runner: &OsString, arguments: &[OsString]) -> io::Error {
    let begun = Instant::now();
    loop {
        let error = program::command(runner).args(arguments).exec();
        if error.kind() != io::ErrorKind::ExecutableFileBusy || begun.elapsed() > BUSY_BOUND {
            return error;
        }
        cgroup::pause(Duration::from_millis(5));
    }
}

/// Gives up all groups and capabilities for good. There is one thread, so the thread's ids are the process's.
fn become_user(uid: u32) -> rustix::io::Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)
}
