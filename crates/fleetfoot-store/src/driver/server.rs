//! MySQL/MariaDB and PostgreSQL: the same statements through a small pool of connections.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, Row as _};

use super::WriteFailure;
use crate::dialect::Dialect;
use crate::fault::DriverError;
use crate::lease::Lease;
use crate::location::ServerKind;
use crate::sql::{Kind, Query, Row, Sql, Statement, Value};

/// Connections at most: one writes, the others read the history.
const CONNECTIONS_MAX: u32 = 4;

/// A connection must be had within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A whole transaction or query must be answered within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Every table, for copies before a migration.
const TABLES: [&str; 7] = ["meta", "pools", "instances", "jobs", "job_history", "events", "leases"];

/// Connections to a server.
#[derive(Clone)]
pub(crate) enum Server {
    /// MySQL or MariaDB.
    Mysql(MySqlPool),
    /// PostgreSQL.
    Postgres(PgPool),
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
    ($pool:expr, $statements:expr, $fence:expr) => {{
        let early = |error| WriteFailure::before_commit(DriverError::Server(error));
        let mut transaction = $pool.begin().await.map_err(early)?;
        if let Some(fence) = $fence {
            let done = bound!(&fence.sql, &fence.values)
                .execute(&mut *transaction)
                .await
                .map_err(early)?;
            if done.rows_affected() != 1 {
                return Err(WriteFailure::before_commit(DriverError::LeaseLost));
            }
        }
        for statement in $statements {
            bound!(&statement.sql, &statement.values)
                .execute(&mut *transaction)
                .await
                .map_err(early)?;
        }
        transaction
            .commit()
            .await
            .map_err(|error| WriteFailure::at_commit(DriverError::Server(error)))
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
    /// Connects once, so that a wrong address is known now.
    pub(crate) async fn open(kind: ServerKind, url: &str) -> Result<Self, DriverError> {
        match kind {
            ServerKind::Mysql => {
                let options = MySqlConnectOptions::from_str(url).map_err(DriverError::Server)?;
                let options = options.charset("utf8mb4").collation("utf8mb4_bin");
                greet(MySqlConnection::connect_with(&options)).await?;
                let pool = MySqlPoolOptions::new()
                    .max_connections(CONNECTIONS_MAX)
                    .acquire_timeout(CONNECT_TIMEOUT)
                    .connect_lazy_with(options);
                Ok(Self::Mysql(pool))
            }
            ServerKind::Postgres => {
                let options = PgConnectOptions::from_str(url).map_err(DriverError::Server)?;
                greet(PgConnection::connect_with(&options)).await?;
                let pool = PgPoolOptions::new()
                    .max_connections(CONNECTIONS_MAX)
                    .acquire_timeout(CONNECT_TIMEOUT)
                    .connect_lazy_with(options);
                Ok(Self::Postgres(pool))
            }
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Mysql(_) => Dialect::Mysql,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs the statements in one transaction.
    pub(crate) async fn write(
        &self,
        statements: &[Statement],
        lease: Option<&Lease>,
        sql: &Sql,
    ) -> Result<(), WriteFailure> {
        let fence = lease.map(|lease| lease.fence(sql));
        let written =
            tokio::time::timeout(ANSWER_TIMEOUT, self.write_all(statements, fence.as_ref()));
        written.await.unwrap_or_else(|_| Err(WriteFailure::at_commit(too_long())))
    }

    async fn write_all(
        &self,
        statements: &[Statement],
        fence: Option<&Statement>,
    ) -> Result<(), WriteFailure> {
        match self {
            Self::Mysql(pool) => write_all!(pool, statements, fence),
            Self::Postgres(pool) => write_all!(pool, statements, fence),
        }
    }

    /// Runs one statement; how many rows it changed.
    pub(crate) async fn execute(&self, statement: &Statement) -> Result<u64, DriverError> {
        let run = async {
            match self {
                Self::Mysql(pool) => bound!(&statement.sql, &statement.values)
                    .execute(pool)
                    .await
                    .map(|done| done.rows_affected()),
                Self::Postgres(pool) => bound!(&statement.sql, &statement.values)
                    .execute(pool)
                    .await
                    .map(|done| done.rows_affected()),
            }
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, run).await {
            Ok(done) => done.map_err(DriverError::Server),
            Err(_) => Err(too_long()),
        }
    }

    /// Runs one query.
    pub(crate) async fn query(&self, query: &Query) -> Result<Vec<Row>, DriverError> {
        let fetched = tokio::time::timeout(ANSWER_TIMEOUT, self.fetch(query));
        fetched.await.unwrap_or_else(|_| Err(too_long()))
    }

    async fn fetch(&self, query: &Query) -> Result<Vec<Row>, DriverError> {
        match self {
            Self::Mysql(pool) => fetch_all!(pool, query),
            Self::Postgres(pool) => fetch_all!(pool, query),
        }
    }

    /// Changes the schema. MySQL commits each statement by itself, so each can be repeated.
    pub(crate) async fn change_schema(
        &self,
        schema: &[String],
        rows: &[Statement],
    ) -> Result<(), DriverError> {
        match self {
            Self::Mysql(pool) => {
                for sql in schema {
                    match sqlx::raw_sql(AssertSqlSafe(sql.clone())).execute(pool).await {
                        Err(error) if !is_duplicate_index(&error) => {
                            return Err(DriverError::Server(error));
                        }
                        Ok(_) | Err(_) => {}
                    }
                }
                self.write_all(rows, None).await.map_err(|failure| failure.error)
            }
            Self::Postgres(pool) => {
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
        for table in TABLES {
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
        match self {
            Self::Mysql(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
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

fn too_long() -> DriverError {
    DriverError::Timeout { seconds: ANSWER_TIMEOUT.as_secs() }
}

fn is_duplicate_index(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>())
        .is_some_and(|error| error.number() == 1061)
}
