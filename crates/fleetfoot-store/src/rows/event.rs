//! The row of an event.

use fleetfoot_core::{InstanceName, JobId, PoolName, Timestamp};

use super::{Columns, json};
use crate::event::{Event, EventRow};
use crate::fault::RowError;
use crate::sql::{Row, Value};

/// The values of a new event's row, in the order of the insert.
pub(crate) fn values(event: &Event) -> Vec<Value> {
    let Event { at, phrase, pool, instance, job, fields } = event;
    vec![
        Value::Int(Some(at.0)),
        Value::maybe_text(pool.as_ref().map(PoolName::as_str)),
        Value::maybe_text(instance.as_ref().map(InstanceName::as_str)),
        Value::maybe_text(job.as_ref().map(JobId::as_str)),
        Value::text(phrase),
        json(fields),
    ]
}

/// The event of a row.
pub(crate) fn from_row(row: Row) -> Result<EventRow, RowError> {
    let mut columns = Columns::new("fleetfoot_events", row);
    let id = columns.int()?;
    let at = Timestamp(columns.int()?);
    let pool = columns.maybe_text()?.map(|pool| PoolName::new(&pool)).transpose();
    let pool = pool.map_err(|error| columns.malformed(error))?;
    let instance = columns.maybe_text()?.map(|instance| InstanceName::new(&instance)).transpose();
    let instance = instance.map_err(|error| columns.malformed(error))?;
    let job = columns.maybe_text()?.map(|job| JobId::new(&job));
    let phrase = columns.text()?;
    let fields = columns.json()?;
    Ok(EventRow { id, event: Event { at, phrase, pool, instance, job, fields } })
}
