//! Statements as data: built by `rows` and `batch`, run by a driver.

use std::sync::Arc;

use crate::dialect::Dialect;
use crate::heard::Questions;

/// One value of a statement or of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A whole number or null.
    Int(Option<i64>),
    /// A text or null.
    Text(Option<String>),
}

impl Value {
    pub(crate) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Some(plain(text.as_ref().to_owned())))
    }

    pub(crate) fn maybe_text(text: Option<&str>) -> Self {
        Self::Text(text.map(|text| plain(text.to_owned())))
    }
}

/// PostgreSQL cannot hold the character 0 in a text; nothing of ours needs it outside of JSON.
fn plain(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// What a column of an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole number or null.
    Int,
    /// A text or null.
    Text,
}

/// A statement that changes rows.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: Arc<str>,
    pub(crate) values: Vec<Value>,
}

/// A statement that answers with rows.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) sql: Arc<str>,
    pub(crate) values: Vec<Value>,
    pub(crate) kinds: &'static [Kind],
}

/// One row of an answer.
pub(crate) type Row = Vec<Value>;

/// How an answer differs from the one before to the same query; the greater counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Again {
    /// In nothing.
    Same,
    /// In numbers alone.
    Numbers,
    /// In texts, or in how many rows there are.
    Words,
}

impl Again {
    /// Puts `rows` in the place of `known`.
    pub(crate) fn note(known: &mut Vec<Row>, rows: Vec<Row>) -> Self {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        let texts = |row: &Row| row.iter().filter(|it| is_text(it)).cloned().collect::<Vec<_>>();
        let same_texts = known.len() == rows.len()
            && known.iter().zip(&rows).all(|(known, row)| texts(known) == texts(row));
        let again = match (*known == rows, same_texts) {
            (true, _) => Self::Same,
            (false, true) => Self::Numbers,
            (false, false) => Self::Words,
        };
        *known = rows;
        again
    }
}

/// The columns of each table, keys first.
pub(crate) const POOL_COLUMNS: &[&str] = &["name", "intent", "created_at", "data"];
pub(crate) const INSTANCE_COLUMNS: &[&str] = &[
    "name",
    "pool",
    "phase",
    "job",
    "job_result",
    "job_completed_at",
    "created_at",
    "closed_at",
    "data",
];
pub(crate) const JOB_COLUMNS: &[&str] = &["pool", "id", "state", "instance", "seen_at", "data"];
pub(crate) const HISTORY_COLUMNS: &[&str] =
    &["pool", "id", "state", "instance", "result", "seen_at", "finished_at", "data"];

pub(crate) const POOL_KINDS: &[Kind] = &[Kind::Text, Kind::Text, Kind::Int, Kind::Text];
pub(crate) const INSTANCE_KINDS: &[Kind] = &[
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Int,
    Kind::Int,
    Kind::Int,
    Kind::Text,
];
pub(crate) const JOB_KINDS: &[Kind] =
    &[Kind::Text, Kind::Text, Kind::Text, Kind::Text, Kind::Int, Kind::Text];
pub(crate) const HISTORY_KINDS: &[Kind] =
    &[Kind::Text, Kind::Text, Kind::Text, Kind::Text, Kind::Text, Kind::Int, Kind::Int, Kind::Text];
pub(crate) const EVENT_KINDS: &[Kind] =
    &[Kind::Int, Kind::Int, Kind::Text, Kind::Text, Kind::Text, Kind::Text, Kind::Text];

/// The statements a writer needs again and again, spelled once for its database.
#[derive(Debug, Clone)]
pub(crate) struct Sql {
    pub(crate) dialect: Dialect,
    pub(crate) put_pool: Arc<str>,
    pub(crate) delete_pool: Arc<str>,
    pub(crate) put_instance: Arc<str>,
    /// The same of a row that is there and keeps its job; what is indexed is left alone, it costs the most.
    pub(crate) move_instance: Arc<str>,
    /// The same of a row that keeps its phase as well.
    pub(crate) keep_instance: Arc<str>,
    pub(crate) amend_instance: Arc<str>,
    pub(crate) put_job: Arc<str>,
    pub(crate) delete_job: Arc<str>,
    pub(crate) put_history: Arc<str>,
    pub(crate) insert_event: Arc<str>,
    pub(crate) fence: Arc<str>,
    /// Moves a controller's deadline.
    pub(crate) keep_controller: Arc<str>,
    pub(crate) everybody: Questions,
}

impl Sql {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            put_pool: dialect.upsert("fleetfoot_pools", POOL_COLUMNS, 1),
            delete_pool: dialect.text("DELETE FROM fleetfoot_pools WHERE name = ?"),
            put_instance: dialect.upsert("fleetfoot_instances", INSTANCE_COLUMNS, 1),
            move_instance: dialect.text(
                "UPDATE fleetfoot_instances SET phase = ?, job_result = ?, job_completed_at = ?, data = ? WHERE name = ?",
            ),
            keep_instance: dialect.text(
                "UPDATE fleetfoot_instances SET job_result = ?, job_completed_at = ?, data = ? WHERE name = ?",
            ),
            amend_instance: dialect.text(
                "UPDATE fleetfoot_instances SET job = COALESCE(job, ?), job_result = COALESCE(?, job_result), \
                 job_completed_at = COALESCE(job_completed_at, ?) WHERE name = ? AND phase = 'closed'",
            ),
            put_job: dialect.upsert("fleetfoot_jobs", JOB_COLUMNS, 2),
            delete_job: dialect.text("DELETE FROM fleetfoot_jobs WHERE pool = ? AND id = ?"),
            put_history: dialect.upsert("fleetfoot_job_history", HISTORY_COLUMNS, 2),
            insert_event: dialect.text(
                "INSERT INTO fleetfoot_events (happened_at, pool, instance, job, phrase, fields) VALUES (?, ?, ?, ?, ?, ?)",
            ),
            fence: dialect.text(&format!(
                "UPDATE fleetfoot_owners SET writes = writes + 1 WHERE pool = ? AND owner = ? AND epoch = ? \
                 AND EXISTS (SELECT 1 FROM fleetfoot_controllers WHERE id = ? AND deadline > {})",
                dialect.now()
            )),
            keep_controller: dialect.text(&format!(
                "UPDATE fleetfoot_controllers SET deadline = {} + ? WHERE id = ?",
                dialect.now()
            )),
            everybody: Questions::new(dialect),
        }
    }

    /// A query of some columns of a table.
    pub(crate) fn select(
        &self,
        columns: &[&str],
        kinds: &'static [Kind],
        rest: &str,
        values: Vec<Value>,
    ) -> Query {
        Query {
            sql: self.dialect.text(&format!("SELECT {} {rest}", columns.join(", "))),
            values,
            kinds,
        }
    }
}
