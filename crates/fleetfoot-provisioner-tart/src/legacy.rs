//! What the original program left: told by its exact form only, and removed by its exact name.
//!
//! The original took every machine whose name began with `<scale set>-`, which could be a golden image or the machine of another
//! scale set. Here it must be `<scale set>-<8 hex digits>` to the letter, be a local machine, bear nobody's mark and be no
//! image of any pool.

use fleetfoot_provisioner::{BackendError, Deletion, EnvironmentInfo, InstanceName, PoolName};

use crate::host::TartHost;
use crate::remove;

const OPERATION: &str = "list leftovers of the original";

/// Leftovers of `pool`.
pub(crate) async fn of_pool(
    host: &TartHost,
    pool: &PoolName,
) -> Result<Vec<EnvironmentInfo>, BackendError> {
    let marked = host.marked(OPERATION)?;
    let listed = match host.listed(OPERATION).await {
        Ok(listed) => listed,
        Err(error) => {
            // As in the original, a list that fails holds nothing up: one broken machine is enough for that.
            host.list_failed(pool, Some(&error));
            return Ok(Vec::new());
        }
    };
    host.list_failed(pool, None);
    let mut found = Vec::new();
    for vm in listed {
        let Ok(name) = InstanceName::new(&vm.name) else { continue };
        let spoken_for = marked.iter().any(|(marked, _)| *marked == name)
            || host.directory(&name).path().exists()
            || host.is_image(&vm.name);
        if name.is_of_pool(pool) && !spoken_for {
            found.push(EnvironmentInfo {
                pool: Some(pool.clone()),
                handle: host.handle(&name),
                state: vm.state(),
                name,
            });
        }
    }
    Ok(found)
}

/// Removes one of them; anything else is left alone.
pub(crate) async fn delete(host: &TartHost, name: &InstanceName) -> Result<Deletion, BackendError> {
    let form = name.as_str().rsplit_once('-').and_then(|(pool, _)| PoolName::new(pool).ok());
    let Some(pool) = form else { return Ok(Deletion::WasAbsent) };
    if of_pool(host, &pool).await?.iter().any(|left| left.name == *name) {
        tracing::info!(%pool, instance = %name, "cleaning up orphaned tart vm");
        remove::machine(host, name, true).await?;
        return Ok(Deletion::Removed);
    }
    Ok(Deletion::WasAbsent)
}
