//! rpm and rpmbuild: what makes the rpm packages, and installs them into roots of their own; and gpg, which signs packages.

use std::process::Command;

use super::{NotStarted, Started, systemd};
use crate::process::{find_program, run_quiet};

pub(crate) fn is_found() -> bool {
    ["rpm", "rpmbuild", "gpg"].into_iter().all(|program| find_program(program).is_some())
}

pub(crate) fn start() -> Result<Started, NotStarted> {
    systemd::can_overlay()?;
    let rpm = find_program("rpm").unwrap_or_else(|| "rpm".into());
    let said = run_quiet(Command::new(&rpm).arg("--version"))?;
    let version = said.trim().trim_start_matches("RPM version ").to_owned();
    let env = vec![("FLEETFOOT_TEST_RPM", rpm.display().to_string())];
    Ok(Started { version, env, daemon: None, engine: None })
}
