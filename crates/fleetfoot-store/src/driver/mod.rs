//! Drivers: how statements reach a database. Two operations matter, `write` (one durable transaction)
//! and `query`; the rest is for opening and looking after.
//!
//! SQLite answers at once, so its operations never wait: a thread without a runtime can drive them
//! ([`poll_now`]). Servers are awaited by a task.

pub(crate) mod server;
pub(crate) mod sqlite;

use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use fleetfoot_core::Timestamp;

use crate::dialect::Dialect;
use crate::fault::DriverError;
use crate::lease::Fence;
use crate::sql::{Again, Query, Row, Statement};

/// One of the three databases, by its two kinds of connection. What is asked of a server is boxed: futures that
/// could be either are no larger than those of the file, and they are moved with each commit and heartbeat.
pub(crate) enum Driver {
    /// The built-in one.
    Sqlite(sqlite::Sqlite),
    /// A server.
    Server(server::Server),
}

/// A transaction that failed.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    pub(crate) error: DriverError,
    /// The commit was sent and its answer is unknown: what is in memory may be behind.
    pub(crate) ambiguous: bool,
}

impl WriteFailure {
    pub(crate) fn before_commit(error: DriverError) -> Self {
        Self { error, ambiguous: false }
    }

    pub(crate) fn at_commit(error: DriverError) -> Self {
        Self { error, ambiguous: true }
    }
}

impl Driver {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Server(server) => server.dialect(),
        }
    }

    /// Runs the statements in one durable transaction; a fence that does not hold ends it.
    pub(crate) async fn write(
        &mut self,
        statements: &[Statement],
        fences: &[Fence],
    ) -> Result<(), WriteFailure> {
        match self {
            Self::Sqlite(sqlite) => sqlite.write(statements, fences),
            Self::Server(server) => Box::pin(server.write(statements, fences)).await,
        }
    }

    /// Runs the statements and tells how many rows each changed.
    pub(crate) async fn execute(&mut self, statement: &Statement) -> Result<u64, DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.execute(statement),
            Self::Server(server) => Box::pin(server.execute(statement)).await,
        }
    }

    /// What follows is cheaper as one transaction of a file; of a server it is what it was.
    pub(crate) fn enter(&mut self) -> Result<(), DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.begin(),
            Self::Server(_) => Ok(()),
        }
    }

    /// What was [entered](Self::enter) is over.
    pub(crate) fn leave(&mut self) -> Result<(), DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.commit(),
            Self::Server(_) => Ok(()),
        }
    }

    /// Runs a query.
    pub(crate) async fn query(&mut self, query: &Query) -> Result<Vec<Row>, DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.query(query),
            Self::Server(server) => Box::pin(server.query(query)).await,
        }
    }

    /// Runs a query whose answer was `known` the last time; that becomes what it is now.
    pub(crate) async fn query_again(
        &mut self,
        query: &Query,
        known: &mut Vec<Row>,
    ) -> Result<Again, DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.query_again(query, known),
            Self::Server(server) => Ok(Again::note(known, Box::pin(server.query(query)).await?)),
        }
    }

    /// Changes the schema: in one transaction, where the database can.
    pub(crate) async fn change_schema(
        &mut self,
        schema: &[String],
        rows: &[Statement],
    ) -> Result<(), DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.change_schema(schema, rows),
            Self::Server(server) => Box::pin(server.change_schema(schema, rows)).await,
        }
    }

    /// Saves what is there before the schema leaves version `from`.
    pub(crate) async fn backup_before_migration(
        &mut self,
        from: i64,
        now: Timestamp,
    ) -> Result<(), DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.backup_before_migration(from, now),
            Self::Server(server) => Box::pin(server.backup_before_migration(from)).await,
        }
    }

    /// A consistent copy in a file; `None` if this database cannot give one.
    pub(crate) fn backup(&mut self, to: &Path, now: Timestamp) -> Option<Result<(), DriverError>> {
        match self {
            Self::Sqlite(sqlite) => Some(sqlite.backup(to, now)),
            Self::Server(_) => None,
        }
    }

    /// Looks for damage; what it found, one line.
    pub(crate) async fn check(&mut self) -> Result<Option<String>, DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check(),
            Self::Server(server) => Box::pin(server.check()).await.map(|()| None),
        }
    }

    /// Looks for damage everywhere, however long it takes; what it found, one line.
    pub(crate) async fn check_wholly(&mut self) -> Result<Option<String>, DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.check_wholly(),
            Self::Server(server) => Box::pin(server.check()).await.map(|()| None),
        }
    }

    /// Folds the log into the file; `false` if somebody who reads is in the way, or there is no log.
    pub(crate) fn fold_log(&mut self) -> Result<bool, DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.fold_log(),
            Self::Server(_) => Ok(false),
        }
    }

    /// Folds what of the log nobody reads; a server looks after its own.
    pub(crate) fn fold_idle_log(&mut self) -> Result<(), DriverError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.fold_idle_log(),
            Self::Server(_) => Ok(()),
        }
    }

    /// Puts everything in order and lets go.
    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close(),
            Self::Server(server) => Box::pin(server.close()).await,
        }
    }
}

/// Drives a future that does not wait. Only SQLite's operations are driven so.
pub(crate) fn poll_now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}
