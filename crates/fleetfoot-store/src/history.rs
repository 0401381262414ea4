//! The past: what is asked of it, and what it answers.

use fleetfoot_core::{Instance, InstanceName, Job, JobId, PoolName, Timestamp};

use crate::event::{EventFilter, EventRow};
use crate::fault::RowError;
use crate::rows;
use crate::sql::{
    EVENT_KINDS, HISTORY_COLUMNS, HISTORY_KINDS, INSTANCE_COLUMNS, INSTANCE_KINDS, Query, Row, Sql,
    Value,
};

/// Which closed instances to read: all conditions together, latest closed first.
#[derive(Debug, Clone, Default)]
pub struct ClosedFilter {
    /// Only of this pool.
    pub pool: Option<PoolName>,
    /// Only what ran this job.
    pub job: Option<JobId>,
    /// At most this many; 0 for 100.
    pub limit: u32,
}

/// Which finished jobs to read: all conditions together, latest finished first.
#[derive(Debug, Clone, Default)]
pub struct FinishedJobFilter {
    /// Only of this pool.
    pub pool: Option<PoolName>,
    /// Only this job.
    pub job: Option<JobId>,
    /// Only what this instance ran.
    pub instance: Option<InstanceName>,
    /// At most this many; 0 for 100.
    pub limit: u32,
}

/// A job that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedJob {
    /// The pool it was assigned to.
    pub pool: PoolName,
    /// The job as it was last known.
    pub job: Job,
    /// The instance that ran it.
    pub instance: Option<InstanceName>,
    /// Its result, as GitHub spelled it.
    pub result: Option<String>,
    /// When its end was heard of.
    pub finished_at: Timestamp,
}

/// The rows of `limit`, or of a usual number.
fn limited(limit: u32, usual: i64) -> Value {
    Value::Int(Some(if limit == 0 { usual } else { i64::from(limit) }))
}

/// Conditions of a query, joined by `AND`.
#[derive(Default)]
struct Conditions {
    texts: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    fn add(&mut self, column: &str, value: Option<impl AsRef<str>>) {
        if let Some(value) = value {
            self.texts.push(format!("{column} = ?"));
            self.values.push(Value::text(value));
        }
    }

    fn text(&self) -> String {
        if self.texts.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", self.texts.join(" AND "))
        }
    }
}

pub(crate) fn events(sql: &Sql, filter: &EventFilter) -> Query {
    let mut conditions = Conditions::default();
    conditions.add("pool", filter.pool.as_ref());
    conditions.add("instance", filter.instance.as_ref());
    conditions.add("job", filter.job.as_ref());
    let rest = format!("FROM fleetfoot_events {} ORDER BY id DESC LIMIT ?", conditions.text());
    conditions.values.push(limited(filter.limit, 1000));
    sql.select(
        &["id", "happened_at", "pool", "instance", "job", "phrase", "fields"],
        EVENT_KINDS,
        &rest,
        conditions.values,
    )
}

pub(crate) fn read_events(rows: Vec<Row>) -> Result<Vec<EventRow>, RowError> {
    rows.into_iter().rev().map(rows::event::from_row).collect()
}

pub(crate) fn closed_by_name(sql: &Sql, name: &InstanceName) -> Query {
    let rest = "FROM fleetfoot_instances WHERE name = ? AND phase = 'closed'";
    sql.select(INSTANCE_COLUMNS, INSTANCE_KINDS, rest, vec![Value::text(name)])
}

pub(crate) fn closed(sql: &Sql, filter: &ClosedFilter) -> Query {
    let mut conditions = Conditions::default();
    conditions.add("phase", Some("closed"));
    conditions.add("pool", filter.pool.as_ref());
    conditions.add("job", filter.job.as_ref());
    let rest = format!(
        "FROM fleetfoot_instances {} ORDER BY closed_at DESC, name LIMIT ?",
        conditions.text()
    );
    conditions.values.push(limited(filter.limit, 100));
    sql.select(INSTANCE_COLUMNS, INSTANCE_KINDS, &rest, conditions.values)
}

pub(crate) fn read_closed(rows: Vec<Row>) -> Result<Vec<Instance>, RowError> {
    rows.into_iter().map(rows::instance::from_row).collect()
}

pub(crate) fn finished(sql: &Sql, filter: &FinishedJobFilter) -> Query {
    let mut conditions = Conditions::default();
    conditions.add("pool", filter.pool.as_ref());
    conditions.add("id", filter.job.as_ref());
    conditions.add("instance", filter.instance.as_ref());
    let rest = format!(
        "FROM fleetfoot_job_history {} ORDER BY finished_at DESC, id LIMIT ?",
        conditions.text()
    );
    conditions.values.push(limited(filter.limit, 100));
    sql.select(HISTORY_COLUMNS, HISTORY_KINDS, &rest, conditions.values)
}

pub(crate) fn read_finished(rows: Vec<Row>) -> Result<Vec<FinishedJob>, RowError> {
    rows.into_iter().map(rows::job::from_history).collect()
}
