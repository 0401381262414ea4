//! Observations into the store: one place, so that every fact passes [`fleetfoot_core::pool::observe`].

use fleetfoot_core::{Instance, InstanceName, Observation, PoolName, Refused, Timestamp};
use fleetfoot_store::{Store, Txn, UpdateError};

/// What became of an observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Taken in; the instance as it is now.
    Taken(Box<Instance>),
    /// It cannot be true of the instance as it is.
    Refused(Refused),
    /// No live instance has that name.
    Unknown,
}

impl Recorded {
    /// The instance, if the observation was taken in.
    pub(crate) fn taken(self) -> Option<Instance> {
        match self {
            Self::Taken(instance) => Some(*instance),
            Self::Refused(_) | Self::Unknown => None,
        }
    }
}

/// Takes one observation into the transaction.
pub(crate) fn observe(
    txn: &mut Txn<'_>,
    pool: &PoolName,
    name: &InstanceName,
    observation: &Observation,
    now: Timestamp,
) -> Recorded {
    // A name of another program's runner must not be searched for in all pools.
    if txn.pool(pool).is_none_or(|state| !state.instances.contains_key(name)) {
        return Recorded::Unknown;
    }
    match txn.observe(name, observation, now) {
        Ok(instance) => Recorded::Taken(Box::new(instance.clone())),
        Err(fleetfoot_store::ObserveError::Unknown(_)) => Recorded::Unknown,
        Err(fleetfoot_store::ObserveError::Refused(refused)) => Recorded::Refused(refused),
    }
}

/// Commits observations of one instance, in order.
pub(crate) async fn commit(
    store: &Store,
    pool: &PoolName,
    name: &InstanceName,
    observations: Vec<Observation>,
    now: Timestamp,
) -> Result<Recorded, UpdateError> {
    commit_with(store, pool, name, observations, now, None::<fn(&mut Instance)>).await
}

/// The same, and what else is known of the instance if they are taken in.
pub(crate) async fn commit_with(
    store: &Store,
    pool: &PoolName,
    name: &InstanceName,
    observations: Vec<Observation>,
    now: Timestamp,
    also: Option<impl FnOnce(&mut Instance) + Send + 'static>,
) -> Result<Recorded, UpdateError> {
    let (pool, name) = (pool.clone(), name.clone());
    #[cfg(feature = "faults")]
    let point = crate::points::of(&observations);
    #[cfg(feature = "faults")]
    point.before();
    let recorded = store
        .update(move |txn| {
            let mut last = Recorded::Unknown;
            for observation in &observations {
                last = observe(txn, &pool, &name, observation, now);
                if !matches!(last, Recorded::Taken(_)) {
                    return last;
                }
            }
            if let Some(also) = also {
                txn.modify_instance(&name, also);
            }
            last
        })
        .await;
    #[cfg(feature = "faults")]
    point.after();
    recorded
}
