//! The row of a pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetfoot_core::{
    Circuit, Demand, InstanceName, JobId, Pool, PoolName, ScaleSetId, Statistics, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{Columns, json, words};
use crate::fault::RowError;
use crate::sql::{Row, Value};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct PoolData {
    config_url: String,
    runner_group: String,
    scale_set_id: Option<i64>,
    scale_set_is_ours: bool,
    session_id: Option<String>,
    credential_reference: String,
    backend_connection: String,
    demand: DemandData,
    circuit: CircuitData,
    last_name: i64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct DemandData {
    known: bool,
    available: u32,
    acquired: u32,
    assigned: u32,
    running: u32,
    registered: u32,
    busy: u32,
    idle: u32,
    stated_at: i64,
    opened_at: i64,
    before_session: Option<u32>,
    last_message_id: Option<i64>,
    spent: BTreeMap<String, i64>,
    finished: BTreeMap<String, i64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct CircuitData {
    failures: u32,
    open_until: Option<i64>,
    allowance: u32,
    last_failure: String,
}

fn demand_data(demand: &Demand) -> DemandData {
    let Demand {
        known,
        statistics,
        stated_at,
        opened_at,
        before_session,
        last_message_id,
        spent,
        finished,
    } = demand;
    let Statistics { available, acquired, assigned, running, registered, busy, idle } = *statistics;
    DemandData {
        known: *known,
        available,
        acquired,
        assigned,
        running,
        registered,
        busy,
        idle,
        stated_at: stated_at.0,
        opened_at: opened_at.0,
        before_session: *before_session,
        last_message_id: *last_message_id,
        spent: spent.iter().map(|(name, since)| (name.to_string(), since.0)).collect(),
        finished: finished.iter().map(|(job, at)| (job.to_string(), at.0)).collect(),
    }
}

/// The values of a pool's row, in the order of its columns.
pub(crate) fn values(pool: &Pool) -> Vec<Value> {
    let Pool {
        name,
        intent,
        config_url,
        runner_group,
        scale_set_id,
        scale_set_is_ours,
        session_id,
        credential_reference,
        backend_connection,
        demand,
        circuit: Circuit { failures, open_until, allowance, last_failure },
        last_name,
        created_at,
    } = pool;
    let data = PoolData {
        config_url: config_url.clone(),
        runner_group: runner_group.clone(),
        scale_set_id: scale_set_id.map(|id| id.0),
        scale_set_is_ours: *scale_set_is_ours,
        session_id: session_id.clone(),
        credential_reference: credential_reference.clone(),
        backend_connection: backend_connection.clone(),
        demand: demand_data(demand),
        circuit: CircuitData {
            failures: *failures,
            open_until: open_until.map(|at| at.0),
            allowance: *allowance,
            last_failure: last_failure.clone(),
        },
        last_name: *last_name,
    };
    vec![
        Value::text(name),
        Value::text(intent.as_str()),
        Value::Int(Some(created_at.0)),
        json(&data),
    ]
}

/// The pool of a row.
pub(crate) fn from_row(row: Row) -> Result<Pool, RowError> {
    let mut columns = Columns::new("fleetfoot_pools", row);
    let name = columns.text()?;
    let name = PoolName::new(&name).map_err(|error| columns.malformed(error))?;
    let intent = words::intent(&columns.text()?, name.as_str())?;
    let created_at = Timestamp(columns.int()?);
    let data: PoolData = columns.json()?;
    let demand = demand(data.demand, &columns)?;
    Ok(Pool {
        name,
        intent,
        config_url: data.config_url,
        runner_group: data.runner_group,
        scale_set_id: data.scale_set_id.map(ScaleSetId),
        scale_set_is_ours: data.scale_set_is_ours,
        session_id: data.session_id,
        credential_reference: data.credential_reference,
        backend_connection: data.backend_connection,
        demand,
        circuit: Circuit {
            failures: data.circuit.failures,
            open_until: data.circuit.open_until.map(Timestamp),
            allowance: data.circuit.allowance,
            last_failure: data.circuit.last_failure,
        },
        last_name: data.last_name,
        created_at,
    })
}

fn demand(data: DemandData, columns: &Columns) -> Result<Demand, RowError> {
    let mut spent = BTreeMap::new();
    for (name, since) in data.spent {
        let name = InstanceName::new(&name).map_err(|error| columns.malformed(error))?;
        spent.insert(name, Timestamp(since));
    }
    let finished = data.finished.into_iter();
    let finished = finished.map(|(job, at)| (JobId::new(&job), Timestamp(at))).collect();
    Ok(Demand {
        known: data.known,
        statistics: Statistics {
            available: data.available,
            acquired: data.acquired,
            assigned: data.assigned,
            running: data.running,
            registered: data.registered,
            busy: data.busy,
            idle: data.idle,
        },
        stated_at: Timestamp(data.stated_at),
        opened_at: Timestamp(data.opened_at),
        before_session: data.before_session,
        last_message_id: data.last_message_id,
        spent,
        finished: Arc::new(finished),
    })
}
