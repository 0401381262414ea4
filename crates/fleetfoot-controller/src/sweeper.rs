//! One sweeper per backend connection: it lists what exists, compares it with the store, and tells.
//!
//! It only observes. What is to be done about a difference, the plan decides: a thing without a row gets
//! a row (in `Stopping`, so that it passes the removal gate), a row without a thing learns that its
//! environment is gone. Order of a sweep: list first, then view (design, 11.2).

mod finding;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::removal::CALL_BOUND as BOUND;
use fleetfoot_core::{
    Environment, Exit, Instance, InstanceName, Observation, Phase, PoolName, Reason, Registration,
    Timestamp,
};
use fleetfoot_provisioner::{EnvironmentInfo, EnvironmentState, Event, Listing};
use futures_util::StreamExt;

use crate::executor::chain;
use crate::pool::{Backend, PoolContext, Shared, stopped};
use crate::record::observe;
use crate::start::CALL_BOUND;

use finding::{Finding, finding};

/// Pauses between sweeps: with everything quiet, and while something is to be proven.
const PERIOD: Duration = Duration::from_secs(30);
const PERIOD_URGENT: Duration = Duration::from_secs(3);

/// The pools whose environments live at one connection.
pub(crate) type Pools = Arc<BTreeMap<PoolName, Arc<PoolContext>>>;

/// Sweeps one connection until the controller stops.
pub(crate) async fn run(shared: Arc<Shared>, backend: Arc<Backend>, pools: Pools) {
    let mut stop = shared.stop.clone();
    let mut sweep =
        Sweep { shared, backend, pools, identity: None, strays: BTreeSet::new(), first: true };
    loop {
        let pause = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            pause = sweep.once() => pause,
        };
        let backend = sweep.backend.clone();
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = backend.look.notified() => tokio::time::sleep(Duration::from_millis(200)).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Follows the connection's exits until the controller stops.
pub(crate) async fn watch(shared: Arc<Shared>, backend: Arc<Backend>, pools: Pools) {
    if !backend.provisioner.capabilities().watch {
        return;
    }
    let mut stop = shared.stop.clone();
    loop {
        let follow = async {
            let mut events = match backend.provisioner.watch().await {
                Ok(events) => events,
                Err(error) => {
                    tracing::warn!(connection = backend.provisioner.connection(), error = %chain(&error), "watch failed");
                    return;
                }
            };
            while let Some(event) = events.next().await {
                match event {
                    Event::Ended { name, exit } => ended(&shared, &pools, &name, exit).await,
                    Event::Resynced => backend.look.notify_one(),
                }
            }
        };
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = follow => {}
        }
        backend.look.notify_one();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn ended(shared: &Shared, pools: &Pools, name: &InstanceName, exit: Exit) {
    let Some(pool) = owner(shared, pools, name) else { return };
    let now = shared.clock.now();
    tracing::debug!(%pool, instance = %name, code = exit.code, "environment ended");
    let (pool_name, instance) = (pool.clone(), name.clone());
    let recorded = shared
        .store
        .update(move |txn| {
            observe(txn, &pool_name, &instance, &Observation::Ended { exit }, now);
        })
        .await;
    if let Err(error) = recorded {
        tracing::error!(%pool, instance = %name, error = %chain(&error), "store refused an observation");
    }
}

/// The pool that has a live row of that name.
fn owner(shared: &Shared, pools: &Pools, name: &InstanceName) -> Option<PoolName> {
    pools
        .keys()
        .find(|pool| {
            shared.store.pool(pool).is_some_and(|state| state.instances.contains_key(name))
        })
        .cloned()
}

struct Sweep {
    shared: Arc<Shared>,
    backend: Arc<Backend>,
    pools: Pools,
    identity: Option<String>,
    /// Things without a row seen by the last sweep: only what is seen twice is taken up.
    strays: BTreeSet<InstanceName>,
    first: bool,
}

impl Sweep {
    async fn once(&mut self) -> Duration {
        if !self.backend.provisioner.capabilities().list {
            self.swept();
            return PERIOD * 20;
        }
        let began = self.shared.clock.now();
        let listed = tokio::time::timeout(CALL_BOUND, self.backend.provisioner.list()).await;
        let connection = self.backend.provisioner.connection().to_owned();
        let listing = match listed {
            Ok(Ok(listing)) => listing,
            Ok(Err(error)) => return self.unreachable(&connection, &chain(&error)),
            Err(_) => return self.unreachable(&connection, "the backend did not list in time"),
        };
        if let Some(detail) = self.another_identity(&listing) {
            return self.unreachable(&connection, &detail);
        }
        if self.backend.dependency.answered() {
            tracing::info!(connection, "backend answers again");
            self.wake_pools();
        }
        let settled = self.compare(&listing, began).await;
        let careful = self.first && self.shared.settings.careful && !self.strays.is_empty();
        self.first = false;
        if careful {
            tracing::warn!(
                strays = self.strays.len(),
                "the store is younger than what runs here, looking twice before acting"
            );
            return Duration::from_secs(1);
        }
        self.swept();
        if settled { PERIOD } else { PERIOD_URGENT }
    }

    fn swept(&self) {
        self.backend.swept.send_if_modified(|swept| !std::mem::replace(swept, true));
    }

    fn wake_pools(&self) {
        for pool in self.pools.values() {
            pool.wake.notify_one();
        }
    }

    fn unreachable(&self, connection: &str, detail: &str) -> Duration {
        if self.backend.dependency.failed(detail, None, self.shared.clock.now()) {
            tracing::error!(connection, error = detail, "backend does not answer");
            self.wake_pools();
        }
        PERIOD_URGENT
    }

    /// Absence is evidence only against the same backend (11.2).
    fn another_identity(&mut self, listing: &Listing) -> Option<String> {
        let remembered = self.identity.clone().or_else(|| {
            self.pools.keys().find_map(|pool| {
                let state = self.shared.store.pool(pool)?;
                state
                    .instances
                    .values()
                    .filter(|row| row.occupies())
                    .find_map(|row| row.backend_identity.clone())
            })
        });
        match remembered {
            Some(known) if known != listing.identity => Some(format!(
                "another backend answers than the one that holds our instances ({} instead of {known})",
                listing.identity
            )),
            Some(_) | None => {
                self.identity = Some(listing.identity.clone());
                None
            }
        }
    }

    /// Compares the list with the rows as they are now. True when nothing is left to be proven.
    async fn compare(&mut self, listing: &Listing, began: Timestamp) -> bool {
        let mut listed: BTreeMap<&InstanceName, &EnvironmentInfo> =
            listing.environments.iter().map(|info| (&info.name, info)).collect();
        let mut findings = Vec::new();
        let mut settled = true;
        for (pool_name, pool) in self.pools.iter() {
            let Some(state) = self.shared.store.pool(pool_name) else { continue };
            for (name, row) in &state.instances {
                let info = listed.remove(name);
                let Some(finding) = finding(pool, row, info, began) else { continue };
                findings.push(finding);
            }
            settled &= state.instances.values().all(|row| row.unanswered_since.is_none());
        }
        let identity = listing.identity.clone();
        if !findings.is_empty() {
            settled &= findings.iter().all(|finding| finding.clear_list_at.is_none());
            self.record(findings, identity.clone()).await;
        }
        let strays: Vec<EnvironmentInfo> = listed.into_values().cloned().collect();
        settled & self.take_up(strays, identity).await
    }

    async fn record(&self, findings: Vec<Finding>, identity: String) {
        let now = self.shared.clock.now();
        let recorded = self
            .shared
            .store
            .update(move |txn| {
                for finding in findings {
                    for observation in &finding.observations {
                        observe(txn, &finding.pool, &finding.name, observation, now);
                    }
                    let identity = identity.clone();
                    txn.modify_instance(&finding.name, |row| {
                        row.backend_identity = Some(identity);
                        if let Some(at) = finding.clear_list_at {
                            row.clear_lists = row.clear_lists.saturating_add(1);
                            row.last_clear_list_at = Some(at);
                            if row.clear_lists >= 2 && row.may_live() {
                                row.environment = Environment::Gone;
                            }
                        }
                    });
                }
            })
            .await;
        if let Err(error) = recorded {
            tracing::error!(error = %chain(&error), "store refused a sweep");
        }
    }

    /// Things that carry our evidence and have no row (11.4). True when there are none.
    async fn take_up(&mut self, strays: Vec<EnvironmentInfo>, identity: String) -> bool {
        let before = std::mem::take(&mut self.strays);
        let mut rows = Vec::new();
        for stray in &strays {
            self.strays.insert(stray.name.clone());
            if !before.contains(&stray.name) {
                continue;
            }
            let pool = stray.pool.clone().filter(|pool| self.pools.contains_key(pool));
            let Some(pool) = pool else {
                self.foreign_pool(stray).await;
                continue;
            };
            tracing::warn!(%pool, instance = %stray.name, state = state_word(&stray.state), "stray found, taking it up");
            rows.push(stray_row(stray, pool, &identity, self.shared.clock.now()));
        }
        if !rows.is_empty() {
            let taken = self
                .shared
                .store
                .update(move |txn| {
                    for row in rows {
                        if let Err(error) = txn.take_up_instance(row) {
                            tracing::warn!(%error, "stray not taken up");
                        }
                    }
                })
                .await;
            if let Err(error) = taken {
                tracing::error!(error = %chain(&error), "store refused a stray");
            }
            self.strays.clear();
        }
        strays.is_empty()
    }

    /// A stray of a pool that is not configured: its remains may go, a living one is left and told.
    async fn foreign_pool(&self, stray: &EnvironmentInfo) {
        let EnvironmentState::Ended(_) = stray.state else {
            tracing::warn!(instance = %stray.name, "a living environment of ours belongs to no configured pool, leaving it");
            return;
        };
        let deleted =
            tokio::time::timeout(CALL_BOUND, self.backend.provisioner.delete(&stray.name)).await;
        if let Ok(Err(error)) = deleted {
            tracing::warn!(instance = %stray.name, error = %chain(&error), "deletion failed");
        }
    }
}

fn state_word(state: &EnvironmentState) -> &'static str {
    match state {
        EnvironmentState::Created => "created",
        EnvironmentState::Running => "running",
        EnvironmentState::Ended(_) => "ended",
    }
}

/// The row of a stray: on its way out, through the gate. A busy one comes back as running.
fn stray_row(stray: &EnvironmentInfo, pool: PoolName, identity: &str, now: Timestamp) -> Instance {
    let mut row = Instance::pending(stray.name.clone(), pool, now);
    row.phase = Phase::Stopping;
    row.registration = Registration::Requested;
    row.reason = Some(Reason::Stray);
    row.handle = Some(stray.handle.0.clone());
    row.backend_identity = Some(identity.to_owned());
    // Nothing is in flight for a stray: one look at GitHub is enough.
    row.verified_at = Some(now - fleetfoot_core::Span(BOUND.0 * 2));
    match &stray.state {
        EnvironmentState::Created => row.environment = Environment::Present,
        EnvironmentState::Running => row.environment = Environment::Launched,
        EnvironmentState::Ended(exit) => {
            row.environment = Environment::Ended;
            row.exit = Some(exit.clone());
        }
    }
    row
}
