//! Which names were given by pools that have no row any more.
//!
//! A pool counts its names in its row (`naming` in the core). When that is removed, and the pool is put back after the
//! clock stepped back or after a burst that ran ahead of it, its count would begin in the past. So the count of every
//! removed pool raises one floor for all of them, in the transaction that removes it.

use fleetfoot_core::PoolState;

use crate::error::ReadError;
use crate::sql::{Kind, Query, Sql, Statement, Value};
use crate::store::Store;

/// The row that says below which number names may have been given that no row tells of.
pub(crate) const NAME_FLOOR: &str = "name_floor";

/// Raises the floor, by the length of the number and its digits: its column holds text, and three databases cast text
/// to numbers in three ways.
const RAISE: &str = "UPDATE fleetfoot_meta SET content = ? WHERE name = 'name_floor' AND \
    (LENGTH(content) < LENGTH(?) OR (LENGTH(content) = LENGTH(?) AND content < ?))";

const FLOOR: &str = "SELECT content FROM fleetfoot_meta WHERE name = 'name_floor'";

/// The number that the pool gave last, and one more.
pub(crate) fn below(pool: &PoolState) -> i64 {
    pool.pool.last_name.saturating_add(1)
}

/// The statement that goes with the end of a pool's row.
pub(crate) fn keep(sql: &Sql, pool: &PoolState) -> Statement {
    let below = below(pool).to_string();
    Statement { sql: sql.dialect.text(RAISE), values: vec![Value::text(below); 4] }
}

impl Store {
    /// Learns which names were given by pools that another controller removed; to be done before a pool gets a row.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn look_at_names(&self) -> Result<(), ReadError> {
        let query = Query {
            sql: self.inner.sql.dialect.text(FLOOR),
            values: Vec::new(),
            kinds: &[Kind::Text],
        };
        let rows = self.query(query).await?;
        if let Some(Value::Text(Some(floor))) = rows.first().and_then(|row| row.first()) {
            self.inner.shared.raise_name_floor(floor.parse().unwrap_or(0));
        }
        Ok(())
    }
}
