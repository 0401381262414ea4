//! Targets of myshoes beside the pools of the configuration: their look, their API, what goes on for them.

use std::collections::BTreeMap;

use fleetfoot_controller::{Clock, Controller, PoolSettings};
use fleetfoot_core::PoolName;
use fleetfoot_server::ServerState;
use fleetfoot_store::{NamedLock, Store};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::signals::{Wish, Wishes};
use super::{AllPools, DaemonError};
use crate::myshoes::rest::Served;
use crate::myshoes::sync::Sync;
use crate::myshoes::targets::{MyshoesError, Targets, lost};

/// Targets of a daemon that begins.
pub(super) struct Beside<'a> {
    targets: &'a Targets,
    sync: Sync,
    pools: Vec<PoolSettings>,
    set_aside: BTreeMap<PoolName, String>,
    whole: watch::Sender<Option<ServerState>>,
    serving: Option<JoinHandle<()>>,
    lock: Option<NamedLock>,
    hub: watch::Sender<Option<(f64, f64)>>,
}

impl<'a> Beside<'a> {
    /// Serves their API until `stop` is true, and looks at the targets meanwhile: GitHub may take its time, and the API
    /// is there as soon as the lock is held. Nothing if a signal came first.
    pub(super) async fn new(
        targets: &'a Targets,
        mut lock: Option<NamedLock>,
        store: &Store,
        of_file: &[PoolSettings],
        clock: Clock,
        stop: &watch::Receiver<bool>,
        wishes: &mut Wishes,
    ) -> Result<Option<Self>, DaemonError> {
        let taken = of_file.iter().map(|pool| pool.name.clone()).collect();
        let (mut sync, hub) = (targets.sync(store), watch::Sender::new(None));
        let whole = watch::Sender::new(None);
        let api = targets.open_api().await?;
        let served = Served {
            store: store.clone(),
            clock,
            shown: sync.shown(),
            hub: hub.subscribe(),
            whole: whole.subscribe(),
        };
        let serving = Some(targets.serve_api(api, served, stop.clone()));
        targets.log_start();
        let looked = tokio::select! {
            biased;
            () = lost(&mut lock) => return Err(MyshoesError::LockLost.into()),
            wish = wishes.next() => match wish {
                Wish::Stop => return Ok(None),
            },
            looked = sync.look(store, &taken) => looked.map_err(MyshoesError::from)?,
        };
        let (pools, set_aside) = (looked.pools, looked.set_aside);
        Ok(Some(Self { targets, sync, pools, set_aside, whole, serving, lock, hub }))
    }

    /// The pools that they begin with.
    pub(super) fn take(&mut self) -> Vec<PoolSettings> {
        std::mem::take(&mut self.pools)
    }

    /// The controller runs: their API shows the whole. What serves it is handed over.
    pub(super) fn show(
        &mut self,
        controller: &Controller,
        state: ServerState,
    ) -> Option<JoinHandle<()>> {
        controller.set_aside(std::mem::take(&mut self.set_aside));
        self.whole.send_replace(Some(state));
        self.serving.take()
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
    let hub = beside.hub.clone();
    beside.targets.run(&mut beside.sync, store, controller, all, &mut beside.lock, hub).await
}
