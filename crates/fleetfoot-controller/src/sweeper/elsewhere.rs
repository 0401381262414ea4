//! Another backend answers than the one that holds the instances (11.2).

use std::collections::BTreeSet;

use fleetfoot_core::{Environment, Instance, InstanceName, PoolName};
use fleetfoot_provisioner::Listing;

use super::Sweep;
use crate::executor::chain;

impl Sweep {
    pub(super) fn tell_elsewhere(&mut self, elsewhere: BTreeSet<PoolName>, identity: &str) {
        for pool in elsewhere.difference(&self.elsewhere) {
            tracing::error!(%pool, identity, "another backend answers than the one that holds the instances, nothing is made or closed");
        }
        self.elsewhere = elsewhere;
    }

    /// Another backend answers than at the last list. What was made since then, either may hold, unless it shows here:
    /// that it is gone, neither is believed until one of them shows it (11.2, seed 25780).
    pub(super) async fn doubt(&self, listing: &Listing) {
        let shown: BTreeSet<&InstanceName> =
            listing.environments.iter().map(|it| &it.name).collect();
        let is_made = |row: &Instance| {
            matches!(row.environment, Environment::Present | Environment::Launched)
                && row.last_call_at.zip(self.last_began).is_some_and(|(call, began)| call >= began)
        };
        let states = self.pools.keys().filter_map(|name| self.shared.store.pool(name));
        let mut doubted = Vec::new();
        for state in states {
            let rows = state.instances.values().filter(|row| self.backend.is_elsewhere(row));
            let rows = rows.filter(|row| is_made(row) && !shown.contains(&row.name));
            doubted.extend(rows.map(|row| row.name.clone()));
        }
        if doubted.is_empty() {
            return;
        }
        let marked = self.shared.store.update(move |txn| {
            for name in doubted {
                txn.modify_instance(&name, |row| {
                    row.backend_identity = Some(Instance::HOLDER_UNCERTAIN.to_owned());
                });
            }
        });
        if let Err(error) = marked.await {
            tracing::error!(error = %chain(&error), "store refused a sweep");
        }
    }
}
