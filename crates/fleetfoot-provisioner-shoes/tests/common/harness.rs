//! The contract's own suite over a bench, whoever made its plugin.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetfoot_provisioner::conformance::{Foreign, Harness, Play};
use fleetfoot_provisioner::{InstallationId, InstanceName, JitConfig, PoolName, Provisioner};

use super::{Bench, installation, pool, provisioner, script};

/// What each machine has: a runner that plays its part.
const RUNNER: &str = "#!/bin/sh\n\
    printf %s \"$ACTIONS_RUNNER_INPUT_JITCONFIG\" | base64 -d > play.sh\n\
    exec sh play.sh\n";

/// Plugins whose machines play their parts.
pub(crate) struct Plugins(pub(crate) Bench);

impl Plugins {
    /// The plugin finds the image of its machines under this variable.
    pub(crate) fn new(bench: Bench, image: &str) -> Self {
        let directory = bench.directory.path().join("image");
        let runner = directory.join("runner");
        std::fs::create_dir_all(&runner).unwrap();
        std::fs::write(runner.join("run.sh"), RUNNER).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(runner.join("run.sh"), executable).unwrap();
        Self(bench.with(image, directory.to_str().unwrap()))
    }
}

/// What a runner is told to play.
pub(crate) fn play(shell: &str) -> JitConfig {
    JitConfig::new(STANDARD.encode(shell).into())
}

#[async_trait]
impl Harness for Plugins {
    fn backend(&self) -> String {
        "shoes".to_owned()
    }

    fn installation(&self) -> InstallationId {
        installation()
    }

    fn pool(&self) -> PoolName {
        pool()
    }

    async fn provisioner(&self) -> Arc<dyn Provisioner> {
        // A machine's script is started in its own directory.
        provisioner(self.0.host(), script(".".as_ref()))
    }

    fn jit(&self, part: &Play) -> JitConfig {
        play(&part.shell())
    }

    async fn create_foreign(&self, _: &InstanceName, _: Foreign) -> Option<()> {
        None
    }

    async fn foreign_intact(&self, _: &InstanceName) -> bool {
        true
    }

    async fn remove_foreign(&self, _: &InstanceName) {}

    async fn leftovers(&self, names: &[InstanceName]) -> Vec<String> {
        let machines = names.iter().map(|name| self.0.machine(name.as_str()));
        machines.filter(|machine| machine.exists()).map(|it| it.display().to_string()).collect()
    }
}
