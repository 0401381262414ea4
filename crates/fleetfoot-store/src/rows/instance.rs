//! The row of an instance, live or closed.

use fleetfoot_core::{
    Exit, FailureKind, Instance, InstanceName, JobId, Outcome, Phase, PoolName, Registration,
    RunnerId, ScaleSetId, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{Columns, json, words};
use crate::fault::RowError;
use crate::sql::{INSTANCE_COLUMNS, Row, Value};

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct ExitData {
    #[serde(skip_serializing_if = "is_default")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "is_default")]
    out_of_memory: bool,
    #[serde(skip_serializing_if = "is_default")]
    message: Option<String>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct FailureData {
    kind: String,
    detail: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct OutcomeData {
    word: String,
    #[serde(default, skip_serializing_if = "is_default")]
    result: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    detail: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    reason: Option<String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct InstanceData {
    registration: String,
    environment: String,
    phase_since: i64,
    #[serde(skip_serializing_if = "is_default")]
    registered_as: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    runner_id: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    scale_set_id: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    handle: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    backend_identity: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    boot_id: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    recipe: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    job_started_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    job_proven: bool,
    #[serde(skip_serializing_if = "is_default")]
    exit: Option<ExitData>,
    #[serde(skip_serializing_if = "is_default")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    failure: Option<FailureData>,
    #[serde(skip_serializing_if = "is_default")]
    forced: bool,
    #[serde(skip_serializing_if = "is_default")]
    unanswered_since: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    clear_lists: u32,
    #[serde(skip_serializing_if = "is_default")]
    last_clear_list_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    last_call_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    attempts: u32,
    #[serde(skip_serializing_if = "is_default")]
    retry_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    verified_at: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    outcome: Option<OutcomeData>,
}

fn outcome_data(outcome: &Outcome) -> OutcomeData {
    let plain = |word: &str| OutcomeData {
        word: word.to_owned(),
        result: None,
        kind: None,
        detail: None,
        reason: None,
    };
    match outcome {
        Outcome::Completed { result } => {
            OutcomeData { result: result.clone(), ..plain("completed") }
        }
        Outcome::Failed { kind, detail } => OutcomeData {
            kind: Some(kind.as_str().to_owned()),
            detail: Some(detail.clone()),
            ..plain("failed")
        },
        Outcome::Lost { detail } => OutcomeData { detail: Some(detail.clone()), ..plain("lost") },
        Outcome::Removed(reason) => {
            OutcomeData { reason: Some(reason.as_str().to_owned()), ..plain("removed") }
        }
        Outcome::HostRebooted => plain("host rebooted"),
        Outcome::RegistrationUnverified => plain("registration unverified"),
    }
}

fn outcome(data: OutcomeData, row: &str) -> Result<Outcome, RowError> {
    Ok(match data.word.as_str() {
        "completed" => Outcome::Completed { result: data.result },
        "failed" => Outcome::Failed {
            kind: words::failure(&data.kind.unwrap_or_default(), row)?,
            detail: data.detail.unwrap_or_default(),
        },
        "lost" => Outcome::Lost { detail: data.detail.unwrap_or_default() },
        "removed" => Outcome::Removed(words::reason(&data.reason.unwrap_or_default(), row)?),
        "host rebooted" => Outcome::HostRebooted,
        "registration unverified" => Outcome::RegistrationUnverified,
        other => return Err(words::unknown_outcome(other, row)),
    })
}

fn registration_data(registration: Registration) -> (&'static str, Option<i64>) {
    match registration {
        Registration::None => ("none", None),
        Registration::Requested => ("requested", None),
        Registration::Registered(runner) => ("registered", Some(runner.0)),
        Registration::Gone => ("gone", None),
    }
}

fn registration(word: &str, runner: Option<i64>, row: &str) -> Result<Registration, RowError> {
    match (word, runner) {
        ("none", _) => Ok(Registration::None),
        ("requested", _) => Ok(Registration::Requested),
        ("registered", Some(runner)) => Ok(Registration::Registered(RunnerId(runner))),
        ("gone", _) => Ok(Registration::Gone),
        (other, _) => Err(words::unknown_registration(other, row)),
    }
}

fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.0)
}

/// The values of an instance's row, in the order of its columns.
pub(crate) fn values(instance: &Instance) -> Vec<Value> {
    row(instance).into()
}

/// What changes in the row of an instance that keeps its job: for `move_instance`, and for `keep_instance` if it
/// keeps its phase as well.
pub(crate) fn changed_values(instance: &Instance, keeps_phase: bool) -> Vec<Value> {
    let [name, _, phase, _, job_result, job_completed_at, _, _, data] = row(instance);
    let rest = [job_result, job_completed_at, data, name];
    if keeps_phase { rest.into() } else { std::iter::once(phase).chain(rest).collect() }
}

fn row(instance: &Instance) -> [Value; INSTANCE_COLUMNS.len()] {
    let Instance {
        name,
        pool,
        phase,
        registration,
        environment,
        runner_id,
        scale_set_id,
        handle,
        backend_identity,
        boot_id,
        recipe,
        job,
        job_started_at,
        job_completed_at,
        job_result,
        job_proven,
        exit,
        reason,
        failure,
        forced,
        unanswered_since,
        clear_lists,
        last_clear_list_at,
        last_call_at,
        attempts,
        retry_at,
        last_error,
        created_at,
        phase_since,
        verified_at,
        outcome,
    } = instance;
    let (registration, registered_as) = registration_data(*registration);
    let data = InstanceData {
        registration: registration.to_owned(),
        registered_as,
        environment: words::environment_word(*environment).to_owned(),
        runner_id: runner_id.map(|id| id.0),
        scale_set_id: scale_set_id.map(|id| id.0),
        handle: handle.clone(),
        backend_identity: backend_identity.clone(),
        boot_id: boot_id.clone(),
        recipe: recipe.clone(),
        job_started_at: millis(*job_started_at),
        job_proven: *job_proven,
        exit: exit.as_ref().map(|Exit { code, out_of_memory, message }| ExitData {
            code: *code,
            out_of_memory: *out_of_memory,
            message: message.clone(),
        }),
        reason: reason.map(|reason| reason.as_str().to_owned()),
        failure: failure.as_ref().map(|(kind, detail)| FailureData {
            kind: kind.as_str().to_owned(),
            detail: detail.clone(),
        }),
        forced: *forced,
        unanswered_since: millis(*unanswered_since),
        clear_lists: *clear_lists,
        last_clear_list_at: millis(*last_clear_list_at),
        last_call_at: millis(*last_call_at),
        attempts: *attempts,
        retry_at: millis(*retry_at),
        last_error: last_error.clone(),
        phase_since: phase_since.0,
        verified_at: millis(*verified_at),
        outcome: outcome.as_ref().map(outcome_data),
    };
    let closed_at = (*phase == Phase::Closed).then_some(phase_since.0);
    [
        Value::text(name),
        Value::text(pool),
        Value::text(phase.as_str()),
        Value::maybe_text(job.as_ref().map(JobId::as_str)),
        Value::maybe_text(job_result.as_deref()),
        Value::Int(millis(*job_completed_at)),
        Value::Int(Some(created_at.0)),
        Value::Int(closed_at),
        json(&data),
    ]
}

/// The instance of a row.
pub(crate) fn from_row(row: Row) -> Result<Instance, RowError> {
    let mut columns = Columns::new("fleetfoot_instances", row);
    let name = columns.text()?;
    let name = InstanceName::new(&name).map_err(|error| columns.malformed(error))?;
    let pool = columns.text()?;
    let pool = PoolName::new(&pool).map_err(|error| columns.malformed(error))?;
    let key = columns.row();
    let phase = words::phase(&columns.text()?, &key)?;
    let job = columns.maybe_text()?.map(|job| JobId::new(&job));
    let job_result = columns.maybe_text()?;
    let job_completed_at = columns.maybe_int()?.map(Timestamp);
    let created_at = Timestamp(columns.int()?);
    let _closed_at = columns.maybe_int()?;
    let data: InstanceData = columns.json()?;
    Ok(Instance {
        name,
        pool,
        phase,
        registration: registration(&data.registration, data.registered_as, &key)?,
        environment: words::environment(&data.environment, &key)?,
        runner_id: data.runner_id.map(RunnerId),
        scale_set_id: data.scale_set_id.map(ScaleSetId),
        handle: data.handle,
        backend_identity: data.backend_identity,
        boot_id: data.boot_id,
        recipe: data.recipe,
        job,
        job_started_at: data.job_started_at.map(Timestamp),
        job_completed_at,
        job_result,
        job_proven: data.job_proven,
        exit: data.exit.map(|exit| Exit {
            code: exit.code,
            out_of_memory: exit.out_of_memory,
            message: exit.message,
        }),
        reason: data.reason.map(|word| words::reason(&word, &key)).transpose()?,
        failure: data.failure.map(|failure| failure_pair(failure, &key)).transpose()?,
        forced: data.forced,
        unanswered_since: data.unanswered_since.map(Timestamp),
        clear_lists: data.clear_lists,
        last_clear_list_at: data.last_clear_list_at.map(Timestamp),
        last_call_at: data.last_call_at.map(Timestamp),
        attempts: data.attempts,
        retry_at: data.retry_at.map(Timestamp),
        last_error: data.last_error,
        created_at,
        phase_since: Timestamp(data.phase_since),
        verified_at: data.verified_at.map(Timestamp),
        outcome: data.outcome.map(|data| outcome(data, &key)).transpose()?,
    })
}

fn failure_pair(data: FailureData, row: &str) -> Result<(FailureKind, String), RowError> {
    Ok((words::failure(&data.kind, row)?, data.detail))
}
