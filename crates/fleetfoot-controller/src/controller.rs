//! The supervisor: starts the tasks of every pool, and stops them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use fleetfoot_core::{Health, InstanceName, Phase, PoolHealth, PoolName};
use fleetfoot_store::{Store, UpdateError};
use tokio::sync::{Notify, Semaphore, watch};

use crate::clock::Clock;
use crate::dependency::DependencyCell;
use crate::host::HostDesk;
use crate::pool::{Backend, Github, PoolContext, Shared};
use crate::settings::{ControllerSettings, Pace, PoolSettings};
use crate::tasks::Tasks;
use crate::verify::RunnerList;
use crate::{adopt, listener, reconciler, shift, sweeper};

/// Sessions are closed and calls in flight are waited for within this.
const STOP_BOUND: Duration = Duration::from_secs(8);

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
}

/// A running controller.
#[derive(Debug)]
pub struct Controller {
    shared: Arc<Shared>,
    pools: BTreeMap<PoolName, Arc<PoolContext>>,
    stop: watch::Sender<bool>,
    health: watch::Receiver<Health>,
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
        let pools = adopt::without_moved(&store, pools);
        adopt::record_pools(&store, &pools, &settings, &clock).await.map_err(StartError::Store)?;
        let (stop, stop_seen) = watch::channel(false);
        let now = clock.now();
        let (health_told, health) = watch::channel(Health {
            ready: pools.is_empty(),
            started_at: now,
            last_pass_at: now,
            pools: pools
                .iter()
                .map(|pool| (pool.name.clone(), Arc::new(PoolHealth::default())))
                .collect(),
            ..Health::default()
        });
        let orphans = adopt::orphans(&store, &pools);
        let shared = Arc::new(Shared {
            orphans,
            installation: store.installation().clone(),
            host: HostDesk::new(settings.host.clone()),
            store,
            clock,
            pace,
            settings,
            health: health_told,
            tasks: Tasks::default(),
            stop: stop_seen,
            ages_count_from: AtomicI64::new((now + pace.ages_grace).0),
            unpolled: std::sync::Mutex::new(pools.iter().map(|pool| pool.name.clone()).collect()),
        });
        let pools = connect(&shared, pools);
        for group in by_connection(&pools) {
            let Some(first) = group.values().next() else { continue };
            let (backend, group) = (first.backend.clone(), Arc::new(group.clone()));
            let parts = (shared.clone(), backend.clone(), group.clone());
            shared.tasks.keep("sweeper", move || {
                let (shared, backend, group) = parts.clone();
                sweeper::run(shared, backend, group)
            });
            let parts = (shared.clone(), backend, group);
            shared.tasks.keep("watch", move || {
                let (shared, backend, group) = parts.clone();
                sweeper::watch(shared, backend, group)
            });
        }
        for pool in pools.values() {
            let (one, other) = (pool.clone(), pool.clone());
            shared.tasks.keep("reconciler", move || reconciler::run(one.clone()));
            shared.tasks.keep("listener", move || listener::run(other.clone()));
        }
        let parts = shared.clone();
        shared.tasks.keep("clock", move || shift::run(parts.clone()));
        if shared.settings.careful {
            let backends = adopt::backends(pools.values());
            shared.tasks.spawn("careful pass", adopt::strays_seen(shared.clone(), backends));
        }
        if pools.is_empty() {
            tracing::info!("ready");
        }
        Ok(Self { shared, pools, stop, health })
    }

    /// What it tells about itself.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// The last lines of an instance's output, from its backend.
    ///
    /// # Errors
    /// One line that says why there are none.
    pub async fn logs(&self, name: &InstanceName, lines: usize) -> Result<String, String> {
        log_source(&self.pools, name, lines).await
    }

    /// A handle that reads logs and outlives borrows of the controller.
    #[must_use]
    pub fn log_reader(&self) -> LogReader {
        LogReader { pools: Arc::new(self.pools.clone()) }
    }

    /// Stops: commits no more names, closes all sessions, leaves what runs (11.14).
    pub async fn stop(self) -> Stopped {
        self.shared.health.send_modify(|health| health.stopping = true);
        self.stop.send_replace(true);
        let clean = self.shared.tasks.wait(STOP_BOUND).await;
        let mut stopped = Stopped { idle: 0, running: 0, clean };
        for name in self.pools.keys() {
            let Some(state) = self.shared.store.pool(name) else { continue };
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

/// Reads instances' output.
#[derive(Debug, Clone)]
pub struct LogReader {
    pools: Arc<BTreeMap<PoolName, Arc<PoolContext>>>,
}

impl LogReader {
    /// The last lines of an instance's output.
    ///
    /// # Errors
    /// One line that says why there are none.
    pub async fn read(&self, name: &InstanceName, lines: usize) -> Result<String, String> {
        log_source(&self.pools, name, lines).await
    }
}

async fn log_source(
    pools: &BTreeMap<PoolName, Arc<PoolContext>>,
    name: &InstanceName,
    lines: usize,
) -> Result<String, String> {
    let owner = pools
        .values()
        .find(|pool| pool.state().is_some_and(|state| state.instances.contains_key(name)))
        .ok_or_else(|| format!("no live instance is named `{name}`"))?;
    let provisioner = &owner.settings.provisioner;
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

/// Gives every pool its shared parts: one backend per connection, one GitHub per credential.
fn connect(shared: &Arc<Shared>, pools: Vec<PoolSettings>) -> BTreeMap<PoolName, Arc<PoolContext>> {
    let mut backends: BTreeMap<String, Arc<Backend>> = BTreeMap::new();
    let mut githubs: BTreeMap<(String, String), Arc<Github>> = BTreeMap::new();
    let mut contexts = BTreeMap::new();
    for settings in pools {
        let backend =
            backends.entry(settings.provisioner.connection().to_owned()).or_insert_with(|| {
                Arc::new(Backend {
                    provisioner: settings.provisioner.clone(),
                    reach: DependencyCell::default(),
                    starts: DependencyCell::default(),
                    identity: std::sync::Mutex::default(),
                    calls: Semaphore::new(settings.backend_concurrency.max(1)),
                    look: Notify::new(),
                    swept: watch::Sender::new(false),
                })
            });
        let credential =
            (settings.connection.url().as_str().to_owned(), settings.credential_reference.clone());
        let github = githubs.entry(credential).or_insert_with(|| {
            Arc::new(Github {
                reach: DependencyCell::default(),
                starts: DependencyCell::default(),
                runners: RunnerList::default(),
            })
        });
        let (backend, github) = (backend.clone(), github.clone());
        let name = settings.name.clone();
        contexts
            .insert(name, Arc::new(PoolContext::new(shared.clone(), settings, backend, github)));
    }
    contexts
}

fn by_connection(
    pools: &BTreeMap<PoolName, Arc<PoolContext>>,
) -> Vec<BTreeMap<PoolName, Arc<PoolContext>>> {
    let mut groups: BTreeMap<String, BTreeMap<PoolName, Arc<PoolContext>>> = BTreeMap::new();
    for (name, pool) in pools {
        let connection = pool.settings.provisioner.connection().to_owned();
        groups.entry(connection).or_default().insert(name.clone(), pool.clone());
    }
    groups.into_values().collect()
}
