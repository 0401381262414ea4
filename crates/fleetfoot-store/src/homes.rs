//! Where live instances are whose names do not say it: those of targets of myshoes, and adopted ones.
//!
//! A name that begins with its pool's is found without; so this is empty where all names do, and looking one up
//! costs the same with one pool and with a thousand.

use std::collections::HashMap;
use std::sync::Arc;

use fleetfoot_core::{InstanceName, PoolName, PoolState};

use crate::shared::Pools;

/// The pool that a name says it belongs to, if it says one.
pub(crate) fn said(name: &InstanceName) -> Option<PoolName> {
    let (pool, _) = name.as_str().rsplit_once('-')?;
    PoolName::new(pool).ok()
}

fn says(name: &InstanceName, pool: &PoolName) -> bool {
    name.as_str().rsplit_once('-').is_some_and(|(begin, _)| begin == pool.as_str())
}

/// The present of every pool, and where the names are that do not say it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Present {
    pub(crate) pools: Arc<Pools>,
    homes: Arc<HashMap<InstanceName, PoolName>>,
}

impl Present {
    pub(crate) fn new(pools: Pools) -> Self {
        let mut present = Self::default();
        for (name, state) in pools {
            present.put(&name, Some(state));
        }
        present
    }

    /// The pool that has a name which does not say it.
    pub(crate) fn home(&self, name: &InstanceName) -> Option<&PoolName> {
        self.homes.get(name)
    }

    /// Puts a pool's state in the place of the one before; without one the pool goes.
    pub(crate) fn put(&mut self, pool: &PoolName, state: Option<Arc<PoolState>>) {
        let pools = Arc::make_mut(&mut self.pools);
        let new = state.clone();
        let old = match state {
            Some(state) => pools.insert(pool.clone(), state),
            None => pools.remove(pool),
        };
        let has = |state: &Option<Arc<PoolState>>, name: &InstanceName| {
            state.as_ref().is_some_and(|state| state.instances.contains_key(name))
        };
        let names = |state: &Option<Arc<PoolState>>, other: &Option<Arc<PoolState>>| {
            let names = state.iter().flat_map(|state| state.instances.keys());
            let only = names.filter(|name| !says(name, pool) && !has(other, name));
            only.cloned().collect::<Vec<_>>()
        };
        let (gone, come) = (names(&old, &new), names(&new, &old));
        if gone.is_empty() && come.is_empty() {
            return;
        }
        let homes = Arc::make_mut(&mut self.homes);
        for name in gone {
            // It may be another pool's by now.
            if homes.get(&name) == Some(pool) {
                homes.remove(&name);
            }
        }
        homes.extend(come.into_iter().map(|name| (name, pool.clone())));
    }
}

#[cfg(test)]
mod tests {
    use fleetfoot_core::{Instance, Pool, Timestamp};

    use super::*;

    fn state(pool: &str, names: &[&str]) -> (PoolName, Arc<PoolState>) {
        let pool = PoolName::new(pool).unwrap();
        let mut state = PoolState::new(Pool::new(pool.clone(), Timestamp(0)));
        for name in names {
            let name = InstanceName::new(name).unwrap();
            let row = Instance::pending(name.clone(), pool.clone(), Timestamp(0));
            state.instances.insert(name, Arc::new(row));
        }
        (pool, Arc::new(state))
    }

    #[test]
    fn names_that_do_not_say_their_pool_are_found_and_others_cost_nothing() {
        let stranger = "myshoes-3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1";
        let name = InstanceName::new(stranger).unwrap();
        let (pool, full) = state("myshoes-acme", &[stranger, "myshoes-acme-00000001"]);
        let (other, theirs) = state("other", &["other-00000001"]);
        let mut present =
            Present::new([(pool.clone(), full.clone()), (other.clone(), theirs)].into());
        assert_eq!(present.home(&name), Some(&pool));
        assert_eq!(present.homes.len(), 1);
        // It moves, in whatever order that is told.
        let (_, taken) = state("other", &[stranger]);
        present.put(&other, Some(taken));
        let (_, empty) = state("myshoes-acme", &[]);
        present.put(&pool, Some(empty));
        assert_eq!(present.home(&name), Some(&other));
        present.put(&other, None);
        assert_eq!(present.home(&name), None);
        assert_eq!(said(&InstanceName::new("a-b-00000001").unwrap()), PoolName::new("a-b").ok());
    }
}
