//! bubblewrap: no daemon, but it must be allowed to make namespaces here.

use std::process::Command;

use super::{NotStarted, Started};
use crate::process::{find_program, run_quiet};

pub(crate) fn is_found() -> bool {
    find_program("bwrap").is_some()
}

pub(crate) fn start() -> Result<Started, NotStarted> {
    let bwrap = find_program("bwrap").unwrap_or_else(|| "bwrap".into());
    run_quiet(Command::new(&bwrap).args(["--unshare-all", "--ro-bind", "/", "/", "true"]))
        .map_err(|error| NotStarted::Skipped(format!("{error:#}").replace('\n', " ")))?;
    let version = run_quiet(Command::new(&bwrap).arg("--version"))?;
    let version = version.trim().trim_start_matches("bubblewrap ").to_owned();
    let env = vec![("FLEETFOOT_TEST_BWRAP", bwrap.display().to_string())];
    Ok(Started { version, env, daemon: None, engine: None })
}
