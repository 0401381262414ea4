//! What drivers and rows say when something is wrong, and what kind of failure it is.

use std::io;

use fleetfoot_core::PoolName;

/// What a driver said.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// SQLite's own words.
    #[error("{}", sqlite_words(.0))]
    Sqlite(#[source] rusqlite::Error),
    /// A server's own words.
    #[error("{}", server_words(.0))]
    Server(#[source] sqlx::Error),
    /// The server did not answer in time.
    #[error("no answer within {seconds} s")]
    Timeout {
        /// The bound.
        seconds: u64,
    },
    /// A row that cannot be read.
    #[error("{0}")]
    Row(#[source] RowError),
    /// A file beside the database.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// A pool that was to be written is not ours any more.
    #[error("pool `{0}` is another controller's by now")]
    Fenced(PoolName),
    /// The database says less than it did before.
    #[error("the database was put back to what it was before")]
    PutBack,
    /// The check found damage.
    #[error("{0}")]
    Damaged(String),
}

impl From<io::Error> for DriverError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn sqlite_words(error: &rusqlite::Error) -> String {
    if let rusqlite::Error::SqliteFailure(code, Some(text)) = error {
        return format!("{text} (SQLite {})", code.extended_code);
    }
    error.to_string()
}

fn server_words(error: &sqlx::Error) -> String {
    if let sqlx::Error::Io(error) = error {
        return error.to_string();
    }
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// A row whose content this version does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// A word that no version up to this one wrote there.
    #[error("row `{row}` has the unknown {what} `{word}`")]
    UnknownWord {
        /// The kind of word.
        what: &'static str,
        /// The word.
        word: String,
        /// The row's key.
        row: String,
    },
    /// The row's content is not what a row of its table looks like.
    #[error("row `{row}` of {table} cannot be read: {detail}")]
    Malformed {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// One line.
        detail: String,
    },
}

/// What kind of failure it is, and so what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No space left.
    Full,
    /// Another program holds the database.
    Busy,
    /// The database is damaged.
    Corrupt,
    /// It may not be written.
    NotWritable,
    /// The server cannot be reached or went away.
    Unreachable,
    /// Its directory or database does not exist.
    Missing,
    /// Reading or writing the disk failed.
    Io,
    /// The database was put back to what it was before.
    PutBack,
    /// Anything else.
    Other,
}

impl Fault {
    /// What to do about it, one clause.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Full => "the disk is full: free some space, it is tried again by itself",
            Self::Busy => {
                "another program holds the database: end it, only one controller may write"
            }
            Self::Corrupt => {
                "the database is damaged: restore a backup, or move the file away and start anew"
            }
            Self::NotWritable => {
                "it may not be written: check owner, mode, user and password, and that nothing is read-only"
            }
            Self::Unreachable => {
                "the database server does not answer: check address and server, it is tried again"
            }
            Self::Missing => "make that directory or database first, or correct the address",
            Self::Io => "the disk reported an error: check the disk and the kernel's log",
            Self::PutBack => "start fleetfoot again: everything outside is looked at first then",
            Self::Other => "this is unexpected: please report it",
        }
    }
}

impl DriverError {
    /// What kind of failure it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Sqlite(error) => sqlite_fault(error),
            Self::Server(error) => server_fault(error),
            Self::Timeout { .. } => Fault::Unreachable,
            Self::Damaged(_) => Fault::Corrupt,
            Self::PutBack => Fault::PutBack,
            Self::Row(_) | Self::Fenced(_) => Fault::Other,
            Self::Io(error) => io_fault(error.kind()),
        }
    }

    /// The server's certificate is not believed: waiting does not help.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        let Self::Server(sqlx::Error::Io(error)) = self else { return false };
        let of_tls = error.get_ref().and_then(|it| it.downcast_ref::<rustls::Error>());
        matches!(of_tls, Some(rustls::Error::InvalidCertificate(_)))
    }
}

fn io_fault(kind: io::ErrorKind) -> Fault {
    use io::ErrorKind::{
        NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    if matches!(kind, StorageFull | QuotaExceeded) {
        Fault::Full
    } else if matches!(kind, PermissionDenied | ReadOnlyFilesystem) {
        Fault::NotWritable
    } else if matches!(kind, NotFound | NotADirectory) {
        Fault::Missing
    } else {
        Fault::Io
    }
}

fn sqlite_fault(error: &rusqlite::Error) -> Fault {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Fault::Busy,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::Corrupt,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            Fault::NotWritable
        }
        Some(ErrorCode::SystemIoFailure) => Fault::Io,
        Some(_) | None => Fault::Other,
    }
}

fn server_fault(error: &sqlx::Error) -> Fault {
    let lost = matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
    );
    if lost {
        return Fault::Unreachable;
    }
    // PostgreSQL speaks in SQLSTATE; MySQL's SQLSTATE says little, its own number does.
    let database = error.as_database_error();
    let mysql = database
        .and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>())
        .map(|error| error.number());
    match mysql {
        // Table full, disk full.
        Some(1114 | 1021) => return Fault::Full,
        // Lock timeout, deadlock.
        Some(1205 | 1213) => return Fault::Busy,
        // Read-only server; access denied to server, database or table.
        Some(1290 | 1044 | 1045 | 1142) => return Fault::NotWritable,
        // Unknown database.
        Some(1049) => return Fault::Missing,
        // Too many connections, server going down.
        Some(1040 | 1053) => return Fault::Unreachable,
        Some(_) | None => {}
    }
    match database.and_then(|error| error.code()).as_deref() {
        // Disk full.
        Some("53100") => Fault::Full,
        // Connection exceptions, too many connections, shutdown, starting up.
        Some("08000" | "08003" | "08006" | "53300" | "57P01" | "57P02" | "57P03") => {
            Fault::Unreachable
        }
        // Read-only transaction, no privilege, wrong password.
        Some("25006" | "42501" | "28P01" | "28000") => Fault::NotWritable,
        // Unknown database or schema.
        Some("3D000" | "3F000") => Fault::Missing,
        // Lock timeout, deadlock, serialization.
        Some("55P03" | "40P01" | "40001") => Fault::Busy,
        Some(_) | None => Fault::Other,
    }
}
