//! From targets to pools, again and again: after each change that our own API makes, and every half minute for the
//! database's other clients.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_controller::{Controller, HostLimits};
use fleetfoot_core::PoolName;
use fleetfoot_server::myshoes::numbers::Shown;
use fleetfoot_store::{Store, TargetsError};
use tokio::sync::watch;

use super::Environment;
use super::daemon::MyshoesError;
use super::github::{self, Github};
use super::pools::{Pools, Served};
use super::releases::Releases;

/// Targets are looked at this often, whoever changed them.
const SYNC: Duration = Duration::from_secs(30);

/// Keeps the controller's pools as the targets want them.
pub(super) struct Sync {
    pools: Pools,
    releases: Releases,
    github: Arc<Github>,
    shown: watch::Sender<Shown>,
}

impl Sync {
    pub(super) fn new(
        environment: &Environment,
        github: Arc<Github>,
        host: Arc<fleetfoot_provisioner_shoes::PluginHost>,
    ) -> Self {
        let releases = Releases::new(environment);
        let shown = Shown {
            max_connections: environment.settings.max_connections,
            max_deleting: environment.settings.max_deleting,
            is_bounded: environment.own.is_bounded,
            ..Shown::default()
        };
        Self {
            pools: Pools::new(environment, github.clone(), host, releases.subscribe()),
            releases,
            github,
            shown: watch::Sender::new(shown),
        }
    }

    /// What is shown of them as numbers.
    pub(super) fn shown(&self) -> watch::Receiver<Shown> {
        self.shown.subscribe()
    }

    pub(super) async fn run(&mut self, store: &Store, controller: &Controller) -> Infallible {
        let mut changes = store.target_changes();
        loop {
            tokio::select! {
                biased;
                Ok(()) = changes.changed() => {}
                () = tokio::time::sleep(SYNC) => {}
            }
            if let Err(error) = self.once(store, controller).await {
                tracing::error!("[scaleset] failed to sync targets: {}", crate::chain(&error));
            }
        }
    }

    async fn once(&mut self, store: &Store, controller: &Controller) -> Result<(), MyshoesError> {
        let served = self.look(store, &BTreeSet::new()).await?;
        controller.set_aside(served.set_aside);
        controller.apply(served.pools, HostLimits::default()).await?;
        Ok(())
    }

    /// The pools of the targets as they are now; names that are `taken` are none of theirs.
    pub(super) async fn look(
        &mut self,
        store: &Store,
        taken: &BTreeSet<PoolName>,
    ) -> Result<Served, TargetsError> {
        let targets = store.targets().await.inspect_err(|_| {
            self.shown.send_modify(|shown| shown.failed = vec!["collect.datastore"]);
        })?;
        let served = self.pools.of(&targets, store, taken).await;
        self.releases.look(&served.pools).await;
        let named = self.pools.named(&targets);
        let installations = self.github.installations().await;
        self.shown.send_modify(|shown| {
            shown.targets = named;
            match &installations {
                Ok(known) => {
                    shown.installations = known.iter().map(github::shown).collect();
                    shown.failed.clear();
                }
                Err(_) => shown.failed = vec!["collect.github"],
            }
        });
        Ok(served)
    }
}
