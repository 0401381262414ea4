//! SQLite, built in: one writing connection, write-ahead log, `synchronous=FULL`.

mod again;
mod journal;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetfoot_core::Timestamp;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{ToSqlOutput, Value as SqliteValue};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};
use rustix::fs::{Access, access};

pub(crate) use self::journal::Sharing;
use self::journal::{connect, journal};
use super::WriteFailure;
use crate::compare::TAKEN_AT;
use crate::fault::DriverError;
use crate::fleet::Ticks;
use crate::lease::Fence;
use crate::mark;
use crate::options::Durability;
use crate::sql::{Kind, Query, Row, Statement, Value};

/// How long a statement waits for another program that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Prepared statements kept.
const STATEMENTS_MAX: usize = 48;

/// An open file.
pub(crate) struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Int(Some(number)) => ToSqlOutput::from(*number),
            Self::Text(Some(text)) => ToSqlOutput::from(text.as_str()),
            Self::Int(None) | Self::Text(None) => ToSqlOutput::Owned(SqliteValue::Null),
        })
    }
}

impl Sqlite {
    /// Opens the file for the one writer; makes it if it is missing, readable by its owner only.
    pub(crate) fn open(
        path: &Path,
        durability: Durability,
        sharing: Sharing,
        clock: Option<&Ticks>,
    ) -> Result<Self, DriverError> {
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(DriverError::Io)?;
        let connection = connect(path, durability, sharing).map_err(DriverError::Sqlite)?;
        let sqlite = Self::tuned(connection, path)?;
        if let Some(clock) = clock {
            sqlite.tell_time(clock.clone())?;
        }
        for (pragma, value) in journal(durability) {
            sqlite.pragma(pragma, value)?;
        }
        Ok(sqlite)
    }

    /// Opens the file to be read; takes no lock that a writer would notice.
    pub(crate) fn open_read_only(path: &Path) -> Result<Self, DriverError> {
        let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut name = path.to_owned();
        if let Some(unchanging) = unchanging(path) {
            flags |= OpenFlags::SQLITE_OPEN_URI;
            name = unchanging;
        }
        let connection = Connection::open_with_flags(name, flags).map_err(DriverError::Sqlite)?;
        Self::tuned(connection, path)
    }

    fn tuned(connection: Connection, path: &Path) -> Result<Self, DriverError> {
        connection.busy_timeout(BUSY_TIMEOUT).map_err(DriverError::Sqlite)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let sqlite = Self { connection, path: path.to_owned() };
        sqlite.pragma("cache_size", "-1024")?;
        sqlite.tell_time(wall_clock())?;
        Ok(sqlite)
    }

    /// The clock of this database, for leases.
    fn tell_time(&self, clock: Ticks) -> Result<(), DriverError> {
        let told = self.connection.create_scalar_function(
            "fleetfoot_now",
            0,
            FunctionFlags::SQLITE_UTF8,
            move |_| Ok(clock.now()),
        );
        told.map_err(DriverError::Sqlite)
    }

    fn pragma(&self, name: &str, value: &str) -> Result<(), DriverError> {
        self.connection.pragma_update(None, name, value).map_err(DriverError::Sqlite)
    }

    /// Runs the statements in one durable transaction.
    pub(crate) fn write(
        &mut self,
        statements: &[Statement],
        fences: &[Fence],
    ) -> Result<(), WriteFailure> {
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.transaction.before");
        self.begin().map_err(WriteFailure::before_commit)?;
        if let Err(error) = self.run_all(statements, fences) {
            self.roll_back();
            return Err(WriteFailure::before_commit(error));
        }
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.commit.before");
        self.commit().map_err(WriteFailure::at_commit)?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.commit.after");
        Ok(())
    }

    pub(crate) fn begin(&mut self) -> Result<(), DriverError> {
        self.run("BEGIN IMMEDIATE")
    }

    pub(crate) fn commit(&mut self) -> Result<(), DriverError> {
        let result = self.run("COMMIT");
        if result.is_err() {
            self.roll_back();
        }
        result
    }

    fn roll_back(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.run("ROLLBACK")
        {
            tracing::warn!(%error, "store rollback failed");
        }
    }

    fn run(&self, sql: &str) -> Result<(), DriverError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(DriverError::Sqlite)?;
        statement.execute([]).map(|_| ()).map_err(DriverError::Sqlite)
    }

    fn run_all(&mut self, statements: &[Statement], fences: &[Fence]) -> Result<(), DriverError> {
        for fence in fences {
            if self.execute(&fence.statement)? != 1 {
                return Err(DriverError::Fenced(fence.pool.clone()));
            }
        }
        for statement in statements {
            self.execute(statement)?;
        }
        Ok(())
    }

    /// Runs one statement; how many rows it changed.
    pub(crate) fn execute(&mut self, statement: &Statement) -> Result<u64, DriverError> {
        let mut prepared =
            self.connection.prepare_cached(&statement.sql).map_err(DriverError::Sqlite)?;
        let changed =
            prepared.execute(params_from_iter(&statement.values)).map_err(DriverError::Sqlite)?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    /// Runs one query.
    pub(crate) fn query(&mut self, query: &Query) -> Result<Vec<Row>, DriverError> {
        let mut prepared =
            self.connection.prepare_cached(&query.sql).map_err(DriverError::Sqlite)?;
        let mut rows =
            prepared.query(params_from_iter(&query.values)).map_err(DriverError::Sqlite)?;
        let mut out = Vec::new();
        while let Some(row) = rows.next().map_err(DriverError::Sqlite)? {
            let values = query.kinds.iter().enumerate().map(|(column, kind)| match kind {
                Kind::Int => row.get(column).map(Value::Int),
                Kind::Text => row.get(column).map(Value::Text),
            });
            out.push(values.collect::<Result<Row, _>>().map_err(DriverError::Sqlite)?);
        }
        Ok(out)
    }

    /// Changes the schema and some rows in one transaction.
    pub(crate) fn change_schema(
        &mut self,
        schema: &[String],
        rows: &[Statement],
    ) -> Result<(), DriverError> {
        self.begin()?;
        let result = schema
            .iter()
            .try_for_each(|sql| self.connection.execute_batch(sql).map_err(DriverError::Sqlite))
            .and_then(|()| rows.iter().try_for_each(|row| self.execute(row).map(|_| ())));
        match result {
            Ok(()) => {
                #[cfg(feature = "faults")]
                fleetfoot_faults::point("store.schema.before");
                self.commit()?;
                #[cfg(feature = "faults")]
                fleetfoot_faults::point("store.schema.after");
                Ok(())
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// A copy beside the file, named after the schema it has.
    pub(crate) fn backup_before_migration(
        &mut self,
        from: i64,
        now: Timestamp,
    ) -> Result<(), DriverError> {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(format!(".schema-{from}.bak"));
        let to = PathBuf::from(name);
        self.backup(&to, now)
    }

    /// A consistent copy at `to` that says that it was taken now; complete or not there at all.
    pub(crate) fn backup(&mut self, to: &Path, now: Timestamp) -> Result<(), DriverError> {
        self.copy_stamped(to, Some(now))
    }

    /// A copy of a backup at `to`. It was taken when it says, or nobody knows when.
    pub(crate) fn copy_of_backup(
        &mut self,
        to: &Path,
        taken_at: Option<Timestamp>,
    ) -> Result<(), DriverError> {
        self.copy_stamped(to, taken_at)
    }

    fn copy_stamped(&mut self, to: &Path, taken_at: Option<Timestamp>) -> Result<(), DriverError> {
        let mut partial = OsString::from(to.as_os_str());
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let result = self
            .copy(&partial)
            .and_then(|()| stamp(&partial, taken_at))
            .and_then(|()| publish(&partial, to).map_err(DriverError::Io));
        if result.is_err() {
            let _ = fs::remove_file(&partial);
        }
        result
    }

    fn copy(&self, partial: &Path) -> Result<(), DriverError> {
        match fs::remove_file(partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(DriverError::Io(error));
            }
            Ok(()) | Err(_) => {}
        }
        // An empty file is taken as a database without pages, and keeps its narrow mode.
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial);
        made.map_err(DriverError::Io)?;
        let text = partial.to_str().ok_or_else(|| {
            DriverError::Io(io::Error::new(io::ErrorKind::InvalidInput, "the path is not UTF-8"))
        })?;
        self.connection.execute("VACUUM INTO ?", [text]).map(|_| ()).map_err(DriverError::Sqlite)
    }

    /// Looks for damage.
    pub(crate) fn check(&mut self) -> Result<Option<String>, DriverError> {
        self.findings("PRAGMA quick_check(1)").map(|found| found.into_iter().next())
    }

    /// Looks for damage everywhere, indexes included.
    pub(crate) fn check_wholly(&mut self) -> Result<Option<String>, DriverError> {
        let found = self.findings("PRAGMA integrity_check(5)")?;
        Ok((!found.is_empty()).then(|| found.join("; ")))
    }

    fn findings(&self, check: &str) -> Result<Vec<String>, DriverError> {
        let mut statement = self.connection.prepare(check).map_err(DriverError::Sqlite)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0));
        let found = rows.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut found = found.map_err(DriverError::Sqlite)?;
        found.retain(|line| line != "ok");
        Ok(found.into_iter().map(|line| line.replace('\n', " ")).collect())
    }

    /// Folds the whole log into the file, durably; `false` if somebody who reads is in the way.
    pub(crate) fn fold_log(&mut self) -> Result<bool, DriverError> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(FULL)", [], |row| {
                let (busy, log, folded) =
                    (row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?);
                Ok(busy == 0 && log == folded)
            })
            .map_err(DriverError::Sqlite)
    }

    /// Folds what of the log nobody reads, without waiting for anybody.
    pub(crate) fn fold_idle_log(&mut self) -> Result<(), DriverError> {
        let fold = "PRAGMA wal_checkpoint(PASSIVE)";
        self.connection.query_row(fold, [], |_| Ok(())).map_err(DriverError::Sqlite)
    }

    /// Bytes of pages that are free to be used again.
    pub(crate) fn free_bytes(&self) -> Result<u64, DriverError> {
        let number = |pragma: &str| {
            self.connection
                .query_row(pragma, [], |row| row.get::<_, i64>(0))
                .map(i64::unsigned_abs)
                .map_err(DriverError::Sqlite)
        };
        Ok(number("PRAGMA freelist_count")?.saturating_mul(number("PRAGMA page_size")?))
    }

    /// Bounds the file, as a full disk would.
    #[cfg(test)]
    pub(crate) fn bound_pages(&self, pages: u32) {
        self.pragma("max_page_count", &pages.to_string()).unwrap();
    }

    /// Folds the log into the file and lets go.
    pub(crate) fn close(self) {
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "store did not close cleanly");
        }
    }
}

fn wall_clock() -> Ticks {
    Ticks::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    })
}

/// The name of a file that nobody can be writing: its directory cannot be written, where readers would make
/// their index, and there is no log. Without this a closed store on a read-only disk could not be read.
fn unchanging(path: &Path) -> Option<PathBuf> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let can_write = access(directory.unwrap_or(Path::new(".")), Access::WRITE_OK).is_ok();
    let log = fs::metadata(mark::log_of(path)).map_or(0, |meta| meta.len());
    if can_write || log > 0 {
        return None;
    }
    let mut name = String::from("file:");
    for byte in std::path::absolute(path).ok()?.as_os_str().as_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                name.push(char::from(*byte));
            }
            other => name.push_str(&format!("%{other:02x}")),
        }
    }
    Some(PathBuf::from(name + "?immutable=1"))
}

/// Writes into a copy that it is a backup.
fn stamp(copy: &Path, taken_at: Option<Timestamp>) -> Result<(), DriverError> {
    let connection = Connection::open_with_flags(
        copy,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(DriverError::Sqlite)?;
    let taken_at = taken_at.map_or_else(|| "unknown".to_owned(), |at| at.0.to_string());
    let put = "INSERT OR REPLACE INTO fleetfoot_meta (name, content) VALUES (?, ?)";
    let put = connection.execute(put, [TAKEN_AT, &taken_at]).map_err(DriverError::Sqlite);
    put.and_then(|_| connection.close().map_err(|(_, error)| DriverError::Sqlite(error)))
}

/// Makes the finished copy durable under its final name.
fn publish(partial: &Path, to: &Path) -> io::Result<()> {
    fs::File::open(partial)?.sync_all()?;
    fs::rename(partial, to)?;
    sync_directory(to)
}

/// Makes the names in the directory of `path` durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => fs::File::open(".")?.sync_all(),
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
