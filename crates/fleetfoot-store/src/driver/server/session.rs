//! What each new session with MySQL or MariaDB is told.

use sqlx::AssertSqlSafe;
use sqlx::mysql::MySqlConnection;

/// What a session of a controller with leases is held to: isolation as PostgreSQL's, and no lock for longer
/// than `seconds` while its client is frozen. MySQL has no bound for idle transactions alone.
pub(super) async fn bound(
    connection: &mut MySqlConnection,
    seconds: u64,
) -> Result<(), sqlx::Error> {
    let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
    sqlx::raw_sql(isolation).execute(&mut *connection).await?;
    let waits = AssertSqlSafe(format!("SET SESSION innodb_lock_wait_timeout = {seconds}"));
    sqlx::raw_sql(waits).execute(&mut *connection).await?;
    let idle = AssertSqlSafe(format!("SET SESSION idle_transaction_timeout = {seconds}"));
    if sqlx::raw_sql(idle).execute(&mut *connection).await.is_err() {
        let idle = AssertSqlSafe(format!("SET SESSION wait_timeout = {}", seconds * 2));
        sqlx::raw_sql(idle).execute(&mut *connection).await?;
    }
    Ok(())
}
