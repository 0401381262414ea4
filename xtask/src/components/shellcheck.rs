//! shellcheck: what it says of the scripts that machines run.

use std::process::Command;

use super::{NotStarted, Started};
use crate::process::{find_program, run_quiet};

pub(crate) fn is_found() -> bool {
    find_program("shellcheck").is_some()
}

pub(crate) fn start() -> Result<Started, NotStarted> {
    let shellcheck = find_program("shellcheck").unwrap_or_else(|| "shellcheck".into());
    let said = run_quiet(Command::new(&shellcheck).arg("--version"))?;
    let version = said.lines().find_map(|line| line.strip_prefix("version: "));
    let version = version.unwrap_or_default().to_owned();
    let env = vec![("FLEETFOOT_TEST_SHELLCHECK", shellcheck.display().to_string())];
    Ok(Started { version, env, daemon: None, engine: None })
}
