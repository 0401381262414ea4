//! `run` stays as long as the machine; `stop` ends it.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::machine::{Home, io};
use super::{Outcome, Refusal, pause, say, usage};

/// As many macOS guests as Apple's framework runs.
const MACS_MAX: usize = 2;

pub(super) fn run(home: &Home, words: &[&str]) -> Outcome {
    let Some((name, options)) = words.split_last() else { return Err(usage()) };
    for option in options {
        if !(*option == "--no-graphics" || option.starts_with("--dir=")) {
            return Err(usage());
        }
        let shared = option.strip_prefix("--dir=").and_then(|share| share.split(':').nth(1));
        if shared.is_some_and(|path| !Path::new(path).is_dir()) {
            return Err(Refusal(1, format!("Error: {option}: no such directory")));
        }
    }
    let directory = home.existing(name)?;
    let lock = File::open(directory.join("config.json")).map_err(io)?;
    let end = Instant::now() + Duration::from_secs(1);
    while lock.try_lock().is_err() {
        if Instant::now() > end {
            return Err(Refusal(2, format!("VM \"{name}\" is already running!")));
        }
        pause();
    }
    let others: Vec<String> = home
        .names()
        .into_iter()
        .filter(|other| other != name && home.is_mac(other) && home.runs(other))
        .collect();
    if home.is_mac(name) && others.len() >= MACS_MAX {
        let words = format!(
            "The number of VMs exceeds the system limit (other running VMs: {})",
            others.join(", ")
        );
        return Err(Refusal(1, words));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for number in [signal_hook::consts::SIGINT, signal_hook::consts::SIGUSR2] {
        signal_hook::flag::register(number, Arc::clone(&stop)).map_err(io)?;
    }
    fs::write(directory.join("run.pid"), std::process::id().to_string()).map_err(io)?;
    fs::create_dir_all(directory.join("guest")).map_err(io)?;
    let booted = Instant::now() + Duration::from_millis(home.number("boot_ms"));
    noise(home);
    let outcome = stay(home, &directory, &stop, booted);
    kill_guests(&directory);
    for file in ["run.pid", "agent"] {
        let _ = fs::remove_file(directory.join(file));
    }
    drop(lock);
    outcome
}

fn stay(home: &Home, directory: &Path, stop: &AtomicBool, booted: Instant) -> Outcome {
    loop {
        if !directory.join("agent").exists() && Instant::now() >= booted {
            fs::write(directory.join("agent"), "").map_err(io)?;
        }
        if stop.load(Ordering::Relaxed) && !home.control("deaf").exists()
            || directory.join("poweroff").exists()
        {
            return Ok(0);
        }
        if let Ok(words) = fs::read_to_string(directory.join("crash")) {
            return Err(Refusal(1, words));
        }
        // Its home was removed: nobody can stop it any more.
        if !directory.join("config.json").exists() {
            return Ok(0);
        }
        pause();
    }
}

fn noise(home: &Home) {
    say("starting");
    super::print("running");
    let bytes = usize::try_from(home.number("noise")).unwrap_or(0);
    let line: String = ('a'..='z').cycle().take(bytes).collect();
    let _ = std::io::stdout().write_all(line.as_bytes());
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// What was executed in the machine dies with it.
fn kill_guests(directory: &Path) {
    for entry in fs::read_dir(directory.join("guest")).into_iter().flatten().flatten() {
        let group = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(group) = group.filter(|group| *group > 1).and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        let _ = fs::remove_file(entry.path());
    }
}

pub(super) fn stop(home: &Home, name: &str, timeout: Duration) -> Outcome {
    let directory = home.existing(name)?;
    let pid = fs::read_to_string(directory.join("run.pid")).unwrap_or_default();
    let pid = pid.trim().parse().ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
    let (true, Some(pid)) = (home.runs(name), pid) else {
        return Err(Refusal(2, format!("VM \"{name}\" is not running")));
    };
    let end = Instant::now() + timeout;
    let _ = rustix::process::kill_process(pid, Signal::INT);
    while home.runs(name) {
        if Instant::now() > end {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            kill_guests(&directory);
        }
        pause();
    }
    Ok(0)
}
