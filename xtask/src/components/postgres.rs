//! A private PostgreSQL. It refuses to run as root, so there it runs as `nobody`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::{NotStarted, Started, free_port, install, usage};
use crate::process::{Daemon, find_program, run_quiet};

pub(crate) fn is_found() -> bool {
    ["initdb", "postgres"].iter().all(|name| program(name).is_some())
}

/// Debian keeps the programs of each version in a directory that is not in `PATH`.
fn program(name: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|entry| entry.path().join("bin").join(name)).filter(|p| p.is_file()).collect();
    found.sort();
    found.pop().or_else(|| find_program(name))
}

pub(crate) fn start(dir: &Path) -> Result<Started, NotStarted> {
    install::give_to_nobody(dir)?;
    let data = dir.join("data");
    let as_user = |name: &str| install::as_nobody(&program(name).unwrap_or_else(|| name.into()));
    run_quiet(as_user("initdb").current_dir(dir).arg("-D").arg(&data).args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "--no-sync",
        "-E",
        "UTF8",
        "--locale=C",
    ]))?;
    let port = free_port()?;
    let mut command = as_user("postgres");
    command.current_dir(dir).arg("-D").arg(&data).arg("-k").arg(dir).args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-c",
        "fsync=off",
        "-c",
        "max_connections=200",
    ]);
    // SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
    let mut daemon = Daemon::start("postgres", &mut command, &dir.join("log"), Signal::INT)?;
    daemon.wait_ready(Duration::from_secs(30), || {
        run_quiet(as_user("pg_isready").args(["-h", "127.0.0.1", "-p", &port.to_string()])).is_ok()
    })?;
    let version = run_quiet(as_user("postgres").arg("--version")).unwrap_or_default();
    let version = version.trim().trim_start_matches("postgres (PostgreSQL) ").to_owned();
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let env = vec![("FLEETFOOT_TEST_POSTGRES_URL", url)];
    Ok(Started { version, env, daemon: Some(daemon), engine: None })
}

/// One value from the server that lives in `dir`.
pub(super) fn query(dir: &Path, sql: &str) -> anyhow::Result<String> {
    let psql = program("psql").unwrap_or_else(|| "psql".into());
    let port = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
    let port = port.lines().nth(3).unwrap_or_default().to_owned();
    usage::client(&psql, &["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-Atc", sql])
}
