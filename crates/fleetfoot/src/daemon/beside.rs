//! Targets of myshoes beside the pools of the configuration: their look, their API, what goes on for them.

use std::collections::BTreeMap;

use fleetfoot_controller::{Controller, PoolSettings};
use fleetfoot_core::PoolName;
use fleetfoot_server::ServerState;
use fleetfoot_server::myshoes::numbers::Shown;
use fleetfoot_store::{NamedLock, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{AllPools, DaemonError};
use crate::myshoes::rest::Api;
use crate::myshoes::sync::Sync;
use crate::myshoes::targets::{MyshoesError, Targets};

/// Targets of a daemon that begins.
pub(super) struct Beside<'a> {
    targets: &'a Targets,
    sync: Sync,
    shown: watch::Receiver<Shown>,
    pools: Vec<PoolSettings>,
    set_aside: BTreeMap<PoolName, String>,
    api: Option<Api>,
    lock: Option<NamedLock>,
    hub: watch::Sender<Option<(f64, f64)>>,
}

impl<'a> Beside<'a> {
    /// Looks at the targets and opens their API.
    pub(super) async fn new(
        targets: &'a Targets,
        lock: Option<NamedLock>,
        store: &Store,
        of_file: &[PoolSettings],
    ) -> Result<Self, DaemonError> {
        let taken = of_file.iter().map(|pool| pool.name.clone()).collect();
        let mut sync = targets.sync();
        let served = sync.look(store, &taken).await.map_err(MyshoesError::from)?;
        let shown = sync.shown();
        let api = Some(targets.open_api().await?);
        targets.log_start();
        let (pools, set_aside) = (served.pools, served.set_aside);
        let hub = watch::Sender::new(None);
        Ok(Self { targets, sync, shown, pools, set_aside, api, lock, hub })
    }

    /// The pools that they begin with.
    pub(super) fn take(&mut self) -> Vec<PoolSettings> {
        std::mem::take(&mut self.pools)
    }

    /// Serves their API until `stop` is true.
    pub(super) fn serve(
        &mut self,
        controller: &Controller,
        state: ServerState,
        stop: &watch::Receiver<bool>,
    ) -> Option<JoinHandle<()>> {
        controller.set_aside(std::mem::take(&mut self.set_aside));
        let (shown, hub) = (self.shown.clone(), self.hub.subscribe());
        let api = self.api.take()?;
        Some(self.targets.serve_api(api, state, shown, hub, stop.clone()))
    }
}

/// What goes on for them; without any it never ends, with them only by an error.
pub(super) async fn run_beside(
    beside: Option<&mut Beside<'_>>,
    store: &Store,
    controller: &Controller,
    all: &AllPools,
) -> MyshoesError {
    let Some(beside) = beside else { return std::future::pending().await };
    let (lock, hub) = (beside.lock.take(), beside.hub.clone());
    beside.targets.run(&mut beside.sync, store, controller, all, lock, hub).await
}
