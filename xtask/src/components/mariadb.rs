//! A private MariaDB, as `nobody` when we are root.

use std::os::unix::fs::PermissionsExt as _;
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

/// Starts a server in the directory that is its first argument and becomes that server. Tests that kill one start one of
/// their own with it.
const SCRIPT: &str = r#"#!/bin/sh
# usage: mariadb.sh DIR PORT [OPTION...]: becomes a MariaDB at 127.0.0.1:PORT that keeps all it has in DIR. Its user is
# `fleetfoot`.
set -e
PATH="$PATH:/usr/sbin:/usr/bin:/sbin:/bin"
dir=$1
port=$2
shift 2
mkdir -p "$dir"
nobody=
if [ "$(id -u)" = 0 ]; then
    chown 65534:65534 "$dir"
    nobody="setpriv --reuid 65534 --regid 65534 --clear-groups --"
fi
cd "$dir"
export TMPDIR="$dir"
if [ ! -d data/mysql ]; then
    rm -rf data
    $nobody mariadb-install-db --no-defaults --datadir="$dir/data" --auth-root-authentication-method=normal \
        --skip-test-db --skip-name-resolve >install.log 2>&1
fi
cat >setup.sql <<'SQL'
CREATE DATABASE IF NOT EXISTS fleetfoot;
CREATE USER IF NOT EXISTS 'fleetfoot'@'127.0.0.1' IDENTIFIED BY 'fleetfoot';
GRANT ALL ON *.* TO 'fleetfoot'@'127.0.0.1' WITH GRANT OPTION;
SQL
chmod a+r setup.sql
exec $nobody mariadbd --no-defaults --datadir="$dir/data" --socket="$dir/s" --pid-file="$dir/pid" --port="$port" \
    --bind-address=127.0.0.1 --innodb-buffer-pool-size=32M --innodb-log-file-size=8M \
    --innodb-flush-log-at-trx-commit=2 --skip-name-resolve --init-file="$dir/setup.sql" "$@"
"#;

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
    let script = dir.join("mariadb.sh");
    std::fs::write(&script, SCRIPT)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let env = vec![
        ("FLEETFOOT_TEST_MARIADB_URL", url),
        ("FLEETFOOT_TEST_MARIADBD", script.display().to_string()),
    ];
    Ok(Started { version: version.trim().into(), env, daemon: Some(daemon), engine: None })
}

/// One value from the server that lives in `dir`.
pub(super) fn query(dir: &Path, sql: &str) -> anyhow::Result<String> {
    let program = find_program("mariadb").unwrap_or_else(|| "mariadb".into());
    let socket = format!("--socket={}", dir.join("s").display());
    usage::client(&program, &["--no-defaults", &socket, "-u", "root", "-N", "-e", sql])
}
