//! What backend and store disagree about, told: the remedies are in [`super::finding`], [`super::stray`]
//! and the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::discrepancy::{Facts, Machine, Row, Runner};
use fleetfoot_core::pool::PoolSpec;
use fleetfoot_core::{
    Discrepancy, Instance, InstanceName, ListenerState, PoolName, PoolState, Timestamp,
};
use fleetfoot_provisioner::{EnvironmentInfo, EnvironmentState, Listing};
use tokio::time::Instant;

use crate::executor::chain;
use crate::ledger::{Key, Look, tell};

use super::Sweep;
use super::finding::{View, machine};

/// Things of other installations are asked for this often at most: they only are told.
const OTHERS_PERIOD: Duration = Duration::from_secs(600);

/// What is found, by the pool that is served; `None` for what belongs to none.
type Found = BTreeMap<Option<PoolName>, BTreeSet<Key>>;

/// What the backend has under a name that has no row, and what that is.
pub(super) fn of_stray(info: &EnvironmentInfo, spec: Option<&PoolSpec>) -> Option<Discrepancy> {
    let machine = match info.state {
        EnvironmentState::Created => Machine::Made,
        EnvironmentState::Running => Machine::Runs,
        EnvironmentState::Ended(_) => Machine::Ended,
    };
    without_row(machine, spec)
}

fn without_row(machine: Machine, spec: Option<&PoolSpec>) -> Option<Discrepancy> {
    let facts = Facts {
        row: Row::None,
        machine,
        runner: Runner::Unasked,
        scale_set: None,
        spec,
        settle: fleetfoot_core::Span::ZERO,
    };
    facts.disagreements(Timestamp(0)).into_iter().next()
}

impl Sweep {
    /// Things of other installations at this backend, now and then.
    pub(super) async fn look_for_others(&mut self) {
        if self.others_seen.is_some_and(|at| at.elapsed() < OTHERS_PERIOD) {
            return;
        }
        let bound = self.shared.pace.call_bound.to_std();
        match tokio::time::timeout(bound, self.backend.provisioner.others()).await {
            Ok(Ok(others)) => self.others = others,
            Ok(Err(error)) => {
                let connection = self.backend.provisioner.connection();
                tracing::debug!(connection, error = %chain(&error), "other installations not listed");
            }
            Err(_) => {}
        }
        self.others_seen = Some(Instant::now());
    }

    /// Compares everything and tells what does not fit.
    pub(super) fn disagreements(&self, listing: Option<&Listing>, began: Timestamp) {
        let mut listed: Option<BTreeMap<&InstanceName, &EnvironmentInfo>> = listing
            .map(|listing| listing.environments.iter().map(|info| (&info.name, info)).collect());
        let mut found: Found =
            self.pools.keys().map(|pool| (Some(pool.clone()), BTreeSet::new())).collect();
        found.insert(None, BTreeSet::new());
        for (pool, state) in self.states() {
            let spec = self.spec(&pool);
            let owner = spec.is_some().then(|| pool.clone());
            for row in state.instances.values() {
                let info = listed.as_mut().map(|listed| listed.remove(&row.name));
                let kinds = self.of_row(&state, row, info, spec.as_ref(), began);
                let keys = kinds.into_iter().map(|kind| (kind, Some(row.name.clone())));
                found.entry(owner.clone()).or_default().extend(keys);
            }
            if self.is_held_by_another(&pool) {
                found.entry(owner).or_default().insert((Discrepancy::SessionNotInRow, None));
            }
        }
        let strays = listed.unwrap_or_default().into_values();
        let strays = strays.filter(|info| !self.is_anothers(info));
        for info in strays {
            let owner = info.pool.clone().filter(|pool| self.pools.contains_key(pool));
            let spec = owner.as_ref().and_then(|pool| self.spec(pool));
            let key = of_stray(info, spec.as_ref()).map(|kind| (kind, Some(info.name.clone())));
            found.entry(owner).or_default().extend(key);
        }
        for info in &self.others {
            let Some(owner) = info.pool.clone().filter(|pool| self.pools.contains_key(pool)) else {
                continue;
            };
            let spec = self.spec(&owner);
            let kind = without_row(Machine::Anothers, spec.as_ref());
            found
                .entry(Some(owner))
                .or_default()
                .extend(kind.map(|kind| (kind, Some(info.name.clone()))));
        }
        self.tell(found);
    }

    /// The connection is used no more: nobody looks there.
    pub(super) fn forget(&self) {
        let connection = self.backend.provisioner.connection();
        self.shared.health.send_if_modified(|health| health.unserved.remove(connection).is_some());
    }

    fn of_row(
        &self,
        state: &PoolState,
        row: &Instance,
        info: Option<Option<&EnvironmentInfo>>,
        spec: Option<&PoolSpec>,
        began: Timestamp,
    ) -> Vec<Discrepancy> {
        let in_flight = self.pools.get(&row.pool).is_some_and(|pool| pool.is_in_flight(&row.name));
        let view = View {
            began,
            ended: began,
            boot: self.shared.settings.boot_id.as_deref(),
            bound: self.shared.pace.call_bound,
            in_flight,
        };
        let machine = match info {
            None => Machine::Unasked,
            Some(None) if self.backend.is_elsewhere(row) => Machine::Elsewhere,
            Some(info) => machine(row, info, view),
        };
        let facts = Facts {
            row: Row::Live(row),
            machine,
            runner: Runner::Unasked,
            scale_set: state.pool.scale_set_id,
            spec,
            settle: self.shared.pace.settle,
        };
        facts.disagreements(self.shared.clock.now())
    }

    fn states(&self) -> Vec<(PoolName, Arc<PoolState>)> {
        let served = self.pools.keys();
        let served = served.filter_map(|name| Some((name.clone(), self.shared.store.pool(name)?)));
        served.chain(self.orphans()).collect()
    }

    pub(super) fn spec(&self, pool: &PoolName) -> Option<PoolSpec> {
        self.pools.get(pool).map(|context| context.settings().spec.clone())
    }

    /// Another session holds the pool's scale set, and has for longer than one of ours takes to end.
    fn is_held_by_another(&self, pool: &PoolName) -> bool {
        let health = self.shared.health.borrow();
        let listener = health.pools.get(pool).map(|told| &told.listener);
        let Some(ListenerState::Standby { since }) = listener else { return false };
        since.age(self.shared.clock.now()) >= self.shared.pace.settle
    }

    fn tell(&self, found: Found) {
        let clock = &self.shared.clock;
        for (owner, keys) in found {
            let context = owner.as_ref().and_then(|pool| self.pools.get(pool));
            let Some(context) = context else {
                let connection = self.backend.provisioner.connection();
                let spec = PoolSpec::default();
                let told = self.unserved.take(Look::Backend, keys, connection, &spec, clock);
                self.shared.health.send_if_modified(|health| {
                    let before = health.unserved.get(connection).map(AsRef::as_ref);
                    let changed = before.cloned().unwrap_or_default() != told;
                    if changed {
                        health.unserved.insert(connection.to_owned(), Arc::new(told));
                    }
                    changed
                });
                continue;
            };
            let spec = &context.settings().spec;
            let told =
                context.ledger.take(Look::Backend, keys, context.name().as_str(), spec, clock);
            tell(&self.shared, context.name(), told);
        }
    }
}
