//! What can go wrong with the store: each error is one line that says what, where and what to do.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use fleetfoot_core::{InstallationId, InstanceName, PoolName, Refused};

use crate::fault::{DriverError, Fault, RowError};

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no database we know.
    #[error(
        "the store's address has the unknown scheme `{scheme}`: use mysql://, mariadb:// or postgres://"
    )]
    UnknownScheme {
        /// The scheme.
        scheme: String,
    },
    /// The URL cannot be read.
    #[error("the store's address `{place}` cannot be read: {detail}")]
    Address {
        /// The redacted address.
        place: String,
        /// One line.
        detail: String,
    },
    /// Nothing is there to be read.
    #[error(
        "there is no store at `{place}`: start `fleetfoot run` once, or name another state directory"
    )]
    Missing {
        /// Where.
        place: String,
    },
    /// A newer fleetfoot wrote it.
    #[error(
        "the store `{place}` was written by fleetfoot {written_by} (schema {found}) and needs one that knows schema {needs}; this is {program} (schema {known}): install {written_by} again, or restore a backup of before"
    )]
    Newer {
        /// Where.
        place: String,
        /// The version that wrote it last.
        written_by: String,
        /// The schema it has.
        found: i64,
        /// The schema a program must know at least to use it.
        needs: i64,
        /// This version.
        program: &'static str,
        /// The schema this version knows.
        known: i64,
    },
    /// An older fleetfoot wrote it, and it was opened to be read only.
    #[error(
        "the store `{place}` has the older schema {found}: start `fleetfoot run` once to bring it to schema {known}"
    )]
    Older {
        /// Where.
        place: String,
        /// The schema it has.
        found: i64,
        /// The schema this version knows.
        known: i64,
    },
    /// The identity beside the store is not the store's.
    #[error(
        "the store `{place}` belongs to installation `{store}`, the file `installation-id` beside it says `{file}`: put the right two together, or delete that file if the store is the right one"
    )]
    OtherInstallation {
        /// Where.
        place: String,
        /// What the store says.
        store: InstallationId,
        /// What the file says.
        file: InstallationId,
    },
    /// The database is damaged.
    #[error(
        "the store `{place}` is damaged ({detail}): restore a backup, or move the file away and start anew; running jobs are adopted"
    )]
    Corrupt {
        /// Where.
        place: String,
        /// What the check found, one line.
        detail: String,
    },
    /// A row cannot be read.
    #[error("the store `{place}` cannot be read: {source}; restore a backup, or correct that row")]
    Row {
        /// Where.
        place: String,
        /// Which.
        source: RowError,
    },
    /// Anything else, with what to do.
    #[error("the store `{place}` cannot be opened: {source}; {}", .fault.advice())]
    Driver {
        /// Where.
        place: String,
        /// What kind of failure.
        fault: Fault,
        /// What the driver said.
        source: DriverError,
    },
}

impl OpenError {
    pub(crate) fn driver(place: &str, source: DriverError) -> Self {
        let place = place.to_owned();
        if let DriverError::Row(source) = source {
            return Self::Row { place, source };
        }
        let fault = source.fault();
        if fault == Fault::Corrupt {
            return Self::Corrupt { place, detail: source.to_string() };
        }
        Self::Driver { place, fault, source }
    }
}

/// An update did not happen: nothing of it is in the store.
///
/// One exception is the nature of networks: a server's answer to a commit may be lost after the commit.
/// The store then reads itself anew before it goes on, so later closures see what is true.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpdateError {
    /// The transaction failed.
    #[error("the store `{place}` could not be written: {source}; {}", .fault.advice())]
    Write {
        /// Where.
        place: Arc<str>,
        /// What kind of failure.
        fault: Fault,
        /// What the driver said.
        source: Arc<DriverError>,
    },
    /// This controller does not own a pool that was to be changed, or its lease lapsed.
    #[error("pool `{pool}` is not this controller's to change")]
    NotOwner {
        /// The pool.
        pool: PoolName,
    },
    /// Another controller took a pool that was to be changed: the database refused the commit.
    #[error("pool `{pool}` was taken by another controller: this one may not change it any more")]
    Fenced {
        /// The pool.
        pool: PoolName,
    },
    /// The closure panicked; its own changes are dropped.
    #[error("an update of the store panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The store was opened to be read.
    #[error("the store was opened to be read only")]
    ReadOnly,
}

impl UpdateError {
    pub(crate) fn write(place: &Arc<str>, source: DriverError) -> Self {
        if let DriverError::Fenced(pool) = source {
            return Self::Fenced { pool };
        }
        Self::Write { place: Arc::clone(place), fault: source.fault(), source: Arc::new(source) }
    }

    /// The same update may work later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Write { .. } => true,
            Self::NotOwner { .. }
            | Self::Fenced { .. }
            | Self::Panicked { .. }
            | Self::Closed
            | Self::ReadOnly => false,
        }
    }

    /// The pool that another controller may own.
    #[must_use]
    pub fn not_ours(&self) -> Option<&PoolName> {
        match self {
            Self::NotOwner { pool } | Self::Fenced { pool } => Some(pool),
            Self::Write { .. } | Self::Panicked { .. } | Self::Closed | Self::ReadOnly => None,
        }
    }
}

/// The past could not be read, or copied.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The driver failed.
    #[error("the store `{place}` could not be read: {source}; {}", .fault.advice())]
    Driver {
        /// Where.
        place: String,
        /// What kind of failure.
        fault: Fault,
        /// What the driver said.
        source: DriverError,
    },
    /// The check found damage.
    #[error("the store `{place}` is damaged ({detail}): restore a backup")]
    Corrupt {
        /// Where.
        place: String,
        /// What the check found.
        detail: String,
    },
    /// A file cannot be copied out of a server.
    #[error("the store `{place}` is on a server: back it up with the server's own tools")]
    OnServer {
        /// Where.
        place: String,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

/// No state directory could be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// None of the usual places can be written.
    #[error("no state directory can be used (tried {tried}): name one with the key `state_dir`")]
    None {
        /// What was tried, with reasons.
        tried: String,
    },
    /// The named one cannot be made or written.
    #[error(
        "the state directory `{path}` cannot be used: {source}; name another one with the key `state_dir`, or correct its owner and mode"
    )]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A shared place holds something that is not ours.
    #[error(
        "the state directory `{path}` is not safe: {detail}; remove it, or name another one with the key `state_dir`"
    )]
    Unsafe {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A file in it cannot be read or written.
    #[error("the file `{path}` cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file in it has a content that cannot be.
    #[error(
        "the file `{path}` does not hold a usable identity: restore it, or delete it to take the store's"
    )]
    Identity {
        /// Which.
        path: PathBuf,
    },
}

/// The lock of the state directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the state directory `{path}` is in use by {}: stop it first, or start with `fleetfoot run --takeover`", holder(.pid))]
    Held {
        /// Which directory.
        path: PathBuf,
        /// The holder, as the lock file names it.
        pid: Option<u32>,
    },
    /// The lock file cannot be used.
    #[error("the lock file `{path}` cannot be used: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn holder(pid: &Option<u32>) -> String {
    match pid {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// An observation was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObserveError {
    /// No live instance has this name.
    #[error("no live instance is named `{0}`")]
    Unknown(InstanceName),
    /// The core refused it.
    #[error("{0}")]
    Refused(#[source] Refused),
}

/// An instance was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// A live or closed instance has or had this name.
    #[error("the name `{0}` was used before")]
    NameTaken(InstanceName),
    /// Its pool has no row.
    #[error("the pool `{0}` has no row")]
    NoPool(PoolName),
}

/// A pool was not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemovePoolError {
    /// It has no row.
    #[error("the pool `{0}` has no row")]
    Unknown(PoolName),
    /// It has instances that are not closed.
    #[error("the pool `{pool}` has {instances} instances that are not closed")]
    NotEmpty {
        /// The pool.
        pool: PoolName,
        /// How many.
        instances: usize,
    },
}
