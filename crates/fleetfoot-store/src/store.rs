//! The store as everyone sees it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetfoot_core::{InstallationId, Instance, InstanceName, PoolName, PoolState, Timestamp};
use fleetfoot_ordered::watch;
use tokio::sync::{mpsc, oneshot};

use crate::behind::Behind;
use crate::driver::poll_now;
use crate::error::{ReadError, UpdateError};
use crate::reads::Reads;
use crate::schema::Identity;
use crate::shared::{Counters, Pools, Shared, locked};
use crate::sql::Sql;
use crate::txn::Txn;
use crate::writer::{self, Task, Writer};

/// A shared database is let go of within this.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// How closures reach the writer.
pub(crate) enum Access {
    /// The writer is right here.
    Inline(Mutex<Option<Box<Writer>>>),
    /// The writer is a thread or a task.
    Queue(mpsc::Sender<Task>),
    /// There is none; the present can be read anew.
    ReadOnly,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sql: Arc<Sql>,
    pub(crate) identity: Identity,
    pub(crate) access: Access,
    pub(crate) reads: Reads,
}

/// The durable record. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

impl Store {
    /// The present of one pool. Costs next to nothing.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<Arc<PoolState>> {
        self.inner.shared.pool(name)
    }

    /// The present of every pool, all of one moment. Costs next to nothing; hold it only briefly.
    #[must_use]
    pub fn pools(&self) -> Arc<Pools> {
        self.inner.shared.snapshot()
    }

    /// A live instance, wherever it belongs.
    #[must_use]
    pub fn instance(&self, name: &InstanceName) -> Option<Arc<Instance>> {
        self.pools().values().find_map(|state| state.instances.get(name).cloned())
    }

    /// Runs a closure in the one writer and makes what it changed durable; returns after the commit.
    ///
    /// Once handed in, the closure runs even if this future is dropped.
    ///
    /// # Errors
    /// When nothing of it is in the store, with the one exception that [`UpdateError`] names.
    pub async fn update<T: Send + 'static>(
        &self,
        closure: impl FnOnce(&mut Txn<'_>) -> T + Send + 'static,
    ) -> Result<T, UpdateError> {
        if matches!(self.inner.access, Access::ReadOnly) {
            return Err(UpdateError::ReadOnly);
        }
        let (reply, answer) = oneshot::channel();
        self.hand_in(Task::Update(writer::job(closure, reply))).await;
        answer.await.unwrap_or(Err(UpdateError::Closed))
    }

    /// Hands a task to the writer. If there is none any more, the task's way back tells so.
    pub(crate) async fn hand_in(&self, task: Task) {
        match &self.inner.access {
            Access::Inline(writer) => {
                let halted = {
                    let mut writer = locked(writer);
                    let ended = writer
                        .as_mut()
                        .is_some_and(|writer| poll_now(writer.serve(vec![task])).is_break());
                    let halted = writer.as_ref().is_some_and(|writer| writer.halted);
                    if ended && let Some(writer) = writer.take() {
                        poll_now(writer.close());
                    }
                    halted
                };
                if halted {
                    std::future::pending::<()>().await;
                }
            }
            Access::Queue(tasks) => drop(tasks.send(task).await),
            Access::ReadOnly => {}
        }
    }

    /// Ticks after each commit that touched the pool.
    #[must_use]
    pub fn changes(&self, name: &PoolName) -> watch::Receiver<u64> {
        self.inner.shared.watch(name)
    }

    /// Ticks after each commit that touched any pool.
    #[must_use]
    pub fn changes_all(&self) -> watch::Receiver<u64> {
        self.inner.shared.watch_all()
    }

    /// The installation that this store belongs to.
    #[must_use]
    pub fn installation(&self) -> &InstallationId {
        &self.inner.identity.installation
    }

    /// When the store was made: labelled things that are older were not made from it (11.4).
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.inner.identity.created_at
    }

    /// The store may know less than what is true outside: what carries our label may be running without a
    /// row, and rows may be of the past (11.4). So until [`Store::strays_seen`], over restarts, too.
    #[must_use]
    pub fn behind(&self) -> Option<Behind> {
        self.inner.shared.behind()
    }

    /// The store is [behind](Store::behind), for whatever cause.
    #[must_use]
    pub fn was_lost(&self) -> bool {
        self.behind().is_some()
    }

    /// New names have this number at least, because the store may not know of all names that were given;
    /// see [`naming`](fleetfoot_core::naming).
    #[must_use]
    pub fn name_floor(&self) -> i64 {
        self.inner.shared.name_floor()
    }

    /// One full pass over what is outside is done: [`Store::behind`] is over.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn strays_seen(&self) -> Result<(), ReadError> {
        let (reply, answer) = oneshot::channel();
        self.hand_in(Task::StraysSeen(reply)).await;
        let noted = answer.await.map_err(|_| ReadError::Closed)?;
        noted.map_err(|error| self.read_error(error))
    }

    /// Where the store is, without secrets.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.inner.shared.place
    }

    /// How much the store has done.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.inner.shared.counters()
    }

    /// Commits what was handed in, then lets go of the database. Later updates hear that it is closed.
    pub async fn close(&self) {
        self.leave().await;
        let closing = async {
            self.hand_in(Task::Close).await;
            if let Access::Queue(tasks) = &self.inner.access {
                tasks.closed().await;
            }
        };
        if self.membership().is_some() {
            // What a database that does not answer was not told, nobody will tell it any more.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_ok();
        } else {
            closing.await;
        }
        if let Reads::File(connection, _) = &self.inner.reads {
            locked(connection).take();
        }
    }

    #[cfg(test)]
    pub(crate) async fn doubt(&self) {
        self.hand_in(Task::Doubt).await;
    }

    #[cfg(test)]
    pub(crate) async fn bound_pages(&self, pages: u32) {
        self.hand_in(Task::BoundPages(pages)).await;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("place", &self.place()).finish_non_exhaustive()
    }
}
