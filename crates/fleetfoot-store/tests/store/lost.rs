//! A server that goes away in the middle of a commit, and comes back.

use std::time::Duration;

use fleetfoot_store::{Fault, Location, Store, UpdateError};
use sqlx::mysql::{MySqlConnection, MySqlPool};
use sqlx::postgres::{PgConnection, PgPool};
use sqlx::{AssertSqlSafe, Connection};
use tokio::time::{sleep, timeout};

use crate::bed::{Bed, pool_name, with_pools};

const LONG: Duration = Duration::from_secs(20);

async fn set_known(store: &Store, known: bool) -> Result<(), UpdateError> {
    store.update(move |txn| txn.pool_mut(&pool_name("p")).unwrap().demand.known = known).await
}

/// The update that was cut off fails and leaves nothing; the next one works.
async fn cut_off_and_back(store: &Store, update: tokio::task::JoinHandle<Result<(), UpdateError>>) {
    let error = timeout(LONG, update).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&error, UpdateError::Write { fault: Fault::Unreachable, .. }), "{error}");
    assert!(error.is_transient());
    assert!(!store.pool(&pool_name("p")).unwrap().pool.demand.known, "nothing was published");
    set_known(store, true).await.unwrap();
    assert!(store.pool(&pool_name("p")).unwrap().pool.demand.known);
    store.close().await;
}

#[expect(clippy::disallowed_methods, reason = "the update has to hang while the test goes on")]
fn begun(store: &Store) -> tokio::task::JoinHandle<Result<(), UpdateError>> {
    let store = store.clone();
    tokio::spawn(async move { set_known(&store, true).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_goes_away_and_comes_back() {
    let Some(bed) = Bed::postgres().await else { return };
    let Location::Url(url) = &bed.location else { unreachable!() };
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let mut locker = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE fleetfoot_pools").execute(&mut locker).await.unwrap();
    let update = begun(&store);
    let admin = PgPool::connect(url).await.unwrap();
    let waiting = "SELECT pid FROM pg_locks WHERE NOT granted \
                   AND relation = 'fleetfoot_pools'::regclass";
    let pid: i32 = timeout(LONG, async {
        loop {
            if let Some(pid) = sqlx::query_scalar(waiting).fetch_optional(&admin).await.unwrap() {
                break pid;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let end = "SELECT pg_terminate_backend($1)";
    sqlx::query(end).bind(pid).execute(&admin).await.unwrap();
    sqlx::raw_sql("ROLLBACK").execute(&mut locker).await.unwrap();
    cut_off_and_back(&store, update).await;
    locker.close().await.unwrap();
    admin.close().await;
    bed.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_goes_away_and_comes_back() {
    let Some(bed) = Bed::mariadb().await else { return };
    let Location::Url(url) = &bed.location else { unreachable!() };
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let mut locker = MySqlConnection::connect(url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut locker).await.unwrap();
    sqlx::raw_sql("SELECT * FROM fleetfoot_pools FOR UPDATE").execute(&mut locker).await.unwrap();
    let update = begun(&store);
    let admin = MySqlPool::connect(url).await.unwrap();
    let waiting = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx \
                   WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '%fleetfoot_pools%'";
    let thread: u64 = timeout(LONG, async {
        loop {
            if let Some(thread) = sqlx::query_scalar(waiting).fetch_optional(&admin).await.unwrap()
            {
                break thread;
            }
            sleep(Duration::from_millis(120)).await;
        }
    })
    .await
    .unwrap();
    let kill = AssertSqlSafe(format!("KILL {thread}"));
    sqlx::raw_sql(kill).execute(&admin).await.unwrap();
    sqlx::raw_sql("ROLLBACK").execute(&mut locker).await.unwrap();
    cut_off_and_back(&store, update).await;
    locker.close().await.unwrap();
    admin.close().await;
    bed.done().await;
}
