//! MySQL/MariaDB and PostgreSQL: the same statements through a small pool of connections.

mod session;

use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySql, Postgres, Row as _};

use fleetfoot_core::Span;

use super::WriteFailure;
use crate::authorities;
use crate::dialect::Dialect;
use crate::fault::DriverError;
use crate::lease::Fence;
use crate::location::ServerKind;
use crate::sql::{Kind, Query, Row, Statement, Value};

/// Connections at most: one writes, the others read the history.
const CONNECTIONS_MAX: u32 = 4;

/// A connection must be had within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Goodbyes are said within this time.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A whole transaction or query must be answered within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Every table with the schema it came with, for copies before a migration.
const TABLES: [(&str, i64); 11] = [
    ("meta", 1),
    ("pools", 1),
    ("instances", 1),
    ("jobs", 1),
    ("job_history", 1),
    ("events", 1),
    ("leases", 1),
    ("controllers", 2),
    ("owners", 2),
    ("wishes", 2),
    ("targets", 3),
];

/// Connections to a server, and how long an answer is waited for.
#[derive(Clone)]
pub(crate) struct Server {
    connections: Connections,
    answer: Duration,
}

#[derive(Clone)]
enum Connections {
    /// MySQL or MariaDB.
    Mysql(MySqlPool),
    /// PostgreSQL.
    Postgres(PgPool),
}

/// Holds off other controllers that want to make or change the schema; ends with its connection.
pub(crate) enum SchemaLock {
    Mysql(PoolConnection<MySql>),
    Postgres(PoolConnection<Postgres>),
}

macro_rules! bound {
    ($sql:expr, $values:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe(Arc::clone($sql)));
        for value in $values {
            query = match value {
                Value::Int(number) => query.bind(*number),
                Value::Text(text) => query.bind(text.clone()),
            };
        }
        query
    }};
}

macro_rules! write_all {
    ($pool:expr, $statements:expr, $fences:expr) => {{
        let early = |error| WriteFailure::before_commit(DriverError::Server(error));
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.server.transaction.before");
        let mut transaction = $pool.begin().await.map_err(early)?;
        for fence in $fences {
            let done = bound!(&fence.statement.sql, &fence.statement.values)
                .execute(&mut *transaction)
                .await
                .map_err(early)?;
            if done.rows_affected() != 1 {
                let fenced = DriverError::Fenced(fence.pool.clone());
                return Err(WriteFailure::before_commit(fenced));
            }
        }
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.server.fences.after");
        for statement in $statements {
            bound!(&statement.sql, &statement.values)
                .execute(&mut *transaction)
                .await
                .map_err(early)?;
        }
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.server.commit.before");
        let committed = transaction.commit().await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.server.commit.after");
        committed.map_err(|error| WriteFailure::at_commit(DriverError::Server(error)))
    }};
}

macro_rules! fetch_all {
    ($pool:expr, $query:expr) => {{
        let rows = bound!(&$query.sql, &$query.values)
            .fetch_all($pool)
            .await
            .map_err(DriverError::Server)?;
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            let values = $query.kinds.iter().enumerate().map(|(column, kind)| match kind {
                Kind::Int => row.try_get_unchecked::<Option<i64>, _>(column).map(Value::Int),
                Kind::Text => row.try_get_unchecked::<Option<String>, _>(column).map(Value::Text),
            });
            out.push(values.collect::<Result<Row, _>>().map_err(DriverError::Server)?);
        }
        Ok(out)
    }};
}

impl Server {
    /// Connects once, so that a wrong address is known now. With leases nothing is waited for longer than
    /// they last, and a client that froze in a transaction does not hold its locks longer than that.
    pub(crate) async fn open(
        kind: ServerKind,
        url: &str,
        lease: Option<Span>,
    ) -> Result<Self, DriverError> {
        let half = lease.map(|valid| valid.to_std() / 2);
        let answer = half.unwrap_or(ANSWER_TIMEOUT);
        let connect = half.unwrap_or(CONNECT_TIMEOUT);
        let connections = match kind {
            ServerKind::Mysql => {
                let options = authorities::mysql(url).map_err(DriverError::Server)?;
                let options = options.charset("utf8mb4").collation("utf8mb4_bin");
                let options = options.disable_statement_logging();
                greet(MySqlConnection::connect_with(&options)).await?;
                let pool = MySqlPoolOptions::new()
                    .max_connections(CONNECTIONS_MAX)
                    .acquire_timeout(connect)
                    .after_connect(move |connection, _| {
                        Box::pin(async move {
                            if let Some(half) = half {
                                session::bound(connection, half.as_secs().max(1)).await?;
                            }
                            Ok(())
                        })
                    })
                    .connect_lazy_with(options);
                Connections::Mysql(pool)
            }
            ServerKind::Postgres => {
                let options = authorities::postgres(url).map_err(DriverError::Server)?;
                let mut options = options.disable_statement_logging();
                greet(PgConnection::connect_with(&options)).await?;
                if let Some(half) = half {
                    let bound = half.as_millis().to_string();
                    options = options.options([
                        ("idle_in_transaction_session_timeout", bound.as_str()),
                        ("lock_timeout", bound.as_str()),
                    ]);
                }
                let pool = PgPoolOptions::new()
                    .max_connections(CONNECTIONS_MAX)
                    .acquire_timeout(connect)
                    .connect_lazy_with(options);
                Connections::Postgres(pool)
            }
        };
        Ok(Self { connections, answer })
    }

    /// Waits until no other controller changes the schema, and keeps others from it.
    pub(crate) async fn lock_schema(&self) -> Result<SchemaLock, DriverError> {
        let locked = async {
            Ok(Some(match &self.connections {
                Connections::Mysql(pool) => {
                    let mut connection = pool.acquire().await?;
                    connection.close_on_drop();
                    let sql = "SELECT GET_LOCK(CONCAT('fleetfoot ', DATABASE()), 25)";
                    let got = sqlx::query(sql).fetch_one(&mut *connection).await?;
                    // That somebody else has it still is no error to the server.
                    if got.try_get_unchecked::<Option<i64>, _>(0)? != Some(1) {
                        return Ok(None);
                    }
                    SchemaLock::Mysql(connection)
                }
                Connections::Postgres(pool) => {
                    let mut connection = pool.acquire().await?;
                    connection.close_on_drop();
                    let sql = "SET lock_timeout = 0; SELECT pg_advisory_lock(7310582)";
                    sqlx::raw_sql(sql).execute(&mut *connection).await?;
                    SchemaLock::Postgres(connection)
                }
            }))
        };
        let locked = tokio::time::timeout(ANSWER_TIMEOUT, locked).await.unwrap_or(Ok(None));
        locked.map_err(DriverError::Server)?.ok_or_else(|| too_long(ANSWER_TIMEOUT))
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match &self.connections {
            Connections::Mysql(_) => Dialect::Mysql,
            Connections::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs the statements in one transaction.
    pub(crate) async fn write(
        &self,
        statements: &[Statement],
        fences: &[Fence],
    ) -> Result<(), WriteFailure> {
        let written = tokio::time::timeout(self.answer, self.write_all(statements, fences));
        written.await.unwrap_or_else(|_| Err(WriteFailure::at_commit(too_long(self.answer))))
    }

    async fn write_all(
        &self,
        statements: &[Statement],
        fences: &[Fence],
    ) -> Result<(), WriteFailure> {
        match &self.connections {
            Connections::Mysql(pool) => write_all!(pool, statements, fences),
            Connections::Postgres(pool) => write_all!(pool, statements, fences),
        }
    }

    /// Runs one statement; how many rows it changed.
    pub(crate) async fn execute(&self, statement: &Statement) -> Result<u64, DriverError> {
        let run = async {
            match &self.connections {
                Connections::Mysql(pool) => bound!(&statement.sql, &statement.values)
                    .execute(pool)
                    .await
                    .map(|done| done.rows_affected()),
                Connections::Postgres(pool) => bound!(&statement.sql, &statement.values)
                    .execute(pool)
                    .await
                    .map(|done| done.rows_affected()),
            }
        };
        match tokio::time::timeout(self.answer, run).await {
            Ok(done) => done.map_err(DriverError::Server),
            Err(_) => Err(too_long(self.answer)),
        }
    }

    /// Runs one query.
    pub(crate) async fn query(&self, query: &Query) -> Result<Vec<Row>, DriverError> {
        let fetched = tokio::time::timeout(self.answer, self.fetch(query));
        fetched.await.unwrap_or_else(|_| Err(too_long(self.answer)))
    }

    async fn fetch(&self, query: &Query) -> Result<Vec<Row>, DriverError> {
        match &self.connections {
            Connections::Mysql(pool) => fetch_all!(pool, query),
            Connections::Postgres(pool) => fetch_all!(pool, query),
        }
    }

    /// Changes the schema. MySQL commits each statement by itself, so each can be repeated.
    pub(crate) async fn change_schema(
        &self,
        schema: &[String],
        rows: &[Statement],
    ) -> Result<(), DriverError> {
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("store.server.schema.before");
        match &self.connections {
            Connections::Mysql(pool) => {
                for sql in schema {
                    #[cfg(feature = "faults")]
                    fleetfoot_faults::point("store.server.schema.table.before");
                    match sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(pool).await {
                        Err(error) if !is_duplicate_index(&error) => {
                            return Err(DriverError::Server(error));
                        }
                        Ok(_) | Err(_) => {}
                    }
                }
                self.write_all(rows, &[]).await.map_err(|failure| failure.error)
            }
            Connections::Postgres(pool) => {
                let mut transaction = pool.begin().await.map_err(DriverError::Server)?;
                for sql in schema {
                    sqlx::raw_sql(AssertSqlSafe(sql.clone()))
                        .execute(&mut *transaction)
                        .await
                        .map_err(DriverError::Server)?;
                }
                for row in rows {
                    bound!(&row.sql, &row.values)
                        .execute(&mut *transaction)
                        .await
                        .map_err(DriverError::Server)?;
                }
                transaction.commit().await.map_err(DriverError::Server)
            }
        }
    }

    /// Copies of the tables beside them, named after the schema they have.
    pub(crate) async fn backup_before_migration(&self, from: i64) -> Result<(), DriverError> {
        for (table, _) in TABLES.iter().filter(|(_, since)| *since <= from) {
            for sql in [
                format!("DROP TABLE IF EXISTS fleetfoot_{table}_schema_{from}"),
                format!(
                    "CREATE TABLE fleetfoot_{table}_schema_{from} AS SELECT * FROM fleetfoot_{table}"
                ),
            ] {
                self.execute(&Statement { sql: Arc::from(sql), values: Vec::new() }).await?;
            }
        }
        Ok(())
    }

    /// Whether the server answers.
    pub(crate) async fn check(&self) -> Result<(), DriverError> {
        let query =
            Query { sql: Arc::from("SELECT 'ok'"), values: Vec::new(), kinds: &[Kind::Text] };
        self.query(&query).await.map(|_| ())
    }

    /// Says goodbye to the server.
    pub(crate) async fn close(&self) {
        // A dead connection says no goodbye.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.close_all()).await.is_ok();
    }

    async fn close_all(&self) {
        match &self.connections {
            Connections::Mysql(pool) => pool.close().await,
            Connections::Postgres(pool) => pool.close().await,
        }
    }
}

impl SchemaLock {
    /// Lets the others go on at once, not only when the server notices that the connection is gone.
    pub(crate) async fn release(self) {
        let released = match self {
            Self::Mysql(mut connection) => {
                let sql = "DO RELEASE_LOCK(CONCAT('fleetfoot ', DATABASE()))";
                sqlx::raw_sql(sql).execute(&mut *connection).await.map(|_| ())
            }
            Self::Postgres(mut connection) => {
                let sql = "SELECT pg_advisory_unlock(7310582)";
                sqlx::raw_sql(sql).execute(&mut *connection).await.map(|_| ())
            }
        };
        if let Err(error) = released {
            tracing::warn!(%error, "schema lock ends with its connection");
        }
    }
}

/// Connects once and says goodbye: a pool would try again until its time is up and hide the cause.
async fn greet<C: Connection>(
    connecting: impl Future<Output = Result<C, sqlx::Error>>,
) -> Result<(), DriverError> {
    let greeted = tokio::time::timeout(CONNECT_TIMEOUT, async { connecting.await?.close().await });
    match greeted.await {
        Ok(greeted) => greeted.map_err(DriverError::Server),
        Err(_) => Err(DriverError::Timeout { seconds: CONNECT_TIMEOUT.as_secs() }),
    }
}

fn too_long(bound: Duration) -> DriverError {
    DriverError::Timeout { seconds: bound.as_secs() }
}

fn is_duplicate_index(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>())
        .is_some_and(|error| error.number() == 1061)
}
