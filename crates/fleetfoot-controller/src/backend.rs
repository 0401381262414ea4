//! A backend connection: whether it answers, as whom, and what is asked of it at once.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use fleetfoot_core::{Instance, PoolName, PoolState};
use fleetfoot_ordered::watch;
use fleetfoot_provisioner::Provisioner;
use tokio::sync::{Notify, Semaphore};

use crate::dependency::DependencyCell;

/// One backend connection, shared by the pools whose environments live there.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) provisioner: Arc<dyn Provisioner>,
    /// It answers at all: lists, deletes.
    pub(crate) reach: DependencyCell,
    /// It makes and launches. A list that answers says nothing of that.
    pub(crate) starts: DependencyCell,
    /// Which backend answered last.
    pub(crate) identity: Mutex<Option<Arc<str>>>,
    pub(crate) calls: Semaphore,
    /// Asks the sweeper to look at once.
    pub(crate) look: Notify,
    /// True once the first sweep after the start was made.
    pub(crate) swept: watch::Sender<bool>,
    /// How many sweeps began.
    pub(crate) begun: AtomicU64,
    /// The number of the last one that was made wholly.
    pub(crate) done: watch::Sender<u64>,
    /// Pools of which the last list showed something that no row names yet: seen once, or left alone as nobody served
    /// them.
    pub(crate) unclaimed: Mutex<BTreeSet<PoolName>>,
    /// True once no pool uses it any more.
    pub(crate) unused: watch::Sender<bool>,
}

impl Backend {
    pub(crate) fn new(provisioner: Arc<dyn Provisioner>, concurrency: usize) -> Self {
        Self {
            provisioner,
            reach: DependencyCell::default(),
            starts: DependencyCell::default(),
            identity: Mutex::default(),
            calls: Semaphore::new(concurrency.max(1)),
            look: Notify::new(),
            swept: watch::Sender::new(false),
            begun: AtomicU64::new(0),
            done: watch::Sender::new(0),
            unclaimed: Mutex::default(),
            unused: watch::Sender::new(false),
        }
    }

    /// Something of this pool was there at the last list, and no row names it yet.
    pub(crate) fn holds_unclaimed(&self, pool: &PoolName) -> bool {
        self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner).contains(pool)
    }

    /// Which backend answered last; `None` until one did.
    pub(crate) fn identity(&self) -> Option<Arc<str>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes which backend answers. True if it is another one than before.
    pub(crate) fn answers_as(&self, identity: &str) -> bool {
        let mut known = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = known.as_deref() != Some(identity);
        if changed {
            *known = Some(Arc::from(identity));
        }
        changed
    }

    /// Until one answers, it is the one that made the youngest of these rows: what is made meanwhile is there (seed 24483).
    pub(crate) fn is_expected(&self, state: Option<&PoolState>) {
        let mut known = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = state.into_iter().flat_map(|state| state.instances.values());
        let held = rows.filter_map(|row| Some((row.created_at, row.backend_identity.as_deref()?)));
        let youngest = held.filter(|(_, own)| *own != Instance::HOLDER_UNCERTAIN).max();
        if let (None, Some((_, identity))) = (&*known, youngest) {
            *known = Some(Arc::from(identity));
        }
    }

    /// Another backend answers than the one that holds `instance`: what it says proves nothing (11.2).
    pub(crate) fn is_elsewhere(&self, instance: &Instance) -> bool {
        let known = self.identity();
        #[cfg(feature = "faults")]
        if fleetfoot_faults::Defect::BelieveAnotherEngine.is_planted() {
            return false;
        }
        instance.backend_identity.as_deref().is_some_and(|own| known.as_deref() != Some(own))
    }
}
