//! Changes while the controller runs: pools begin, end, move, and get other settings.
//!
//! ```text
//!                 ┌── start ──▶ row committed ─▶ adopted ─▶ session open
//! not served ─────┤
//!                 └◀─ stop ──── session closed, tasks ended; rows and environments stay
//! served ── other settings ──▶ seen by the next step; another session only if it needs one
//! served ── removed ──▶ drained ─▶ last instance closed ─▶ row gone ─▶ not served
//! served ── other url or backend ──▶ removed, and started anew with the new settings after that
//! ```
//!
//! Nothing that runs is touched by any of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleetfoot_core::{Intent, PoolName, PoolSpec};
use fleetfoot_store::UpdateError;
use tokio::sync::AcquireError;

use crate::adopt;
use crate::executor::chain;
use crate::listener;
use crate::pool::{PoolContext, Shared};
use crate::settings::{PoolSettings, ScaleSetEnd};

/// A pool's session is closed and its calls are waited for within this.
const STOP_BOUND: Duration = Duration::from_secs(8);

impl Shared {
    /// Serves a pool with these settings, whether it is served already or not.
    pub(crate) async fn start_pool(
        self: &Arc<Self>,
        settings: PoolSettings,
    ) -> Result<(), UpdateError> {
        let Ok(_turn) = self.changing.acquire().await else { return Ok(()) };
        self.start_in_turn(settings).await
    }

    async fn start_in_turn(self: &Arc<Self>, settings: PoolSettings) -> Result<(), UpdateError> {
        let served = self.served(&settings.name);
        let Some(pool) = served else {
            if adopt::is_moved(&self.store, &settings) {
                return Ok(());
            }
            // It went while these settings were put together: nothing is left to be removed, and serving it
            // would make its scale set anew.
            if settings.removed && self.store.pool(&settings.name).is_none() {
                return Ok(());
            }
            adopt::record_pool(self, &settings, true).await?;
            self.enlist(vec![settings]);
            return Ok(());
        };
        let name = settings.name.clone();
        let drained = pool.state().is_some_and(|state| state.pool.intent == Intent::Removed);
        if pool.settings().is(&settings) && drained == settings.removed {
            return Ok(());
        }
        if moves(&pool.settings(), &settings) {
            tracing::info!(pool = %name, "pool moves: it is drained where it is, then begins anew");
            self.roster.send_if_modified(|roster| {
                roster.successors.insert(name, settings);
                false
            });
            return self.remove_in_turn(&pool).await;
        }
        self.roster.send_if_modified(|roster| {
            roster.successors.remove(&name);
            false
        });
        adopt::record_pool(self, &settings, false).await?;
        self.instruct(&pool, settings);
        Ok(())
    }

    /// Serves a pool no longer and leaves everything it has; true if it was served and ended in time.
    pub(crate) async fn stop_pool(&self, name: &PoolName) -> bool {
        if self.store.membership().is_some() {
            // Whoever ends it lets it go, so that another controller can take it.
            return self
                .candidates
                .send_if_modified(|candidates| candidates.remove(name).is_some());
        }
        self.is_served(name) && self.end_pool(name, STOP_BOUND).await
    }

    /// Ends the tasks of a pool, if it is served; true if they ended in time.
    pub(crate) async fn end_pool(&self, name: &PoolName, bound: Duration) -> bool {
        match self.withdraw(name).await {
            Ok(Some(pool)) => pool.tasks.wait(bound).await,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// The same for as long as its calls take, which have bounds of their own; one that takes long is told.
    pub(crate) async fn end_pool_wholly(&self, name: &PoolName, long: Duration) -> bool {
        let Ok(pool) = self.withdraw(name).await else { return false };
        let Some(pool) = pool else { return true };
        let mut told = false;
        while !pool.tasks.wait(long).await {
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(pool = %name, "calls of a pool take long to end, nobody serves it until then");
            }
        }
        true
    }

    /// Takes the pool out of those that are served.
    async fn withdraw(&self, name: &PoolName) -> Result<Option<Arc<PoolContext>>, AcquireError> {
        let _turn = self.changing.acquire().await?;
        let Some(pool) = self.served(name) else { return Ok(None) };
        // It ends here: what was to follow it follows where it goes on.
        let _ = self.dismiss(&pool);
        Ok(Some(pool))
    }

    /// Serves exactly these pools; the others that are served are drained.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        pools: Vec<PoolSettings>,
    ) -> Result<(), UpdateError> {
        if self.store.membership().is_some() {
            self.stand_for(pools);
            return Ok(());
        }
        let Ok(_turn) = self.changing.acquire().await else { return Ok(()) };
        let wanted: BTreeSet<PoolName> = pools.iter().map(|pool| pool.name.clone()).collect();
        let served: Vec<_> = self.roster.borrow().pools.values().cloned().collect();
        for pool in served.into_iter().filter(|pool| !wanted.contains(pool.name())) {
            self.roster.send_if_modified(|roster| {
                roster.successors.remove(pool.name());
                false
            });
            self.remove_in_turn(&pool).await?;
        }
        for settings in pools {
            self.start_in_turn(settings).await?;
        }
        Ok(())
    }

    /// Stands for these pools from now on. One that is ours and is not among them is drained, unless another
    /// controller has it.
    fn stand_for(&self, pools: Vec<PoolSettings>) {
        self.candidates.send_modify(|candidates| {
            let before = std::mem::take(candidates);
            candidates.extend(pools.into_iter().map(|pool| (pool.name.clone(), pool)));
            for (name, pool) in before {
                if !candidates.contains_key(&name) && self.store.owns(&name) {
                    let spec = PoolSpec { max_runners: 0, ..pool.spec.clone() };
                    candidates.insert(name, PoolSettings { removed: true, spec, ..pool });
                }
            }
        });
    }

    /// Drains a pool; it is served until its last instance closes (11.8).
    async fn remove_in_turn(&self, pool: &Arc<PoolContext>) -> Result<(), UpdateError> {
        let name = pool.name().clone();
        if pool.settings().removed {
            return Ok(());
        }
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.pool_removed.before");
        self.store
            .update(move |txn| {
                if let Some(row) = txn.pool_mut(&name) {
                    row.intent = Intent::Removed;
                }
            })
            .await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.pool_removed.after");
        let settings = PoolSettings::clone(&pool.settings());
        let spec = PoolSpec { max_runners: 0, ..settings.spec.clone() };
        self.instruct(pool, PoolSettings { removed: true, spec, ..settings });
        Ok(())
    }

    pub(crate) fn is_served(&self, name: &PoolName) -> bool {
        self.roster.borrow().pools.contains_key(name)
    }

    fn served(&self, name: &PoolName) -> Option<Arc<PoolContext>> {
        self.roster.borrow().pools.get(name).cloned()
    }
}

/// The end of a removed pool that has nothing left. True if it is over.
pub(crate) async fn finish(pool: &Arc<PoolContext>) -> bool {
    // Its session first: nobody would know of it afterwards.
    if !pool.let_go.load(Ordering::Acquire) || remembers_scale_set(pool) {
        return false;
    }
    let shared = &pool.shared;
    let Ok(_turn) = shared.changing.acquire().await else { return true };
    if pool.stopping() {
        return true;
    }
    if !scale_set_is_gone(pool).await {
        return false;
    }
    let name = pool.name().clone();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.pool_gone.before");
    let gone = shared
        .store
        .update(move |txn| {
            let removed = txn.pool(&name).map(|state| state.pool.intent == Intent::Removed);
            match removed {
                Some(true) => txn.remove_pool(&name).is_ok(),
                Some(false) => false,
                None => true,
            }
        })
        .await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.pool_gone.after");
    match gone {
        Ok(true) => {}
        Ok(false) => return false,
        Err(error) => {
            tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused the end of a pool");
            return false;
        }
    }
    tracing::info!(pool = %pool.name(), "pool removed, nothing of it is left");
    if let Some(settings) = shared.dismiss(pool) {
        begin_anew(shared.clone(), settings);
    }
    true
}

/// Its scale set may have to go later: only its row says that we made it.
fn remembers_scale_set(pool: &PoolContext) -> bool {
    let stays = pool.settings().scale_set_end == ScaleSetEnd::StaysForNow;
    stays && pool.state().is_some_and(|state| state.pool.scale_set_is_ours)
}

/// Deletes the scale set of a pool whose settings want that, if we made it. False if it is to be tried again.
async fn scale_set_is_gone(pool: &Arc<PoolContext>) -> bool {
    let settings = pool.settings();
    let Some(row) = pool.state().map(|state| state.pool.clone()) else { return true };
    if settings.scale_set_end != ScaleSetEnd::Goes || !row.scale_set_is_ours {
        return true;
    }
    let deleting = async {
        let set = match row.scale_set_id {
            Some(set) => Some(set.0),
            // It was begun, and nobody heard the answer: what has its name is ours.
            None => listener::find_scale_set(&settings).await?.map(|set| set.id),
        };
        let Some(set) = set else { return Ok(None) };
        settings.connection.delete_scale_set(set).await.map(|()| Some(set))
    };
    match tokio::time::timeout(STOP_BOUND, deleting).await {
        Ok(Ok(set)) => {
            if let Some(scale_set_id) = set {
                tracing::info!(pool = %pool.name(), scale_set_id, "scale set deleted");
            }
            true
        }
        Ok(Err(error)) => {
            tracing::warn!(pool = %pool.name(), error = error.chain(), "scale set could not be deleted, trying again");
            false
        }
        Err(_) => false,
    }
}

fn begin_anew(shared: Arc<Shared>, settings: PoolSettings) {
    let tasks = shared.tasks.clone();
    tasks.spawn("move pool", async move {
        let name = settings.name.clone();
        if let Err(error) = shared.start_pool(settings).await {
            tracing::error!(pool = %name, error = %chain(&error), "store did not take a moved pool in");
        }
    });
}

/// What a pool has at the old place cannot be reached with the new settings.
fn moves(old: &PoolSettings, new: &PoolSettings) -> bool {
    let shape = |of: &PoolSettings| of.provisioner.capabilities().late_binding;
    // A container is the same whether it waits for its job or not.
    let begins_to_wait = (old.spec.warm > 0) != (new.spec.warm > 0);
    old.connection.url().as_str() != new.connection.url().as_str()
        || old.provisioner.connection() != new.provisioner.connection()
        || (shape(old) != shape(new) && !begins_to_wait)
}

/// A session opened with `old` goes on serving with `new`.
pub(crate) fn same_session(old: &PoolSettings, new: &PoolSettings) -> bool {
    old.labels == new.labels
        && old.scale_set_name == new.scale_set_name
        && old.runner_group == new.runner_group
        && old.session == new.session
        && old.connection.is(&new.connection)
}
