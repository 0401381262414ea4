//! What a message says, taken into the store. Repeating it changes nothing (invariant 5).

use std::sync::Arc;

use fleetfoot_core::demand::ASSIGNED_ITEMS_HOLD;
use fleetfoot_core::{
    InstanceName, Job, JobId, JobState, Observation, PoolName, PoolState, Span, Statistics,
    Timestamp,
};
use fleetfoot_github::{JobCompleted, JobInfo, JobStarted, Message};
use fleetfoot_store::Txn;

use crate::record::observe;

/// Unfinished jobs remembered per pool at most; GitHub's level counts them all the same.
const JOBS_MAX: usize = 10_000;

/// A job waits a day at most and runs five: what was heard of longer ago ended without a word to us.
const JOB_AGE_MAX: Span = Span::minutes(7 * 24 * 60);

/// GitHub's statistics in the core's words.
pub(crate) fn statistics(from: fleetfoot_github::Statistics) -> Statistics {
    Statistics {
        available: from.available,
        acquired: from.acquired,
        assigned: from.assigned,
        running: from.running,
        registered: from.registered,
        busy: from.busy,
        idle: from.idle,
    }
}

/// Takes the whole message in: its level, and which jobs are where.
pub(crate) fn record_message(
    txn: &mut Txn<'_>,
    pool: &PoolName,
    message: &Message,
    now: Timestamp,
) {
    let seen = |state: &PoolState| {
        state.pool.demand.last_message_id.is_some_and(|last| message.id <= last)
    };
    if txn.pool(pool).is_none_or(seen) {
        return;
    }
    if let Some(row) = txn.pool_mut(pool) {
        row.demand.last_message_id = Some(message.id);
        if let Some(level) = message.statistics {
            #[cfg(feature = "faults")]
            let level = if fleetfoot_faults::Defect::CountMessages.is_planted() {
                let sum = row.demand.statistics.assigned as usize + message.assigned.len();
                let left = sum.saturating_sub(message.completed.len());
                fleetfoot_github::Statistics {
                    assigned: u32::try_from(left).unwrap_or(u32::MAX),
                    ..level
                }
            } else {
                level
            };
            row.demand.state(statistics(level), now);
        }
    }
    forget_jobs(txn, pool, message, now);
    for job in &message.assigned {
        assigned(txn, pool, job, now);
    }
    for item in &message.started {
        started(txn, pool, item, now);
    }
    for item in &message.completed {
        completed(txn, pool, item, now);
    }
}

/// What we still hold for unfinished though GitHub counts no job any more ended without a word to us, in a
/// gap between two sessions; so did what is older than any job.
fn forget_jobs(txn: &mut Txn<'_>, pool: &PoolName, message: &Message, now: Timestamp) {
    let none_left = message.statistics.is_some_and(|level| level.assigned == 0);
    let hold = if none_left { ASSIGNED_ITEMS_HOLD } else { JOB_AGE_MAX };
    let Some(state) = txn.pool(pool) else { return };
    let old = |job: &&Arc<Job>| job.seen_at.age(now) >= hold;
    let forgotten: Vec<JobId> = state.jobs.values().filter(old).map(|job| job.id.clone()).collect();
    for id in forgotten {
        txn.remove_job(pool, &id, None, now);
    }
}

fn assigned(txn: &mut Txn<'_>, pool: &PoolName, info: &JobInfo, now: Timestamp) {
    let id = JobId::new(&info.job_id);
    let finished = was_finished(txn, pool, &id);
    if info.job_id.is_empty()
        || finished
        || txn.job(pool, &id).is_some()
        || job_count(txn, pool) >= JOBS_MAX
    {
        return;
    }
    txn.put_job(pool, job(info, JobState::Assigned, now));
}

fn started(txn: &mut Txn<'_>, pool: &PoolName, item: &JobStarted, now: Timestamp) {
    let id = JobId::new(&item.job.job_id);
    let instance = InstanceName::new(&item.runner_name).ok();
    if let Some(name) = &instance {
        observe(txn, pool, name, &Observation::JobStarted { job: id.clone() }, now);
    }
    let finished = was_finished(txn, pool, &id);
    if item.job.job_id.is_empty() || finished || job_count(txn, pool) >= JOBS_MAX {
        return;
    }
    let seen_at = txn.job(pool, &id).map_or(now, |known| known.seen_at);
    let state = JobState::Started { instance };
    txn.put_job(pool, Job { seen_at, started_at: Some(now), ..job(&item.job, state, now) });
}

fn completed(txn: &mut Txn<'_>, pool: &PoolName, item: &JobCompleted, now: Timestamp) {
    let id = JobId::new(&item.job.job_id);
    if let Ok(name) = InstanceName::new(&item.runner_name) {
        let result = (!item.result.is_empty()).then(|| item.result.clone());
        let known = (!item.job.job_id.is_empty()).then(|| id.clone());
        observe(txn, pool, &name, &Observation::JobCompleted { job: known, result }, now);
        // Its row may be closed already: its history learns of the job, and the job is over all the same.
        if txn.is_closed(&name) {
            let known = (!item.job.job_id.is_empty()).then_some(&id);
            txn.amend_closed(&name, known, Some(&item.result), now);
        }
        if let Some(row) = txn.pool_mut(pool) {
            row.demand.spent.remove(&name);
        }
    }
    if item.job.job_id.is_empty() {
        return;
    }
    let known = txn.job(pool, &id).cloned();
    let state = JobState::Started { instance: InstanceName::new(&item.runner_name).ok() };
    let finished = known.map_or_else(
        || job(&item.job, state.clone(), now),
        |known| match known.state {
            JobState::Started { instance: Some(_) } => known,
            JobState::Started { instance: None } | JobState::Assigned => {
                Job { state: state.clone(), ..known }
            }
        },
    );
    txn.put_job(pool, finished);
    txn.remove_job(pool, &id, Some(&item.result), now);
    // A withdrawn assignment has no runner; GitHub assigns the same job again, so it is not remembered as over.
    if !item.runner_name.is_empty()
        && let Some(row) = txn.pool_mut(pool)
    {
        row.demand.finish(&id, now);
    }
}

fn job(info: &JobInfo, state: JobState, now: Timestamp) -> Job {
    let repository = if info.owner.is_empty() {
        info.repository.clone()
    } else {
        format!("{}/{}", info.owner, info.repository)
    };
    Job {
        id: JobId::new(&info.job_id),
        state,
        repository,
        workflow: info.workflow_ref.clone(),
        display_name: info.display_name.clone(),
        run_id: info.run_id,
        queued_at: info.queued_at.map(wall),
        seen_at: now,
        started_at: None,
    }
}

/// Logs what a message said, once it is committed.
pub(crate) fn log_message(pool: &PoolName, message: &Message) {
    for item in &message.started {
        tracing::info!(
            %pool,
            instance = item.runner_name,
            request_id = item.job.request_id,
            run = item.job.run_id,
            job = item.job.job_id,
            repository = item.job.repository,
            "job started"
        );
    }
    for item in &message.completed {
        tracing::info!(
            %pool,
            instance = item.runner_name,
            result = item.result,
            run = item.job.run_id,
            job = item.job.job_id,
            "job completed"
        );
    }
}

/// GitHub's wall time in the core's words.
fn wall(at: std::time::SystemTime) -> Timestamp {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn was_finished(txn: &Txn<'_>, pool: &PoolName, id: &JobId) -> bool {
    txn.pool(pool).is_some_and(|state| state.pool.demand.finished.contains_key(id))
}

fn job_count(txn: &Txn<'_>, pool: &PoolName) -> usize {
    txn.pool(pool).map_or(0, |state| state.jobs.len())
}

#[cfg(test)]
mod tests;
