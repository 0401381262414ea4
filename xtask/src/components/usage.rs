//! How much tests made a component do: a component that came up and was not driven proves nothing.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Kind, install, libvirtd, mariadb, postgres};
use crate::process::run_quiet;
use crate::unix_http;

/// What is counted for a kind.
pub(super) fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Docker | Kind::Podman => "container events",
        Kind::Libvirt => "machines",
        Kind::Bubblewrap
        | Kind::Strace
        | Kind::Shellcheck
        | Kind::Rpm
        | Kind::Systemd
        | Kind::Shoes => "",
        Kind::Postgres => "sessions",
        Kind::MariaDb => "connections",
    }
}

/// What counting adds to the next count: a database counts the client that asks it.
pub(super) fn own(kind: Kind) -> u64 {
    match kind {
        Kind::Docker
        | Kind::Podman
        | Kind::Libvirt
        | Kind::Bubblewrap
        | Kind::Strace
        | Kind::Shellcheck
        | Kind::Rpm
        | Kind::Systemd
        | Kind::Shoes => 0,
        Kind::Postgres | Kind::MariaDb => 1,
    }
}

/// What a component has done up to now, in its own count; `None` where it does not count.
pub(super) fn count(kind: Kind, dir: &Path) -> Option<u64> {
    match kind {
        Kind::Docker => docker(dir),
        Kind::Podman => podman(dir),
        Kind::Libvirt => Some(libvirtd::machines(dir)),
        Kind::Bubblewrap
        | Kind::Strace
        | Kind::Shellcheck
        | Kind::Rpm
        | Kind::Systemd
        | Kind::Shoes => None,
        Kind::Postgres => number(postgres::query(
            dir,
            "SELECT coalesce(sum(sessions), 0)::bigint FROM pg_stat_database",
        )),
        Kind::MariaDb => number(mariadb::query(
            dir,
            "SELECT variable_value FROM information_schema.global_status \
             WHERE variable_name = 'CONNECTIONS'",
        )),
    }
}

/// The engine remembers its last 256 events.
fn docker(dir: &Path) -> Option<u64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let path =
        format!("/events?since=1&until={now}&filters=%7B%22type%22%3A%5B%22container%22%5D%7D");
    let (_, body) =
        unix_http::request(&dir.join("d.sock"), "GET", &path, Duration::from_secs(5)).ok()?;
    Some(body.lines().filter(|line| line.contains("\"Type\"")).count() as u64)
}

/// Podman keeps a file of its events.
fn podman(dir: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(dir.join("tmp/events/events.log")).unwrap_or_default();
    Some(text.lines().filter(|line| line.contains("\"Type\":\"container\"")).count() as u64)
}

fn number(answer: anyhow::Result<String>) -> Option<u64> {
    answer.ok()?.trim().parse().ok()
}

/// One value from a database server that lives in `dir`.
pub(crate) fn query(kind: Kind, dir: &Path, sql: &str) -> anyhow::Result<String> {
    match kind {
        Kind::Postgres => postgres::query(dir, sql),
        Kind::MariaDb => mariadb::query(dir, sql),
        Kind::Docker
        | Kind::Podman
        | Kind::Libvirt
        | Kind::Bubblewrap
        | Kind::Strace
        | Kind::Shellcheck
        | Kind::Rpm
        | Kind::Systemd
        | Kind::Shoes => anyhow::bail!("{} is no database", kind.word()),
    }
}

/// Runs a database's own client, as the user that its server runs as.
pub(super) fn client(program: &Path, args: &[&str]) -> anyhow::Result<String> {
    let mut command: Command = install::as_nobody(program);
    run_quiet(command.args(args))
}
