//! How a store comes up: as its one writer, or to be read.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use crate::compare;
use crate::driver::server::Server;
use crate::driver::sqlite::{Sharing, Sqlite};
use crate::driver::{Driver, poll_now};
use crate::error::OpenError;
use crate::fault::DriverError;
use crate::location::Location;
use crate::mark::Mark;
use crate::options::{Execution, Options};
use crate::queue::{self, QUEUE_MAX};
use crate::reads::Reads;
use crate::schema::{self, Identity, MIGRATIONS, Migration};
use crate::shared::{Shared, locked};
use crate::sql::Sql;
use crate::store::{Access, Inner, Store};
use crate::writer::Writer;

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
                    let (driver, mark) = open_file(&path, &place, &options)?;
                    let (writer, identity) =
                        poll_now(prepare(driver, mark, &place, &options, migrations))?;
                    let access = |writer| Access::Inline(Mutex::new(Some(Box::new(writer))));
                    Ok(Self::assemble(writer, identity, access, Reads::Writer))
                }
                Execution::Thread => Self::open_thread(path, place, options, migrations).await,
            },
            Location::Url(url) => {
                let (kind, url) = Location::server(&url)?;
                let failed = |error| OpenError::driver(&place, error);
                let lease = options.member.as_ref().map(|me| me.valid);
                let server = Server::open(kind, &url, lease).await.map_err(failed)?;
                let driver = Driver::Server(server.clone());
                let alone = server.lock_schema().await.map_err(failed)?;
                let prepared = prepare(driver, None, &place, &options, migrations).await;
                alone.release().await;
                let (writer, identity) = prepared?;
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
            let prepared = open_file(&file, &at, &options).and_then(|(driver, mark)| {
                poll_now(prepare(driver, mark, &at, &options, migrations))
            });
            match prepared {
                Ok((writer, identity)) => {
                    let sent = opened.send(Ok((
                        Arc::clone(&writer.shared),
                        Arc::clone(&writer.sql),
                        identity,
                    )));
                    if sent.is_ok() {
                        queue::run_on_thread(writer, queue);
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
                let server = Server::open(kind, &url, None).await.map_err(failed)?;
                (Driver::Server(server.clone()), Reads::Server(server))
            }
        };
        let sql = Arc::new(Sql::new(driver.dialect()));
        let identity = schema::inspect(&mut driver, &sql, &place).await?;
        let pools = schema::load_live(&mut driver, &sql).await.map_err(failed)?;
        if let (Reads::File(connection, _), Driver::Sqlite(sqlite)) = (&reads, driver) {
            *locked(connection) = Some(sqlite);
        }
        let shared = Arc::new(Shared::new(&place, pools, &identity, None));
        let inner = Inner { shared, sql, identity, access: Access::ReadOnly, reads };
        Ok(Self { inner: Arc::new(inner) })
    }
}

fn open_file(
    path: &Path,
    place: &str,
    options: &Options,
) -> Result<(Driver, Option<Mark>), OpenError> {
    let failed = |error| OpenError::driver(place, error);
    // Several on one file would each write their own.
    let alone = options.member.is_none();
    let mark = Mark::read(path, options.durability).map_err(|error| failed(error.into()))?;
    let sharing = if alone { Sharing::Alone } else { Sharing::Several };
    let sqlite = Sqlite::open(path, options.durability, sharing, options.file_clock.as_ref());
    Ok((Driver::Sqlite(sqlite.map_err(failed)?), alone.then_some(mark)))
}

/// Makes a driver into a writer: schema, identity, the whole present.
async fn prepare(
    mut driver: Driver,
    mut mark: Option<Mark>,
    place: &str,
    options: &Options,
    migrations: &[Migration],
) -> Result<(Writer, Identity), OpenError> {
    let sql = Arc::new(Sql::new(driver.dialect()));
    let mut identity =
        schema::prepare(&mut driver, &sql, place, options, migrations, mark.as_mut()).await?;
    let failed = |error| OpenError::driver(place, error);
    let seen = compare::look_back(&mut driver, &sql, options, &mut identity);
    let seen = seen.await.map_err(failed)?;
    let present = schema::load(&mut driver, &sql).await.map_err(failed)?;
    let member = options.member.clone();
    let shared = Arc::new(Shared::new(place, present.pools, &identity, member));
    if let Some(member) = &shared.member {
        *locked(&member.seen) = seen;
        let sent = member.me.clock.now();
        member.join(&mut driver).await.map_err(failed)?;
        member.beaten(sent);
    }
    let writer = Writer {
        driver,
        sql,
        shared,
        mark,
        names: present.closed,
        retention: options.retention,
        stale: false,
        script: options.script.clone(),
        halted: false,
        rows_since_prune: 0,
        rows_since_fold: 0,
        rows_since_count: 0,
        told_at: identity.created_at,
    };
    Ok((writer, identity))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer of a server store lives as long as the store: it ends when the last handle is dropped or `close` is called"
)]
fn queue_to_task(writer: Writer) -> Access {
    let (tasks, queue) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(queue::run_as_task(writer, queue));
    Access::Queue(tasks)
}
