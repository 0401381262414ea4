//! A shoes plugin made with the real go-plugin and grpc-go. No daemon: tests start it as the product does.

use std::process::Command;

use super::{NotStarted, Started};
use crate::process::{find_program, run_quiet};
use crate::tidy;

const SOURCES: &str = "crates/fleetfoot-provisioner-shoes/tests/plugin";
/// Debian's package of that name is no program: it is where a Go that was installed by hand is.
const BY_HAND: &str = "/usr/local/go/bin/go";

pub(crate) fn is_found() -> bool {
    go().is_some()
}

fn go() -> Option<std::path::PathBuf> {
    let by_hand = std::path::PathBuf::from(BY_HAND);
    find_program("go").or_else(|| by_hand.is_file().then_some(by_hand))
}

pub(crate) fn start() -> Result<Started, NotStarted> {
    let go = go().unwrap_or_else(|| "go".into());
    let root = tidy::root();
    let plugin = root.join("target/test-plugin/shoes-test");
    let mut build = Command::new(&go);
    build.args(["build", "-buildvcs=false", "-o"]).arg(&plugin).arg(".");
    run_quiet(build.current_dir(root.join(SOURCES)))
        .map_err(|error| NotStarted::Skipped(format!("{error:#}").replace('\n', " ")))?;
    let version = run_quiet(Command::new(&go).arg("version"))?;
    let version = version.split_whitespace().nth(2).unwrap_or_default().to_owned();
    let env = vec![("FLEETFOOT_TEST_SHOES_PLUGIN", plugin.display().to_string())];
    Ok(Started { version, env, daemon: None, engine: None })
}
