//! Everything the routes and the command line ask of the store, and the three changes they may make.

use std::time::Duration;

use fleetfoot_api::{ErrorCode, EventInfo, Why};
use fleetfoot_core::{
    Health, Instance, InstanceName, Intent, JobId, Observation, Phase, PoolName, PoolState, Reason,
    Refused, Timestamp, Wish, WishWord,
};
use fleetfoot_store::{Event, EventFilter, FinishedJobFilter, ObserveError, Store, Txn};

use crate::error::ApiError;
use crate::metrics::{Metrics, Watch};
use crate::views::{Snapshot, event_info, outcome_word};
use crate::why::{self, Found};

/// Events shown in an answer of `why`.
const WHY_EVENTS: u32 = 12;
/// Finished jobs looked through for a repository, a run or a display name.
const FINISHED_SEARCH: u32 = 1000;
/// Between two looks at everything: the times that are recorded stand in the rows, not in the looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Another controller hears what was left for it with its next heartbeat.
const CARRY_BOUND: Duration = Duration::from_secs(5);
/// Things named at most when a word is ambiguous.
const CHOICES_MAX: usize = 8;

/// Everything that can be shown of this moment.
#[must_use]
pub fn snapshot(store: &Store, health: Option<Health>, version: &str, now: Timestamp) -> Snapshot {
    Snapshot {
        version: version.to_owned(),
        installation: store.installation().as_str().to_owned(),
        behind: store.behind(),
        pools: store.pools().as_ref().clone(),
        health,
        written: store.counters(),
        fleet: store.membership().map(|me| (store.fleet(), Some(me.clone()))),
        now,
    }
}

/// An instance of the history.
///
/// # Errors
/// When the store cannot be read.
pub async fn closed_instance(
    store: &Store,
    name: &InstanceName,
) -> Result<Option<Instance>, ApiError> {
    store.closed_instance(name).await.map_err(|error| ApiError::store(&error))
}

/// A part of the history.
///
/// # Errors
/// When the store cannot be read.
pub async fn events(store: &Store, filter: EventFilter) -> Result<Vec<EventInfo>, ApiError> {
    let rows = store.events(filter).await.map_err(|error| ApiError::store(&error))?;
    Ok(rows.iter().map(|row| event_info(&row.event)).collect())
}

/// Why what `subject` names is as it is: of the present first, then of the history.
///
/// # Errors
/// Nothing or several things are named so, or the store cannot be read.
pub async fn why(store: &Store, snapshot: &Snapshot, subject: &str) -> Result<Why, ApiError> {
    let found = why::find(snapshot, subject);
    match found.as_slice() {
        [] => match snapshot.set_aside(subject.strip_prefix("pool:").unwrap_or(subject)) {
            Some(reason) => Ok(why::answer_set_aside(subject, reason)),
            None => why_past(store, snapshot, subject).await,
        },
        [found] => {
            let filter = EventFilter { limit: WHY_EVENTS, ..filter_of(found) };
            Ok(why::answer(snapshot, found, events(store, filter).await?))
        }
        several => Err(ambiguous(subject, several.iter().map(Found::choice).collect())),
    }
}

fn filter_of(found: &Found) -> EventFilter {
    match found {
        Found::Pool(state) => {
            EventFilter { pool: Some(state.pool.name.clone()), ..EventFilter::default() }
        }
        Found::Runner(_, instance) => {
            EventFilter { instance: Some(instance.name.clone()), ..EventFilter::default() }
        }
        Found::Job(_, job) => EventFilter { job: Some(job.id.clone()), ..EventFilter::default() },
    }
}

fn ambiguous(subject: &str, mut choices: Vec<String>) -> ApiError {
    let more = choices.len().saturating_sub(CHOICES_MAX);
    choices.truncate(CHOICES_MAX);
    if more > 0 {
        choices.push(format!("and {more} more"));
    }
    ApiError::new(ErrorCode::Ambiguous, format!("`{subject}` names several things"))
        .with_hint(format!("ask for one of: {}", choices.join(", ")))
}

async fn why_past(store: &Store, snapshot: &Snapshot, subject: &str) -> Result<Why, ApiError> {
    let word = subject.strip_prefix("runner:").unwrap_or(subject);
    if let Ok(name) = InstanceName::new(word)
        && let Some(instance) = closed_instance(store, &name).await?
    {
        let filter =
            EventFilter { instance: Some(name), limit: WHY_EVENTS, ..EventFilter::default() };
        let events = events(store, filter).await?;
        return Ok(why::answer_closed(&instance, snapshot.now, events));
    }
    why_finished(store, snapshot, subject).await
}

async fn why_finished(store: &Store, snapshot: &Snapshot, subject: &str) -> Result<Why, ApiError> {
    let failed = |error| ApiError::store(&error);
    let id = JobId::new(subject.strip_prefix("job:").unwrap_or(subject));
    let by_id = FinishedJobFilter { job: Some(id), ..FinishedJobFilter::default() };
    let mut jobs = store.finished_jobs(by_id).await.map_err(failed)?;
    if jobs.is_empty() {
        let recent = FinishedJobFilter { limit: FINISHED_SEARCH, ..FinishedJobFilter::default() };
        jobs = store.finished_jobs(recent).await.map_err(failed)?;
        jobs.retain(|job| why::names_finished(subject, job));
    }
    let [job] = jobs.as_slice() else {
        if jobs.is_empty() {
            let text = format!("no pool, runner or job is known as `{subject}`");
            return Err(ApiError::new(ErrorCode::NotFound, text).with_hint(
                "name a pool, an instance, a runner's number, a job's id, a run, or `owner/repository`",
            ));
        }
        let choice = |job: &fleetfoot_store::FinishedJob| {
            format!("job:{} ({})", job.job.id, job.job.display_name)
        };
        return Err(ambiguous(subject, jobs.iter().map(choice).collect()));
    };
    let ran_on = match &job.instance {
        Some(name) => closed_instance(store, name).await?,
        None => None,
    };
    let filter =
        EventFilter { job: Some(job.job.id.clone()), limit: WHY_EVENTS, ..EventFilter::default() };
    let events = events(store, filter).await?;
    Ok(why::answer_finished(snapshot, job, ran_on.as_ref(), events))
}

/// Writes what an operator wants of a pool.
///
/// # Errors
/// No such pool, one that is not in the configuration any more, or the store cannot be written.
pub async fn set_intent(
    store: &Store,
    pool: &PoolName,
    intent: Intent,
    now: Timestamp,
) -> Result<(), ApiError> {
    let name = pool.clone();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("server.commit.intent.before");
    let written = store.update(move |txn| write_intent(txn, &name, intent, now)).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("server.commit.intent.after");
    if written.as_ref().is_err_and(|error| error.not_ours().is_some()) {
        let word = match intent {
            Intent::Active => WishWord::Resume,
            Intent::Draining | Intent::Removed => WishWord::Drain,
        };
        let wish = Wish { id: 0, pool: pool.clone(), instance: None, word, at: now };
        return carry(store, wish, |state| state.pool.intent == intent).await;
    }
    written.map_err(|error| ApiError::store(&error))?
}

/// Leaves word for the controller that owns the pool, and waits a while until it can be seen that it heard.
async fn carry(
    store: &Store,
    wish: Wish,
    heard: impl Fn(&PoolState) -> bool,
) -> Result<(), ApiError> {
    let pool = wish.pool.clone();
    let mut changes = store.changes(&pool);
    store.wish(wish).await.map_err(|error| ApiError::store(&error))?;
    let seen = async {
        while !store.pool(&pool).is_none_or(|state| heard(&state)) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    // Later is well, too: the word stays until an owner has heard it.
    let _ = tokio::time::timeout(CARRY_BOUND, seen).await.is_ok();
    Ok(())
}

fn write_intent(
    txn: &mut Txn<'_>,
    pool: &PoolName,
    intent: Intent,
    now: Timestamp,
) -> Result<(), ApiError> {
    let state = txn.pool(pool).ok_or_else(|| ApiError::no_pool(pool.as_str()))?;
    if state.pool.intent == Intent::Removed {
        let text = format!("pool `{pool}` is not in the configuration any more: it only drains");
        return Err(ApiError::new(ErrorCode::Conflict, text)
            .with_hint("put it back into the configuration"));
    }
    txn.set_intent(pool, intent, now);
    Ok(())
}

/// Writes that an instance is to be removed; one that runs a job only with `force`.
///
/// # Errors
/// No such instance, one that runs a job, or the store cannot be written.
pub async fn stop(
    store: &Store,
    instance: &InstanceName,
    force: bool,
    now: Timestamp,
) -> Result<(), ApiError> {
    if store.instance(instance).is_none() {
        return Err(match closed_instance(store, instance).await? {
            Some(_) => ApiError::new(
                ErrorCode::Conflict,
                format!("instance `{instance}` is closed: nothing of it is left to stop"),
            ),
            None => ApiError::no_instance(instance.as_str()),
        });
    }
    let name = instance.clone();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("server.commit.stop.before");
    let written = store.update(move |txn| write_stop(txn, &name, force, now)).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("server.commit.stop.after");
    if let Err(error) = &written
        && let Some(pool) = error.not_ours()
    {
        let word = if force { WishWord::StopForce } else { WishWord::Stop };
        let (pool, name) = (pool.clone(), instance.clone());
        let wish = Wish { id: 0, pool, instance: Some(name.clone()), word, at: now };
        let stopping = |row: &std::sync::Arc<Instance>| row.phase == Phase::Stopping;
        return carry(store, wish, |state| state.instances.get(&name).is_none_or(stopping)).await;
    }
    written.map_err(|error| ApiError::store(&error))?
}

fn write_stop(
    txn: &mut Txn<'_>,
    name: &InstanceName,
    force: bool,
    now: Timestamp,
) -> Result<(), ApiError> {
    let row = txn.instance(name).ok_or_else(|| ApiError::no_instance(name.as_str()))?;
    let pool = row.pool.clone();
    if row.phase == Phase::Running && !force {
        return Err(busy(name, &pool));
    }
    // What is being stopped already needs no second word, unless that word is stronger.
    if row.phase == Phase::Stopping && (!force || row.forced) {
        return Ok(());
    }
    let reason = if force { Reason::OperatorForce } else { Reason::Operator };
    match txn.observe(name, &Observation::Removal { reason }, now) {
        Ok(_) => {
            let event = Event::new(now, "instance stopped by an operator");
            txn.event(event.pool(&pool).instance(name).field("force", force));
            Ok(())
        }
        Err(ObserveError::Unknown(_)) => Err(ApiError::no_instance(name.as_str())),
        Err(ObserveError::Refused(Refused { from: Phase::Running, .. })) => Err(busy(name, &pool)),
        Err(ObserveError::Refused(refused)) => {
            Err(ApiError::new(ErrorCode::Conflict, format!("instance `{name}`: {refused}")))
        }
    }
}

fn busy(name: &InstanceName, pool: &PoolName) -> ApiError {
    ApiError::new(ErrorCode::Busy, format!("instance `{name}` runs a job, which would be lost"))
        .with_hint(format!(
            "`fleetfoot drain {pool} --wait` lets it finish; `fleetfoot stop {name} --force` loses it"
        ))
}

/// Feeds the counters and latencies of `metrics` from the store's changes until `stop` completes. Without
/// it `/metrics` shows levels only.
pub async fn watch(store: Store, metrics: Metrics, stop: impl Future<Output = ()>) {
    tokio::select! {
        () = stop => {}
        () = look_and_look(store, metrics) => {}
    }
}

async fn look_and_look(store: Store, metrics: Metrics) {
    let mut changes = store.changes_all();
    let mut watch = Watch::new(metrics.clone());
    loop {
        metrics.settle();
        let gone = watch.look(store.pools().as_ref().clone());
        for (pool, name) in gone.instances {
            // The history is read for a number: what cannot be read is counted nowhere.
            if let Ok(Some(Instance { outcome: Some(outcome), .. })) =
                store.closed_instance(&name).await
            {
                watch.instance_closed(&pool, outcome_word(&outcome));
            }
        }
        for (pool, id, start_known) in gone.jobs {
            let filter = FinishedJobFilter { job: Some(id), ..FinishedJobFilter::default() };
            if let Ok(jobs) = store.finished_jobs(filter).await {
                watch.job_over(&pool, jobs.first(), start_known);
            }
        }
        tokio::time::sleep(LOOK_PAUSE).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}
