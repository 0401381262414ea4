//! A private MariaDB, as `nobody` when we are root.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::{NotStarted, Started, free_port, install, usage};
use crate::process::{Daemon, find_program, run_quiet};

/// A TCP client is `user@127.0.0.1` here, since names are not resolved.
const SETUP: &str = "CREATE DATABASE fleetfoot; \
    CREATE USER 'fleetfoot'@'127.0.0.1' IDENTIFIED BY 'fleetfoot'; \
    GRANT ALL ON *.* TO 'fleetfoot'@'127.0.0.1' WITH GRANT OPTION;";

pub(crate) fn is_found() -> bool {
    ["mariadbd", "mariadb-install-db", "mariadb-admin", "mariadb"]
        .iter()
        .all(|name| find_program(name).is_some())
}

fn as_user(name: &str) -> Command {
    install::as_nobody(&find_program(name).unwrap_or_else(|| name.into()))
}

pub(crate) fn start(dir: &Path) -> Result<Started, NotStarted> {
    install::give_to_nobody(dir)?;
    let data = format!("--datadir={}", dir.join("data").display());
    let socket = format!("--socket={}", dir.join("s").display());
    run_quiet(as_user("mariadb-install-db").current_dir(dir).args([
        "--no-defaults",
        &data,
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--skip-name-resolve",
    ]))?;
    let port = free_port()?;
    let mut command = as_user("mariadbd");
    command.current_dir(dir).args([
        "--no-defaults",
        &data,
        &socket,
        &format!("--pid-file={}", dir.join("pid").display()),
        &format!("--port={port}"),
        "--bind-address=127.0.0.1",
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-file-size=8M",
        "--innodb-flush-log-at-trx-commit=2",
        "--skip-name-resolve",
    ]);
    let mut daemon = Daemon::start("mariadbd", &mut command, &dir.join("log"), Signal::TERM)?;
    daemon.wait_ready(Duration::from_secs(60), || {
        run_quiet(as_user("mariadb-admin").args(["--no-defaults", &socket, "-u", "root", "ping"]))
            .is_ok()
    })?;
    let client = ["--no-defaults", &socket, "-u", "root", "-N", "-e"];
    run_quiet(as_user("mariadb").args(client).arg(SETUP))?;
    let version = run_quiet(as_user("mariadb").args(client).arg("SELECT VERSION()"))?;
    let url = format!("mysql://fleetfoot:fleetfoot@127.0.0.1:{port}/fleetfoot");
    let env = vec![("FLEETFOOT_TEST_MARIADB_URL", url)];
    Ok(Started { version: version.trim().into(), env, daemon: Some(daemon), engine: None })
}

/// One value from the server that lives in `dir`.
pub(super) fn query(dir: &Path, sql: &str) -> anyhow::Result<String> {
    let program = find_program("mariadb").unwrap_or_else(|| "mariadb".into());
    let socket = format!("--socket={}", dir.join("s").display());
    usage::client(&program, &["--no-defaults", &socket, "-u", "root", "-N", "-e", sql])
}
