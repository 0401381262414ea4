//! The row of a job, unfinished or in the history.

use fleetfoot_core::{InstanceName, Job, JobId, JobState, PoolName, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Columns, json, words};
use crate::fault::RowError;
use crate::history::FinishedJob;
use crate::sql::{Row, Value};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct JobData {
    repository: String,
    workflow: String,
    display_name: String,
    run_id: i64,
    queued_at: Option<i64>,
    started_at: Option<i64>,
    /// Whose runner started it, when the history's own instance is another one or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_on: Option<String>,
}

fn state_word(state: &JobState) -> (&'static str, Option<&InstanceName>) {
    match state {
        JobState::Assigned => ("assigned", None),
        JobState::Started { instance } => ("started", instance.as_ref()),
    }
}

fn state(word: &str, instance: Option<InstanceName>, row: &str) -> Result<JobState, RowError> {
    match word {
        "assigned" => Ok(JobState::Assigned),
        "started" => Ok(JobState::Started { instance }),
        other => Err(words::unknown_job_state(other, row)),
    }
}

fn data(job: &Job) -> JobData {
    let Job {
        id: _,
        state,
        repository,
        workflow,
        display_name,
        run_id,
        queued_at,
        seen_at: _,
        started_at,
    } = job;
    JobData {
        repository: repository.clone(),
        workflow: workflow.clone(),
        display_name: display_name.clone(),
        run_id: *run_id,
        queued_at: queued_at.map(|at| at.0),
        started_at: started_at.map(|at| at.0),
        started_on: state_word(state).1.map(ToString::to_string),
    }
}

/// The values of an unfinished job's row, in the order of its columns.
pub(crate) fn values(pool: &PoolName, job: &Job) -> Vec<Value> {
    let (state, instance) = state_word(&job.state);
    vec![
        Value::text(pool),
        Value::text(&job.id),
        Value::text(state),
        Value::maybe_text(instance.map(InstanceName::as_str)),
        Value::Int(Some(job.seen_at.0)),
        json(&data(job)),
    ]
}

/// The values of a finished job's row, in the order of its columns.
pub(crate) fn history_values(finished: &FinishedJob) -> Vec<Value> {
    let FinishedJob { pool, job, instance, result, finished_at } = finished;
    vec![
        Value::text(pool),
        Value::text(&job.id),
        Value::text(state_word(&job.state).0),
        Value::maybe_text(instance.as_ref().map(InstanceName::as_str)),
        Value::maybe_text(result.as_deref()),
        Value::Int(Some(job.seen_at.0)),
        Value::Int(Some(finished_at.0)),
        json(&data(job)),
    ]
}

fn instance_name(
    text: Option<String>,
    columns: &Columns,
) -> Result<Option<InstanceName>, RowError> {
    text.map(|text| InstanceName::new(&text)).transpose().map_err(|error| columns.malformed(error))
}

/// The pool and the job of an unfinished job's row.
pub(crate) fn from_row(row: Row) -> Result<(PoolName, Job), RowError> {
    let mut columns = Columns::new("fleetfoot_jobs", row);
    let pool = columns.text()?;
    let pool = PoolName::new(&pool).map_err(|error| columns.malformed(error))?;
    let id = columns.text()?;
    let word = columns.text()?;
    let _instance = columns.maybe_text()?;
    let seen_at = columns.int()?;
    let job = job(&id, &word, seen_at, &mut columns)?;
    Ok((pool, job))
}

/// The finished job of a row of the history.
pub(crate) fn from_history(row: Row) -> Result<FinishedJob, RowError> {
    let mut columns = Columns::new("fleetfoot_job_history", row);
    let pool = columns.text()?;
    let pool = PoolName::new(&pool).map_err(|error| columns.malformed(error))?;
    let id = columns.text()?;
    let word = columns.text()?;
    let instance = columns.maybe_text()?;
    let instance = instance_name(instance, &columns)?;
    let result = columns.maybe_text()?;
    let seen_at = columns.int()?;
    let finished_at = Timestamp(columns.int()?);
    let job = job(&id, &word, seen_at, &mut columns)?;
    Ok(FinishedJob { pool, job, instance, result, finished_at })
}

fn job(id: &str, word: &str, seen_at: i64, columns: &mut Columns) -> Result<Job, RowError> {
    let data: JobData = columns.json()?;
    let started_on = instance_name(data.started_on, columns)?;
    Ok(Job {
        id: JobId::new(id),
        state: state(word, started_on, &columns.row())?,
        repository: data.repository,
        workflow: data.workflow,
        display_name: data.display_name,
        run_id: data.run_id,
        queued_at: data.queued_at.map(Timestamp),
        seen_at: Timestamp(seen_at),
        started_at: data.started_at.map(Timestamp),
    })
}
