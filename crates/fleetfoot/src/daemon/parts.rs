//! The pools of one daemon come from two sides, its configuration and its targets. Each says its own, and the
//! controller is told of both together: what one side does not name is not thereby removed of the other.

use std::collections::BTreeSet;

use fleetfoot_controller::{Controller, HostLimits, PoolSettings, StartError};
use fleetfoot_core::PoolName;
use tokio::sync::Mutex;

/// What both sides said last.
#[derive(Debug)]
pub(crate) struct AllPools(Mutex<Said>);

#[derive(Debug)]
struct Said {
    file: Vec<PoolSettings>,
    targets: Vec<PoolSettings>,
    host: HostLimits,
}

impl AllPools {
    pub(crate) fn new(
        file: Vec<PoolSettings>,
        targets: Vec<PoolSettings>,
        host: HostLimits,
    ) -> Self {
        Self(Mutex::new(Said { file, targets, host }))
    }

    /// The names that are none of a target's.
    pub(crate) async fn of_file(&self) -> BTreeSet<PoolName> {
        self.0.lock().await.file.iter().map(|pool| pool.name.clone()).collect()
    }

    /// Serves these pools of the configuration, and the targets' as they are.
    pub(crate) async fn apply_file(
        &self,
        controller: &Controller,
        pools: Vec<PoolSettings>,
        host: HostLimits,
    ) -> Result<(), StartError> {
        // Held while it is applied: the two sides take turns.
        let mut said = self.0.lock().await;
        (said.file, said.host) = (pools, host);
        said.apply(controller).await
    }

    /// Serves these pools of targets, and the configuration's as they are.
    pub(crate) async fn apply_targets(
        &self,
        controller: &Controller,
        pools: Vec<PoolSettings>,
    ) -> Result<(), StartError> {
        let mut said = self.0.lock().await;
        said.targets = pools;
        said.apply(controller).await
    }
}

impl Said {
    async fn apply(&self, controller: &Controller) -> Result<(), StartError> {
        let is_free = |pool: &&PoolSettings| self.file.iter().all(|it| it.name != pool.name);
        let targets = self.targets.iter().filter(is_free);
        let all = self.file.iter().chain(targets).cloned().collect();
        controller.apply(all, self.host.clone()).await
    }
}
