//! The one place where inside words become the API's: pure mappings from the store's state, and the
//! controller's health where there is a controller. Used by the routes and, when no daemon runs, by the
//! command line.

mod discrepancy;
mod event;
mod fleet;
mod instance;
mod job;
mod pool;
#[cfg(test)]
mod tests;
pub mod time;

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetfoot_api::{InstanceStatus, PoolStatus, SetAside, Source, Status, StoreBehind};
use fleetfoot_core::{
    Fleet, Health, Instance, InstanceName, PoolHealth, PoolName, PoolState, Timestamp,
};
use fleetfoot_store::{Behind, Membership};

use crate::causes;

pub use discrepancy::discrepancies;
pub(crate) use event::event_info;
pub use instance::outcome;
pub(crate) use instance::{closed_status, instance_status, outcome_word};
pub(crate) use job::{job_info, job_of};
pub(crate) use pool::pool_status;

/// Everything that can be shown of one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The program's version.
    pub version: String,
    /// The installation's identity.
    pub installation: String,
    /// The store may know less than what is true outside.
    pub behind: Option<Behind>,
    /// The pools as the store has them.
    pub pools: BTreeMap<PoolName, Arc<PoolState>>,
    /// What the controller says; nothing when none runs.
    pub health: Option<Health>,
    /// How much the store has done since it was opened.
    pub written: fleetfoot_store::Counters,
    /// Who else shares the store, and which one we are; nothing if there is only one controller.
    pub fleet: Option<(Arc<Fleet>, Option<Membership>)>,
    /// The time.
    pub now: Timestamp,
}

fn behind_info(behind: Behind) -> StoreBehind {
    let taken_at = match behind {
        Behind::Restored { taken_at } => taken_at.map(time::rfc3339),
        Behind::Lost | Behind::Older | Behind::LogGone => None,
    };
    StoreBehind { cause: behind.as_str().to_owned(), message: behind.to_string(), taken_at }
}

fn set_aside(health: &Health) -> Vec<SetAside> {
    let told = |(name, reason): (&PoolName, &String)| SetAside {
        name: name.to_string(),
        reason: reason.clone(),
    };
    health.set_aside.iter().map(told).collect()
}

impl Snapshot {
    /// Why a pool of this name is wanted and not served at all, if that is so.
    #[must_use]
    pub fn set_aside(&self, name: &str) -> Option<&str> {
        let name = PoolName::new(name).ok()?;
        self.health.as_ref()?.set_aside.get(&name).map(String::as_str)
    }

    /// What the controller says of one pool; of a pool it has not begun with yet, an opening one.
    #[must_use]
    pub(crate) fn pool_health(&self, name: &PoolName) -> Option<Arc<PoolHealth>> {
        let health = self.health.as_ref()?;
        Some(health.pools.get(name).cloned().unwrap_or_default())
    }

    /// An instance that is not closed, with its pool.
    #[must_use]
    pub fn instance(&self, name: &InstanceName) -> Option<(&PoolState, &Instance)> {
        self.pools.values().find_map(|state| {
            state.instances.get(name).map(|instance| (state.as_ref(), instance.as_ref()))
        })
    }

    /// One pool as the API shows it.
    #[must_use]
    pub fn pool(&self, state: &PoolState) -> PoolStatus {
        let Some(owner) = self.owner(&state.pool.name) else {
            return pool_status(state, self.pool_health(&state.pool.name).as_deref(), self.now);
        };
        let mut status = if owner.here {
            pool_status(state, self.pool_health(&state.pool.name).as_deref(), self.now)
        } else {
            let mut status = pool_status(state, None, self.now);
            status.demand.known = state.pool.demand.known && owner.alive;
            status.causes.retain(|cause| cause.code != causes::NO_DAEMON);
            status.causes.splice(..0, causes::of_owner(&owner));
            status
        };
        status.owner = Some(owner);
        status
    }

    /// One instance as the API shows it.
    #[must_use]
    pub(crate) fn instance_status(&self, state: &PoolState, instance: &Instance) -> InstanceStatus {
        let unreachable = self.owner(&state.pool.name).is_some_and(|it| it.host_bound && !it.alive);
        InstanceStatus { unreachable, ..instance_status(state, instance) }
    }

    /// All pools, by name.
    #[must_use]
    pub(crate) fn pool_list(&self) -> Vec<PoolStatus> {
        self.pools.values().map(|state| self.pool(state)).collect()
    }

    /// All instances that are not closed, by pool and name.
    #[must_use]
    pub(crate) fn instance_list(&self) -> Vec<InstanceStatus> {
        let of_pool = |state: &Arc<PoolState>| {
            let of_one = |instance: &Arc<_>| self.instance_status(state, instance);
            state.instances.values().map(of_one).collect::<Vec<_>>()
        };
        self.pools.values().flat_map(of_pool).collect()
    }

    /// Everything at a glance.
    #[must_use]
    pub fn status(&self) -> Status {
        let health = self.health.as_ref();
        Status {
            version: self.version.clone(),
            installation: self.installation.clone(),
            behind: self.behind.map(behind_info),
            source: if health.is_some() { Source::Daemon } else { Source::Store },
            at: time::rfc3339(self.now),
            started_at: health.map(|health| time::rfc3339(health.started_at)),
            ready: health.is_some_and(|health| health.ready),
            stopping: health.is_some_and(|health| health.stopping),
            pools: self.pool_list(),
            instances: self.instance_list(),
            discrepancies: health
                .map(|health| {
                    health.unserved.values().flat_map(|told| discrepancies(told)).collect()
                })
                .unwrap_or_default(),
            controllers: self.controllers(),
            set_aside: health.map(set_aside).unwrap_or_default(),
        }
    }
}
