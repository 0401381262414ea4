//! How the past is pruned: in small steps after commits, by the time of what is written.

use std::sync::Arc;

use fleetfoot_core::{Span, Timestamp};

use crate::fault::DriverError;
use crate::schema;
use crate::sql::{Kind, Query, Statement, Value};
use crate::writer::{ROWS_BETWEEN_PRUNES, Writer};

/// What ended later than this after now did so before the clock stepped back, and is older than all that ended since.
/// Clocks of several controllers differ by less.
const AHEAD: Span = Span::minutes(10);

/// What ended longest ago, that from before a step of the clock first. Both parts go along the index of the times: sorting
/// all that is kept would take megabytes.
fn oldest(columns: &str, table: &str, time: &str) -> String {
    format!(
        "SELECT {columns} FROM (\
         SELECT {columns}, 0 AS later FROM (SELECT {columns} FROM {table} WHERE {time} > ? \
         ORDER BY {time} LIMIT ?) AS ahead \
         UNION ALL \
         SELECT {columns}, 1 AS later FROM (SELECT {columns} FROM {table} WHERE {time} <= ? \
         ORDER BY {time} LIMIT ?) AS others\
         ) AS oldest ORDER BY later LIMIT ?"
    )
}

impl Writer {
    /// Removes one step of what is beyond retention. Failing is no harm: it is tried again later.
    pub(crate) async fn prune(&mut self) {
        let written = std::mem::take(&mut self.rows_since_prune);
        if let Err(error) = self.prune_step(written).await {
            tracing::warn!(%error, "store prune failed");
        }
    }

    async fn prune_step(&mut self, written_rows: usize) -> Result<(), DriverError> {
        // No fewer than were written since: a large commit must not outrun it.
        let written = i64::try_from(written_rows).unwrap_or(i64::MAX);
        let step = i64::from(self.retention.step.max(1)).max(written);
        let mut deletes = Vec::new();
        let mut full = false;
        self.rows_since_count = self.rows_since_count.saturating_add(written_rows);
        let counts = self.rows_since_count >= self.rows_between_counts();
        if counts {
            self.rows_since_count = 0;
        }
        let surplus = [self.closed_surplus(counts).await?, self.finished_surplus(counts).await?];
        for (find, values, delete) in self.prunings(step, surplus) {
            let kinds: &[Kind] = if delete.contains("job_history") {
                &[Kind::Text, Kind::Text]
            } else if delete.contains("events") {
                &[Kind::Int]
            } else {
                &[Kind::Text]
            };
            let query = Query { sql: self.sql.dialect.text(&find), values, kinds };
            let rows = self.driver.query(&query).await?;
            full |= i64::try_from(rows.len()).is_ok_and(|rows| rows >= step);
            let sql = self.sql.dialect.text(delete);
            deletes
                .extend(rows.into_iter().map(|values| Statement { sql: Arc::clone(&sql), values }));
        }
        if deletes.is_empty() {
            return Ok(());
        }
        // What is beyond retention may be removed by anybody, and twice.
        self.driver.write(&deletes, &[]).await.map_err(|failure| failure.error)?;
        self.shared.count_commit(deletes.len());
        for delete in deletes.iter().filter(|delete| delete.sql.contains("fleetfoot_instances")) {
            if let Some(Value::Text(Some(name))) = delete.values.first() {
                self.names.remove(name);
            }
        }
        if full {
            // More is left: go on after the next commit.
            self.rows_since_prune = ROWS_BETWEEN_PRUNES;
            self.rows_since_count = self.rows_between_counts();
        }
        Ok(())
    }

    /// Counting goes through all finished jobs that are kept: not with each step, so there may be so many more for a
    /// while.
    fn rows_between_counts(&self) -> usize {
        let share = usize::try_from(self.retention.closed_max / 16).unwrap_or(usize::MAX);
        share.max(ROWS_BETWEEN_PRUNES)
    }

    /// How many closed instances are kept beyond retention. Alone the names say it. Of several controllers each prunes
    /// what the others closed and does not hear what they prune: there the database is asked, seldom.
    async fn closed_surplus(&mut self, counts: bool) -> Result<i64, DriverError> {
        let most = i64::from(self.retention.closed_max);
        let known = i64::try_from(self.names.len()).unwrap_or(i64::MAX);
        if self.shared.member.is_none() {
            return Ok(known - most);
        }
        if !counts {
            return Ok(0);
        }
        let closed = self.count("fleetfoot_instances WHERE closed_at IS NOT NULL").await?;
        if known > most + most / 4 {
            // Those that others pruned are among them.
            self.names = schema::closed_names(&mut self.driver, &self.sql, None).await?;
        }
        Ok(closed - most)
    }

    /// How many finished jobs are kept beyond retention.
    async fn finished_surplus(&mut self, counts: bool) -> Result<i64, DriverError> {
        if !counts {
            return Ok(0);
        }
        let finished = self.count("fleetfoot_job_history").await?;
        Ok(finished - i64::from(self.retention.closed_max))
    }

    async fn count(&mut self, of: &str) -> Result<i64, DriverError> {
        let sql = self.sql.dialect.text(&format!("SELECT COUNT(*) FROM {of}"));
        let query = Query { sql, values: Vec::new(), kinds: &[Kind::Int] };
        let rows = self.driver.query(&query).await?;
        Ok(match rows.first().and_then(|row| row.first()) {
            Some(Value::Int(Some(count))) => *count,
            Some(Value::Int(None) | Value::Text(_)) | None => 0,
        })
    }

    /// What to look for, and how each found key is removed. Of closed instances and of finished jobs there are so many
    /// too many.
    fn prunings(&self, step: i64, surplus: [i64; 2]) -> Vec<(String, Vec<Value>, &'static str)> {
        const EVENT: &str = "DELETE FROM fleetfoot_events WHERE id = ?";
        const INSTANCE: &str = "DELETE FROM fleetfoot_instances WHERE name = ?";
        const HISTORY: &str = "DELETE FROM fleetfoot_job_history WHERE pool = ? AND id = ?";
        let retention = self.retention;
        let time = |at: Timestamp| Value::Int(Some(at.0));
        let before = |age: Span| time(self.told_at - age);
        let ahead = time(self.told_at + AHEAD);
        let limit = Value::Int(Some(step));
        let mut out = vec![
            (
                "SELECT id FROM fleetfoot_events WHERE id <= (SELECT MAX(id) FROM fleetfoot_events) - ? ORDER BY id LIMIT ?".to_owned(),
                vec![Value::Int(Some(i64::from(retention.events_max))), limit.clone()],
                EVENT,
            ),
            (
                "SELECT id FROM fleetfoot_events WHERE happened_at < ? ORDER BY happened_at LIMIT ?".to_owned(),
                vec![before(retention.events_age), limit.clone()],
                EVENT,
            ),
            (
                "SELECT name FROM fleetfoot_instances WHERE closed_at < ? ORDER BY closed_at LIMIT ?".to_owned(),
                vec![before(retention.closed_age), limit.clone()],
                INSTANCE,
            ),
            (
                "SELECT pool, id FROM fleetfoot_job_history WHERE finished_at < ? ORDER BY finished_at LIMIT ?".to_owned(),
                vec![before(retention.closed_age), limit.clone()],
                HISTORY,
            ),
        ];
        let kinds = [
            (oldest("name", "fleetfoot_instances", "closed_at"), INSTANCE),
            (oldest("pool, id", "fleetfoot_job_history", "finished_at"), HISTORY),
        ];
        for (surplus, (find, delete)) in surplus.into_iter().zip(kinds) {
            if surplus > 0 {
                let most = Value::Int(Some(surplus.min(step)));
                let values = vec![ahead.clone(), most.clone(), ahead.clone(), most.clone(), most];
                out.push((find, values, delete));
            }
        }
        out
    }
}
