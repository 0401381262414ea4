//! One listener per pool: it owns the message session and tells the store what GitHub wants.
//!
//! ```text
//! Opening ─▶ Connected ─▶ (session gone) ─▶ Backoff ─▶ Opening
//!    └─▶ Standby (another session holds the set; asked again without end)
//! ```
//!
//! A message is committed first and acknowledged second. Nothing here waits for a backend.

mod repeats;
mod session;
mod trouble;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleetfoot_core::{
    Circuit, Intent, ListenerState, ScaleSetId, Span, Timestamp, sizing::advertised_capacity,
};
use fleetfoot_github::{ErrorKind, Message, Session, backoff};
use fleetfoot_ordered::watch;
use tokio::time::{Instant, timeout};

use crate::executor::chain;
use crate::live::same_session;
use crate::messages::{log_message, record_message};
use crate::pool::{Course, PoolContext, stopped};
use crate::rouse;
use crate::settings::PoolSettings;

use repeats::Repeats;
pub(crate) use session::find_scale_set;
use session::{CLOSE_BOUND, delete_old_session, forget_scale_set, forget_session, open};
use trouble::Trouble;

/// Polls that fail in a row before a new session is opened.
const BAD_POLLS_MAX: u32 = 3;
/// The first sweep may keep the first session waiting no longer than this.
const SWEEP_BOUND: Duration = Duration::from_secs(10);
/// A backend that has been away this long is told to GitHub as no room.
const IMPAIRED_AFTER: Span = Span::seconds(60);

/// Why a session ended.
enum End {
    /// The controller stops, or the pool does not want jobs any more.
    Wanted,
    /// It failed.
    Failed(Trouble),
}

/// Runs until the pool is served no longer.
pub(crate) async fn run(pool: Arc<PoolContext>) {
    let mut course = pool.course.subscribe();
    tokio::select! {
        biased;
        () = stopped(&mut course) => {}
        () = adopted(&pool) => {}
    }
    let mut failures: u32 = 0;
    while !pool.stopping() {
        if !wants_jobs(&pool) {
            let mut course = pool.course.subscribe();
            pool.shared.tell(pool.name(), |told| told.listener = ListenerState::Closed);
            pool.shared.polled(pool.name());
            delete_old_session(&pool).await;
            if !pool.let_go.swap(true, Ordering::AcqRel) {
                pool.wake.notify_one();
            }
            await_change(&pool, &mut course).await;
            continue;
        }
        pool.let_go.store(false, Ordering::Release);
        let settings = pool.settings();
        let Some(session) = open_or_stop(&pool, &settings, &mut course).await else { break };
        let trouble = match session {
            Ok(session) => {
                let end = serve(&pool, &settings, &session, &mut failures).await;
                forget_session(&pool, &session).await;
                match end {
                    End::Wanted => continue,
                    End::Failed(trouble) => trouble,
                }
            }
            Err(trouble) => trouble,
        };
        failures = failures.saturating_add(1);
        pause(&pool, &trouble, failures).await;
    }
    pool.shared.tell(pool.name(), |told| told.listener = ListenerState::Closed);
}

/// Opens a session. At a stop, one that is just being opened is closed again; `None` then.
async fn open_or_stop(
    pool: &PoolContext,
    settings: &PoolSettings,
    course: &mut watch::Receiver<Course>,
) -> Option<Result<Session, Trouble>> {
    // On the heap, and only while it opens: the task of an idle pool stays small.
    let mut opening = Box::pin(open(pool, settings));
    tokio::select! {
        biased;
        () = stopped(course) => {}
        opened = &mut opening => return Some(opened),
    }
    if let Ok(Ok(session)) = timeout(CLOSE_BOUND, opening).await {
        forget_session(pool, &session).await;
    }
    None
}

/// What runs is adopted before the session is open, within a bound.
async fn adopted(pool: &PoolContext) {
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::AdoptAfterSession.is_planted() {
        return;
    }
    let mut done = pool.backend.done.subscribe();
    // What no row names is taken up when it is seen a second time: before that, it takes a slot that nobody counts
    // (seed 40300).
    let adopted = done
        .wait_for(|done| *done >= pool.adopted_by && !pool.backend.holds_unclaimed(pool.name()));
    if timeout(SWEEP_BOUND, adopted).await.is_err() {
        tracing::warn!(pool = %pool.name(), "backend did not list in time, opening the session all the same");
    }
}

fn wants_jobs(pool: &PoolContext) -> bool {
    pool.state().is_some_and(|state| state.pool.intent == Intent::Active)
}

/// The pool still wants jobs, of the scale set that the session belongs to, and as it was opened.
fn is_of_use(pool: &PoolContext, settings: &PoolSettings, session: &Session) -> bool {
    if !same_session(settings, &pool.settings()) {
        return false;
    }
    let set = pool.state().and_then(|state| state.pool.scale_set_id);
    wants_jobs(pool) && set == Some(ScaleSetId(session.set_id()))
}

async fn await_change(pool: &PoolContext, course: &mut watch::Receiver<Course>) {
    let mut changes = pool.shared.store.changes(pool.name());
    if wants_jobs(pool) {
        return;
    }
    tokio::select! {
        biased;
        _ = course.changed() => {}
        _ = changes.changed() => {}
    }
}

/// Waits after a failure: at least what GitHub asked for, spread by chance.
async fn pause(pool: &PoolContext, trouble: &Trouble, failures: u32) {
    let conflict = trouble.kind() == Some(&ErrorKind::Conflict);
    let longest = if conflict { Duration::from_secs(15) } else { Duration::from_secs(60) };
    let own = backoff(Duration::from_millis(500), longest, failures);
    let wait = if conflict { own } else { own.max(trouble.asked()) };
    let now = pool.now();
    let until = now + Span(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    let detail = trouble.detail();
    if conflict {
        let since = standby_since(pool).unwrap_or(now);
        tracing::warn!(pool = %pool.name(), retry_in_ms = wait.as_millis(), "another session holds the scale set, waiting");
        pool.shared.tell(pool.name(), |told| told.listener = ListenerState::Standby { since });
    } else {
        tracing::warn!(pool = %pool.name(), retry_in_ms = wait.as_millis(), error = detail, "listener failed");
        pool.shared.tell(pool.name(), |told| {
            told.listener = ListenerState::Backoff { until, detail: detail.clone() }
        });
    }
    // Other settings may mend it: a token that was replaced is tried at once. How long GitHub wants to be left alone
    // with a credential they do not change (seed 28420).
    let asked = trouble.asked().min(wait);
    let key = |pool: &PoolContext| {
        let settings = pool.settings();
        (settings.connection.url().as_str().to_owned(), settings.credential_reference.clone())
    };
    let (until, limited) = (Instant::now() + wait, Instant::now() + asked);
    let before = key(pool);
    rest(pool, wait).await;
    while Instant::now() < limited && !pool.stopping() && wants_jobs(pool) && key(pool) == before {
        rest(pool, until.saturating_duration_since(Instant::now())).await;
    }
}

/// Waits after a message that came again although it was acknowledged.
async fn pause_after_repetition(pool: &PoolContext, message: i64, times: u32) {
    let wait = Repeats::pause(times);
    let retry_in_ms = wait.as_millis();
    tracing::warn!(pool = %pool.name(), message, times, retry_in_ms, "message comes again though it is acknowledged, waiting");
    rest(pool, wait).await;
}

/// Waits, unless the pool is to do something else.
async fn rest(pool: &PoolContext, wait: Duration) {
    let mut course = pool.course.subscribe();
    if pool.stopping() || !wants_jobs(pool) {
        return;
    }
    tokio::select! {
        biased;
        _ = course.changed() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

pub(crate) fn standby_since(pool: &PoolContext) -> Option<Timestamp> {
    match &pool.shared.health.borrow().pools.get(pool.name())?.listener {
        ListenerState::Standby { since } => Some(*since),
        ListenerState::Opening
        | ListenerState::Connected
        | ListenerState::Backoff { .. }
        | ListenerState::Closed => None,
    }
}

/// Polls until the session ends or is not wanted any more.
async fn serve(
    pool: &Arc<PoolContext>,
    settings: &PoolSettings,
    session: &Session,
    failures: &mut u32,
) -> End {
    let mut last = None;
    let mut bad: u32 = 0;
    let mut repeats = Repeats::default();
    let mut course = pool.course.subscribe();
    let mut changes = pool.shared.store.changes(pool.name());
    loop {
        // A change between the opening and the first look is seen here.
        if pool.stopping() || !is_of_use(pool, settings, session) {
            return End::Wanted;
        }
        let limit = pool.settings().spec.max_runners;
        let capacity = capacity(pool);
        pool.shared.tell(pool.name(), |told| {
            told.listener = ListenerState::Connected;
            told.advertised = capacity;
        });
        pool.shared.polled(pool.name());
        let asked = Instant::now();
        let mut is_answered = true;
        let polled = {
            let poll = session.poll(last, capacity);
            tokio::pin!(poll);
            loop {
                tokio::select! {
                    biased;
                    _ = course.changed() => {
                        if pool.stopping() || !is_of_use(pool, settings, session) {
                            return End::Wanted;
                        }
                        // Another limit is told at once, not when this poll ends.
                        if pool.settings().spec.max_runners != limit {
                            is_answered = false;
                            break Ok(None);
                        }
                    }
                    polled = &mut poll => break polled,
                    changed = changes.changed() => {
                        if changed.is_err() || !is_of_use(pool, settings, session) {
                            return End::Wanted;
                        }
                    }
                }
            }
        };
        let step = match polled {
            Ok(None) => {
                if is_answered {
                    let ago = i64::try_from(asked.elapsed().as_millis()).unwrap_or(i64::MAX);
                    heard(pool, pool.now() - Span(ago)).await;
                }
                Ok(())
            }
            Ok(Some(message)) => match take_in(pool, session, message).await {
                Ok(id) => {
                    last = Some(id);
                    if let Some(times) = repeats.note(id) {
                        pause_after_repetition(pool, id, times).await;
                    }
                    Ok(())
                }
                Err(trouble) => Err(trouble),
            },
            Err(error) => Err(Trouble::Github(error)),
        };
        let Err(trouble) = step else {
            (*failures, bad) = (0, 0);
            continue;
        };
        match trouble.kind() {
            Some(ErrorKind::ScaleSetGone) => {
                forget_scale_set(pool).await;
                return End::Failed(trouble);
            }
            // The message is not acknowledged: a new session brings it again.
            None | Some(ErrorKind::SessionGone | ErrorKind::Conflict) => {
                return End::Failed(trouble);
            }
            Some(_) => {
                bad += 1;
                if bad > BAD_POLLS_MAX {
                    return End::Failed(trouble);
                }
                pause(pool, &trouble, bad).await;
            }
        }
    }
}

/// GitHub had nothing to tell to a poll that began then: what was taken off its level long before, it does not count.
async fn heard(pool: &PoolContext, asked: Timestamp) {
    if pool.state().is_none_or(|state| !state.pool.demand.has_overdue(asked)) {
        return;
    }
    let name = pool.name().clone();
    let noted = pool.shared.store.update(move |txn| {
        if let Some(row) = txn.pool_mut(&name) {
            row.demand.heard(asked);
        }
    });
    if let Err(error) = noted.await {
        // The next poll says it, too.
        tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused what a poll said");
    }
}

/// Commits what the message says, acquires what it offers, and only then acknowledges it.
async fn take_in(
    pool: &Arc<PoolContext>,
    session: &Session,
    message: Message,
) -> Result<i64, Trouble> {
    rouse::for_jobs_of(pool, &message);
    let (name, now, id) = (pool.name().clone(), pool.now(), message.id);
    let offered: Vec<i64> = message.available.iter().map(|job| job.request_id).collect();
    let message = Arc::new(message);
    let taken = message.clone();
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::AcknowledgeBeforeCommit.is_planted() {
        session.acknowledge(id).await?;
    }
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.message.before");
    let committed =
        pool.shared.store.update(move |txn| record_message(txn, &name, &taken, now)).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.message.after");
    if let Err(error) = committed {
        return Err(Trouble::Store(chain(&error)));
    }
    log_message(pool.name(), &message);
    // Where nobody tells of exits, the machine of a completed job is looked for now.
    if !message.completed.is_empty() && !pool.backend.provisioner.capabilities().watch {
        pool.backend.look.notify_one();
    }
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::AcquireAfterAcknowledge.is_planted() {
        session.acknowledge(id).await?;
    }
    if !offered.is_empty() {
        let acquired = session.acquire(&offered).await?;
        tracing::debug!(pool = %pool.name(), offered = offered.len(), acquired = acquired.len(), "jobs acquired");
    }
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.acknowledge.before");
    session.acknowledge(id).await?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.acknowledge.after");
    Ok(id)
}

fn capacity(pool: &PoolContext) -> u32 {
    let Some(state) = pool.state() else { return 1 };
    let now = pool.now();
    let circuit: &Circuit = &state.pool.circuit;
    let impaired = circuit.is_open(now) || pool.backend_down_longer_than(IMPAIRED_AFTER);
    let occupying = state.occupying();
    let room = pool.shared.host.free_room(pool.name(), occupying);
    advertised_capacity(&pool.settings().spec, occupying, room, impaired)
}
