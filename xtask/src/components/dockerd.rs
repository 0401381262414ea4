//! A private dockerd.
//!
//! It runs in the host's network namespace, so that containers with `network: host` reach what
//! tests serve on 127.0.0.1. `--bridge=none` would delete another engine's `docker0`; where
//! there is one, ours gets a bridge of its own instead.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::{NotStarted, Started, is_root};
use crate::process::{Daemon, find_program};
use crate::unix_http;

/// Starts a dockerd in the directory that is its first argument and becomes that dockerd.
/// Tests that restart or freeze an engine start one of their own with it.
const SCRIPT: &str = r#"#!/bin/sh
# usage: dockerd.sh DIR [ARGS...]: becomes a dockerd that serves on DIR/d.sock and keeps all it has in DIR.
set -e
PATH="$PATH:/usr/sbin:/usr/bin:/sbin:/bin"
dir=$1
shift
mkdir -p "$dir"
# After a SIGKILL the old containerd may stay a zombie for seconds; dockerd would wait for it in vain.
for file in "$dir/pid" "$dir/exec/containerd/containerd.pid"; do
    [ -s "$file" ] || continue
    stat=/proc/$(cat "$file")/stat
    if [ ! -e "$stat" ] || [ "$(sed 's/.*) //' "$stat" | cut -c1)" = Z ]; then rm -f "$file"; fi
done
if [ -e /sys/class/net/docker0 ]; then
    bridge="ff$$"
    ip link add "$bridge" type bridge
    echo "$bridge" >>"$(dirname "$0")/bridges"
    ip addr add "10.$(($$ / 250 % 250 + 1)).$(($$ % 250 + 1)).1/24" dev "$bridge"
    ip link set "$bridge" up
else
    bridge=none
fi
exec dockerd --data-root "$dir/data" --exec-root "$dir/exec" -p "$dir/pid" -H "unix://$dir/d.sock" \
    --bridge="$bridge" --iptables=false --ip-forward=false --ip-masq=false "$@"
"#;

pub(crate) fn is_found() -> bool {
    ["dockerd", "containerd", "runc"].iter().all(|name| find_program(name).is_some())
}

pub(crate) fn start(dir: &Path) -> Result<Started, NotStarted> {
    if !is_root() {
        return Err(NotStarted::Skipped("needs root".into()));
    }
    let script = dir.join("dockerd.sh");
    std::fs::write(&script, SCRIPT)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let mut daemon =
        Daemon::start("dockerd", Command::new(&script).arg(dir), &dir.join("log"), Signal::TERM)?;
    let socket = dir.join("d.sock");
    daemon.wait_ready(Duration::from_secs(60), || answers(&socket))?;
    let env = vec![
        ("FLEETFOOT_TEST_DOCKER_SOCKET", socket.display().to_string()),
        ("FLEETFOOT_TEST_DOCKERD_PID", daemon.pid().to_string()),
        ("FLEETFOOT_TEST_DOCKERD", script.display().to_string()),
    ];
    Ok(Started { version: version(&socket), env, daemon: Some(daemon), engine: Some(socket) })
}

/// Whether an engine answers.
pub(crate) fn answers(socket: &Path) -> bool {
    unix_http::request(socket, "GET", "/_ping", Duration::from_secs(2))
        .is_ok_and(|(status, _)| status == 200)
}

/// An engine's version and API version.
pub(crate) fn version(socket: &Path) -> String {
    let answer = unix_http::request(socket, "GET", "/version", Duration::from_secs(5));
    let body = answer.map(|(_, body)| body).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let word = |key: &str| value[key].as_str().unwrap_or("?").to_owned();
    format!("{} (API {})", word("Version"), word("ApiVersion"))
}
