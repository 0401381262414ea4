//! Who serves what, where several controllers share a store.

use std::collections::BTreeSet;

use fleetfoot_api::{ControllerInfo, OwnerInfo};
use fleetfoot_core::{Fleet, Ownership, PoolName};

use super::Snapshot;

impl Snapshot {
    fn me(&self) -> Option<&str> {
        let (_, membership) = self.fleet.as_ref()?;
        membership.as_ref().map(|me| me.controller.as_str())
    }

    /// Who serves a pool; nothing if there is only one controller.
    #[must_use]
    pub fn owner(&self, pool: &PoolName) -> Option<OwnerInfo> {
        let (fleet, _) = self.fleet.as_ref()?;
        let nobody = Ownership { owner: None, epoch: 0, host_id: None, writes: 0 };
        let row = fleet.pools.get(pool).unwrap_or(&nobody);
        let peer = fleet.owner(pool);
        let of_host = || fleet.host_name(row.host_id.as_deref()?).map(str::to_owned);
        Some(OwnerInfo {
            controller: row.owner.clone(),
            host: peer.map(|peer| peer.host.clone()).or_else(of_host),
            here: row.owner.is_some() && row.owner.as_deref() == self.me(),
            alive: peer.is_some_and(|peer| peer.is_alive()),
            host_bound: row.host_id.is_some(),
            epoch: row.epoch,
            unlike: unlike(fleet, pool),
        })
    }

    /// The controllers that share the store, by host and name.
    #[must_use]
    pub(super) fn controllers(&self) -> Vec<ControllerInfo> {
        let Some((fleet, _)) = &self.fleet else { return Vec::new() };
        let owned = |controller: &str| {
            let owned =
                |(_, row): &(&PoolName, &Ownership)| row.owner.as_deref() == Some(controller);
            fleet.pools.iter().filter(owned).map(|(pool, _)| pool.to_string()).collect()
        };
        let mut controllers: Vec<ControllerInfo> = fleet
            .peers
            .values()
            .map(|peer| ControllerInfo {
                controller: peer.controller.clone(),
                host: peer.host.clone(),
                host_id: peer.host_id.clone(),
                version: peer.version.clone(),
                here: Some(peer.controller.as_str()) == self.me(),
                alive: peer.is_alive(),
                pools: owned(&peer.controller),
            })
            .collect();
        controllers.sort_by(|a, b| (&a.host, &a.controller).cmp(&(&b.host, &b.controller)));
        controllers
    }
}

fn unlike(fleet: &Fleet, pool: &PoolName) -> bool {
    let configured = fleet.candidates(pool).filter(|(_, it)| !it.removed);
    configured.map(|(_, it)| &it.digest).collect::<BTreeSet<_>>().len() > 1
}
