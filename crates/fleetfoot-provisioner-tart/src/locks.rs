//! One call at a time per instance name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use fleetfoot_provisioner::InstanceName;
use tokio::sync::OwnedMutexGuard;

/// Locks by name. A call that is dropped gives its lock back: what goes on without it is in a keeper's hands.
#[derive(Debug, Default)]
pub(crate) struct NameLocks(Mutex<HashMap<InstanceName, Arc<tokio::sync::Mutex<()>>>>);

impl NameLocks {
    pub(crate) async fn lock(&self, name: &InstanceName) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(name.clone()).or_default())
        };
        lock.lock_owned().await
    }
}
