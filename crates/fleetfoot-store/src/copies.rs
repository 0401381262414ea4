//! Copies of a SQLite store: taken beside the running writer, and put back while nobody writes.
//!
//! A backup is one file: a store that says in itself whose it is and when it was taken. Whoever opens it as
//! the store, however it got into its place, knows from that row that it is behind what is true outside.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fleetfoot_core::{InstallationId, Timestamp};

use crate::driver::sqlite::{Sqlite, sync_directory};
use crate::error::{LockError, OpenError, StateDirError};
use crate::fault::DriverError;
use crate::identity::write_atomically;
use crate::location::Location;
use crate::mark;
use crate::report::{Report, inspect};
use crate::state_dir::StateDir;

/// A backup was not taken, or not put back: nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It would overwrite a file.
    #[error("`{path}` exists")]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// The backup would be the store itself.
    #[error("`{path}` is the store itself")]
    Itself {
        /// Which.
        path: PathBuf,
    },
    /// There is no such file.
    #[error("there is no file `{path}`")]
    NoFile {
        /// Which.
        path: PathBuf,
    },
    /// The store or the backup cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backup cannot be used.
    #[error("the backup `{path}` cannot be used: {finding}")]
    Bad {
        /// Which.
        path: PathBuf,
        /// The first finding.
        finding: String,
    },
    /// The backup is another installation's.
    #[error(
        "the backup belongs to installation `{backup}`, the state directory `{path}` to installation `{here}`"
    )]
    OtherInstallation {
        /// The state directory.
        path: PathBuf,
        /// Whose the backup is.
        backup: String,
        /// Whose the directory is.
        here: String,
    },
    /// A daemon runs, or another restore.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file beside the store.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// Copying failed.
    #[error("`{path}` cannot be written: {source}; {}", .source.fault().advice())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// Why.
        source: DriverError,
    },
}

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// A backup that was put in the store's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// The backup, as it was found.
    pub report: Report,
    /// Where the store of before is now, if there was one.
    pub aside: Option<PathBuf>,
}

/// Takes a consistent copy of a store, beside its writer or without one.
///
/// # Errors
/// [`CopyError`]; a file that was there is as it was.
pub fn back_up(
    store: &Path,
    to: &Path,
    force: bool,
    now: Timestamp,
) -> Result<BackedUp, CopyError> {
    if !store.exists() {
        return Err(OpenError::Missing { place: store.display().to_string() }.into());
    }
    if same_file(store, to) {
        return Err(CopyError::Itself { path: to.to_owned() });
    }
    if to.exists() && !force {
        return Err(CopyError::Exists { path: to.to_owned() });
    }
    let place = store.display().to_string();
    let mut sqlite =
        Sqlite::open_read_only(store).map_err(|error| OpenError::driver(&place, error))?;
    let failed = |source| CopyError::Write { path: to.to_owned(), source };
    sqlite.backup(to, now).map_err(failed)?;
    let bytes = fs::metadata(to).map_err(|error| failed(error.into()))?.len();
    Ok(BackedUp { path: to.to_owned(), bytes })
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
    }
}

/// Puts a backup in the place of a state directory's store, and keeps that one aside under the name
/// `aside`. The next start takes the careful pass of 11.4.
///
/// # Errors
/// [`CopyError`], when nothing has changed, or when a file could not be moved at the very end; then the
/// store of before is still in its place, or where the error says.
pub async fn put_back(
    dir: &StateDir,
    backup: &Path,
    aside: &str,
    force: bool,
) -> Result<PutBack, CopyError> {
    let _lock = dir.lock()?;
    if !backup.is_file() {
        return Err(CopyError::NoFile { path: backup.to_owned() });
    }
    let store = dir.store_file();
    if same_file(&store, backup) {
        return Err(CopyError::Itself { path: backup.to_owned() });
    }
    let report = inspect(&Location::Sqlite(backup.to_owned())).await?;
    let bad =
        |finding: &str| CopyError::Bad { path: backup.to_owned(), finding: finding.to_owned() };
    if let Some(finding) = report.findings.first() {
        return Err(bad(finding));
    }
    let theirs = report.installation.clone().unwrap_or_default();
    let theirs = InstallationId::new(&theirs).map_err(|error| bad(&error.to_string()))?;
    let here = dir.installation()?;
    if let Some(here) = here.as_ref().filter(|here| **here != theirs && !force) {
        return Err(CopyError::OtherInstallation {
            path: dir.path().to_owned(),
            backup: theirs.to_string(),
            here: here.to_string(),
        });
    }
    let failed = |source| CopyError::Write { path: store.clone(), source };
    let prepared = beside(&store, ".restoring");
    let mut sqlite = Sqlite::open_read_only(backup).map_err(failed)?;
    // A copy without a time is one of another tool: from now on it says that it is a backup.
    sqlite.copy_of_backup(&prepared, report.backup_taken_at).map_err(failed)?;
    drop(sqlite);
    let aside = swap(&store, &prepared, &store.with_file_name(aside))
        .map_err(|error| failed(error.into()))?;
    if here.as_ref() != Some(&theirs) {
        let path = dir.path().join("installation-id");
        write_atomically(&path, &format!("{theirs}\n"))
            .map_err(|source| StateDirError::File { path, source })?;
    }
    Ok(PutBack { report, aside })
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(ending);
    PathBuf::from(name)
}

/// Puts `prepared` in the place of `store`. The store of before is never without its log, and no log ever
/// lies beside another store: links first, then the log goes, then one rename.
fn swap(store: &Path, prepared: &Path, aside: &Path) -> io::Result<Option<PathBuf>> {
    let kept = store.exists().then(|| aside.to_owned());
    let log = mark::log_of(store);
    if kept.is_some() {
        if log.exists() {
            fs::hard_link(&log, mark::log_of(aside))?;
        }
        fs::hard_link(store, aside)?;
        sync_directory(store)?;
    }
    mark::forget_copy(store)?;
    for gone in [log, beside(store, "-shm")] {
        match fs::remove_file(gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    sync_directory(store)?;
    fs::rename(prepared, store)?;
    sync_directory(store)?;
    Ok(kept)
}
