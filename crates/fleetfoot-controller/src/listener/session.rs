//! The ends of a session: making sure of its scale set, opening it, and letting it go.

use std::time::Duration;

use fleetfoot_core::{InstanceName, ListenerState, Pool, ScaleSetId};
use fleetfoot_github::{ErrorKind, GithubError, ScaleSet, ScaleSetSpec, Session, labels_differ};
use tokio::time::timeout;

use crate::executor::chain;
use crate::messages::statistics;
use crate::pool::PoolContext;
use crate::settings::{PoolSettings, ScaleSetEnd};

use super::trouble::Trouble;

/// A session is closed within this, or left to lapse.
pub(super) const CLOSE_BOUND: Duration = Duration::from_secs(3);

/// The default runner group.
const DEFAULT_GROUP: i64 = 1;

/// Makes sure of the scale set, removes our own old session, opens a new one, and commits its level.
pub(super) async fn open(pool: &PoolContext, settings: &PoolSettings) -> Result<Session, Trouble> {
    let was_standby = super::standby_since(pool).is_some();
    if !was_standby {
        pool.shared.tell(pool.name(), |told| told.listener = ListenerState::Opening);
    }
    let set = ensure_scale_set(pool, settings).await?;
    let connection = &settings.connection;
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
    let owner = settings.session.owner.as_ref().unwrap_or(&pool.shared.settings.session_owner);
    let session = match connection.open_session(set.0, owner).await {
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
    #[cfg(feature = "faults")]
    let level = level.map(|it| {
        if fleetfoot_faults::Defect::CountRunningAsNew.is_planted() {
            fleetfoot_core::Statistics { assigned: it.assigned + it.running, ..it }
        } else {
            it
        }
    });
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.session_opened.before");
    let committed = pool
        .shared
        .store
        .update(move |txn| {
            let in_vain: Vec<InstanceName> = txn
                .pool(&name)
                .map(|state| {
                    let rows = state.instances.values().filter(|row| row.is_counted_in_vain());
                    rows.map(|row| row.name.clone()).collect()
                })
                .unwrap_or_default();
            if let Some(row) = txn.pool_mut(&name) {
                row.session_id = Some(id);
                match level {
                    Some(level) => row.demand.session_opened(level, now),
                    None => row.demand.session_opened_blind(),
                }
                row.demand.spent.extend(in_vain.into_iter().map(|name| (name, now)));
            }
        })
        .await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.session_opened.after");
    if let Err(error) = committed {
        // A session whose level nobody knows would serve nobody until its next message, which may never come.
        forget_session(pool, &session).await;
        return Err(Trouble::Store(chain(&error)));
    }
    pool.github().reach.answered();
    let max_runners = settings.spec.max_runners;
    tracing::info!(pool = %pool.name(), max_runners, session = session.id(), "listening");
    pool.shared.tell(pool.name(), |told| told.listener = ListenerState::Connected);
    Ok(session)
}

/// Looks the scale set up by name, creates it if it is absent, and brings its labels up to date.
async fn ensure_scale_set(
    pool: &PoolContext,
    settings: &PoolSettings,
) -> Result<ScaleSetId, Trouble> {
    let connection = &settings.connection;
    let name = pool.name();
    tracing::info!(pool = %name, "looking for scale set");
    let Some(group_id) = group_id(settings).await? else {
        return Err(Trouble::NoSuchGroup(settings.runner_group.clone().unwrap_or_default()));
    };
    let labels = &settings.labels;
    let mut made = false;
    let set = match connection.scale_set(group_id, settings.scale_set_name()).await? {
        Some(set) if labels_differ(labels, &set.labels) => {
            tracing::info!(pool = %name, "updating scale set labels");
            connection.update_scale_set_labels(set.id, labels, settings.label_kind).await?
        }
        Some(set) => set,
        None => {
            tracing::info!(pool = %name, "creating scale set");
            let (set, is_ours) = create_scale_set(pool, settings, group_id).await?;
            made = is_ours;
            set
        }
    };
    let id = ScaleSetId(set.id);
    tracing::info!(pool = %name, scale_set_id = set.id, "scale set ready");
    let row = pool.state().map(|state| state.pool.clone());
    let known = row.as_ref().and_then(|row| row.scale_set_id);
    if known != Some(id) {
        // Begun and not heard of, it is ours; one in place of ours that is gone is not.
        let is_ours = made || row.is_some_and(|row| is_begun(&row));
        let pool_name = name.clone();
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.scale_set.before");
        let committed = pool
            .shared
            .store
            .update(move |txn| {
                if let Some(row) = txn.pool_mut(&pool_name) {
                    row.scale_set_id = Some(id);
                    row.scale_set_is_ours = is_ours;
                    // A session of another set is none of this one's.
                    row.session_id = None;
                }
            })
            .await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.scale_set.after");
        // A session of a set that the store does not know is of no use: it would be opened again at once.
        committed.map_err(|error| Trouble::Store(chain(&error)))?;
    }
    Ok(id)
}

/// Creates the scale set, and tells whether it is ours. Where it may be deleted one day, that we are about to is
/// written down first: whoever dies before the answer knows it for its own afterwards, by its name.
async fn create_scale_set(
    pool: &PoolContext,
    settings: &PoolSettings,
    group_id: i64,
) -> Result<(ScaleSet, bool), Trouble> {
    let had_begun = pool.state().is_some_and(|state| is_begun(&state.pool));
    let begins = settings.scale_set_end != ScaleSetEnd::Stays && !had_begun;
    if begins {
        claim_scale_set(pool, true).await?;
    }
    let spec = ScaleSetSpec {
        name: settings.scale_set_name().to_owned(),
        group_id,
        labels: settings.labels.clone(),
        label_kind: settings.label_kind,
    };
    let created = settings.connection.create_or_find_scale_set(&spec).await;
    // What GitHub refused, or somebody else made meanwhile, is not ours; after an answer that was lost it is.
    let is_anothers = match &created {
        Ok((_, made)) => !made,
        Err(error) => matches!(error.kind(), ErrorKind::Rejected(_) | ErrorKind::Forbidden { .. }),
    };
    if begins && is_anothers {
        claim_scale_set(pool, false).await?;
    }
    let (set, made) = created?;
    Ok((set, made || had_begun))
}

/// That we make it is written down, and not yet which one it is.
fn is_begun(row: &Pool) -> bool {
    row.scale_set_is_ours && row.scale_set_id.is_none()
}

/// Writes down that the scale set is ours as soon as it is there, or that it is not.
async fn claim_scale_set(pool: &PoolContext, is_ours: bool) -> Result<(), Trouble> {
    let name = pool.name().clone();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.scale_set_claimed.before");
    let claimed = pool.shared.store.update(move |txn| {
        if let Some(row) = txn.pool_mut(&name) {
            row.scale_set_id = None;
            row.scale_set_is_ours = is_ours;
        }
    });
    let claimed = claimed.await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.scale_set_claimed.after");
    claimed.map_err(|error| Trouble::Store(chain(&error)))
}

/// The scale set of this name and group, if there is one.
pub(crate) async fn find_scale_set(
    settings: &PoolSettings,
) -> Result<Option<ScaleSet>, GithubError> {
    match group_id(settings).await? {
        Some(group) => settings.connection.scale_set(group, settings.scale_set_name()).await,
        None => Ok(None),
    }
}

async fn group_id(settings: &PoolSettings) -> Result<Option<i64>, GithubError> {
    match &settings.runner_group {
        None => Ok(Some(DEFAULT_GROUP)),
        Some(group) => Ok(settings.connection.runner_group_id(group).await?),
    }
}

/// A pool that wants no more jobs leaves no session behind, not even one of a predecessor.
pub(super) async fn delete_old_session(pool: &PoolContext) {
    let Some(state) = pool.state() else { return };
    let (Some(set), Some(old)) = (state.pool.scale_set_id, state.pool.session_id.clone()) else {
        return;
    };
    let settings = pool.settings();
    let connection = &settings.connection;
    let deleted = timeout(CLOSE_BOUND, connection.delete_session(set.0, &old)).await;
    if !matches!(deleted, Ok(Ok(()))) {
        tracing::warn!(pool = %pool.name(), "old session could not be deleted, it lapses by itself");
        return;
    }
    let name = pool.name().clone();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.old_session_deleted.before");
    let forgotten = pool
        .shared
        .store
        .update(move |txn| {
            let row = txn.pool_mut(&name);
            if let Some(row) = row.filter(|row| row.session_id.as_deref() == Some(old.as_str())) {
                row.session_id = None;
            }
        })
        .await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.old_session_deleted.after");
    if let Err(error) = forgotten {
        tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused the end of a session");
    }
}

pub(super) async fn forget_scale_set(pool: &PoolContext) {
    tracing::warn!(pool = %pool.name(), "scale set is gone, making it anew");
    let name = pool.name().clone();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.scale_set_gone.before");
    let committed = pool
        .shared
        .store
        .update(move |txn| {
            if let Some(row) = txn.pool_mut(&name) {
                row.scale_set_id = None;
                row.scale_set_is_ours = false;
                row.session_id = None;
                row.demand.session_lost();
            }
        })
        .await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.scale_set_gone.after");
    if let Err(error) = committed {
        tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused a scale set");
    }
}

/// Closes the session at GitHub if it can be, and commits that demand is unknown now.
pub(super) async fn forget_session(pool: &PoolContext, session: &Session) {
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
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.session_closed.before");
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
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.session_closed.after");
    if let Err(error) = committed {
        tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused the end of a session");
    }
}
