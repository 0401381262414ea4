//! Leases: one heartbeat keeps all pools of a controller, an epoch per pool fences its commits.
//!
//! ```text
//! controllers: id, host, deadline by the database's clock     one UPDATE every two seconds
//! owners:      pool, owner, epoch, host of a host backend     changed by taking and letting go only
//! ```
//!
//! A pool is free when it has no owner or its owner's deadline is past. Taking it raises the epoch in one
//! statement that waits for the row lock of a commit in progress; every commit locks and compares the rows of
//! the pools that it touches. So a commit of a former owner is either whole and seen by the taker, or none.

use std::sync::Arc;

use fleetfoot_core::{Fleet, InstanceName, Ownership, PoolName, Span, Wish};

use crate::dialect::Dialect;
use crate::driver::{Driver, WriteFailure};
use crate::fault::DriverError;
use crate::fleet::{Membership, Said, Taken};
use crate::heard::{Heard, OWNER_KINDS, Questions, owner_row};
use crate::member::Owned;
use crate::rows::json;
use crate::sql::{Query, Sql, Statement, Value};

/// A dead controller that owns nothing is forgotten after this.
const FORGET_AFTER: Span = Span::minutes(10);

/// A statement that changes one row exactly while the pool is ours.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    pub(crate) pool: PoolName,
    pub(crate) statement: Statement,
}

/// The fences of the pools that a batch touches.
pub(crate) fn fences<'a>(
    sql: &Sql,
    me: &Membership,
    owned: &Owned,
    touched: impl IntoIterator<Item = &'a PoolName>,
) -> Vec<Fence> {
    let fence = |pool: &PoolName| Fence {
        pool: pool.clone(),
        statement: Statement {
            sql: Arc::clone(&sql.fence),
            values: vec![
                Value::text(pool),
                Value::text(&me.controller),
                // No epoch is negative: what is not owned passes no fence.
                Value::Int(Some(owned.get(pool).copied().unwrap_or(-1))),
                Value::text(&me.controller),
            ],
        },
    };
    touched.into_iter().map(fence).collect()
}

fn statement(driver: &Driver, sql: &str, values: Vec<Value>) -> Statement {
    Statement { sql: driver.dialect().text(sql), values }
}

fn put_controller(driver: &Driver, me: &Membership, said: &str) -> Statement {
    let now = driver.dialect().now();
    let update = match driver.dialect() {
        Dialect::Sqlite | Dialect::Postgres => {
            "ON CONFLICT (id) DO UPDATE SET deadline = excluded.deadline, data = excluded.data"
        }
        Dialect::Mysql => {
            "ON DUPLICATE KEY UPDATE deadline = VALUES(deadline), data = VALUES(data)"
        }
    };
    statement(
        driver,
        &format!(
            "INSERT INTO fleetfoot_controllers (id, host_id, boot_id, deadline, data) \
             VALUES (?, ?, ?, {now} + ?, ?) {update}"
        ),
        vec![
            Value::text(&me.controller),
            Value::text(&me.host_id),
            Value::text(&me.boot_id),
            Value::Int(Some(me.valid.0)),
            Value::text(said),
        ],
    )
}

/// What a controller says of itself, as text.
pub(crate) fn said(said: &Said) -> String {
    match json(said) {
        Value::Text(Some(text)) => text,
        Value::Text(None) | Value::Int(_) => String::new(),
    }
}

/// Joins: a predecessor of the same host and boot is dead, and so are those nobody remembers.
pub(crate) async fn join(
    driver: &mut Driver,
    me: &Membership,
    said: &str,
) -> Result<(), DriverError> {
    let now = driver.dialect().now();
    let mut statements = Vec::new();
    if !me.boot_id.is_empty() {
        statements.push(statement(
            driver,
            "DELETE FROM fleetfoot_controllers WHERE host_id = ? AND boot_id = ? AND id <> ?",
            vec![Value::text(&me.host_id), Value::text(&me.boot_id), Value::text(&me.controller)],
        ));
    }
    statements.push(statement(
        driver,
        &format!(
            "DELETE FROM fleetfoot_controllers WHERE deadline < {now} - ? \
             AND id NOT IN (SELECT owner FROM fleetfoot_owners WHERE owner IS NOT NULL)"
        ),
        vec![Value::Int(Some(FORGET_AFTER.0))],
    ));
    statements.push(put_controller(driver, me, said));
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.lease.join.before");
    let joined = driver.write(&statements, &[]).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.lease.join.after");
    joined.map_err(|WriteFailure { error, .. }| error)
}

/// One heartbeat of a controller that says what it said before; false if its row is gone.
pub(crate) async fn keep(
    driver: &mut Driver,
    sql: &Sql,
    me: &Membership,
) -> Result<bool, DriverError> {
    let values = vec![Value::Int(Some(me.valid.0)), Value::text(&me.controller)];
    let keep = Statement { sql: Arc::clone(&sql.keep_controller), values };
    Ok(driver.execute(&keep).await? > 0)
}

/// One heartbeat of a controller that says something new, or whose row is gone.
pub(crate) async fn say(
    driver: &mut Driver,
    me: &Membership,
    said: &str,
) -> Result<(), DriverError> {
    driver.execute(&put_controller(driver, me, said)).await.map(|_| ())
}

/// Asks for a pool. Its rows are to be read after this, if it was given.
pub(crate) async fn take(
    driver: &mut Driver,
    me: &Membership,
    pool: &PoolName,
    host_bound: bool,
) -> Result<Taken, DriverError> {
    let dialect = driver.dialect();
    let now = dialect.now();
    let ignore = match dialect {
        Dialect::Sqlite | Dialect::Postgres => "ON CONFLICT (pool) DO NOTHING",
        Dialect::Mysql => "ON DUPLICATE KEY UPDATE writes = writes",
    };
    let insert = format!(
        "INSERT INTO fleetfoot_owners (pool, owner, epoch, host_id, writes) \
         VALUES (?, NULL, 0, NULL, 0) {ignore}"
    );
    driver.execute(&statement(driver, &insert, vec![Value::text(pool)])).await?;
    let before = owner_of(driver, pool).await?.and_then(|row| row.owner);
    let update = format!(
        "UPDATE fleetfoot_owners SET owner = ?, epoch = epoch + 1, host_id = ?, writes = writes + 1 \
         WHERE pool = ? AND (host_id IS NULL OR host_id = ?) \
         AND (owner IS NULL OR owner = ? OR NOT EXISTS (SELECT 1 FROM fleetfoot_controllers \
         WHERE fleetfoot_controllers.id = fleetfoot_owners.owner AND deadline > {now}))"
    );
    let values = vec![
        Value::text(&me.controller),
        Value::maybe_text(host_bound.then_some(me.host_id.as_str())),
        Value::text(pool),
        Value::text(&me.host_id),
        Value::text(&me.controller),
    ];
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.lease.take.before");
    let given = driver.execute(&statement(driver, &update, values)).await?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.lease.take.after");
    let row = owner_of(driver, pool).await?;
    Ok(match row {
        Some(Ownership { owner: Some(owner), epoch, .. })
            if owner == me.controller && given > 0 =>
        {
            Taken::Yes { epoch, before: before.filter(|before| *before != me.controller) }
        }
        Some(Ownership { host_id: Some(host_id), .. }) if host_id != me.host_id => {
            Taken::Elsewhere { host_id }
        }
        Some(Ownership { owner, .. }) => Taken::Held { owner: owner.unwrap_or_default() },
        None => Taken::Held { owner: String::new() },
    })
}

async fn owner_of(driver: &mut Driver, pool: &PoolName) -> Result<Option<Ownership>, DriverError> {
    let query = Query {
        sql: driver.dialect().text(
            "SELECT pool, owner, epoch, host_id, writes FROM fleetfoot_owners WHERE pool = ?",
        ),
        values: vec![Value::text(pool)],
        kinds: OWNER_KINDS,
    };
    let rows = driver.query(&query).await?;
    rows.into_iter().next().map(owner_row).transpose().map(|row| row.map(|(_, row)| row))
}

/// Lets a pool go, unless it is another one's already.
pub(crate) fn let_go(driver: &Driver, me: &Membership, pool: &PoolName, epoch: i64) -> Statement {
    statement(
        driver,
        "UPDATE fleetfoot_owners SET owner = NULL, writes = writes + 1 \
         WHERE pool = ? AND owner = ? AND epoch = ?",
        vec![Value::text(pool), Value::text(&me.controller), Value::Int(Some(epoch))],
    )
}

/// Forgets that a pool without a row ever had an owner.
pub(crate) fn forget(sql: &Sql, pool: &PoolName) -> Statement {
    let text = "DELETE FROM fleetfoot_owners WHERE pool = ?";
    Statement { sql: sql.dialect.text(text), values: vec![Value::text(pool)] }
}

/// Lets everything go and leaves.
pub(crate) async fn leave(driver: &mut Driver, me: &Membership) -> Result<(), DriverError> {
    let mine = || vec![Value::text(&me.controller)];
    let statements = [
        statement(
            driver,
            "UPDATE fleetfoot_owners SET owner = NULL, writes = writes + 1 WHERE owner = ?",
            mine(),
        ),
        statement(driver, "DELETE FROM fleetfoot_controllers WHERE id = ?", mine()),
    ];
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.lease.leave.before");
    let left = driver.write(&statements, &[]).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("store.lease.leave.after");
    left.map_err(|failure| failure.error)
}

pub(crate) fn put_wish(driver: &Driver, wish: &Wish) -> Statement {
    statement(
        driver,
        "INSERT INTO fleetfoot_wishes (pool, instance, word, wished_at) VALUES (?, ?, ?, ?)",
        vec![
            Value::text(&wish.pool),
            Value::maybe_text(wish.instance.as_ref().map(InstanceName::as_str)),
            Value::text(wish.word.as_str()),
            Value::Int(Some(wish.at.0)),
        ],
    )
}

pub(crate) fn wish_done(driver: &Driver, id: i64) -> Statement {
    let values = vec![Value::Int(Some(id))];
    statement(driver, "DELETE FROM fleetfoot_wishes WHERE id = ?", values)
}

/// Reads everybody.
pub(crate) async fn read(driver: &mut Driver) -> Result<Fleet, DriverError> {
    let questions = Questions::new(driver.dialect());
    let fleet = Heard::default().read(driver, &questions).await?;
    Ok(Arc::unwrap_or_clone(fleet))
}

/// Lets go of everything that a host has, unless its heart beats.
pub(crate) fn forget_host(driver: &Driver, host_id: &str) -> Vec<Statement> {
    let now = driver.dialect().now();
    // A table of its own around it, and a distinct one: MySQL reads no table that the statement changes.
    let living =
        format!("SELECT DISTINCT host_id FROM fleetfoot_controllers WHERE deadline >= {now}");
    let of_host = |table: &str| {
        let sql = format!(
            "DELETE FROM {table} WHERE host_id = ? \
             AND host_id NOT IN (SELECT host_id FROM ({living}) AS living)"
        );
        statement(driver, &sql, vec![Value::text(host_id)])
    };
    vec![of_host("fleetfoot_owners"), of_host("fleetfoot_controllers")]
}
