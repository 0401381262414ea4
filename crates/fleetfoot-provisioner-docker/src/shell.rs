//! Whether a pool's containers have a shell: what hands a JIT config over, and copies a kept runner, is one.

use std::sync::OnceLock;

use fleetfoot_provisioner::{EnvironmentSpec, InstallationId, InstanceName, PoolName};
use serde::Deserialize;

use crate::check;
use crate::container::DockerPool;
use crate::engine::DockerEngine;
use crate::http::{Call, encoded};
use crate::remove;
use crate::waiting;

pub(crate) const SHELL: &str = "/bin/sh";

#[derive(Deserialize)]
struct Created {
    #[serde(rename = "Id")]
    id: String,
}

/// What one container of a pool said.
#[derive(Debug, Default)]
pub(crate) struct Shell(OnceLock<bool>);

impl Shell {
    /// Whether it is there, by the first container that is asked.
    pub(crate) async fn is_there(
        &self,
        engine: &DockerEngine,
        pool: &DockerPool,
        id: &str,
    ) -> bool {
        if let Some(known) = self.0.get() {
            return *known;
        }
        let is_there = has(engine, id).await;
        if self.0.set(is_there).is_ok() && !is_there && pool.waits {
            let image = &pool.image;
            tracing::warn!(
                image,
                "image without /bin/sh: containers that wait are made anew for their jobs"
            );
        }
        is_there
    }
}

/// Whether a container has it, its mounts included. An engine that cannot tell is believed to have one.
async fn has(engine: &DockerEngine, id: &str) -> bool {
    let call = Call::head(format!("/containers/{id}/archive?path={}", encoded(SHELL)));
    match engine.call(call).await {
        Ok(_) => true,
        Err(error) => error.status() != Some(404),
    }
}

/// Makes a container, looks, and removes it; nothing is started. `None`: it cannot be made, or its image would be
/// pulled for it.
pub(crate) async fn look(
    engine: &DockerEngine,
    pool: &DockerPool,
    installation: &InstallationId,
) -> Option<bool> {
    let pool_name = PoolName::new("fleetfoot-check").ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    // Another suffix than that of any other look.
    let suffix = now.subsec_nanos() ^ std::process::id().rotate_left(16);
    let name = InstanceName::of_pool(&pool_name, suffix);
    let spec = EnvironmentSpec { name, pool: pool_name, installation: installation.clone() };
    let image = waiting::entry_point(engine, check::image_path(&pool.image)).await.ok()??;
    let body = waiting::taking(pool, pool.body(&spec, installation, None), &image);
    let path = format!("/containers/create?name={}", encoded(spec.name.as_str()));
    let made =
        engine.call(Call::post(path).json(&body)).await.ok()?.json::<Created>().await.ok()?;
    let found = has(engine, &made.id).await;
    if let Err(error) = engine.call(Call::delete(remove::path(&made.id))).await {
        tracing::warn!(container = made.id, %error, "container of a check could not be removed");
    }
    Some(found)
}
