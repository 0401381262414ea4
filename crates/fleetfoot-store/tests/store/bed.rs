//! A database of its own for each test.

use fleetfoot_core::{Instance, InstanceName, JobId, Pool, PoolName, Timestamp};
use fleetfoot_store::{Durability, Location, Options, Store};
use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlPool;
use sqlx::postgres::PgPool;

/// A fresh database; dropped by `done`, or with its server.
pub(crate) struct Bed {
    pub(crate) location: Location,
    _dir: Option<tempfile::TempDir>,
}

fn fresh_name() -> String {
    format!("ff_{}", uuid::Uuid::new_v4().simple())
}

/// The address of a server, or a word that the test is skipped. Required ones may not be missing.
fn server(variable: &str, component: &str) -> Option<String> {
    if let Ok(url) = std::env::var(variable) {
        return Some(url);
    }
    let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word == component), "{component} is required");
    println!("SKIPPED: needs {component}");
    None
}

impl Bed {
    pub(crate) async fn sqlite() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("store.sqlite"));
        Some(Self { location, _dir: Some(dir) })
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let url = server("FLEETFOOT_TEST_POSTGRES_URL", "postgres")?;
        let name = fresh_name();
        let admin = PgPool::connect(&url).await.unwrap();
        let sql = format!("CREATE SCHEMA {name}");
        sqlx::query(AssertSqlSafe(sql)).execute(&admin).await.unwrap();
        admin.close().await;
        let with = if url.contains('?') { '&' } else { '?' };
        let location = Location::Url(format!("{url}{with}options[search_path]={name}"));
        Some(Self { location, _dir: None })
    }

    pub(crate) async fn mariadb() -> Option<Self> {
        let url = server("FLEETFOOT_TEST_MARIADB_URL", "mariadb")?;
        let name = fresh_name();
        let admin = MySqlPool::connect(&url).await.unwrap();
        let sql = format!("CREATE DATABASE {name}");
        sqlx::query(AssertSqlSafe(sql)).execute(&admin).await.unwrap();
        admin.close().await;
        let (server, _) = url.rsplit_once('/').unwrap();
        Some(Self { location: Location::Url(format!("{server}/{name}")), _dir: None })
    }

    /// Runs a text on the database behind the store's back.
    pub(crate) async fn sql(&self, text: &str) {
        match &self.location {
            Location::Sqlite(path) => {
                rusqlite::Connection::open(path).unwrap().execute_batch(text).unwrap();
            }
            Location::Url(url) if url.starts_with("postgres") => {
                let pool = PgPool::connect(url).await.unwrap();
                sqlx::query(AssertSqlSafe(text.to_owned())).execute(&pool).await.unwrap();
                pool.close().await;
            }
            Location::Url(url) => {
                let pool = MySqlPool::connect(url).await.unwrap();
                sqlx::query(AssertSqlSafe(text.to_owned())).execute(&pool).await.unwrap();
                pool.close().await;
            }
        }
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_with(Options::default()).await
    }

    pub(crate) async fn open_with(&self, options: Options) -> Store {
        let options = Options { durability: Durability::Off, ..options };
        Store::open(self.location.clone(), options).await.unwrap()
    }

    /// Drops what a server keeps.
    pub(crate) async fn done(self) {
        if let Location::Url(url) = &self.location {
            if let Some((_, schema)) = url.split_once("search_path]=") {
                self.sql(&format!("DROP SCHEMA {schema} CASCADE")).await;
            } else if let Some((_, database)) = url.rsplit_once('/') {
                self.sql(&format!("DROP DATABASE {database}")).await;
            }
        }
    }
}

/// Makes of each scenario one test per database.
macro_rules! on_every_database {
    ($($scenario:ident),* $(,)?) => {
        on_every_database!(@one sqlite $($scenario)*);
        on_every_database!(@one postgres $($scenario)*);
        on_every_database!(@one mariadb $($scenario)*);
    };
    (@one $database:ident $($scenario:ident)*) => {
        mod $database {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    if let Some(bed) = crate::bed::Bed::$database().await {
                        super::$scenario(&bed).await;
                        bed.done().await;
                    }
                }
            )*
        }
    };
}
pub(crate) use on_every_database;

pub(crate) fn pool_name(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

pub(crate) fn instance_name(name: &str) -> InstanceName {
    InstanceName::new(name).unwrap()
}

pub(crate) fn job_id(id: &str) -> JobId {
    JobId::new(id)
}

pub(crate) fn pending(name: &str, pool: &str) -> Instance {
    Instance::pending(instance_name(name), pool_name(pool), Timestamp(1_000))
}

/// Makes the rows of these pools.
pub(crate) async fn with_pools(store: &Store, names: &[&str]) {
    let pools: Vec<Pool> =
        names.iter().map(|name| Pool::new(pool_name(name), Timestamp(1_000))).collect();
    store.update(move |txn| pools.into_iter().for_each(|pool| txn.put_pool(pool))).await.unwrap();
}

pub(crate) fn job(id: &str) -> fleetfoot_core::Job {
    fleetfoot_core::Job {
        id: job_id(id),
        state: fleetfoot_core::JobState::Assigned,
        repository: "o/r".to_owned(),
        workflow: "ci".to_owned(),
        display_name: "test".to_owned(),
        run_id: 1,
        queued_at: None,
        seen_at: Timestamp(1_000),
        started_at: None,
    }
}
