//! Reading beside the writer: the history, copies, checks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use fleetfoot_core::{Instance, InstanceName};

use crate::dialect::Dialect;
use crate::driver::server::Server;
use crate::driver::sqlite::Sqlite;
use crate::driver::{Driver, poll_now};
use crate::error::ReadError;
use crate::event::{EventFilter, EventRow};
use crate::fault::DriverError;
use crate::history::{self, ClosedFilter, FinishedJob, FinishedJobFilter};
use crate::options::Options;
use crate::schema;
use crate::shared::locked;
use crate::sql::{Query, Row, Sql};
use crate::store::{Access, Store};

/// How the past is read.
pub(crate) enum Reads {
    /// On the writer's connection.
    Writer,
    /// On a connection of its own, opened when first needed.
    File(Arc<Mutex<Option<Sqlite>>>, PathBuf),
    /// On the server's pool of connections.
    Server(Server),
}

impl Store {
    /// Reads the present anew, in a store that was opened to be read.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn refresh(&self) -> Result<(), ReadError> {
        if !matches!(self.inner.access, Access::ReadOnly) {
            return Ok(());
        }
        let sql = Arc::clone(&self.inner.sql);
        let pools = self
            .on_connection(
                move |driver| poll_now(schema::load_live(driver, &sql)),
                |server, sql| async move {
                    schema::load_live(&mut Driver::Server(server), &sql).await
                },
            )
            .await?;
        self.inner.shared.replace(pools);
        Ok(())
    }

    pub(crate) fn read_error(&self, source: DriverError) -> ReadError {
        ReadError::Driver { place: self.place().to_owned(), fault: source.fault(), source }
    }

    /// Runs a read on a connection beside the writer's.
    pub(crate) async fn on_connection<T, F>(
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

    pub(crate) async fn query(&self, query: Query) -> Result<Vec<Row>, ReadError> {
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
        let now = schema::now(&Options::default());
        self.on_connection(
            move |driver| driver.backup(&to, now).unwrap_or(Ok(())),
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
}
