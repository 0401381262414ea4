//! One listener per pool: it owns the message session and tells the store what GitHub wants.
//!
//! ```text
//! Opening ─▶ Connected ─▶ (session gone) ─▶ Backoff ─▶ Opening
//!    └─▶ Standby (another session holds the set; asked again without end)
//! ```
//!
//! A message is committed first and acknowledged second. Nothing here waits for a backend.

use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::{
    Circuit, Intent, ListenerState, ScaleSetId, Span, sizing::advertised_capacity,
};
use fleetfoot_github::{
    Advice, ErrorKind, GithubError, Message, ScaleSetSpec, Session, backoff, labels_differ,
};
use tokio::time::timeout;

use crate::executor::chain;
use crate::messages::{log_message, record_message, statistics};
use crate::pool::{PoolContext, stopped};

/// A session is closed within this, or left to lapse.
const CLOSE_BOUND: Duration = Duration::from_secs(3);
/// Polls that fail in a row before a new session is opened.
const BAD_POLLS_MAX: u32 = 3;
/// The first sweep may keep the first session waiting no longer than this.
const SWEEP_BOUND: Duration = Duration::from_secs(10);
/// The default runner group.
const DEFAULT_GROUP: i64 = 1;
/// A backend that has been away this long is told to GitHub as no room.
const IMPAIRED_AFTER: Span = Span::seconds(60);

/// What keeps a session from being open.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Github(#[from] GithubError),
    #[error("no runner group is named `{0}`, or the credential may not see it")]
    NoSuchGroup(String),
    #[error("the store did not take a message in: {0}")]
    Store(String),
}

impl Trouble {
    fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Self::Github(error) => Some(error.kind()),
            Self::NoSuchGroup(_) | Self::Store(_) => None,
        }
    }

    /// The least time GitHub wants to be left alone.
    fn asked(&self) -> Duration {
        match self {
            Self::Github(error) => match error.advice() {
                Advice::Wait(wait) => wait,
                Advice::Retry | Advice::GiveUp => Duration::ZERO,
            },
            Self::NoSuchGroup(_) => Duration::from_secs(30),
            Self::Store(_) => Duration::ZERO,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Github(error) => error.chain(),
            Self::NoSuchGroup(_) | Self::Store(_) => self.to_string(),
        }
    }
}

/// Why a session ended.
enum End {
    /// The controller stops, or the pool does not want jobs any more.
    Wanted,
    /// It failed.
    Failed(Trouble),
}

/// Runs until the controller stops.
pub(crate) async fn run(pool: Arc<PoolContext>) {
    let mut stop = pool.shared.stop.clone();
    tokio::select! {
        biased;
        () = stopped(&mut stop) => return,
        () = adopted(&pool) => {}
    }
    let mut failures: u32 = 0;
    while !pool.shared.stopping() {
        if !wants_jobs(&pool) {
            pool.shared.tell(pool.name(), |told| told.listener = ListenerState::Closed);
            pool.shared.polled(pool.name());
            await_change(&pool).await;
            continue;
        }
        let session = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            opened = open(&pool) => opened,
        };
        let trouble = match session {
            Ok(session) => {
                let end = serve(&pool, &session, &mut failures).await;
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

/// What runs is adopted before the session is open, within a bound.
async fn adopted(pool: &PoolContext) {
    let mut swept = pool.backend.swept.subscribe();
    let first = swept.wait_for(|swept| *swept);
    if timeout(SWEEP_BOUND, first).await.is_err() {
        tracing::warn!(pool = %pool.name(), "backend did not list in time, opening the session all the same");
    }
}

fn wants_jobs(pool: &PoolContext) -> bool {
    pool.state().is_some_and(|state| state.pool.intent == Intent::Active)
}

async fn await_change(pool: &PoolContext) {
    let mut changes = pool.shared.store.changes(pool.name());
    let mut stop = pool.shared.stop.clone();
    if wants_jobs(pool) {
        return;
    }
    tokio::select! {
        biased;
        () = stopped(&mut stop) => {}
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
    let mut stop = pool.shared.stop.clone();
    tokio::select! {
        biased;
        () = stopped(&mut stop) => {}
        () = tokio::time::sleep(wait) => {}
    }
}

fn standby_since(pool: &PoolContext) -> Option<fleetfoot_core::Timestamp> {
    match &pool.shared.health.borrow().pools.get(pool.name())?.listener {
        ListenerState::Standby { since } => Some(*since),
        ListenerState::Opening
        | ListenerState::Connected
        | ListenerState::Backoff { .. }
        | ListenerState::Closed => None,
    }
}

/// Makes sure of the scale set, removes our own old session, opens a new one, and commits its level.
async fn open(pool: &PoolContext) -> Result<Session, Trouble> {
    let was_standby = standby_since(pool).is_some();
    if !was_standby {
        pool.shared.tell(pool.name(), |told| told.listener = ListenerState::Opening);
    }
    let set = ensure_scale_set(pool).await?;
    let connection = &pool.settings.connection;
    let old = pool.state().and_then(|state| state.pool.session_id.clone());
    if let Some(old) = old {
        // Exactly the session that a predecessor of ours committed (11.9).
        match connection.delete_session(set.0, &old).await {
            Ok(()) => tracing::info!(pool = %pool.name(), "old session deleted"),
            Err(error) => {
                tracing::warn!(pool = %pool.name(), error = error.chain(), "old session could not be deleted")
            }
        }
    }
    let session = match connection.open_session(set.0, &pool.shared.settings.session_owner).await {
        Ok(session) => session,
        Err(error) => {
            if *error.kind() == ErrorKind::ScaleSetGone {
                forget_scale_set(pool).await;
            }
            return Err(error.into());
        }
    };
    let (name, id, now) = (pool.name().clone(), session.id().to_owned(), pool.now());
    let level = session.statistics().map(statistics);
    let committed = pool
        .shared
        .store
        .update(move |txn| {
            if let Some(row) = txn.pool_mut(&name) {
                row.session_id = Some(id);
                match level {
                    Some(level) => row.demand.session_opened(level, now),
                    None => row.demand.session_opened_blind(),
                }
            }
        })
        .await;
    if let Err(error) = committed {
        tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused a session");
    }
    pool.github.dependency.answered();
    let max_runners = pool.settings.spec.max_runners;
    tracing::info!(pool = %pool.name(), max_runners, session = session.id(), "listening");
    pool.shared.tell(pool.name(), |told| told.listener = ListenerState::Connected);
    Ok(session)
}

/// Looks the scale set up by name, creates it if it is absent, and brings its labels up to date.
async fn ensure_scale_set(pool: &PoolContext) -> Result<ScaleSetId, Trouble> {
    let connection = &pool.settings.connection;
    let name = pool.name();
    tracing::info!(pool = %name, "looking for scale set");
    let group_id = match &pool.settings.runner_group {
        None => DEFAULT_GROUP,
        Some(group) => match connection.runner_group(group).await? {
            Some(group) => group.id,
            None => return Err(Trouble::NoSuchGroup(group.clone())),
        },
    };
    let labels = &pool.settings.labels;
    let set = match connection.scale_set(group_id, name.as_str()).await? {
        Some(set) if labels_differ(labels, &set.labels) => {
            tracing::info!(pool = %name, "updating scale set labels");
            connection.update_scale_set_labels(set.id, labels).await?
        }
        Some(set) => set,
        None => {
            tracing::info!(pool = %name, "creating scale set");
            let spec =
                ScaleSetSpec { name: name.as_str().to_owned(), group_id, labels: labels.clone() };
            connection.create_scale_set(&spec).await?
        }
    };
    let id = ScaleSetId(set.id);
    tracing::info!(pool = %name, scale_set_id = set.id, "scale set ready");
    let known = pool.state().and_then(|state| state.pool.scale_set_id);
    if known != Some(id) {
        let pool_name = name.clone();
        let committed = pool
            .shared
            .store
            .update(move |txn| {
                if let Some(row) = txn.pool_mut(&pool_name) {
                    row.scale_set_id = Some(id);
                    // A session of another set is none of this one's.
                    row.session_id = None;
                }
            })
            .await;
        if let Err(error) = committed {
            tracing::error!(pool = %name, error = %chain(&error), "store refused a scale set");
        }
    }
    Ok(id)
}

async fn forget_scale_set(pool: &PoolContext) {
    tracing::warn!(pool = %pool.name(), "scale set is gone, making it anew");
    let name = pool.name().clone();
    let committed = pool
        .shared
        .store
        .update(move |txn| {
            if let Some(row) = txn.pool_mut(&name) {
                row.scale_set_id = None;
                row.session_id = None;
                row.demand.session_lost();
            }
        })
        .await;
    if let Err(error) = committed {
        tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused a scale set");
    }
}

/// Closes the session at GitHub if it can be, and commits that demand is unknown now.
async fn forget_session(pool: &PoolContext, session: &Session) {
    let closed = match timeout(CLOSE_BOUND, session.close()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            let gone = matches!(
                error.kind(),
                ErrorKind::SessionGone | ErrorKind::NotFound | ErrorKind::ScaleSetGone
            );
            if !gone {
                tracing::warn!(pool = %pool.name(), error = error.chain(), "session could not be closed");
            }
            gone
        }
        Err(_) => false,
    };
    let name = pool.name().clone();
    let committed = pool
        .shared
        .store
        .update(move |txn| {
            if let Some(row) = txn.pool_mut(&name) {
                row.demand.session_lost();
                if closed {
                    row.session_id = None;
                }
            }
        })
        .await;
    if let Err(error) = committed {
        tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused the end of a session");
    }
}

/// Polls until the session ends or is not wanted any more.
async fn serve(pool: &Arc<PoolContext>, session: &Session, failures: &mut u32) -> End {
    let mut last = None;
    let mut bad: u32 = 0;
    let mut stop = pool.shared.stop.clone();
    let mut changes = pool.shared.store.changes(pool.name());
    loop {
        let capacity = capacity(pool);
        pool.shared.tell(pool.name(), |told| {
            told.listener = ListenerState::Connected;
            told.advertised = capacity;
        });
        pool.shared.polled(pool.name());
        let polled = {
            let poll = session.poll(last, capacity);
            tokio::pin!(poll);
            loop {
                tokio::select! {
                    biased;
                    () = stopped(&mut stop) => return End::Wanted,
                    polled = &mut poll => break polled,
                    changed = changes.changed() => {
                        if changed.is_err() || !wants_jobs(pool) {
                            return End::Wanted;
                        }
                    }
                }
            }
        };
        let step = match polled {
            Ok(None) => Ok(()),
            Ok(Some(message)) => take_in(pool, session, message).await.map(|id| last = Some(id)),
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

/// Commits what the message says, acquires what it offers, and only then acknowledges it.
async fn take_in(
    pool: &Arc<PoolContext>,
    session: &Session,
    message: Message,
) -> Result<i64, Trouble> {
    let (name, now, id) = (pool.name().clone(), pool.now(), message.id);
    let offered: Vec<i64> = message.available.iter().map(|job| job.request_id).collect();
    let message = Arc::new(message);
    let taken = message.clone();
    let committed =
        pool.shared.store.update(move |txn| record_message(txn, &name, &taken, now)).await;
    if let Err(error) = committed {
        return Err(Trouble::Store(chain(&error)));
    }
    log_message(pool.name(), &message);
    if !offered.is_empty() {
        let acquired = session.acquire(&offered).await?;
        tracing::debug!(pool = %pool.name(), offered = offered.len(), acquired = acquired.len(), "jobs acquired");
    }
    session.acknowledge(id).await?;
    Ok(id)
}

fn capacity(pool: &PoolContext) -> u32 {
    let Some(state) = pool.state() else { return 1 };
    let now = pool.now();
    let circuit: &Circuit = &state.pool.circuit;
    let impaired =
        circuit.is_open(now) || pool.backend.dependency.down_longer_than(IMPAIRED_AFTER, now);
    let room = pool.shared.host.free_room(pool.name());
    advertised_capacity(&pool.settings.spec, state.occupying(), room, impaired)
}
