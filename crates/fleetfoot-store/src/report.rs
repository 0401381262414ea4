//! What `store check` finds: damage, rows that cannot be read, sizes and counts, whose store it is.
//!
//! Only reads, takes no lock, and stands beside a running writer; it also reads what a writer would refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use fleetfoot_core::Timestamp;

use crate::behind::Behind;
use crate::compare;
use crate::dialect::Dialect;
use crate::driver::Driver;
use crate::driver::server::Server;
use crate::driver::sqlite::Sqlite;
use crate::error::OpenError;
use crate::fault::{DriverError, RowError};
use crate::location::Location;
use crate::mark;
use crate::rows;
use crate::schema::{self, MIGRATIONS};
use crate::sql::{
    EVENT_KINDS, HISTORY_COLUMNS, HISTORY_KINDS, INSTANCE_COLUMNS, INSTANCE_KINDS, JOB_COLUMNS,
    JOB_KINDS, Kind, POOL_COLUMNS, POOL_KINDS, Row, Sql, Value,
};

/// Findings that are told one by one; the rest is counted.
const TOLD_MAX: usize = 20;

/// Events that are read at once.
const EVENTS_AT_ONCE: i64 = 5_000;

/// What is in a store, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Where, without secrets.
    pub place: String,
    /// `sqlite`, `mysql` or `postgres`.
    pub database: &'static str,
    /// The installation that it belongs to.
    pub installation: Option<String>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// The version of its schema.
    pub schema: i64,
    /// The schema that a program must know at least to use it.
    pub min_version: i64,
    /// The schema that this program knows.
    pub known_schema: i64,
    /// The version of the program that wrote its schema.
    pub written_by: Option<String>,
    /// When it was taken, if it is a backup that says so.
    pub backup_taken_at: Option<Timestamp>,
    /// It may know less than what is true outside.
    pub behind: Option<Behind>,
    /// Damage of the database, and what cannot be: a line each, not all of them.
    pub findings: Vec<String>,
    /// How many findings there are.
    pub findings_count: u64,
    /// Rows of each table.
    pub rows: BTreeMap<&'static str, u64>,
    /// Closed instances among `instances`.
    pub closed_instances: u64,
    /// Bytes of the file; nothing for a server.
    pub file_bytes: Option<u64>,
    /// Bytes of its write-ahead log.
    pub log_bytes: Option<u64>,
    /// Bytes in the file that are free to be used again.
    pub free_bytes: Option<u64>,
    /// The oldest event.
    pub oldest_event: Option<Timestamp>,
}

impl Report {
    /// Nothing is wrong with it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings_count == 0
    }

    fn find(&mut self, finding: impl ToString) {
        self.findings_count += 1;
        if self.findings.len() < TOLD_MAX {
            self.findings.push(finding.to_string());
        }
    }
}

/// Looks through a whole store.
///
/// # Errors
/// When there is none, or it is no store that this program could read. What is wrong with the rest is in
/// the report.
pub async fn inspect(location: &Location) -> Result<Report, OpenError> {
    let place = location.to_string();
    let failed = |error| OpenError::driver(&place, error);
    let mut driver = match location {
        Location::Sqlite(path) => {
            if !path.exists() {
                return Err(OpenError::Missing { place });
            }
            Driver::Sqlite(Sqlite::open_read_only(path).map_err(failed)?)
        }
        Location::Url(url) => {
            let (kind, url) = Location::server(url)?;
            Driver::Server(Server::open(kind, &url, None).await.map_err(failed)?)
        }
    };
    let sql = Sql::new(driver.dialect());
    let found = schema::meta(&mut driver, &sql).await.map_err(failed)?;
    let Some(found) = found else { return Err(OpenError::Missing { place }) };
    let mut report = Report { place: place.clone(), ..Report::default() };
    report.known_schema = MIGRATIONS.last().map_or(0, |last| last.version);
    report.schema = schema::admit(&found, &place, report.known_schema)?;
    report.min_version = schema::number(&found, "min_version").unwrap_or(report.schema);
    report.written_by = found.get("written_by").cloned();
    report.installation = found.get("installation_id").cloned();
    report.created_at = schema::number(&found, "created_at").map(Timestamp);
    report.backup_taken_at = schema::number(&found, compare::TAKEN_AT).map(Timestamp);
    report.behind = compare::behind(&found);
    report.database = match driver.dialect() {
        Dialect::Sqlite => "sqlite",
        Dialect::Mysql => "mysql",
        Dialect::Postgres => "postgres",
    };
    if report.installation.is_none() {
        report.find("it does not say which installation it belongs to");
    }
    if let Some(damage) = driver.check_wholly().await.map_err(failed)? {
        report.find(damage);
    }
    if let Location::Sqlite(path) = location {
        sizes(&mut report, &driver, path);
    }
    // An older schema may lack columns; the next start migrates it.
    if report.schema >= report.known_schema {
        read_rows(&mut report, &mut driver, &sql).await.map_err(failed)?;
    }
    driver.close().await;
    Ok(report)
}

fn sizes(report: &mut Report, driver: &Driver, path: &Path) {
    let size = |path: &Path| fs::metadata(path).map(|meta| meta.len()).ok();
    report.file_bytes = size(path);
    report.log_bytes = Some(size(&mark::log_of(path)).unwrap_or(0));
    if let Driver::Sqlite(sqlite) = driver {
        report.free_bytes = sqlite.free_bytes().ok();
    }
}

async fn read_rows(report: &mut Report, driver: &mut Driver, sql: &Sql) -> Result<(), DriverError> {
    let mut pools = BTreeSet::new();
    for row in all(driver, sql, POOL_COLUMNS, POOL_KINDS, "fleetfoot_pools").await? {
        count(report, "pools");
        match rows::pool::from_row(row) {
            Ok(pool) => drop(pools.insert(pool.name)),
            Err(error) => report.find(error),
        }
    }
    for row in all(driver, sql, INSTANCE_COLUMNS, INSTANCE_KINDS, "fleetfoot_instances").await? {
        count(report, "instances");
        match rows::instance::from_row(row) {
            Ok(row) if row.phase == fleetfoot_core::Phase::Closed => report.closed_instances += 1,
            Ok(row) if pools.contains(&row.pool) => {}
            Ok(row) => report.find(schema::orphan("fleetfoot_instances", row.name.as_str())),
            Err(error) => report.find(error),
        }
    }
    for row in all(driver, sql, JOB_COLUMNS, JOB_KINDS, "fleetfoot_jobs").await? {
        count(report, "jobs");
        match rows::job::from_row(row) {
            Ok((pool, _)) if pools.contains(&pool) => {}
            Ok((_, job)) => report.find(schema::orphan("fleetfoot_jobs", job.id.as_str())),
            Err(error) => report.find(error),
        }
    }
    for row in all(driver, sql, HISTORY_COLUMNS, HISTORY_KINDS, "fleetfoot_job_history").await? {
        count(report, "finished_jobs");
        if let Err(error) = rows::job::from_history(row) {
            report.find(error);
        }
    }
    read_events(report, driver, sql).await
}

async fn read_events(
    report: &mut Report,
    driver: &mut Driver,
    sql: &Sql,
) -> Result<(), DriverError> {
    let columns = ["id", "happened_at", "pool", "instance", "job", "phrase", "fields"];
    let rest = "FROM fleetfoot_events WHERE id > ? ORDER BY id LIMIT ?";
    let mut after = i64::MIN;
    loop {
        let values = vec![Value::Int(Some(after)), Value::Int(Some(EVENTS_AT_ONCE))];
        let rows = driver.query(&sql.select(&columns, EVENT_KINDS, rest, values)).await?;
        let Some(Value::Int(Some(last))) = rows.last().and_then(|row| row.first()) else {
            return Ok(());
        };
        after = *last;
        for row in rows {
            count(report, "events");
            match rows::event::from_row(row) {
                Ok(row) => report.oldest_event = report.oldest_event.or(Some(row.event.at)),
                Err(error) => report.find(error),
            }
        }
    }
}

fn count(report: &mut Report, table: &'static str) {
    *report.rows.entry(table).or_default() += 1;
}

async fn all(
    driver: &mut Driver,
    sql: &Sql,
    columns: &[&str],
    kinds: &'static [Kind],
    table: &'static str,
) -> Result<Vec<Row>, DriverError> {
    driver.query(&sql.select(columns, kinds, &format!("FROM {table}"), Vec::new())).await
}

impl From<RowError> for DriverError {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}
