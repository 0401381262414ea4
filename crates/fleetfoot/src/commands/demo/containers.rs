//! `demo --docker`: an engine, and an image made of this very program.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use fleetfoot_provisioner_docker::{DockerEngine, EngineSettings, LABEL_INSTALLATION, image};

/// Where the program is in the image. Called by this name it is a runner.
pub(crate) const RUNNER: &str = "/home/runner/run.sh";

/// The engine of the demonstration.
pub(crate) struct Containers {
    engine: Arc<DockerEngine>,
    docker: Docker,
    image: String,
    built: bool,
}

impl Containers {
    /// Finds the engine as `fleetfoot run` would, and asks whether it is there.
    pub(crate) async fn connect() -> Result<Self> {
        Self::connect_to(None).await
    }

    /// The engine at this address.
    pub(crate) async fn connect_to(host: Option<String>) -> Result<Self> {
        let engine = DockerEngine::connect(EngineSettings::from_environment(host)).await?;
        let address = engine.address();
        let absent =
            || format!("no container engine answers at {address}; start it, or set DOCKER_HOST");
        let docker = Docker::connect_with_host(&address).with_context(absent)?;
        let docker = docker.negotiate_version().await.with_context(absent)?;
        let image = format!("fleetfoot-demo:{:08x}", fastrand::u32(..));
        Ok(Self { engine, docker, image, built: false })
    }

    pub(crate) fn address(&self) -> String {
        self.engine.address()
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    pub(crate) fn image(&self) -> &str {
        &self.image
    }

    /// Makes the image. Nothing is pulled.
    pub(crate) async fn build(&mut self) -> Result<()> {
        let exe = std::env::current_exe().context("cannot find the own program")?;
        self.built = true;
        image::from_program(&self.engine, &self.image, &exe, Path::new(RUNNER)).await?;
        Ok(())
    }

    /// The backend's part of a runner's configuration.
    pub(crate) fn config(&self) -> String {
        self.config_at(&self.address())
    }

    /// The same with the engine behind another address.
    pub(crate) fn config_at(&self, address: &str) -> String {
        // The host's network, because the box is on its loopback interface.
        format!(
            "    docker:\n      image: {}\n      host: {address}\n      pull: never\n      network: host\n      runner_cmd: {RUNNER}\n",
            self.image
        )
    }

    /// The containers of the installation whose state is there, by id.
    pub(crate) async fn of(&self, state: &Path) -> Result<Vec<String>> {
        // Without an installation nothing was ever made.
        let Ok(installation) = std::fs::read_to_string(state.join("installation-id")) else {
            return Ok(Vec::new());
        };
        let label = format!("{LABEL_INSTALLATION}={}", installation.trim());
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers =
            self.docker.list_containers(Some(options)).await.context("cannot list containers")?;
        Ok(containers.into_iter().filter_map(|container| container.id).collect())
    }

    /// Removes the containers of that installation, and the image.
    pub(crate) async fn clear(&self, state: &Path) -> Result<()> {
        for id in self.of(state).await? {
            let options = RemoveContainerOptionsBuilder::new().force(true).build();
            // One that goes by itself in this moment is as gone.
            let _ = self.docker.remove_container(&id, Some(options)).await;
        }
        if self.built {
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            let removed = self.docker.remove_image(&self.image, Some(options), None).await;
            removed.with_context(|| format!("cannot remove the image {}", self.image))?;
        }
        Ok(())
    }
}
