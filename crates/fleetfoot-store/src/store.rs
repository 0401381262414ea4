//! The store as everyone sees it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use fleetfoot_core::{
    InstallationId, Instance, InstanceName, PoolName, PoolState, Span, Timestamp,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::batch::Working;
use crate::dialect::Dialect;
use crate::driver::server::Server;
use crate::driver::sqlite::Sqlite;
use crate::driver::{Driver, poll_now};
use crate::error::{DriverError, OpenError, ReadError, UpdateError};
use crate::event::{EventFilter, EventRow};
use crate::history::{self, ClosedFilter, FinishedJob, FinishedJobFilter};
use crate::lease::Lease;
use crate::location::Location;
use crate::options::{Execution, Options};
use crate::schema::{self, Identity, MIGRATIONS, Migration};
use crate::sql::{Query, Row, Sql};
use crate::txn::Txn;
use crate::writer::{self, QUEUE_MAX, Task, Writer};

/// The present of every pool, by name.
pub type Pools = BTreeMap<PoolName, Arc<PoolState>>;

/// How much the store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Closures run.
    pub updates: u64,
    /// Transactions committed for them.
    pub commits: u64,
}

/// What the writer and everyone else share: the published present.
pub(crate) struct Shared {
    pub(crate) place: Arc<str>,
    pools: RwLock<Arc<Pools>>,
    all: watch::Sender<u64>,
    watchers: Mutex<BTreeMap<PoolName, watch::Sender<u64>>>,
    lease: Mutex<Option<Lease>>,
    updates: AtomicU64,
    commits: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new(place: &str, pools: Pools) -> Self {
        Self {
            place: Arc::from(place),
            pools: RwLock::new(Arc::new(pools)),
            all: watch::Sender::new(0),
            watchers: Mutex::default(),
            lease: Mutex::default(),
            updates: AtomicU64::new(0),
            commits: AtomicU64::new(0),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Pools> {
        Arc::clone(&self.pools.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn count_updates(&self, updates: usize) {
        self.updates.fetch_add(updates as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lease(&self) -> Option<Lease> {
        locked(&self.lease).clone()
    }

    /// Makes a committed batch visible and wakes who watches its pools.
    pub(crate) fn publish(&self, working: Working) {
        let Working { base, pools: touched, past: _ } = working;
        // Without this reference the map is changed in place, unless a reader holds a snapshot.
        drop(base);
        if touched.is_empty() {
            return;
        }
        let names: Vec<PoolName> = touched.keys().cloned().collect();
        {
            let mut published = self.pools.write().unwrap_or_else(PoisonError::into_inner);
            let pools = Arc::make_mut(&mut published);
            for (name, state) in touched {
                match state {
                    Some(state) => pools.insert(name, state),
                    None => pools.remove(&name),
                };
            }
        }
        self.tick(&names);
    }

    /// Puts another present in the place of the whole one, and wakes everyone.
    pub(crate) fn replace(&self, pools: Pools) {
        let mut names: Vec<PoolName> = pools.keys().cloned().collect();
        {
            let mut published = self.pools.write().unwrap_or_else(PoisonError::into_inner);
            names.extend(published.keys().filter(|name| !pools.contains_key(name)).cloned());
            *published = Arc::new(pools);
        }
        self.tick(&names);
    }

    fn tick(&self, names: &[PoolName]) {
        let mut watchers = locked(&self.watchers);
        for name in names {
            if let Some(watcher) = watchers.get(name) {
                if watcher.receiver_count() == 0 {
                    watchers.remove(name);
                } else {
                    watcher.send_modify(|tick| *tick += 1);
                }
            }
        }
        drop(watchers);
        self.all.send_modify(|tick| *tick += 1);
    }
}

/// How closures reach the writer.
enum Access {
    /// The writer is right here.
    Inline(Mutex<Option<Writer>>),
    /// The writer is a thread or a task.
    Queue(mpsc::Sender<Task>),
    /// There is none; the present can be read anew.
    ReadOnly,
}

/// How the past is read.
enum Reads {
    /// On the writer's connection.
    Writer,
    /// On a connection of its own, opened when first needed.
    File(Arc<Mutex<Option<Sqlite>>>, PathBuf),
    /// On the server's pool of connections.
    Server(Server),
}

struct Inner {
    shared: Arc<Shared>,
    sql: Arc<Sql>,
    identity: Identity,
    access: Access,
    reads: Reads,
}

/// The durable record. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens the store for its one writer: makes it if it is missing, migrates it if it is old.
    ///
    /// # Errors
    /// One line that says what, where and what to do.
    pub async fn open(location: Location, options: Options) -> Result<Self, OpenError> {
        Self::open_with(location, options, MIGRATIONS).await
    }

    pub(crate) async fn open_with(
        location: Location,
        options: Options,
        migrations: &'static [Migration],
    ) -> Result<Self, OpenError> {
        let place = location.to_string();
        match location {
            Location::Sqlite(path) => match options.execution {
                Execution::Inline => {
                    let (writer, identity) = poll_now(prepare(
                        open_file(&path, &place, &options)?,
                        &place,
                        &options,
                        migrations,
                    ))?;
                    let access = |writer| Access::Inline(Mutex::new(Some(writer)));
                    Ok(Self::assemble(writer, identity, access, Reads::Writer))
                }
                Execution::Thread => Self::open_thread(path, place, options, migrations).await,
            },
            Location::Url(url) => {
                let (kind, url) = Location::server(&url)?;
                let server = Server::open(kind, &url)
                    .await
                    .map_err(|error| OpenError::driver(&place, error))?;
                let driver = Driver::Server(server.clone());
                let (writer, identity) = prepare(driver, &place, &options, migrations).await?;
                Ok(Self::assemble(writer, identity, queue_to_task, Reads::Server(server)))
            }
        }
    }

    async fn open_thread(
        path: PathBuf,
        place: String,
        options: Options,
        migrations: &'static [Migration],
    ) -> Result<Self, OpenError> {
        let (tasks, queue) = mpsc::channel(QUEUE_MAX);
        let (opened, opening) = oneshot::channel();
        let file = path.clone();
        let at = place.clone();
        let thread = std::thread::Builder::new().name("fleetfoot-store".to_owned());
        let spawned = thread.spawn(move || {
            let prepared = open_file(&file, &at, &options)
                .and_then(|driver| poll_now(prepare(driver, &at, &options, migrations)));
            match prepared {
                Ok((writer, identity)) => {
                    let sent = opened.send(Ok((
                        Arc::clone(&writer.shared),
                        Arc::clone(&writer.sql),
                        identity,
                    )));
                    if sent.is_ok() {
                        writer::run_on_thread(writer, queue);
                    }
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            }
        });
        let failed = |error| OpenError::driver(&place, DriverError::Io(error));
        spawned.map_err(failed)?;
        let gone = |_| failed(std::io::Error::other("the store's thread ended"));
        let (shared, sql, identity) = opening.await.map_err(gone)??;
        let reads = Reads::File(Arc::new(Mutex::new(None)), path);
        let inner = Inner { shared, sql, identity, access: Access::Queue(tasks), reads };
        Ok(Self { inner: Arc::new(inner) })
    }

    fn assemble(
        writer: Writer,
        identity: Identity,
        access: impl FnOnce(Writer) -> Access,
        reads: Reads,
    ) -> Self {
        let shared = Arc::clone(&writer.shared);
        let sql = Arc::clone(&writer.sql);
        let access = access(writer);
        Self { inner: Arc::new(Inner { shared, sql, identity, access, reads }) }
    }

    /// Opens the store to be read, beside its writer or without one. Takes no lock.
    ///
    /// # Errors
    /// One line that says what, where and what to do.
    pub async fn open_read_only(location: Location) -> Result<Self, OpenError> {
        let place = location.to_string();
        let failed = |error| OpenError::driver(&place, error);
        let (mut driver, reads) = match location {
            Location::Sqlite(path) => {
                if !path.exists() {
                    return Err(OpenError::Missing { place });
                }
                let driver = Driver::Sqlite(Sqlite::open_read_only(&path).map_err(failed)?);
                (driver, Reads::File(Arc::new(Mutex::new(None)), path))
            }
            Location::Url(url) => {
                let (kind, url) = Location::server(&url)?;
                let server = Server::open(kind, &url).await.map_err(failed)?;
                (Driver::Server(server.clone()), Reads::Server(server))
            }
        };
        let sql = Arc::new(Sql::new(driver.dialect()));
        let identity = schema::inspect(&mut driver, &sql, &place).await?;
        let present = schema::load(&mut driver, &sql).await.map_err(failed)?;
        if let (Reads::File(connection, _), Driver::Sqlite(sqlite)) = (&reads, driver) {
            *locked(connection) = Some(sqlite);
        }
        let shared = Arc::new(Shared::new(&place, present.pools));
        let inner = Inner { shared, sql, identity, access: Access::ReadOnly, reads };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The present of one pool. Costs next to nothing.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<Arc<PoolState>> {
        let published = self.inner.shared.pools.read().unwrap_or_else(PoisonError::into_inner);
        published.get(name).cloned()
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
    async fn hand_in(&self, task: Task) {
        match &self.inner.access {
            Access::Inline(writer) => {
                let mut writer = locked(writer);
                let ended = writer
                    .as_mut()
                    .is_some_and(|writer| poll_now(writer.serve(vec![task])).is_break());
                if ended && let Some(writer) = writer.take() {
                    poll_now(writer.driver.close());
                }
            }
            Access::Queue(tasks) => drop(tasks.send(task).await),
            Access::ReadOnly => {}
        }
    }

    /// Ticks after each commit that touched the pool.
    #[must_use]
    pub fn changes(&self, name: &PoolName) -> watch::Receiver<u64> {
        let mut watchers = locked(&self.inner.shared.watchers);
        watchers.entry(name.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// Ticks after each commit that touched any pool.
    #[must_use]
    pub fn changes_all(&self) -> watch::Receiver<u64> {
        self.inner.shared.all.subscribe()
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

    /// The store was made by this very opening although an identity of before was there: what it knew
    /// is lost, and what carries our label may be running (11.4).
    #[must_use]
    pub fn was_lost(&self) -> bool {
        self.inner.identity.was_lost
    }

    /// Where the store is, without secrets.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.inner.shared.place
    }

    /// How much the store has done.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            updates: self.inner.shared.updates.load(Ordering::Relaxed),
            commits: self.inner.shared.commits.load(Ordering::Relaxed),
        }
    }

    /// Takes the lease on `scope`, unless another owner holds it; `None` then. The database's clock counts.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn take_lease(
        &self,
        scope: &str,
        owner: &str,
        valid: Span,
    ) -> Result<Option<Lease>, ReadError> {
        let (reply, answer) = oneshot::channel();
        let (scope, owner) = (scope.to_owned(), owner.to_owned());
        self.hand_in(Task::Lease { scope, owner, valid: valid.0, reply }).await;
        let taken = answer.await.map_err(|_| ReadError::Closed)?;
        taken.map_err(|error| self.read_error(error))
    }

    /// From now on every commit is fenced by this lease: if another owner took it, commits fail.
    pub fn fence(&self, lease: Option<Lease>) {
        *locked(&self.inner.shared.lease) = lease;
    }

    /// Commits what was handed in, then lets go of the database. Later updates hear that it is closed.
    pub async fn close(&self) {
        self.hand_in(Task::Close).await;
        if let Access::Queue(tasks) = &self.inner.access {
            tasks.closed().await;
        }
        if let Reads::File(connection, _) = &self.inner.reads {
            locked(connection).take();
        }
    }

    /// Reads the present anew, in a store that was opened to be read.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn refresh(&self) -> Result<(), ReadError> {
        if !matches!(self.inner.access, Access::ReadOnly) {
            return Ok(());
        }
        let sql = Arc::clone(&self.inner.sql);
        let present = self
            .on_connection(
                move |driver| poll_now(schema::load(driver, &sql)),
                |server, sql| async move { schema::load(&mut Driver::Server(server), &sql).await },
            )
            .await?;
        self.inner.shared.replace(present.pools);
        Ok(())
    }

    fn read_error(&self, source: DriverError) -> ReadError {
        ReadError::Driver { place: self.place().to_owned(), fault: source.fault(), source }
    }

    /// Runs a read on a connection beside the writer's.
    async fn on_connection<T, F>(
        &self,
        on_file: impl FnOnce(&mut Driver) -> Result<T, DriverError> + Send + 'static,
        on_server: impl FnOnce(Server, Arc<Sql>) -> F,
    ) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DriverError>>,
    {
        let read = match &self.inner.reads {
            Reads::Writer => match &self.inner.access {
                Access::Inline(writer) => {
                    let mut writer = locked(writer);
                    let writer = writer.as_mut().ok_or(ReadError::Closed)?;
                    on_file(&mut writer.driver)
                }
                Access::Queue(_) | Access::ReadOnly => return Err(ReadError::Closed),
            },
            Reads::File(connection, path) => {
                let connection = Arc::clone(connection);
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let mut connection = locked(&connection);
                    let sqlite = match connection.take() {
                        Some(sqlite) => sqlite,
                        None => Sqlite::open_read_only(&path)?,
                    };
                    let mut driver = Driver::Sqlite(sqlite);
                    let result = on_file(&mut driver);
                    if let (Driver::Sqlite(sqlite), true) = (driver, result.is_ok()) {
                        *connection = Some(sqlite);
                    }
                    result
                });
                read.await.map_err(|_| ReadError::Closed)?
            }
            Reads::Server(server) => on_server(server.clone(), Arc::clone(&self.inner.sql)).await,
        };
        read.map_err(|error| self.read_error(error))
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, ReadError> {
        let again = query.clone();
        self.on_connection(
            move |driver| poll_now(driver.query(&query)),
            |server, _| async move { server.query(&again).await },
        )
        .await
    }

    /// Events of the past, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn events(&self, filter: EventFilter) -> Result<Vec<EventRow>, ReadError> {
        let rows = self.query(history::events(&self.inner.sql, &filter)).await?;
        history::read_events(rows).map_err(|error| self.read_error(DriverError::Row(error)))
    }

    /// A closed instance.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn closed_instance(
        &self,
        name: &InstanceName,
    ) -> Result<Option<Instance>, ReadError> {
        let rows = self.query(history::closed_by_name(&self.inner.sql, name)).await?;
        let read =
            history::read_closed(rows).map_err(|error| self.read_error(DriverError::Row(error)));
        read.map(|mut found| found.pop())
    }

    /// Closed instances, latest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn closed_instances(&self, filter: ClosedFilter) -> Result<Vec<Instance>, ReadError> {
        let rows = self.query(history::closed(&self.inner.sql, &filter)).await?;
        history::read_closed(rows).map_err(|error| self.read_error(DriverError::Row(error)))
    }

    /// Finished jobs, latest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn finished_jobs(
        &self,
        filter: FinishedJobFilter,
    ) -> Result<Vec<FinishedJob>, ReadError> {
        let rows = self.query(history::finished(&self.inner.sql, &filter)).await?;
        history::read_finished(rows).map_err(|error| self.read_error(DriverError::Row(error)))
    }

    /// Writes a consistent copy of a SQLite store to `to`, beside the running writer.
    ///
    /// # Errors
    /// When it cannot be written, or the store is on a server.
    pub async fn backup(&self, to: &Path) -> Result<(), ReadError> {
        if self.inner.sql.dialect != Dialect::Sqlite {
            return Err(ReadError::OnServer { place: self.place().to_owned() });
        }
        let to = to.to_owned();
        self.on_connection(
            move |driver| driver.backup(&to).unwrap_or(Ok(())),
            |_, _| async { Ok(()) },
        )
        .await
    }

    /// Looks for damage.
    ///
    /// # Errors
    /// What was found, or why it could not be looked at.
    pub async fn check(&self) -> Result<(), ReadError> {
        let found = self
            .on_connection(
                |driver| poll_now(driver.check()),
                |server, _| async move { server.check().await.map(|()| None) },
            )
            .await?;
        match found {
            Some(detail) => Err(ReadError::Corrupt { place: self.place().to_owned(), detail }),
            None => Ok(()),
        }
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

fn open_file(path: &Path, place: &str, options: &Options) -> Result<Driver, OpenError> {
    Sqlite::open(path, options.durability)
        .map(Driver::Sqlite)
        .map_err(|error| OpenError::driver(place, error))
}

/// Makes a driver into a writer: schema, identity, the whole present.
async fn prepare(
    mut driver: Driver,
    place: &str,
    options: &Options,
    migrations: &[Migration],
) -> Result<(Writer, Identity), OpenError> {
    let sql = Arc::new(Sql::new(driver.dialect()));
    let identity = schema::prepare(&mut driver, &sql, place, options, migrations).await?;
    let present =
        schema::load(&mut driver, &sql).await.map_err(|error| OpenError::driver(place, error))?;
    let writer = Writer {
        driver,
        sql,
        shared: Arc::new(Shared::new(place, present.pools)),
        names: present.closed,
        retention: options.retention,
        stale: false,
        rows_since_prune: 0,
        latest: identity.created_at,
    };
    Ok((writer, identity))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer of a server store lives as long as the store: it ends when the last handle is dropped or `close` is called"
)]
fn queue_to_task(writer: Writer) -> Access {
    let (tasks, queue) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(writer::run_as_task(writer, queue));
    Access::Queue(tasks)
}
