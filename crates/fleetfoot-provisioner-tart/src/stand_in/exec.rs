//! `exec` runs a command in the machine, which here is a process of this host that dies with the machine or with `exec`.

use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal};

use super::machine::{Home, io};
use super::{Outcome, Refusal, pause, usage};

pub(super) fn exec(home: &Home, words: &[&str]) -> Outcome {
    let interactive = words.first() == Some(&"-i");
    let [name, program, arguments @ ..] = &words[usize::from(interactive)..] else {
        return Err(usage());
    };
    let directory = home.existing(name)?;
    if !home.runs(name) {
        return Err(Refusal(2, format!("VM \"{name}\" is not running")));
    }
    if !directory.join("agent").exists() {
        let words = "Failed to connect to the VM using its control socket: is the Tart Guest Agent running?";
        return Err(Refusal(1, words.to_owned()));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for number in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(number, Arc::clone(&stop)).map_err(io)?;
    }
    let mut command = command(program);
    command
        .args(arguments)
        .stdin(if interactive { Stdio::inherit() } else { Stdio::null() })
        .process_group(0);
    let mut child = command.spawn().map_err(|error| Refusal(127, format!("{program}: {error}")))?;
    let group = child.id();
    let mark = directory.join("guest").join(group.to_string());
    let _ = fs::write(&mark, "");
    let code = loop {
        if let Some(status) = child.try_wait().map_err(io)? {
            break Ok(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1));
        }
        let stopped = stop.load(Ordering::Relaxed);
        if stopped || !home.runs(name) {
            kill(group);
            let _ = child.wait();
            break Err(Refusal(1, "the connection to the guest agent was lost".to_owned()));
        }
        pause();
    };
    let _ = fs::remove_file(mark);
    code.map(|code| u8::try_from(code).unwrap_or(1))
}

#[expect(clippy::disallowed_methods, reason = "it plays a guest that starts programs")]
fn command(program: &str) -> std::process::Command {
    std::process::Command::new(program)
}

fn kill(group: u32) {
    if let Some(group) = i32::try_from(group).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}
