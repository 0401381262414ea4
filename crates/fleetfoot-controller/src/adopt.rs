//! What a start takes over from the store: pools, rows of before, and what nobody serves any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use fleetfoot_core::{Intent, Job, Pool, PoolName};
use fleetfoot_store::{Store, Txn, UpdateError};

use crate::backend::Backend;
use crate::clock::Clock;
use crate::executor::chain;
use crate::pool::{Shared, told};
use crate::settings::{ControllerSettings, PoolSettings, ScaleSetEnd};

/// A pool's row as the configuration has it.
struct Row {
    name: PoolName,
    url: String,
    group: String,
    credential: String,
    connection: String,
}

impl Row {
    fn of(pool: &PoolSettings) -> Self {
        Self {
            name: pool.name.clone(),
            url: pool.connection.url().as_str().to_owned(),
            group: group(pool),
            credential: pool.credential_reference.clone(),
            connection: pool.provisioner.connection().to_owned(),
        }
    }
}

/// The group that is named, or the default one, however it is named.
fn group(pool: &PoolSettings) -> String {
    let named = pool.runner_group.as_deref().filter(|name| !name.eq_ignore_ascii_case("default"));
    named.unwrap_or_default().to_owned()
}

/// Pools that were moved to another URL while instances of the old one live are left out: asked at the new
/// one, GitHub would know none of their runners, and the gate would take that for consent (11.3).
pub(crate) fn without_moved(store: &Store, pools: Vec<PoolSettings>) -> Vec<PoolSettings> {
    pools.into_iter().filter(|pool| !is_moved(store, pool)).collect()
}

/// A pool was moved to another URL while instances of the old one live; said here.
pub(crate) fn is_moved(store: &Store, pool: &PoolSettings) -> bool {
    let Some(state) = store.pool(&pool.name) else { return false };
    let (from, to) = (state.pool.config_url.as_str(), pool.connection.url().as_str());
    let moved = !from.is_empty() && from != to && !state.instances.is_empty();
    if moved {
        let instances = state.instances.len();
        tracing::error!(pool = %pool.name, from, to, instances, "url of a pool changed while instances of the old one are left, not serving it: put the old url back until they are gone");
    }
    moved
}

/// Pools that have instances and that nobody serves.
pub(crate) fn orphans(store: &Store, pools: &[PoolSettings]) -> BTreeSet<PoolName> {
    let all = store.pools();
    let left = all.iter().filter(|(_, state)| !state.instances.is_empty()).map(|(name, _)| name);
    left.filter(|name| !pools.iter().any(|pool| pool.name == **name)).cloned().collect()
}

/// Waits until every backend was looked at after a lost store, then lets the store forget the loss (11.4).
pub(crate) async fn strays_seen(shared: Arc<Shared>, backends: Vec<Arc<Backend>>) {
    let mut stop = shared.stop.subscribe();
    for backend in backends {
        let (mut swept, mut unused) = (backend.swept.subscribe(), backend.unused.subscribe());
        tokio::select! {
            biased;
            () = told(&mut stop) => return,
            () = told(&mut swept) => {}
            () = told(&mut unused) => {}
        }
    }
    shared.host.counted();
    match shared.store.strays_seen().await {
        Ok(()) => tracing::info!("careful pass is over"),
        Err(error) => {
            tracing::error!(error = %chain(&error), "store did not note that its strays were seen");
        }
    }
}

/// Rows of configured pools are made or brought up to date; rows of others are marked removed. What a
/// predecessor knew of demand is unknown until a session is open, and its times are not ahead of ours.
pub(crate) async fn record_pools(
    store: &Store,
    pools: &[PoolSettings],
    settings: &ControllerSettings,
    clock: &Clock,
) -> Result<(), UpdateError> {
    let now = clock.now();
    let rows: Vec<Row> = pools.iter().filter(|pool| !pool.removed).map(Row::of).collect();
    // Their scale sets are still to be deleted, or may have to be one day.
    let owing = pools.iter().filter(|pool| pool.scale_set_end != ScaleSetEnd::Stays);
    let owing: Vec<PoolName> = owing.map(|pool| pool.name.clone()).collect();
    let ended_with_host: Vec<PoolName> =
        pools.iter().filter(|pool| ends_with_host(pool)).map(|pool| pool.name.clone()).collect();
    let boot = settings.boot_id.clone();
    let careful = settings.careful;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.pools.before");
    let recorded = store
        .update(move |txn| {
            for name in txn.pool_names() {
                if careful {
                    // No row is sure of what was not done since (11.4).
                    txn.distrust_pool(&name, now);
                }
                let gone = !rows.iter().any(|row| row.name == name);
                if gone && !owing.contains(&name) && txn.remove_pool(&name).is_ok() {
                    continue;
                }
                let forget = boot.as_deref().filter(|_| ended_with_host.contains(&name));
                resume(txn, &name, forget, now);
                if let Some(row) = txn.pool_mut(&name).filter(|_| gone) {
                    row.intent = Intent::Removed;
                }
            }
            for row in rows {
                configure(txn, row, now);
            }
        })
        .await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.pools.after");
    recorded
}

/// The row of one pool that begins while the controller runs, or that gets other settings.
pub(crate) async fn record_pool(
    shared: &Shared,
    pool: &PoolSettings,
    begins: bool,
) -> Result<(), UpdateError> {
    let (row, now, removed) = (Row::of(pool), shared.clock.now(), pool.removed);
    let boot = shared.settings.boot_id.clone().filter(|_| ends_with_host(pool));
    // Among several controllers this is the first that is done with its rows.
    let several = shared.store.membership().is_some();
    let careful = several && shared.store.behind().is_some();
    if several && begins {
        let read = shared.store.look_at_names().await;
        read.inspect_err(|error| tracing::warn!(pool = %pool.name, %error, "names that others gave were not read")).ok();
    }
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.pool.before");
    let recorded = shared
        .store
        .update(move |txn| {
            let name = row.name.clone();
            if begins {
                if careful {
                    txn.distrust_pool(&name, now);
                }
                resume(txn, &name, boot.as_deref(), now);
            }
            if !removed {
                configure(txn, row, now);
            } else if let Some(row) = txn.pool_mut(&name) {
                row.intent = Intent::Removed;
            }
        })
        .await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.pool.after");
    recorded
}

/// Its environments ended with the host, whatever identity they remember (11.13).
fn ends_with_host(pool: &PoolSettings) -> bool {
    pool.provisioner.capabilities().ends_with_host
}

fn resume(txn: &mut Txn<'_>, name: &PoolName, boot: Option<&str>, now: fleetfoot_core::Timestamp) {
    let names: Vec<_> =
        txn.pool(name).map(|state| state.instances.keys().cloned().collect()).unwrap_or_default();
    for instance in names {
        txn.modify_instance(&instance, |row| {
            row.resume(now);
            if boot.is_some_and(|boot| row.boot_id.as_deref().is_some_and(|made| made != boot)) {
                row.backend_identity = None;
            }
        });
    }
    let jobs = txn.pool(name).map(|state| state.jobs.clone()).unwrap_or_default();
    for job in jobs.values().filter(|job| job.seen_at > now || job.started_at > Some(now)) {
        let mut job = Job::clone(job);
        job.resume(now);
        txn.put_job(name, job);
    }
    if let Some(row) = txn.pool_mut(name) {
        row.resume(now);
        row.demand.session_lost();
    }
}

fn configure(txn: &mut Txn<'_>, wanted: Row, now: fleetfoot_core::Timestamp) {
    let mut row = txn
        .pool(&wanted.name)
        .map_or_else(|| Pool::new(wanted.name.clone(), now), |state| Pool::clone(&state.pool));
    if row.intent == Intent::Removed {
        row.intent = Intent::Active;
    }
    if row.config_url != wanted.url || row.runner_group != wanted.group {
        row.scale_set_id = None;
        row.scale_set_is_ours = false;
        row.session_id = None;
    }
    row.config_url = wanted.url;
    row.runner_group = wanted.group;
    row.credential_reference = wanted.credential;
    row.backend_connection = wanted.connection;
    txn.put_pool(row);
}
