//! How commits reach the file, and who else may open it.

use super::Sqlite;
use crate::fault::DriverError;
use crate::options::Durability;

/// SQLite's own way to a file that nobody else opens.
pub(super) const VFS_WITHOUT_LOCKS: &str = "unix-none";

/// How commits reach the file.
pub(super) fn journal(durability: Durability) -> &'static [(&'static str, &'static str)] {
    const LOG_MAX: (&str, &str) = ("journal_size_limit", "4194304");
    match durability {
        Durability::Full => &[("journal_mode", "wal"), ("synchronous", "full"), LOG_MAX],
        Durability::Off => &[("journal_mode", "wal"), ("synchronous", "off"), LOG_MAX],
        Durability::OneThread => {
            &[("page_size", "1024"), ("journal_mode", "memory"), ("synchronous", "off")]
        }
    }
}

impl Sqlite {
    /// Nobody else writes this file: what was read of it stays true.
    pub(crate) fn keep_to_itself(&mut self) -> Result<(), DriverError> {
        self.pragma("locking_mode", "exclusive")
    }
}
