//! `demo --docker`: an engine, and an image made of this very program.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use fleetfoot_provisioner_docker::{DockerEngine, EngineSettings, LABEL_INSTALLATION, image};
use futures_util::StreamExt as _;

/// Where the program is in the image. Called by this name it is a runner.
pub(crate) const RUNNER: &str = "/home/runner/run.sh";

/// An engine that has not answered a call by then hangs.
const CALL_BOUND: Duration = Duration::from_secs(60);
/// As many removals at a time.
const REMOVALS: usize = 8;

/// Waits for an answer of the engine, and says which one never came.
pub(crate) async fn answer<T>(
    what: &str,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T> {
    match tokio::time::timeout(CALL_BOUND, call).await {
        Ok(answered) => answered.with_context(|| format!("cannot {what}")),
        Err(_) => bail!("the engine gave no answer to `{what}` within {CALL_BOUND:?}"),
    }
}

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
        self.labeled(&format!("{LABEL_INSTALLATION}={}", installation.trim())).await
    }

    /// The containers with this label, by id.
    pub(crate) async fn labeled(&self, label: &str) -> Result<Vec<String>> {
        let filters = HashMap::from([("label", vec![label.to_owned()])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.docker.list_containers(Some(options));
        let containers = answer("list containers", listed).await?;
        Ok(containers.into_iter().filter_map(|container| container.id).collect())
    }

    /// Removes these, some at a time; notes each that is gone.
    pub(crate) async fn remove(&self, ids: &[String], mut gone: impl FnMut()) -> Result<()> {
        let removed = futures_util::stream::iter(ids).map(|id| {
            let options = RemoveContainerOptionsBuilder::new().force(true).build();
            answer("remove container", async move {
                // One that goes by itself in this moment is as gone.
                let _ = self.docker.remove_container(id, Some(options)).await;
                Ok(())
            })
        });
        let mut removed = removed.buffer_unordered(REMOVALS);
        while let Some(removed) = removed.next().await {
            removed?;
            gone();
        }
        Ok(())
    }

    /// Removes the containers of that installation, and the image.
    pub(crate) async fn clear(&self, state: &Path) -> Result<()> {
        let containers = self.of(state).await?;
        self.remove(&containers, || ()).await?;
        self.remove_image().await
    }

    /// Removes the image, if it was made.
    pub(crate) async fn remove_image(&self) -> Result<()> {
        if self.built {
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            let removed = self.docker.remove_image(&self.image, Some(options), None);
            answer(&format!("remove the image {}", self.image), removed).await?;
        }
        Ok(())
    }
}
