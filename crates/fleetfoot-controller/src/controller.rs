//! The supervisor: starts the tasks of every pool, changes what is served, and stops all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use fleetfoot_core::{Health, InstanceName, ListenerState, Phase, PoolName};
use fleetfoot_ordered::watch;
use fleetfoot_store::{Store, UpdateError};
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::host::{HostDesk, HostLimits};
use crate::keeper::Candidates;
use crate::pool::{PoolContext, Shared};
use crate::roster::Roster;
use crate::settings::{ControllerSettings, Pace, PoolSettings};
use crate::tasks::Tasks;
use crate::{adopt, keeper, shift};

/// Sessions are closed and calls in flight are waited for within this.
const STOP_BOUND: Duration = Duration::from_secs(8);

/// A successor waits no longer than this for calls in flight, once all sessions are let go.
const HAND_OVER_BOUND: Duration = Duration::from_millis(250);

/// The controller could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store did not take the pools in.
    #[error("failed to record the pools in the store")]
    Store(#[source] UpdateError),
}

/// What was left when the controller stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Runners without a job that go on waiting.
    pub idle: usize,
    /// Runners in a job.
    pub running: usize,
    /// Every task ended in time.
    pub clean: bool,
    /// How long it took: what ends behind it has the rest.
    pub took: Duration,
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    shared: Arc<Shared>,
    health: tokio::sync::watch::Receiver<Health>,
}

impl Controller {
    /// Records the pools and starts their tasks.
    ///
    /// # Errors
    /// [`StartError`] when the store does not take the pools in.
    pub async fn start(
        store: Store,
        pools: Vec<PoolSettings>,
        settings: ControllerSettings,
        clock: Clock,
    ) -> Result<Self, StartError> {
        Self::start_at(store, pools, settings, clock, Pace::default()).await
    }

    /// The same with other bounds and periods, for tests.
    ///
    /// # Errors
    /// [`StartError`] when the store does not take the pools in.
    pub async fn start_at(
        store: Store,
        pools: Vec<PoolSettings>,
        settings: ControllerSettings,
        clock: Clock,
        pace: Pace,
    ) -> Result<Self, StartError> {
        let several = store.membership().is_some();
        let (mut pools, mut candidates) = (pools, Candidates::new());
        if several {
            candidates.extend(pools.drain(..).map(|pool| (pool.name.clone(), pool)));
        } else {
            pools = adopt::without_moved(&store, pools);
            let recorded = adopt::record_pools(&store, &pools, &settings, &clock).await;
            recorded.map_err(StartError::Store)?;
        }
        let now = clock.now();
        let (health_told, health) = tokio::sync::watch::channel(Health {
            ready: pools.is_empty() && !several,
            started_at: now,
            last_pass_at: now,
            ..Health::default()
        });
        // What nobody serves here, another controller may.
        let orphans = if several { BTreeSet::new() } else { adopt::orphans(&store, &pools) };
        let gate = settings.gate.clone();
        let shared = Arc::new(Shared {
            installation: store.installation().clone(),
            host: HostDesk::new(settings.host.clone()),
            store,
            clock,
            pace,
            settings,
            health: health_told,
            tasks: Tasks::behind(gate),
            stop: watch::Sender::new(false),
            ages_count_from: AtomicI64::new((now + pace.ages_grace).0),
            seen_at: AtomicI64::new(now.0),
            roster: watch::Sender::new(Roster::new(orphans)),
            changing: Semaphore::new(1),
            candidates: watch::Sender::new(candidates),
            unpolled: std::sync::Mutex::new(pools.iter().map(|pool| pool.name.clone()).collect()),
        });
        let none = pools.is_empty() && !several;
        if shared.settings.careful {
            shared.host.count_first();
        }
        shared.enlist(pools);
        if several {
            let parts = shared.clone();
            shared.tasks.keep("lease keeper", move || keeper::run(parts.clone()));
        }
        let parts = shared.clone();
        shared.tasks.keep("clock", move || shift::run(parts.clone()));
        if shared.settings.careful {
            let backends = shared.roster.borrow().backends();
            shared.tasks.spawn("careful pass", adopt::strays_seen(shared.clone(), backends));
        }
        if none {
            tracing::info!("ready");
        }
        Ok(Self { shared, health })
    }

    /// Serves a pool from now on; one that is served already gets these settings. What it has from before is
    /// adopted first, then its session is opened. A pool that moves to another URL or backend is drained
    /// where it is and begins anew after that. Where several controllers share a store it stands for the pool.
    ///
    /// # Errors
    /// [`StartError`] when the store does not take the pool in; nothing has changed then.
    pub async fn start_pool(&self, pool: PoolSettings) -> Result<(), StartError> {
        if self.shared.store.membership().is_some() {
            let stand =
                |candidates: &mut Candidates| drop(candidates.insert(pool.name.clone(), pool));
            self.shared.candidates.send_modify(stand);
            return Ok(());
        }
        self.shared.start_pool(pool).await.map_err(StartError::Store)
    }

    /// Serves a pool no longer, so that another controller can: its session is closed, what is not launched is
    /// given back, its tasks end. Rows and environments stay as they are, and the sweep leaves them alone.
    ///
    /// True when it was served and all its tasks ended in time.
    pub async fn stop_pool(&self, pool: &PoolName) -> bool {
        self.shared.stop_pool(pool).await
    }

    /// Serves exactly these pools under these limits of the host. A pool that is not among them is drained, and
    /// served until its last instance closes (11.8). What does not change is not touched; nothing that runs is.
    ///
    /// # Errors
    /// [`StartError`] when the store does not take a pool in; what was applied before it stays applied, and the
    /// same call again does the rest.
    pub async fn apply(
        &self,
        pools: Vec<PoolSettings>,
        host: HostLimits,
    ) -> Result<(), StartError> {
        self.shared.host.limit(host);
        self.shared.apply(pools).await.map_err(StartError::Store)
    }

    /// Tells which pools are wanted and not handed to it, each with its reason in a sentence.
    pub fn set_aside(&self, pools: BTreeMap<PoolName, String>) {
        self.shared.health.send_if_modified(|health| {
            let is_news = health.set_aside != pools;
            health.set_aside = pools;
            is_news
        });
    }

    /// What it tells about itself.
    #[must_use]
    pub fn health(&self) -> tokio::sync::watch::Receiver<Health> {
        self.health.clone()
    }

    /// The last lines of an instance's output, from its backend.
    ///
    /// # Errors
    /// One line that says why there are none.
    pub async fn logs(&self, name: &InstanceName, lines: usize) -> Result<String, String> {
        log_source(&self.shared, name, lines).await
    }

    /// A handle that reads logs and outlives borrows of the controller.
    #[must_use]
    pub fn log_reader(&self) -> LogReader {
        LogReader { shared: self.shared.clone() }
    }

    /// Stops: commits no more names, closes all sessions, leaves what runs (11.14).
    pub async fn stop(self) -> Stopped {
        let began = tokio::time::Instant::now();
        self.begin_to_stop();
        let clean = self.shared.tasks.wait(STOP_BOUND).await;
        self.stopped(clean, began.elapsed())
    }

    /// Stops for a successor that waits: the same, but once the sessions are closed calls in flight get a moment
    /// only. What is cut off then is found by the successor as after a crash; leases are given back in any case.
    pub async fn hand_over(self) -> Stopped {
        if self.shared.store.membership().is_some() {
            return self.stop().await;
        }
        let began = tokio::time::Instant::now();
        self.begin_to_stop();
        let mut health = self.health.clone();
        let let_go = |health: &Health| {
            let mut pools = health.pools.values();
            pools.all(|told| matches!(told.listener, ListenerState::Closed))
        };
        let all = async {
            let _ = health.wait_for(let_go).await.is_ok();
            self.shared.tasks.wait(HAND_OVER_BOUND).await
        };
        let clean = tokio::time::timeout(STOP_BOUND, all).await.unwrap_or(false);
        self.stopped(clean, began.elapsed())
    }

    fn begin_to_stop(&self) {
        self.shared.health.send_modify(|health| health.stopping = true);
        self.shared.stop_all();
    }

    fn stopped(&self, clean: bool, took: Duration) -> Stopped {
        let mut stopped = Stopped { idle: 0, running: 0, clean, took };
        for pool in self.shared.roster.borrow().pools.values() {
            let Some(state) = pool.state() else { continue };
            for instance in state.instances.values() {
                match instance.phase {
                    Phase::Running => stopped.running += 1,
                    Phase::Idle | Phase::Starting | Phase::Warm => stopped.idle += 1,
                    Phase::Pending | Phase::Creating | Phase::Stopping | Phase::Closed => {}
                }
            }
        }
        stopped
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        // Pools hold what they share, and that holds the pools.
        self.shared.stop_all();
        self.shared.roster.send_replace(Roster::default());
    }
}

/// Reads instances' output.
#[derive(Debug, Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    /// The last lines of an instance's output.
    ///
    /// # Errors
    /// One line that says why there are none.
    pub async fn read(&self, name: &InstanceName, lines: usize) -> Result<String, String> {
        log_source(&self.shared, name, lines).await
    }
}

async fn log_source(shared: &Shared, name: &InstanceName, lines: usize) -> Result<String, String> {
    let has = |pool: &&Arc<PoolContext>| {
        pool.state().is_some_and(|state| state.instances.contains_key(name))
    };
    let owner = shared.roster.borrow().pools.values().find(has).cloned();
    let owner = owner.ok_or_else(|| format!("no live instance is named `{name}`"))?;
    let provisioner = &owner.settings().provisioner.clone();
    if !provisioner.capabilities().logs {
        return Err(format!("the backend of pool `{}` keeps no logs", owner.name()));
    }
    let read = tokio::time::timeout(Duration::from_secs(10), provisioner.logs(name, lines)).await;
    match read {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(crate::executor::chain(&error)),
        Err(_) => Err("the backend did not answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use fleetfoot_core::Timestamp;
    use fleetfoot_store::{Execution, Location, Options};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_successor_does_not_wait_for_a_call_that_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let start = || async {
            let location = Location::Sqlite(directory.path().join("store.db"));
            let options = Options { execution: Execution::Inline, ..Options::default() };
            let store = Store::open(location, options).await.unwrap();
            let clock = Clock::starting_at(Timestamp(1_000_000));
            let settings = ControllerSettings::default();
            let made = Controller::start(store.clone(), Vec::new(), settings, clock).await;
            let controller = made.unwrap();
            controller.shared.tasks.spawn("hangs", std::future::pending());
            (controller, store)
        };
        let (controller, store) = start().await;
        let began = Instant::now();
        assert!(!controller.hand_over().await.clean);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        store.close().await;
        let (controller, _store) = start().await;
        let began = Instant::now();
        assert!(!controller.stop().await.clean);
        assert!(began.elapsed() >= STOP_BOUND, "a plain stop waits for it");
    }
}
