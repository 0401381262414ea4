//! Leases: who may write, by an epoch that only grows.
//!
//! One controller on one file needs none: the lock of the state directory serves. Controllers that share
//! a database hold a lease and fence every commit with its epoch.

use std::sync::Arc;

use crate::dialect::Dialect;
use crate::driver::Driver;
use crate::fault::DriverError;
use crate::sql::{Kind, Query, Sql, Statement, Value};

/// A lease as its owner holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it covers.
    pub scope: String,
    /// Who holds it.
    pub owner: String,
    /// The epoch: each new holder has a higher one.
    pub epoch: i64,
}

impl Lease {
    /// The statement that changes one row exactly while the lease is held.
    pub(crate) fn fence(&self, sql: &Sql) -> Statement {
        Statement {
            sql: Arc::clone(&sql.fence),
            values: vec![
                Value::text(&self.scope),
                Value::text(&self.owner),
                Value::Int(Some(self.epoch)),
            ],
        }
    }
}

/// Takes the lease on `scope` for `owner`, for `valid` milliseconds of the database's clock, unless
/// another owner holds it. Each taking is a new epoch.
pub(crate) async fn take(
    driver: &mut Driver,
    scope: &str,
    owner: &str,
    valid: i64,
) -> Result<Option<Lease>, DriverError> {
    let dialect = driver.dialect();
    let now = dialect.now();
    let renewed = driver
        .execute(&Statement {
            sql: dialect.text(&format!(
                "UPDATE fleetfoot_leases SET owner = ?, epoch = epoch + 1, expires_at = {now} + ? \
                 WHERE scope = ? AND (owner = ? OR expires_at < {now})"
            )),
            values: vec![
                Value::text(owner),
                Value::Int(Some(valid)),
                Value::text(scope),
                Value::text(owner),
            ],
        })
        .await?;
    if renewed == 0 {
        let ignore = match dialect {
            Dialect::Sqlite | Dialect::Postgres => "ON CONFLICT (scope) DO NOTHING",
            Dialect::Mysql => "ON DUPLICATE KEY UPDATE writes = writes",
        };
        driver
            .execute(&Statement {
                sql: dialect.text(&format!(
                    "INSERT INTO fleetfoot_leases (scope, owner, epoch, expires_at, writes) \
                     VALUES (?, ?, 1, {now} + ?, 0) {ignore}"
                )),
                values: vec![Value::text(scope), Value::text(owner), Value::Int(Some(valid))],
            })
            .await?;
    }
    let held = driver
        .query(&Query {
            sql: dialect.text("SELECT epoch FROM fleetfoot_leases WHERE scope = ? AND owner = ?"),
            values: vec![Value::text(scope), Value::text(owner)],
            kinds: &[Kind::Int],
        })
        .await?;
    Ok(held.first().and_then(|row| match row.first() {
        Some(Value::Int(Some(epoch))) => {
            Some(Lease { scope: scope.to_owned(), owner: owner.to_owned(), epoch: *epoch })
        }
        Some(Value::Int(None) | Value::Text(_)) | None => None,
    }))
}
