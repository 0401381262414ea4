//! A pool as the API shows it.

use fleetfoot_api::{
    CauseInfo, CircuitInfo, DemandInfo, JobInfo, ListenerInfo, PoolStatus, RunnerInfo,
};
use fleetfoot_core::{
    Cause, Circuit, Demand, Intent, JobState, ListenerState, Phase, PoolHealth, PoolState,
    RunnerRelease, Timestamp,
};

use super::discrepancy::discrepancies;
use super::job::job_info;
use super::time::rfc3339;
use crate::causes;

/// One pool; `health` is there when a daemon runs it.
#[must_use]
pub(crate) fn pool_status(
    state: &PoolState,
    health: Option<&PoolHealth>,
    now: Timestamp,
) -> PoolStatus {
    let pool = &state.pool;
    let count = |phases: &[Phase]| {
        let matching = state.instances.values().filter(|instance| phases.contains(&instance.phase));
        u32::try_from(matching.count()).unwrap_or(u32::MAX)
    };
    let desired = match health {
        Some(health) => health.sizing.wanted,
        None => state.open_jobs(now),
    };
    PoolStatus {
        name: pool.name.as_str().to_owned(),
        phase: pool.intent.as_str().to_owned(),
        url: pool.config_url.clone(),
        runner_group: pool.runner_group.clone(),
        scale_set_id: pool.scale_set_id.map(|id| id.0),
        listener: health.map(|health| listener(&health.listener)),
        desired,
        occupying: state.occupying(),
        starting: count(&[Phase::Pending, Phase::Creating, Phase::Starting]),
        warm: count(&[Phase::Warm]),
        idle: count(&[Phase::Idle]),
        running: count(&[Phase::Running]),
        stopping: count(&[Phase::Stopping]),
        serving: state.serving(),
        max_runners: health.map(|health| health.max_runners),
        advertised: health.map(|health| health.advertised),
        demand: demand(&pool.demand, health.is_some()),
        waiting: waiting(state),
        causes: causes_of(state, health, now),
        circuit: circuit(&pool.circuit, now),
        discrepancies: health
            .map(|health| discrepancies(&health.discrepancies))
            .unwrap_or_default(),
        owner: None,
        runner: health.and_then(|health| runner(&health.runner)),
    }
}

/// What is known of the runner's release; nothing, where nothing is.
fn runner(release: &RunnerRelease) -> Option<RunnerInfo> {
    let known = release.version.is_some() || release.missing.is_some();
    known.then(|| RunnerInfo {
        version: release.version.clone(),
        newest: release.newest.clone(),
        accepted_until: release.accepted_until.map(rfc3339),
        problem: release.missing.clone().or_else(|| release.problem.clone()),
    })
}

/// Why a pool does not serve at once: from the running controller, or from the store alone.
#[must_use]
fn causes_of(state: &PoolState, health: Option<&PoolHealth>, now: Timestamp) -> Vec<CauseInfo> {
    if let Some(health) = health {
        return causes::of_pool(health);
    }
    let pool = &state.pool;
    let mut known = vec![causes::no_daemon()];
    match pool.intent {
        Intent::Active => {}
        Intent::Draining => known.push(causes::explain(&Cause::Draining)),
        Intent::Removed => known.push(causes::explain(&Cause::PoolRemoved)),
    }
    if let Some(until) = pool.circuit.open_until.filter(|_| pool.circuit.is_open(now)) {
        known.push(causes::explain(&Cause::CircuitOpen {
            until,
            failures: pool.circuit.failures,
            last: pool.circuit.last_failure.clone(),
        }));
    }
    known
}

fn waiting(state: &PoolState) -> Vec<JobInfo> {
    let mut jobs: Vec<_> =
        state.jobs.values().filter(|job| job.state == JobState::Assigned).collect();
    jobs.sort_by_key(|job| (job.queued_at.unwrap_or(job.seen_at), job.id.clone()));
    jobs.into_iter().map(|job| job_info(job, &state.pool.config_url)).collect()
}

fn demand(demand: &Demand, daemon: bool) -> DemandInfo {
    DemandInfo {
        // A session that a dead daemon left says nothing about now.
        known: demand.known && daemon,
        assigned: demand.statistics.assigned,
        running: demand.statistics.running,
        registered: demand.statistics.registered,
        stated_at: (demand.stated_at != Timestamp::default()).then(|| rfc3339(demand.stated_at)),
    }
}

fn listener(listener: &ListenerState) -> ListenerInfo {
    let (since, until, detail) = match listener {
        ListenerState::Standby { since } => (Some(rfc3339(*since)), None, None),
        ListenerState::Backoff { until, detail } => {
            (None, Some(rfc3339(*until)), Some(detail.clone()))
        }
        ListenerState::Opening | ListenerState::Connected | ListenerState::Closed => {
            (None, None, None)
        }
    };
    ListenerInfo { state: listener.as_str().to_owned(), since, until, detail }
}

fn circuit(circuit: &Circuit, now: Timestamp) -> CircuitInfo {
    let open = circuit.is_open(now);
    CircuitInfo {
        open,
        failures: circuit.failures,
        until: circuit.open_until.filter(|_| open).map(rfc3339),
        last_failure: (!circuit.last_failure.is_empty()).then(|| circuit.last_failure.clone()),
    }
}
