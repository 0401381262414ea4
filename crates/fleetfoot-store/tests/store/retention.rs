//! Rows of the original about runners that are long gone (`MYSHOES_HISTORY_DAYS`): a crash in the middle of removing
//! them leaves none half removed. They are nowhere but in MySQL and MariaDB.

use std::process::{Child, Stdio};
use std::time::Duration;

use fleetfoot_store::{Durability, Location, Options, Store};
use sqlx::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, Row as _};

use crate::bed::{Bed, on_every_database};
use crate::targets::{RUNNER_TABLES, schema};

const CHILD: &str = "FLEETFOOT_STORE_RETENTION_CHILD";

const TARGET: &str = "3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1";

/// What is waited for comes within this.
const SOON: Duration = Duration::from_secs(60);

/// Removes them in the database that it is told of; its parent ends it in the middle of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetful_child() {
    let Ok(url) = std::env::var(CHILD) else { return };
    let options = Options { durability: Durability::Off, ..Options::default() };
    let store = Store::open(Location::Url(url), options).await.unwrap();
    store.forget_runner_rows(30, 100).await.unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the victim has to be a process")]
fn victim(url: &str) -> Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["retention::forgetful_child", "--exact", "--test-threads", "1"])
        .env(CHILD, url)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The original's tables, with this many days since each runner was deleted.
async fn with_runners(bed: &Bed, deleted: &[u32]) {
    bed.sql(&schema("TEXT")).await;
    for table in RUNNER_TABLES {
        // Keys of one table that another one names have one character set.
        bed.sql(&format!("{table} DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")).await;
    }
    bed.sql(&format!(
        "INSERT INTO targets (uuid, scope, github_token, token_expired_at, resource_type) VALUES \
         ('{TARGET}', 'acme', '', '2024-01-02 03:04:05', 'small')"
    ))
    .await;
    for (number, days) in deleted.iter().enumerate() {
        bed.sql(&format!("INSERT INTO runners (uuid) VALUES ('{}')", runner(number))).await;
        bed.sql(&format!(
            "INSERT INTO runner_detail (runner_id, shoes_type, ip_address, target_id, cloud_id, resource_type, \
             repository_url, request_webhook) VALUES ('{}', 't', '', '{TARGET}', 'i', 'small', 'u', '')",
            runner(number)
        ))
        .await;
        bed.sql(&format!(
            "INSERT INTO runners_deleted (runner_id, reason, created_at) VALUES ('{}', 'completed', \
             NOW() - INTERVAL {days} DAY)",
            runner(number)
        ))
        .await;
    }
}

fn runner(number: usize) -> String {
    format!("00000000-0000-4000-8000-00000000000{number}")
}

async fn number(sql: &MySqlPool, text: String) -> Option<i64> {
    let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(sql).await.unwrap();
    rows.first().map(|row| row.get_unchecked(0))
}

/// How many rows each of the three tables has.
async fn counts(sql: &MySqlPool) -> [i64; 3] {
    let mut counts = [0; 3];
    for (count, table) in counts.iter_mut().zip(["runners", "runner_detail", "runners_deleted"]) {
        *count = number(sql, format!("SELECT COUNT(*) FROM {table}")).await.unwrap();
    }
    counts
}

async fn until<T>(what: &str, mut wanted: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(seen) = wanted().await {
                return seen;
            }
            // InnoDB shows its transactions as they were until nobody has asked for a tenth of a second.
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_in_the_middle_leaves_no_runner_half_removed() {
    let Some(bed) = Bed::mariadb().await else { return };
    // Its own tables are there before, so that the victim does nothing but remove rows.
    bed.open().await.close().await;
    with_runners(&bed, &[40, 41, 42, 43, 29]).await;
    let Location::Url(url) = &bed.location else { unreachable!() };
    let (_, database) = url.rsplit_once('/').unwrap();
    let sql = MySqlPool::connect(url).await.unwrap();
    // Somebody has one of the rows: what comes before it is removed, and it is waited for.
    let mut holder = sql.begin().await.unwrap();
    let held = format!("SELECT uuid FROM runners WHERE uuid = '{}' FOR UPDATE", runner(2));
    sqlx::query(AssertSqlSafe(held)).execute(&mut *holder).await.unwrap();
    let mut child = victim(url);
    let waits = format!(
        "SELECT CAST(trx_mysql_thread_id AS SIGNED) FROM information_schema.INNODB_TRX \
         JOIN information_schema.PROCESSLIST ON PROCESSLIST.ID = trx_mysql_thread_id \
         WHERE trx_state = 'LOCK WAIT' AND trx_rows_modified >= 2 AND PROCESSLIST.DB = '{database}'"
    );
    let thread =
        until("the removal to be in its middle", async || number(&sql, waits.clone()).await).await;
    child.kill().unwrap();
    child.wait().unwrap();
    holder.rollback().await.unwrap();
    let there = format!(
        "SELECT CAST(ID AS SIGNED) FROM information_schema.PROCESSLIST WHERE ID = {thread}"
    );
    until("the server to notice", async || {
        number(&sql, there.clone()).await.is_none().then_some(())
    })
    .await;
    assert_eq!(counts(&sql).await, [5; 3], "all or nothing");
    let store = bed.open().await;
    assert_eq!(store.forget_runner_rows(30, 3).await.unwrap(), 3);
    assert_eq!(counts(&sql).await, [2; 3]);
    assert_eq!(store.forget_runner_rows(30, 3).await.unwrap(), 1);
    assert_eq!(store.forget_runner_rows(30, 3).await.unwrap(), 0);
    assert_eq!(counts(&sql).await, [1; 3], "the young one stays");
    store.close().await;
    sql.close().await;
    bed.done().await;
}

/// Elsewhere the original's tables cannot be: what bears their names is another's.
async fn tables_of_these_names_elsewhere_are_left_alone(bed: &Bed) {
    let store = bed.open().await;
    if matches!(&bed.location, Location::Url(url) if url.starts_with("mysql")) {
        assert_eq!(store.forget_runner_rows(1, 100).await.unwrap(), 0, "no such tables");
        return store.close().await;
    }
    for table in ["targets", "runners", "runner_detail", "runners_running"] {
        bed.sql(&format!("CREATE TABLE {table} (runner_id TEXT, uuid TEXT)")).await;
    }
    bed.sql("CREATE TABLE runners_deleted (runner_id TEXT, created_at TIMESTAMP)").await;
    bed.sql("INSERT INTO runners_deleted VALUES ('r', '2001-01-01 00:00:00')").await;
    assert_eq!(store.forget_runner_rows(1, 100).await.unwrap(), 0);
    store.close().await;
}

on_every_database!(tables_of_these_names_elsewhere_are_left_alone);
