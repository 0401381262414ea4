//! Containers that the original program left behind.

use fleetfoot_provisioner::{BackendError, EnvironmentInfo, Handle, InstanceName, PoolName};

use crate::container::{LABEL_INSTALLATION, LABEL_OUTRUNNER, LABEL_OUTRUNNER_NAME};
use crate::engine::DockerEngine;
use crate::http::CallError;
use crate::look;

/// Those of a pool's runners.
pub(crate) async fn list(
    engine: &DockerEngine,
    pool: &PoolName,
) -> Result<Vec<EnvironmentInfo>, BackendError> {
    let failed = |error: CallError| error.of("list containers of the original", None, false);
    let mut talk = engine.talk().await.map_err(failed)?;
    let mut environments = Vec::new();
    for listed in
        look::list(&mut talk, &[format!("{LABEL_OUTRUNNER}=true")]).await.map_err(failed)?
    {
        let Some(name) = name_of(&listed).filter(|name| name.is_of_pool(pool)) else {
            continue;
        };
        if let Some(state) = look::state_of(engine, &mut talk, &listed).await.map_err(failed)? {
            environments.push(EnvironmentInfo {
                name,
                pool: Some(pool.clone()),
                handle: Handle(listed.id),
                state,
            });
        }
    }
    Ok(environments)
}

/// The name of a container that the original made: its labels, none of ours, and the same name as its label.
pub(crate) fn name_of(listed: &look::Listed) -> Option<InstanceName> {
    if listed.label(LABEL_INSTALLATION).is_some() || listed.label(LABEL_OUTRUNNER) != Some("true") {
        return None;
    }
    let name = listed.label(LABEL_OUTRUNNER_NAME)?;
    let names = listed.names.as_ref()?;
    if !names.iter().any(|listed| listed.trim_start_matches('/') == name) {
        return None;
    }
    InstanceName::new(name).ok()
}
