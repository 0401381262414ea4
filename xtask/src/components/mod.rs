//! The real components that tests drive: found, installed on request, started as private
//! instances in one short temporary directory, and stopped again.
//!
//! A new component is one more variant of [`Kind`] and one more file beside this one. It hands
//! its address to the tests through environment variables; CONTRIBUTING.md has their table.

mod bubblewrap;
mod dockerd;
mod install;
mod libvirtd;
mod mariadb;
mod podman;
mod postgres;
mod rpm;
mod set;
mod shellcheck;
mod shoes;
mod strace;
mod systemd;
mod table;
mod usage;

use std::path::PathBuf;

pub(crate) use install::install;
pub(crate) use set::{Set, stop_kept};
pub(crate) use table::table;
pub(crate) use usage::query;

/// A kind of component that tests know how to drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The Docker engine.
    Docker,
    /// Podman's Docker-compatible API service.
    Podman,
    /// libvirt's daemon, with a guest.
    Libvirt,
    /// The sandbox of the process backend.
    Bubblewrap,
    /// The tracer of system calls, for power cuts.
    Strace,
    /// PostgreSQL, for the store.
    Postgres,
    /// MariaDB, for the store.
    MariaDb,
    /// The reader of shell scripts.
    Shellcheck,
    /// What makes, signs and installs rpm packages.
    Rpm,
    /// The service manager, in namespaces of its own.
    Systemd,
    /// A shoes plugin, built from our sources with the real Go libraries.
    Shoes,
}

impl Kind {
    /// All kinds, in the order in which they are started.
    pub(crate) const ALL: [Self; 11] = [
        Self::Docker,
        Self::Podman,
        Self::Libvirt,
        Self::Bubblewrap,
        Self::Strace,
        Self::Postgres,
        Self::MariaDb,
        Self::Shellcheck,
        Self::Rpm,
        Self::Systemd,
        Self::Shoes,
    ];

    /// The word that stands for it in `FLEETFOOT_TEST_REQUIRE`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Libvirt => "libvirt",
            Self::Bubblewrap => "bwrap",
            Self::Strace => "strace",
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::Shellcheck => "shellcheck",
            Self::Rpm => "rpm",
            Self::Systemd => "systemd",
            Self::Shoes => "shoes-plugin",
        }
    }

    /// Its name in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Docker => "dockerd",
            Self::Podman => "Podman",
            Self::Libvirt => "libvirtd",
            Self::Bubblewrap => "bubblewrap",
            Self::Strace => "strace",
            Self::Postgres => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::Shellcheck => "shellcheck",
            Self::Rpm => "rpm",
            Self::Systemd => "systemd",
            Self::Shoes => "shoes plugin (Go)",
        }
    }

    /// The Debian packages that bring it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Docker => &["docker.io", "iproute2", "iptables"],
            // As packaged crun refuses hybrid cgroups; runc comes with Docker's packages.
            Self::Podman => &["podman", "crun", "catatonit", "runc"],
            Self::Libvirt => &[
                "libvirt-daemon-system",
                "libvirt-daemon-driver-qemu",
                "libvirt-clients",
                "qemu-system-x86",
                "qemu-utils",
                "e2fsprogs",
                "cpio",
                "tini",
                // For libvirt on another host: a test's own sshd, and what speaks to a socket behind it.
                "openssh-server",
                "netcat-openbsd",
                // For the original's default machine: its firmware, and what its loaders' disk is made with.
                "ovmf",
                "dosfstools",
                "mtools",
                "fdisk",
            ],
            Self::Bubblewrap => &["bubblewrap"],
            Self::Strace => &["strace"],
            Self::Postgres => &["postgresql"],
            Self::MariaDb => &["mariadb-server"],
            Self::Shellcheck => &["shellcheck"],
            Self::Rpm => &["rpm", "gnupg"],
            Self::Systemd => &["systemd", "iproute2"],
            Self::Shoes => &["golang-go"],
        }
    }

    /// Whether its programs are on this machine.
    fn is_found(self) -> bool {
        match self {
            Self::Docker => dockerd::is_found(),
            Self::Podman => podman::is_found(),
            Self::Libvirt => libvirtd::is_found(),
            Self::Bubblewrap => bubblewrap::is_found(),
            Self::Strace => strace::is_found(),
            Self::Postgres => postgres::is_found(),
            Self::MariaDb => mariadb::is_found(),
            Self::Shellcheck => shellcheck::is_found(),
            Self::Rpm => rpm::is_found(),
            Self::Systemd => systemd::is_found(),
            Self::Shoes => shoes::is_found(),
        }
    }
}

/// What became of one component.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It answers; tests drive it.
    Up {
        /// Its version, in its own words.
        version: String,
        /// What tests made it do, known when it is stopped.
        usage: Option<Usage>,
    },
    /// Its programs are not here.
    NotFound,
    /// Its programs are here, but it cannot be driven as things are.
    Skipped {
        /// Why not.
        reason: String,
    },
    /// It was to come up and did not.
    Failed {
        /// What went wrong.
        reason: String,
    },
}

/// What tests made a component do, in its own count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    count: u64,
    noun: &'static str,
}

/// A component that came up: what tests are told, and what is to be stopped.
struct Started {
    version: String,
    env: Vec<(&'static str, String)>,
    daemon: Option<crate::process::Daemon>,
    /// An engine's socket, by which leftover containers are removed before the engine ends.
    engine: Option<PathBuf>,
}

/// Why a component did not come up.
enum NotStarted {
    Skipped(String),
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for NotStarted {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for NotStarted {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

/// Whether we are root.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A loopback port that is free right now.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
