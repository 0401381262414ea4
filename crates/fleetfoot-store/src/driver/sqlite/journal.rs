//! How commits reach the file, and who else may open it.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::options::Durability;

/// SQLite's own way to a file that nobody else opens.
const VFS_WITHOUT_LOCKS: &str = "unix-none";

/// How commits reach the file.
pub(super) fn journal(durability: Durability) -> &'static [(&'static str, &'static str)] {
    const LOG_MAX: (&str, &str) = ("journal_size_limit", "4194304");
    // Pages, 6 MiB of them: it is folded in a quiet moment, and by a commit only where there is none for long.
    const FOLD_LATEST: (&str, &str) = ("wal_autocheckpoint", "1536");
    match durability {
        Durability::Full => {
            &[("journal_mode", "wal"), ("synchronous", "full"), LOG_MAX, FOLD_LATEST]
        }
        Durability::Off => &[("journal_mode", "wal"), ("synchronous", "off"), LOG_MAX, FOLD_LATEST],
        Durability::OneThread => {
            // Nobody but this thread writes the file: what was read of it stays true.
            &[
                ("page_size", "1024"),
                ("journal_mode", "memory"),
                ("synchronous", "off"),
                ("locking_mode", "exclusive"),
            ]
        }
    }
}

/// A connection that writes the file, which is there.
pub(super) fn connect(
    path: &Path,
    durability: Durability,
    sharing: Sharing,
) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match (durability, sharing) {
        (Durability::Full | Durability::Off, _) => Connection::open_with_flags(path, flags),
        (Durability::OneThread, Sharing::Alone) => {
            Connection::open_with_flags_and_vfs(path, flags, VFS_WITHOUT_LOCKS)
        }
        (Durability::OneThread, Sharing::Several) => {
            let flags = flags | OpenFlags::SQLITE_OPEN_SHARED_CACHE;
            Connection::open_with_flags_and_vfs(path, flags, VFS_WITHOUT_LOCKS)
        }
    }
}

/// Who writes the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// One writer.
    Alone,
    /// Several controllers. On one thread they share what was read: what one writes the others need not read again.
    Several,
}
