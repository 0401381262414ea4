//! One call at a time for a name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleetfoot_provisioner::InstanceName;
use tokio::sync::OwnedMutexGuard;

/// Locks by name; a name that nobody holds takes no room.
#[derive(Debug, Default)]
pub(crate) struct Locks {
    locks: Mutex<HashMap<InstanceName, Arc<tokio::sync::Mutex<()>>>>,
}

/// Nobody else is at this name.
pub(crate) type Guard = OwnedMutexGuard<()>;

impl Locks {
    /// Somebody is at this name.
    pub(crate) fn is_held(&self, name: &InstanceName) -> bool {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.get(name).is_some_and(|lock| lock.try_lock().is_err())
    }

    /// The name's lock, if nobody is at it.
    pub(crate) fn try_lock(&self, name: &InstanceName) -> Option<Guard> {
        self.of(name).try_lock_owned().ok()
    }

    pub(crate) async fn lock(&self, name: &InstanceName) -> Guard {
        self.of(name).lock_owned().await
    }

    fn of(&self, name: &InstanceName) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(name.clone()).or_default())
    }
}
