//! From targets to pools, again and again: after each change that our own API makes, and every half minute for the
//! database's other clients.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_controller::{Clock, Controller};
use fleetfoot_core::PoolName;
use fleetfoot_myshoes::target::Status;
use fleetfoot_server::myshoes::numbers::Shown;
use fleetfoot_store::{Store, TargetChanges, TargetsError};
use tokio::sync::watch;

use super::Environment;
use super::adopt;
use super::github::{self, Github};
use super::pools::{Pools, Served};
use super::releases::Releases;
use super::targets::MyshoesError;
use crate::daemon::{AllPools, DaemonError};

/// Targets are looked at this often, whoever changed them.
const SYNC: Duration = Duration::from_secs(30);

/// Looks at most before a daemon begins, however often its targets are changed meanwhile.
const FIRST_LOOKS_MAX: u32 = 4;

/// Keeps the controller's pools as the targets want them.
pub(crate) struct Sync {
    pools: Pools,
    releases: Releases,
    github: Arc<Github>,
    shown: watch::Sender<Shown>,
    clock: Clock,
    /// Changes that our own API makes, from before the first look on.
    changes: TargetChanges,
}

impl Sync {
    pub(super) fn new(
        environment: &Environment,
        github: Arc<Github>,
        host: Arc<fleetfoot_provisioner_shoes::PluginHost>,
        store: &Store,
    ) -> Self {
        let releases = Releases::new(environment);
        let shown = Shown {
            max_connections: environment.settings.max_connections,
            max_deleting: environment.settings.max_deleting,
            is_bounded: !environment.own.by_runner.unwrap_or(environment.is_original),
            github_url: environment.settings.github_url.clone(),
            ..Shown::default()
        };
        Self {
            pools: Pools::new(environment, github.clone(), host, releases.subscribe()),
            releases,
            github,
            shown: watch::Sender::new(shown),
            clock: Clock::system(),
            changes: store.target_changes(),
        }
    }

    /// What is shown of them as numbers.
    pub(crate) fn shown(&self) -> watch::Receiver<Shown> {
        self.shown.subscribe()
    }

    pub(super) async fn run(
        &mut self,
        store: &Store,
        controller: &Controller,
        all: &AllPools,
    ) -> Infallible {
        self.adopt(store).await;
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.changes.changed() => {}
                () = tokio::time::sleep(SYNC) => {}
            }
            if let Err(error) = self.once(store, controller, all).await {
                tracing::error!("[scaleset] failed to sync targets: {}", crate::chain(&error));
            }
        }
    }

    async fn once(
        &mut self,
        store: &Store,
        controller: &Controller,
        all: &AllPools,
    ) -> Result<(), DaemonError> {
        let before = self.receiving();
        let served = self.look(store, &all.of_file()).await.map_err(MyshoesError::from)?;
        for scope in before.difference(&self.receiving()) {
            tracing::info!("[scaleset] removed stopped listener for target: {scope}");
        }
        controller.set_aside(served.set_aside);
        all.apply_targets(served.pools).await?;
        self.adopt(store).await;
        Ok(())
    }

    /// The scopes of the targets that get jobs, as they were looked at the last time.
    fn receiving(&self) -> BTreeSet<String> {
        let shown = self.shown.borrow();
        let rows = shown.targets.iter().map(|(_, row)| row);
        let receiving = rows.filter(|row| Status::of(&row.status).can_receive());
        receiving.map(|row| row.scope.clone()).collect()
    }

    /// Takes up machines that the original made.
    async fn adopt(&self, store: &Store) {
        let named = self.shown.borrow().targets.clone();
        if let Err(error) = adopt::adopt(store, &named, self.clock.now()).await {
            tracing::error!("[scaleset] {}", crate::chain(&error));
        }
    }

    /// The pools to begin with. GitHub may take its time over a look, and our own API changes targets meanwhile: those are
    /// looked at again, or something would be begun for a target as it no longer is.
    pub(crate) async fn first_look(
        &mut self,
        store: &Store,
        taken: &BTreeSet<PoolName>,
    ) -> Result<Served, TargetsError> {
        let mut served = self.look(store, taken).await?;
        for _ in 1..FIRST_LOOKS_MAX {
            if self.changes.has_changed() != Ok(true) {
                break;
            }
            self.changes.mark_unchanged();
            served = self.look(store, taken).await?;
        }
        Ok(served)
    }

    /// The pools of the targets as they are now; names that are `taken` are none of theirs.
    async fn look(
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
