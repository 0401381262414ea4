//! The schema: its versions, how one becomes the next, and the first read of everything.
//!
//! Within a major version migrations only add, so an older program may go on with a newer schema as long
//! as the row `min_version` allows it. Before each migration a copy is saved.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fleetfoot_core::{InstallationId, Phase, PoolName, PoolState, Timestamp};

use crate::behind::Behind;
use crate::compare;
use crate::driver::Driver;
use crate::error::OpenError;
use crate::fault::{DriverError, RowError};
use crate::mark::Mark;
use crate::names::Names;
use crate::options::Options;
use crate::rows;
use crate::shared::Pools;
use crate::sql::{
    INSTANCE_COLUMNS, INSTANCE_KINDS, JOB_COLUMNS, JOB_KINDS, Kind, POOL_COLUMNS, POOL_KINDS,
    Query, Sql, Statement, Value,
};

/// One step of the schema.
pub(crate) struct Migration {
    /// The version it leads to.
    pub(crate) version: i64,
    /// The oldest program that can go on afterwards, as the schema it knows.
    pub(crate) min_version: i64,
    /// Its text, with the types of `Dialect::schema`.
    pub(crate) sql: &'static str,
}

/// Every step, in order.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, min_version: 1, sql: include_str!("migrations/0001-tables.sql") },
    // A program that knows no owners would write into pools of others.
    Migration { version: 2, min_version: 2, sql: include_str!("migrations/0002-controllers.sql") },
    Migration { version: 3, min_version: 2, sql: include_str!("migrations/0003-targets.sql") },
    Migration {
        version: 4,
        min_version: 2,
        sql: include_str!("migrations/0004-target-settings.sql"),
    },
];

/// This version of the program, as the schema's row names it.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// What the store says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) installation: InstallationId,
    pub(crate) created_at: Timestamp,
    /// It may know less than what is true outside, and nobody has yet looked at that.
    pub(crate) behind: Option<Behind>,
    /// Names begin at this number, if it is behind.
    pub(crate) name_floor: i64,
}

/// Everything of the present.
pub(crate) struct Present {
    pub(crate) pools: Pools,
    pub(crate) closed: Names,
}

pub(crate) async fn meta(
    driver: &mut Driver,
    sql: &Sql,
) -> Result<Option<HashMap<String, String>>, DriverError> {
    let exists = crate::sql::Query {
        sql: sql.dialect.text(sql.dialect.table_exists()),
        values: vec![Value::text("fleetfoot_meta")],
        kinds: &[Kind::Text],
    };
    if driver.query(&exists).await?.is_empty() {
        return Ok(None);
    }
    let all = sql.select(
        &["name", "content"],
        &[Kind::Text, Kind::Text],
        "FROM fleetfoot_meta",
        Vec::new(),
    );
    let mut found = HashMap::new();
    for row in driver.query(&all).await? {
        if let [Value::Text(Some(name)), Value::Text(Some(content))] = row.as_slice() {
            found.insert(name.clone(), content.clone());
        }
    }
    Ok(Some(found))
}

pub(crate) fn number(meta: &HashMap<String, String>, name: &str) -> Option<i64> {
    meta.get(name).and_then(|text| text.parse().ok())
}

pub(crate) fn put_meta(sql: &Sql, name: &str, content: &str) -> Statement {
    Statement {
        sql: sql.dialect.upsert("fleetfoot_meta", &["name", "content"], 1),
        values: vec![Value::text(name), Value::text(content)],
    }
}

/// Refuses a schema that this version cannot go on with.
pub(crate) fn admit(
    meta: &HashMap<String, String>,
    place: &str,
    known: i64,
) -> Result<i64, OpenError> {
    let found = number(meta, "schema").unwrap_or(0);
    let needs = number(meta, "min_version").unwrap_or(found);
    if found > known && needs > known {
        return Err(OpenError::Newer {
            place: place.to_owned(),
            written_by: meta
                .get("written_by")
                .cloned()
                .unwrap_or_else(|| "a newer version".to_owned()),
            found,
            needs,
            program: PROGRAM,
            known,
        });
    }
    Ok(found)
}

/// Brings the schema up to date, makes or checks the store's identity.
pub(crate) async fn prepare(
    driver: &mut Driver,
    sql: &Sql,
    place: &str,
    options: &Options,
    migrations: &[Migration],
    mark: Option<&mut Mark>,
) -> Result<Identity, OpenError> {
    let failed = |error| OpenError::driver(place, error);
    if let Some(detail) = driver.check().await.map_err(failed)? {
        return Err(OpenError::Corrupt { place: place.to_owned(), detail });
    }
    let known = migrations.last().map_or(0, |last| last.version);
    let found = meta(driver, sql).await.map_err(failed)?.unwrap_or_default();
    let schema = admit(&found, place, known)?;
    let mut identity = identity(&found, place, options)?;
    if schema > 0 && schema < known {
        tracing::info!(from = schema, to = known, "migrating store");
        driver.backup_before_migration(schema, now(options)).await.map_err(failed)?;
    }
    for migration in migrations.iter().filter(|migration| migration.version > schema) {
        let text = sql.dialect.schema(migration.sql);
        let steps: Vec<String> = text
            .split(';')
            .map(|step| step.trim().to_owned())
            .filter(|step| !step.is_empty())
            .collect();
        let rows = [
            put_meta(sql, "schema", &migration.version.to_string()),
            put_meta(sql, "min_version", &migration.min_version.to_string()),
            put_meta(sql, "written_by", PROGRAM),
            put_meta(sql, "installation_id", identity.installation.as_str()),
            put_meta(sql, "created_at", &identity.created_at.0.to_string()),
            compare::put_behind(sql, identity.behind),
        ];
        driver.change_schema(&steps, &rows).await.map_err(failed)?;
    }
    if let Some(host) = &options.host {
        let key = format!("host {host}");
        if !found.contains_key(&key) {
            let row = put_meta(sql, &key, &now(options).0.to_string());
            driver.execute(&row).await.map_err(failed)?;
        }
    }
    compare::compare(driver, sql, &found, options, mark, &mut identity)
        .await
        .map_err(|error| OpenError::driver(place, error))?;
    Ok(identity)
}

/// Checks a store that is only read.
pub(crate) async fn inspect(
    driver: &mut Driver,
    sql: &Sql,
    place: &str,
) -> Result<Identity, OpenError> {
    let known = MIGRATIONS.last().map_or(0, |last| last.version);
    let found = meta(driver, sql).await.map_err(|error| OpenError::driver(place, error))?;
    let Some(found) = found else { return Err(OpenError::Missing { place: place.to_owned() }) };
    let schema = admit(&found, place, known)?;
    if schema < known {
        return Err(OpenError::Older { place: place.to_owned(), found: schema, known });
    }
    identity(&found, place, &Options::default())
}

pub(crate) fn now(options: &Options) -> Timestamp {
    options.now.unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    })
}

fn identity(
    meta: &HashMap<String, String>,
    place: &str,
    options: &Options,
) -> Result<Identity, OpenError> {
    let Some(stored) = meta.get("installation_id") else {
        let made = || InstallationId::new(&uuid::Uuid::new_v4().to_string());
        let malformed = |error: fleetfoot_core::NameError| malformed(place, error.to_string());
        return Ok(Identity {
            installation: options.installation.clone().map_or_else(made, Ok).map_err(malformed)?,
            created_at: now(options),
            behind: options.installation.is_some().then_some(Behind::Lost),
            name_floor: 0,
        });
    };
    let store = InstallationId::new(stored).map_err(|error| malformed(place, error.to_string()))?;
    match &options.installation {
        Some(file) if *file != store => {
            Err(OpenError::OtherInstallation { place: place.to_owned(), store, file: file.clone() })
        }
        Some(_) | None => Ok(Identity {
            installation: store,
            created_at: Timestamp(number(meta, "created_at").unwrap_or(0)),
            behind: compare::put_back(meta).or_else(|| compare::behind(meta)),
            name_floor: 0,
        }),
    }
}

fn malformed(place: &str, detail: String) -> OpenError {
    let row = "installation_id".to_owned();
    OpenError::Row {
        place: place.to_owned(),
        source: RowError::Malformed { table: "fleetfoot_meta", row, detail },
    }
}

/// Reads the whole present, and which names are used.
pub(crate) async fn load(driver: &mut Driver, sql: &Sql) -> Result<Present, DriverError> {
    let pools = load_live(driver, sql).await?;
    Ok(Present { pools, closed: closed_names(driver, sql, None).await? })
}

/// Reads the present of one pool, and which of its names are used; nothing if it has no row.
pub(crate) async fn load_pool(
    driver: &mut Driver,
    sql: &Sql,
    pool: &PoolName,
) -> Result<Present, DriverError> {
    let pools = live_of(driver, sql, pool).await?;
    Ok(Present { pools, closed: closed_names(driver, sql, Some(pool)).await? })
}

/// Reads all that lives; nothing of the past, which may be a thousand times as much.
pub(crate) async fn load_live(driver: &mut Driver, sql: &Sql) -> Result<Pools, DriverError> {
    // Others may write between one query and the next: a row without its pool is looked at again.
    let shared = matches!(driver, Driver::Server(_));
    for _ in 0..3 {
        match live_where(driver, sql, None).await {
            Err(DriverError::Row(_)) if shared => {}
            other => return other,
        }
    }
    live_where(driver, sql, None).await
}

/// The same of one pool.
pub(crate) async fn live_of(
    driver: &mut Driver,
    sql: &Sql,
    pool: &PoolName,
) -> Result<Pools, DriverError> {
    live_where(driver, sql, Some(pool)).await
}

fn select_of(
    sql: &Sql,
    (columns, kinds): (&[&str], &'static [Kind]),
    rest: &str,
    mut values: Vec<Value>,
    (column, pool): (&str, Option<&PoolName>),
) -> Query {
    let Some(pool) = pool else { return sql.select(columns, kinds, rest, values) };
    let with = if rest.contains("WHERE") { "AND" } else { "WHERE" };
    values.push(Value::text(pool));
    sql.select(columns, kinds, &format!("{rest} {with} {column} = ?"), values)
}

fn live_rows(sql: &Sql, pool: Option<&PoolName>) -> Query {
    let closed = || Value::text(Phase::Closed.as_str());
    // With `<>` SQLite and PostgreSQL would go through all that was ever closed.
    let live = "FROM fleetfoot_instances WHERE (phase < ? OR phase > ?)";
    let all = (INSTANCE_COLUMNS, INSTANCE_KINDS);
    select_of(sql, all, live, vec![closed(), closed()], ("pool", pool))
}

async fn live_where(
    driver: &mut Driver,
    sql: &Sql,
    pool: Option<&PoolName>,
) -> Result<Pools, DriverError> {
    let mut states = BTreeMap::new();
    let all = (POOL_COLUMNS, POOL_KINDS);
    let pools = select_of(sql, all, "FROM fleetfoot_pools", Vec::new(), ("name", pool));
    for row in driver.query(&pools).await? {
        let pool = rows::pool::from_row(row).map_err(DriverError::Row)?;
        states.insert(pool.name.clone(), PoolState::new(pool));
    }
    for row in driver.query(&live_rows(sql, pool)).await? {
        let instance = rows::instance::from_row(row).map_err(DriverError::Row)?;
        let state = states
            .get_mut(&instance.pool)
            .ok_or_else(|| orphan("fleetfoot_instances", instance.name.as_str()))?;
        state.instances.insert(instance.name.clone(), Arc::new(instance));
    }
    let all = (JOB_COLUMNS, JOB_KINDS);
    let jobs = select_of(sql, all, "FROM fleetfoot_jobs", Vec::new(), ("pool", pool));
    for row in driver.query(&jobs).await? {
        let (pool, job) = rows::job::from_row(row).map_err(DriverError::Row)?;
        let state =
            states.get_mut(&pool).ok_or_else(|| orphan("fleetfoot_jobs", job.id.as_str()))?;
        state.jobs.insert(job.id.clone(), Arc::new(job));
    }
    Ok(states.into_iter().map(|(name, state)| (name, Arc::new(state))).collect())
}

/// The names of closed instances.
pub(crate) async fn closed_names(
    driver: &mut Driver,
    sql: &Sql,
    pool: Option<&PoolName>,
) -> Result<Names, DriverError> {
    let closed = vec![Value::text(Phase::Closed.as_str())];
    let names = "FROM fleetfoot_instances WHERE phase = ?";
    let names = select_of(sql, (&["name"], &[Kind::Text]), names, closed, ("pool", pool));
    let mut closed = Names::default();
    for row in driver.query(&names).await? {
        if let Some(Value::Text(Some(name))) = row.first() {
            closed.insert(name);
        }
    }
    Ok(closed)
}

pub(crate) fn orphan(table: &'static str, row: &str) -> DriverError {
    DriverError::Row(RowError::Malformed {
        table,
        row: row.to_owned(),
        detail: "its pool has no row".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::poll_now;
    use crate::driver::sqlite::{Sharing, Sqlite};
    use crate::options::Durability;

    #[test]
    fn what_lives_is_read_without_a_look_at_what_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let sqlite = Sqlite::open(&path, Durability::Off, Sharing::Alone, None).unwrap();
        let (mut driver, options) = (Driver::Sqlite(sqlite), Options::default());
        let sql = Sql::new(driver.dialect());
        poll_now(prepare(&mut driver, &sql, "here", &options, MIGRATIONS, None)).unwrap();
        for pool in [None, PoolName::new("p").ok().as_ref()] {
            let Query { sql, values, .. } = live_rows(&sql, pool);
            let sql = Arc::from(format!("EXPLAIN QUERY PLAN {sql}"));
            const PLAN: &[Kind] = &[Kind::Int, Kind::Int, Kind::Int, Kind::Text];
            let plan = poll_now(driver.query(&Query { sql, values, kinds: PLAN })).unwrap();
            let steps: Vec<String> = plan.iter().map(|row| format!("{:?}", row[3])).collect();
            assert!(!steps.is_empty() && !steps.concat().contains("SCAN"), "{steps:?}");
        }
    }
}
