//! Who is served at this moment, and with what: pools come and go while the controller runs.
//!
//! What pools share is counted by use: a backend connection lives (with its sweeper and its watch) while a
//! pool of it is served, a way to GitHub while a pool holds it. Changes are made one at a time
//! ([`Shared::changing`]); readers see the roster before or after one, never in between.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use fleetfoot_core::{PoolHealth, PoolName};

use crate::backend::Backend;
use crate::pool::{Course, Github, PoolContext, Shared};
use crate::settings::PoolSettings;
use crate::{listener, reconciler, registrations, sweeper};

/// The pools that are served, and what they share.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    pub(crate) pools: BTreeMap<PoolName, Arc<PoolContext>>,
    /// Pools of the store that have instances and that nobody serves (11.8). A pool that is neither here nor
    /// served is somebody else's: what it has is left alone.
    pub(crate) orphans: BTreeSet<PoolName>,
    /// Pools that begin anew elsewhere once the last instance at the old place is closed.
    pub(crate) successors: BTreeMap<PoolName, PoolSettings>,
    backends: BTreeMap<String, Arc<Backend>>,
    githubs: BTreeMap<(String, String), Weak<Github>>,
}

/// The pools whose environments live at one connection.
pub(crate) type Pools = BTreeMap<PoolName, Arc<PoolContext>>;

impl Roster {
    /// Nobody is served.
    pub(crate) fn new(orphans: BTreeSet<PoolName>) -> Self {
        Self { orphans, ..Self::default() }
    }

    /// The pools whose environments live at `backend`.
    pub(crate) fn at(&self, backend: &Arc<Backend>) -> Pools {
        let here = self.pools.iter().filter(|(_, pool)| Arc::ptr_eq(&pool.backend, backend));
        here.map(|(name, pool)| (name.clone(), pool.clone())).collect()
    }

    /// Every backend, once.
    pub(crate) fn backends(&self) -> Vec<Arc<Backend>> {
        self.backends.values().cloned().collect()
    }

    fn backend(&mut self, settings: &PoolSettings) -> (Arc<Backend>, bool) {
        let connection = settings.provisioner.connection();
        if let Some(backend) = self.backends.get(connection) {
            return (backend.clone(), false);
        }
        let backend =
            Arc::new(Backend::new(settings.provisioner.clone(), settings.backend_concurrency));
        self.backends.insert(connection.to_owned(), backend.clone());
        (backend, true)
    }

    fn github(&mut self, settings: &PoolSettings) -> Arc<Github> {
        let url = settings.connection.url().as_str().to_owned();
        let key = (url, settings.credential_reference.clone());
        if let Some(github) = self.githubs.get(&key).and_then(Weak::upgrade) {
            return github;
        }
        self.githubs.retain(|_, github| github.strong_count() > 0);
        let github = Arc::new(Github::default());
        self.githubs.insert(key, Arc::downgrade(&github));
        github
    }
}

impl Shared {
    /// Begins to serve pools that are not served: their rows are committed already.
    pub(crate) fn enlist(self: &Arc<Self>, pools: Vec<PoolSettings>) {
        self.health.send_modify(|health| {
            for pool in &pools {
                health.pools.insert(pool.name.clone(), Arc::new(PoolHealth::default()));
            }
        });
        let (mut enlisted, mut fresh) = (Vec::new(), Vec::new());
        self.roster.send_modify(|roster| {
            for settings in pools {
                let name = settings.name.clone();
                let (backend, is_fresh) = roster.backend(&settings);
                let github = roster.github(&settings);
                if is_fresh {
                    fresh.push(backend.clone());
                }
                backend.is_expected(self.store.pool(&name).as_deref());
                let pool = Arc::new(PoolContext::new(self.clone(), settings, backend, github));
                roster.orphans.remove(&name);
                roster.pools.insert(name, pool.clone());
                enlisted.push(pool);
            }
        });
        for backend in fresh {
            let (one, other) = ((self.clone(), backend.clone()), (self.clone(), backend));
            self.tasks.keep("sweeper", move || sweeper::run(one.0.clone(), one.1.clone()));
            self.tasks.keep("watch", move || sweeper::watch(other.0.clone(), other.1.clone()));
        }
        for pool in enlisted {
            let (one, other, third) = (pool.clone(), pool.clone(), pool.clone());
            pool.tasks.keep("reconciler", move || reconciler::run(one.clone()));
            pool.tasks.keep("listener", move || listener::run(other.clone()));
            pool.tasks.keep("registrations", move || registrations::run(third.clone()));
            pool.backend.look.notify_one();
        }
    }

    /// Gives a served pool other settings; its tasks see them at once.
    pub(crate) fn instruct(&self, pool: &PoolContext, settings: PoolSettings) {
        let mut github = pool.github();
        self.roster.send_if_modified(|roster| {
            github = roster.github(&settings);
            false
        });
        pool.course.send_modify(|course| {
            *course = Course { settings: Arc::new(settings), github, stop: course.stop };
        });
        pool.wake.notify_one();
    }

    /// Serves a pool no longer: its tasks end, what nobody else uses goes with it. What it has in the store
    /// and outside stays. The settings with which it is to begin anew, if it is.
    pub(crate) fn dismiss(&self, pool: &Arc<PoolContext>) -> Option<PoolSettings> {
        let mut successor = None;
        self.roster.send_if_modified(|roster| {
            let name = pool.name();
            if !roster.pools.get(name).is_some_and(|known| Arc::ptr_eq(known, pool)) {
                return false;
            }
            roster.pools.remove(name);
            successor = roster.successors.remove(name);
            let backend = &pool.backend;
            if !roster.pools.values().any(|other| Arc::ptr_eq(&other.backend, backend)) {
                roster.backends.retain(|_, known| !Arc::ptr_eq(known, backend));
                backend.unused.send_replace(true);
            }
            true
        });
        pool.stop();
        self.host.leave(pool.name());
        self.health.send_modify(|health| {
            health.pools.remove(pool.name());
        });
        self.awaits_no_longer(pool.name());
        successor
    }

    /// Ends everything.
    pub(crate) fn stop_all(&self) {
        self.stop.send_replace(true);
        let roster = self.roster.borrow();
        for pool in roster.pools.values() {
            pool.stop();
        }
        for backend in roster.backends.values() {
            backend.unused.send_replace(true);
        }
    }
}
