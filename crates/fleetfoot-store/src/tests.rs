//! What needs the room's insides: other migrations, a bounded file.

use std::sync::Arc;

use fleetfoot_core::{Instance, InstanceName, Pool, PoolName, Timestamp};
use sqlx::AssertSqlSafe;

use crate::schema::{MIGRATIONS, Migration};
use crate::{Durability, Execution, Fault, Location, OpenError, Options, Store, UpdateError};

/// A later version of the schema: one more column, older programs can go on.
const LATER: &[Migration] = &[
    Migration { version: 1, min_version: 1, sql: MIGRATIONS[0].sql },
    Migration { version: 2, min_version: 2, sql: MIGRATIONS[1].sql },
    Migration { version: 3, min_version: 2, sql: MIGRATIONS[2].sql },
    Migration { version: 4, min_version: 2, sql: MIGRATIONS[3].sql },
    Migration {
        version: 5,
        min_version: 2,
        sql: "ALTER TABLE fleetfoot_pools ADD COLUMN note {TEXT}; ALTER TABLE fleetfoot_jobs ADD COLUMN note {TEXT}",
    },
];

/// A version that cannot be reached: its second step fails.
const BROKEN: &[Migration] = &[
    Migration { version: 1, min_version: 1, sql: MIGRATIONS[0].sql },
    Migration { version: 2, min_version: 2, sql: MIGRATIONS[1].sql },
    Migration { version: 3, min_version: 2, sql: MIGRATIONS[2].sql },
    Migration { version: 4, min_version: 2, sql: MIGRATIONS[3].sql },
    Migration {
        version: 5,
        min_version: 5,
        sql: "ALTER TABLE fleetfoot_pools ADD COLUMN note {TEXT}; ALTER TABLE no_such_table ADD COLUMN note {TEXT}",
    },
];

fn pool(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

fn quick() -> Options {
    Options { durability: Durability::Off, ..Options::default() }
}

async fn with_one_pool(location: &Location) {
    let store = Store::open(location.clone(), quick()).await.unwrap();
    store.update(|txn| txn.put_pool(Pool::new(pool("p"), Timestamp(1)))).await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_migration_saves_what_was_there_first() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.sqlite");
    let location = Location::Sqlite(file.clone());
    with_one_pool(&location).await;
    let error = Store::open_with(location.clone(), quick(), BROKEN).await.unwrap_err();
    assert!(error.to_string().contains("no_such_table"), "{error}");
    let backup = dir.path().join("store.sqlite.schema-4.bak");
    assert!(backup.exists());
    // Half a migration is none: this version still opens it.
    let store = Store::open(location.clone(), quick()).await.unwrap();
    assert!(store.pool(&pool("p")).is_some());
    store.close().await;

    let store = Store::open_with(location.clone(), quick(), LATER).await.unwrap();
    assert!(store.pool(&pool("p")).is_some());
    store.close().await;
    let saved = Store::open_read_only(Location::Sqlite(backup)).await.unwrap();
    assert!(saved.pool(&pool("p")).is_some());
    // The later schema only added: this version goes on with it.
    let store = Store::open(location, quick()).await.unwrap();
    store.update(|txn| txn.put_pool(Pool::new(pool("q"), Timestamp(1)))).await.unwrap();
    assert_eq!(store.pools().len(), 2);
    store.close().await;
}

#[tokio::test]
async fn an_older_schema_is_not_migrated_by_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(dir.path().join("store.sqlite"));
    with_one_pool(&location).await;
    let Location::Sqlite(path) = &location else { unreachable!() };
    let connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute("UPDATE fleetfoot_meta SET content = '0' WHERE name = 'schema'", [])
        .unwrap();
    let error = Store::open_read_only(location).await.unwrap_err();
    assert!(matches!(error, OpenError::Older { found: 0, known: 4, .. }), "{error}");
}

/// A database of its own on a server that the environment names.
async fn on_server(variable: &str, component: &str) -> Option<Location> {
    let Ok(url) = std::env::var(variable) else {
        let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.split(',').any(|word| word == component), "{component} is required");
        println!("SKIPPED: needs {component}");
        return None;
    };
    let name = format!("ff_{}", uuid::Uuid::new_v4().simple());
    if url.starts_with("postgres") {
        let admin = sqlx::postgres::PgPool::connect(&url).await.unwrap();
        let sql = AssertSqlSafe(format!("CREATE SCHEMA {name}"));
        sqlx::query(sql).execute(&admin).await.unwrap();
        let with = if url.contains('?') { '&' } else { '?' };
        return Some(Location::Url(format!("{url}{with}options[search_path]={name}")));
    }
    let admin = sqlx::mysql::MySqlPool::connect(&url).await.unwrap();
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&admin).await.unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    Some(Location::Url(format!("{server}/{name}")))
}

async fn servers_migrate(location: Option<Location>) {
    let Some(location) = location else { return };
    with_one_pool(&location).await;
    let store = Store::open_with(location.clone(), quick(), LATER).await.unwrap();
    assert!(store.pool(&pool("p")).is_some());
    store.close().await;
    let store = Store::open(location, quick()).await.unwrap();
    assert!(store.pool(&pool("p")).is_some());
    store.close().await;
}

#[tokio::test]
async fn postgres_migrates() {
    servers_migrate(on_server("FLEETFOOT_TEST_POSTGRES_URL", "postgres").await).await;
}

#[tokio::test]
async fn mariadb_migrates() {
    servers_migrate(on_server("FLEETFOOT_TEST_MARIADB_URL", "mariadb").await).await;
}

async fn insert(store: &Store, number: u32) -> Result<(), UpdateError> {
    let name = InstanceName::of_pool(&pool("p"), number);
    let mut instance = Instance::pending(name, pool("p"), Timestamp(1));
    instance.last_error = Some("x".repeat(1_000));
    store.update(move |txn| txn.insert_instance(instance).unwrap()).await
}

#[tokio::test]
async fn a_failed_transaction_publishes_nothing() {
    for execution in [Execution::Inline, Execution::Thread] {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("store.sqlite"));
        with_one_pool(&location).await;
        let store = Store::open(location.clone(), Options { execution, ..quick() }).await.unwrap();
        let ticks = store.changes(&pool("p"));
        // No more pages: every insert that needs one fails as on a full disk.
        store.bound_pages(1).await;
        let mut done = 0;
        let error = loop {
            match insert(&store, done).await {
                Ok(()) => done += 1,
                Err(error) => break error,
            }
            assert!(done < 1_000);
        };
        assert!(matches!(error, UpdateError::Write { fault: Fault::Full, .. }), "{error}");
        let state = store.pool(&pool("p")).unwrap();
        assert_eq!(state.instances.len(), done as usize);
        assert_eq!(ticks.has_changed().unwrap(), done > 0);
        assert!(insert(&store, 5_000).await.is_err());
        assert!(Arc::ptr_eq(&state, &store.pool(&pool("p")).unwrap()));
        store.bound_pages(1_000_000).await;
        insert(&store, 5_000).await.unwrap();
        let present = store.pools();
        store.close().await;
        assert_eq!(Store::open(location, quick()).await.unwrap().pools(), present);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_doubtful_commit_the_database_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.sqlite");
    let location = Location::Sqlite(file.clone());
    with_one_pool(&location).await;
    let store = Store::open(location, quick()).await.unwrap();
    insert(&store, 1).await.unwrap();
    let ticks = store.changes(&pool("p"));
    // What a commit would have left whose answer never came.
    let other = rusqlite::Connection::open(&file).unwrap();
    let rename = "UPDATE fleetfoot_instances SET name = 'p-00000002' WHERE name = 'p-00000001'";
    other.execute(rename, []).unwrap();
    drop(other);
    store.doubt().await;
    let seen = store
        .update(|txn| txn.instance(&InstanceName::of_pool(&pool("p"), 2)).is_some())
        .await
        .unwrap();
    assert!(seen);
    assert!(ticks.has_changed().unwrap());
    assert_eq!(store.pool(&pool("p")).unwrap().instances.len(), 1);
    store.close().await;
}
