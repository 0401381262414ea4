//! systemd: the packaged units run under it, as the first process of namespaces of its own on an overlay of this root.

use std::path::Path;
use std::process::Command;

use super::{NotStarted, Started, is_root};
use crate::process::run_quiet;

const SYSTEMD: &str = "/lib/systemd/systemd";

/// Mounts an overlay of this machine's root, which goes with the namespaces.
const OVERLAY: &str = "mount -t tmpfs tmpfs /mnt; mkdir /mnt/upper /mnt/work /mnt/root; \
     mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root";

pub(crate) fn is_found() -> bool {
    Path::new(SYSTEMD).exists()
}

pub(crate) fn start() -> Result<Started, NotStarted> {
    can_overlay()?;
    let said = run_quiet(Command::new(SYSTEMD).arg("--version"))?;
    let version = said.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let env = vec![("FLEETFOOT_TEST_SYSTEMD", SYSTEMD.to_owned())];
    Ok(Started { version, env, daemon: None, engine: None })
}

/// Whether packages can be installed on an overlay of this root, as `packaging/try-*.sh` do.
pub(super) fn can_overlay() -> Result<(), NotStarted> {
    if !is_root() {
        return Err(NotStarted::Skipped("needs root".into()));
    }
    let namespaces = ["--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--fork"];
    run_quiet(Command::new("unshare").args(namespaces).args(["sh", "-euc", OVERLAY]))
        .map(drop)
        .map_err(|error| NotStarted::Skipped(format!("{error:#}").replace('\n', " ")))
}
