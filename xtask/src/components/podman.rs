//! Podman's Docker-compatible service, with a store of its own.
//!
//! As packaged by Debian 12 no container starts on hybrid cgroups: crun refuses them, and the
//! default limits are above what a machine without CAP_SYS_RESOURCE may set. Hence the file.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::{NotStarted, Started, dockerd, is_root};
use crate::process::{Daemon, find_program};

const CONTAINERS_CONF: &str = r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"#;

pub(crate) fn is_found() -> bool {
    ["podman", "runc", "conmon"].iter().all(|name| find_program(name).is_some())
}

pub(crate) fn start(dir: &Path) -> Result<Started, NotStarted> {
    if !is_root() {
        return Err(NotStarted::Skipped("needs root".into()));
    }
    let podman = find_program("podman").unwrap_or_else(|| "podman".into());
    let conf = dir.join("containers.conf");
    std::fs::write(&conf, CONTAINERS_CONF)?;
    let socket = dir.join("p.sock");
    let mut command = Command::new(podman);
    command
        .env("CONTAINERS_CONF", &conf)
        .arg("--root")
        .arg(dir.join("root"))
        .arg("--runroot")
        .arg(dir.join("run"))
        .arg("--tmpdir")
        .arg(dir.join("tmp"))
        .args(["system", "service", "--time=0"])
        .arg(format!("unix://{}", socket.display()));
    let mut daemon = Daemon::start("podman", &mut command, &dir.join("log"), Signal::TERM)?;
    daemon.wait_ready(Duration::from_secs(60), || dockerd::answers(&socket))?;
    let env = vec![
        ("FLEETFOOT_TEST_PODMAN_SOCKET", socket.display().to_string()),
        ("FLEETFOOT_TEST_PODMAN_PID", daemon.pid().to_string()),
    ];
    let version = dockerd::version(&socket);
    Ok(Started { version, env, daemon: Some(daemon), engine: Some(socket) })
}
