//! The one writer: runs the closures that arrived together, makes them durable in one transaction,
//! publishes, and only then answers.

use std::any::Any;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use fleetfoot_core::{PoolName, Timestamp};
use tokio::sync::oneshot;

use crate::batch::Working;
use crate::closures::Batch;
use crate::compare;
use crate::driver::Driver;
use crate::error::UpdateError;
use crate::fault::DriverError;
use crate::mark::Mark;
use crate::names::Names;
use crate::options::Retention;
use crate::runner_rows;
use crate::schema;
use crate::script::{Fate, Scripted};
use crate::shared::{Shared, locked};
use crate::sql::Sql;
use crate::txn::Txn;

/// The past is pruned after this many written rows.
pub(crate) const ROWS_BETWEEN_PRUNES: usize = 256;

/// Delivers a closure's answer once its fate is known.
pub(crate) type Reply = Box<dyn FnOnce(Result<(), UpdateError>) + Send>;

/// A closure with its way back. `None`: it panicked, and its caller knows.
pub(crate) type Job = Box<dyn FnOnce(&mut Txn<'_>) -> Option<Reply> + Send>;

/// Something else to be done with the writer's connection.
pub(crate) type Errand =
    Box<dyn for<'a> FnOnce(&'a mut Writer) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> + Send>;

/// What the writer is asked to do.
pub(crate) enum Task {
    /// Run a closure.
    Update(Job),
    /// Do something else with the database, after what arrived before.
    Errand(Errand),
    /// Note that the strays of a lost store were looked at.
    StraysSeen(oneshot::Sender<Result<(), DriverError>>),
    /// Let go of the database.
    Close,
    /// Behave as after a commit whose answer was lost.
    #[cfg(test)]
    Doubt,
    /// Bound the database file, as a full disk would.
    #[cfg(test)]
    BoundPages(u32),
}

/// Wraps a closure and the channel of its answer.
pub(crate) fn job<T: Send + 'static>(
    closure: impl FnOnce(&mut Txn<'_>) -> T + Send + 'static,
    reply: oneshot::Sender<Result<T, UpdateError>>,
) -> Job {
    Box::new(move |txn| match catch_unwind(AssertUnwindSafe(|| closure(txn))) {
        Ok(value) => Some(Box::new(move |fate: Result<(), UpdateError>| {
            let _ = reply.send(fate.map(|()| value));
        })),
        Err(panic) => {
            let _ = reply.send(Err(UpdateError::Panicked { message: message(&*panic) }));
            None
        }
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// The writer with everything it needs.
pub(crate) struct Writer {
    pub(crate) driver: Driver,
    pub(crate) sql: Arc<Sql>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) names: Names,
    /// The file beside a SQLite store that outlives it.
    pub(crate) mark: Option<Mark>,
    pub(crate) retention: Retention,
    /// Memory may be behind the database: read it anew before anything else.
    pub(crate) stale: bool,
    /// What a simulated world does to commits.
    pub(crate) script: Scripted,
    /// The program ended, as far as a simulated world is concerned.
    pub(crate) halted: bool,
    pub(crate) rows_since_prune: usize,
    /// Since the log was folded in a quiet moment.
    pub(crate) rows_since_fold: usize,
    /// Since finished jobs were counted.
    pub(crate) rows_since_count: usize,
    /// When what was said last happened: the only clock there is here. It may step back.
    pub(crate) told_at: Timestamp,
}

impl Writer {
    /// Does what arrived together, in order; breaks when it was told to close.
    pub(crate) async fn serve(&mut self, tasks: Vec<Task>) -> ControlFlow<()> {
        let mut jobs = Vec::new();
        for task in tasks {
            match task {
                Task::Update(job) => jobs.push(job),
                Task::Errand(errand) => {
                    self.commit(std::mem::take(&mut jobs)).await;
                    errand(self).await;
                }
                Task::StraysSeen(reply) => {
                    #[cfg(feature = "faults")]
                    fleetfoot_faults::point("store.strays_seen.before");
                    let noted = self.driver.execute(&compare::put_behind(&self.sql, None)).await;
                    #[cfg(feature = "faults")]
                    fleetfoot_faults::point("store.strays_seen.after");
                    if noted.is_ok() {
                        self.shared.caught_up();
                    }
                    let _ = reply.send(noted.map(|_| ()));
                }
                Task::Close => {
                    self.commit(std::mem::take(&mut jobs)).await;
                    return ControlFlow::Break(());
                }
                #[cfg(test)]
                Task::Doubt => self.stale = true,
                #[cfg(test)]
                Task::BoundPages(pages) => {
                    if let Driver::Sqlite(sqlite) = &self.driver {
                        sqlite.bound_pages(pages);
                    }
                }
            }
        }
        self.commit(jobs).await;
        if self.rows_since_prune >= ROWS_BETWEEN_PRUNES {
            self.prune().await;
        }
        ControlFlow::Continue(())
    }

    async fn commit(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        self.shared.count_updates(jobs.len());
        let reread = self.catch_up().await;
        let mut batch = Batch::run(&self.shared, &self.names, jobs);
        let result = match reread {
            Ok(()) => self.write(&mut batch).await,
            Err(error) => Err(UpdateError::write(&self.shared.place, error)),
        };
        if let Err(error) = &result {
            tracing::warn!(%error, updates = batch.len(), "store write failed");
        }
        let Self { shared, names, told_at, script, .. } = self;
        batch.answer(&result, |working| {
            for name in working.past.closed.keys() {
                names.insert(name.as_str());
            }
            if let Some(event) = working.past.events.last() {
                *told_at = event.at;
            }
            let Some(script) = &script.0 else { return shared.publish(working) };
            let touched: Vec<PoolName> = working.touched().into_iter().cloned().collect();
            shared.publish(working);
            script.committed(&shared.snapshot(), &touched);
        });
    }

    /// Commits what the batch changed; closures whose pool is another one's by now are refused on the way.
    async fn write(&mut self, batch: &mut Batch) -> Result<(), UpdateError> {
        loop {
            let mut statements = batch.working.statements(&self.sql);
            if let Some(rows) = locked(&self.shared.runner_rows).clone() {
                statements.extend(runner_rows::statements(&rows, &batch.working));
            }
            if statements.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.reserve_names(&batch.working) {
                return Err(UpdateError::write(&self.shared.place, DriverError::Io(error)));
            }
            let fences = self.shared.fences(&self.sql, &batch.working);
            let fate = self.script.fate();
            if let Some(refused) = self.refusal(fate) {
                return Err(UpdateError::write(&self.shared.place, refused));
            }
            let failure = match self.driver.write(&statements, &fences).await {
                Ok(()) if matches!(fate, Fate::Doubt | Fate::HaltAfter) => {
                    self.stale = true;
                    self.halted |= fate == Fate::HaltAfter;
                    let lost = DriverError::Timeout { seconds: 0 };
                    return Err(UpdateError::write(&self.shared.place, lost));
                }
                Ok(()) => {
                    self.rows_since_prune += statements.len();
                    self.rows_since_fold += statements.len();
                    self.shared.count_commit(statements.len());
                    return Ok(());
                }
                Err(failure) => failure,
            };
            self.stale |= failure.ambiguous;
            let DriverError::Fenced(pool) = failure.error else {
                return Err(UpdateError::write(&self.shared.place, failure.error));
            };
            self.shared.lost(&pool);
            batch.refuse(&pool);
        }
    }

    /// Notes beside the store which names its pools give with this batch: a store that is put back must not
    /// give them again.
    fn reserve_names(&mut self, working: &Working) -> std::io::Result<()> {
        let Some(mark) = &mut self.mark else { return Ok(()) };
        let given = working.pools.values().flatten().map(|state| state.pool.last_name).max();
        given.filter(|number| *number > 0).map_or(Ok(()), |number| mark.reserve(number))
    }

    /// Closes the database in order, and notes beside it that it was closed.
    pub(crate) async fn close(mut self) {
        if let Some(mark) = self.mark.as_mut().filter(|mark| mark.is_kept())
            && let Err(error) = compare::close(&mut self.driver, &self.sql, mark).await
        {
            tracing::warn!(%error, "store did not close cleanly");
        }
        self.driver.close().await;
    }

    /// What a simulated world answers instead of a commit.
    fn refusal(&mut self, fate: Fate) -> Option<DriverError> {
        let failure = |code| {
            let error = rusqlite::ffi::Error::new(code);
            Some(DriverError::Sqlite(rusqlite::Error::SqliteFailure(error, None)))
        };
        match fate {
            Fate::Commit | Fate::Doubt | Fate::HaltAfter => None,
            Fate::Busy => failure(rusqlite::ffi::SQLITE_BUSY),
            Fate::Full => failure(rusqlite::ffi::SQLITE_FULL),
            Fate::HaltBefore => {
                self.halted = true;
                Some(DriverError::Timeout { seconds: 0 })
            }
        }
    }

    /// Reads everything anew if a commit's fate is unknown.
    async fn catch_up(&mut self) -> Result<(), DriverError> {
        if self.stale {
            let present = schema::load(&mut self.driver, &self.sql).await?;
            self.names = present.closed;
            let mut touched: BTreeSet<PoolName> = self.shared.snapshot().keys().cloned().collect();
            self.shared.replace(present.pools);
            self.stale = false;
            if let Some(script) = &self.script.0 {
                // What was made durable without an answer shows here first; of others' pools their owners tell.
                let (shown, owned) = (self.shared.snapshot(), self.shared.writable());
                touched.extend(shown.keys().cloned());
                touched.retain(|pool| owned.as_ref().is_none_or(|owned| owned.contains_key(pool)));
                script.committed(&shown, &touched.into_iter().collect::<Vec<_>>());
            }
        }
        Ok(())
    }
}
