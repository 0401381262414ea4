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

/// The oldest closed instances, those from before a step of the clock first.
const OLDEST_CLOSED: &str = "SELECT name FROM (\
     SELECT name, 0 AS later FROM (SELECT name FROM fleetfoot_instances WHERE closed_at > ? \
     ORDER BY closed_at LIMIT ?) AS ahead \
     UNION ALL \
     SELECT name, 1 AS later FROM (SELECT name FROM fleetfoot_instances WHERE closed_at <= ? \
     ORDER BY closed_at LIMIT ?) AS others\
     ) AS oldest ORDER BY later LIMIT ?";

/// All finished jobs but the newest, for which those from before a step of the clock do not count.
const OLDEST_FINISHED: &str = "SELECT pool, id FROM fleetfoot_job_history \
     ORDER BY CASE WHEN finished_at > ? THEN 1 ELSE 0 END, finished_at DESC LIMIT ? OFFSET ?";

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
        let surplus = self.closed_surplus(counts).await?;
        for (find, values, delete) in self.prunings(step, counts, surplus) {
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
        let count = Query {
            sql: self
                .sql
                .dialect
                .text("SELECT COUNT(*) FROM fleetfoot_instances WHERE closed_at IS NOT NULL"),
            values: Vec::new(),
            kinds: &[Kind::Int],
        };
        let rows = self.driver.query(&count).await?;
        let closed = match rows.first().and_then(|row| row.first()) {
            Some(Value::Int(Some(closed))) => *closed,
            Some(Value::Int(None) | Value::Text(_)) | None => 0,
        };
        if known > most + most / 4 {
            // Those that others pruned are among them.
            self.names = schema::closed_names(&mut self.driver, &self.sql, None).await?;
        }
        Ok(closed - most)
    }

    /// What to look for, and how each found key is removed.
    fn prunings(
        &self,
        step: i64,
        counts: bool,
        surplus: i64,
    ) -> Vec<(String, Vec<Value>, &'static str)> {
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
        if counts {
            out.push((
                OLDEST_FINISHED.to_owned(),
                vec![ahead.clone(), limit, Value::Int(Some(i64::from(retention.closed_max)))],
                HISTORY,
            ));
        }
        if surplus > 0 {
            let most = Value::Int(Some(surplus.min(step)));
            let values = vec![ahead.clone(), most.clone(), ahead, most.clone(), most];
            out.push((OLDEST_CLOSED.to_owned(), values, INSTANCE));
        }
        out
    }
}
