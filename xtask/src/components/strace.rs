//! strace: no daemon, but it must be allowed to trace a program here.

use std::process::Command;

use super::{NotStarted, Started};
use crate::process::{find_program, run_quiet};

pub(crate) fn is_found() -> bool {
    find_program("strace").is_some()
}

pub(crate) fn start() -> Result<Started, NotStarted> {
    let strace = find_program("strace").unwrap_or_else(|| "strace".into());
    run_quiet(Command::new(&strace).args(["-f", "-qq", "-o", "/dev/null", "true"]))
        .map_err(|error| NotStarted::Skipped(format!("{error:#}").replace('\n', " ")))?;
    let version = run_quiet(Command::new(&strace).arg("--version"))?;
    let version = version.lines().next().unwrap_or_default();
    let version = version.trim_start_matches("strace -- version ").to_owned();
    let env = vec![("FLEETFOOT_TEST_STRACE", strace.display().to_string())];
    Ok(Started { version, env, daemon: None, engine: None })
}
