//! What a daemon under test makes its instances with, and what surrounds it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::bed::Ground;
use super::mac;
use super::scenario::Scenario;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Backend {
    Process,
    Docker,
    /// Machines of Tart, by its stand-in.
    Tart,
    /// Machines of libvirt, by a stand-in for its daemon.
    Libvirt,
}

impl Backend {
    pub(super) const ALL: [Self; 4] = [Self::Process, Self::Docker, Self::Tart, Self::Libvirt];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Tart => "tart",
            Self::Libvirt => "libvirt",
        }
    }

    /// What is played on it: what is not the backend's business is played on the others.
    pub(super) fn scenarios(self) -> &'static [Scenario] {
        match self {
            Self::Process | Self::Docker => &Scenario::ALL,
            Self::Tart | Self::Libvirt => &[Scenario::Load, Scenario::LostStore],
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
