//! What a daemon under test makes its instances with, and what surrounds it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::bed::Ground;
use super::mac;
use super::scenario::Scenario;

/// Between two tables of a schema: PostgreSQL makes them all in one transaction.
const TABLES: &str = "store.server.schema.table.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Backend {
    Process,
    Docker,
    /// Machines of Tart, by its stand-in.
    Tart,
    /// Machines of libvirt, by a stand-in for its daemon.
    Libvirt,
    /// Two controllers that share PostgreSQL and an engine that both see.
    Postgres,
    /// The same with MariaDB.
    Mariadb,
}

impl Backend {
    pub(super) const ALL: [Self; 6] =
        [Self::Process, Self::Docker, Self::Tart, Self::Libvirt, Self::Postgres, Self::Mariadb];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Tart => "tart",
            Self::Libvirt => "libvirt",
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
        }
    }

    /// What is played on it: what is not the backend's business is played on the others.
    pub(super) fn scenarios(self) -> &'static [Scenario] {
        match self {
            Self::Process => &Scenario::ALONE,
            Self::Docker => Scenario::ALL,
            Self::Tart | Self::Libvirt => &[Scenario::Load, Scenario::LostStore],
            Self::Postgres | Self::Mariadb => &[Scenario::Shared],
        }
    }

    /// Nobody else comes to the point.
    pub(super) fn is_own(self, point: &str) -> bool {
        match self {
            Self::Process | Self::Docker | Self::Tart | Self::Libvirt => {
                point.strip_prefix(self.word()).is_some_and(|rest| rest.starts_with('.'))
            }
            Self::Postgres => Self::Mariadb.is_own(point) && !point.starts_with(TABLES),
            Self::Mariadb => {
                point.starts_with("store.server.") || point.starts_with("store.lease.")
            }
        }
    }

    /// The point is played on it: its own, and what others have in common with it.
    pub(super) fn plays(self, point: &str) -> bool {
        let is_others = Self::ALL.into_iter().any(|it| it != self && it.is_own(point));
        self.is_own(point)
            || !is_others
                && match self {
                    Self::Process | Self::Docker => true,
                    Self::Tart | Self::Libvirt => point.starts_with("controller.backend."),
                    Self::Postgres | Self::Mariadb => point.starts_with("store."),
                }
    }
}

/// The binary with nothing of our environment but what every program needs.
pub(super) fn plain(ground: &Ground, home: &Path) -> Command {
    let mut command = Command::new(&ground.binary);
    command.env_clear().current_dir(home).env("HOME", home).env("TMPDIR", home);
    let path = std::env::var("PATH").unwrap_or_default();
    match &ground.tart {
        Some(_) => mac::surround(&mut command, home, &path),
        None => drop(command.env("PATH", path)),
    }
    command.stderr(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_played_where_somebody_can_come_to_it() {
        let played = |point: &str| -> Vec<&str> {
            let played = Backend::ALL.into_iter().filter(|backend| backend.plays(point));
            played.map(Backend::word).collect()
        };
        assert_eq!(played("docker.create.after"), ["docker"]);
        assert_eq!(played("libvirt.exec.before"), ["libvirt"]);
        assert_eq!(played("store.lease.take.after"), ["postgres", "mariadb"]);
        assert_eq!(played("store.server.commit.after"), ["postgres", "mariadb"]);
        assert_eq!(played("store.server.schema.table.before"), ["mariadb"]);
        assert_eq!(played("github.poll.after"), ["process", "docker"]);
        assert_eq!(
            played("controller.backend.list.after"),
            ["process", "docker", "tart", "libvirt"]
        );
        assert_eq!(played("store.reply.before"), ["process", "docker", "postgres", "mariadb"]);
    }
}
