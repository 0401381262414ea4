//! Targets of myshoes beside the pools of the configuration: their look, their API, what goes on for them.

use std::collections::BTreeMap;
use std::convert::Infallible;

use fleetfoot_controller::{Clock, Controller, PoolSettings};
use fleetfoot_core::PoolName;
use fleetfoot_server::ServerState;
use fleetfoot_store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::signals::{Wish, Wishes};
use super::{AllPools, DaemonError};
use crate::myshoes::rest::Served;
use crate::myshoes::sync::Sync;
use crate::myshoes::targets::{MyshoesError, Targets};

/// Targets of a daemon that begins.
pub(super) struct Beside<'a> {
    targets: &'a Targets,
    sync: Sync,
    pools: Vec<PoolSettings>,
    set_aside: BTreeMap<PoolName, String>,
    whole: watch::Sender<Option<ServerState>>,
    serving: Option<JoinHandle<()>>,
    hub: watch::Sender<Option<(f64, f64)>>,
}

impl<'a> Beside<'a> {
    /// Serves their API until `stop` is true, and looks at the targets meanwhile: GitHub may take its time, and the API
    /// is there as soon as the lock is held. Nothing if a signal came first.
    pub(super) async fn new(
        targets: &'a Targets,
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
            wish = wishes.next() => match wish {
                Wish::Stop => return Ok(None),
            },
            looked = sync.first_look(store, &taken) => looked.map_err(MyshoesError::from)?,
        };
        let (pools, set_aside) = (looked.pools, looked.set_aside);
        Ok(Some(Self { targets, sync, pools, set_aside, whole, serving, hub }))
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

/// What goes on for them, if there are any.
pub(super) async fn run_beside(
    beside: Option<&mut Beside<'_>>,
    store: &Store,
    controller: &Controller,
    all: &AllPools,
) -> Infallible {
    let Some(beside) = beside else { return std::future::pending().await };
    let hub = beside.hub.clone();
    beside.targets.run(&mut beside.sync, store, controller, all, hub).await
}
