//! Machines that the original made: a row of `runners_running` that we know nothing of becomes an instance. Its runner
//! is looked up at GitHub at once, and when that is gone its machine is deleted by its cloud id, as the original would.

use std::collections::BTreeMap;

use fleetfoot_core::{
    Environment, Instance, InstanceName, Phase, PoolName, Registration, Span, Timestamp,
};
use fleetfoot_provisioner_shoes::Machine;
use fleetfoot_store::{AliveRunner, Store, TargetRow, TargetsError, UpdateError};

/// Whoever runs for longer is looked up now.
const LOOKED_UP: Span = Span::minutes(10);

/// Rows were not read, or instances not written.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Rows.
    #[error("failed to read runners")]
    Read(#[from] TargetsError),
    /// Instances.
    #[error("failed to adopt runners")]
    Write(#[from] UpdateError),
}

/// Takes up what the rows call alive and nobody here knows.
///
/// # Errors
/// When nothing was taken up.
pub async fn adopt(
    store: &Store,
    named: &[(PoolName, TargetRow)],
    now: Timestamp,
) -> Result<(), AdoptError> {
    let pools: BTreeMap<&str, &PoolName> =
        named.iter().map(|(pool, target)| (target.id.as_str(), pool)).collect();
    let present = store.pools();
    let known = |pool: &PoolName, name: &InstanceName| {
        present.get(pool).is_none_or(|state| state.instances.contains_key(name))
    };
    let mut strange = Vec::new();
    for row in store.alive_runners().await? {
        let Ok(name) = InstanceName::new(&format!("myshoes-{}", row.runner)) else { continue };
        let Some(pool) = pools.get(row.target.as_str()) else { continue };
        if !known(pool, &name) {
            strange.push(instance(&row, name, (*pool).clone(), now));
        }
    }
    if strange.is_empty() {
        return Ok(());
    }
    let taken = store.update(move |txn| {
        for instance in strange {
            let (name, pool) = (instance.name.clone(), instance.pool.clone());
            // One that ended since the rows were read is known by its closed row.
            if txn.insert_instance(instance).is_ok() {
                tracing::info!(%pool, instance = %name, "machine of before adopted");
            }
        }
    });
    Ok(taken.await?)
}

/// As if it ran for a while: it has a place, and GitHub is asked what became of its runner.
fn instance(row: &AliveRunner, name: InstanceName, pool: PoolName, now: Timestamp) -> Instance {
    let machine = Machine {
        cloud_id: row.cloud_id.clone(),
        shoes_type: row.shoes_type.clone(),
        ip_address: row.ip_address.clone(),
        resource_type: row.resource_type.clone(),
    };
    let mut instance = Instance::pending(name, pool, now);
    instance.phase = Phase::Running;
    instance.phase_since = now - LOOKED_UP;
    instance.registration = Registration::Requested;
    instance.environment = Environment::Launched;
    // Texts are always JSON.
    instance.handle = serde_json::to_string(&machine).ok();
    instance
}
