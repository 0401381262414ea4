//! The contract's own suite, against a plugin made with the real go-plugin.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[allow(dead_code)]
mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Bench, installation, pool, program, provisioner, script};
use fleetfoot_provisioner::conformance::{self, Foreign, Harness, Play};
use fleetfoot_provisioner::{InstallationId, InstanceName, JitConfig, PoolName, Provisioner};
use tempfile::TempDir;

/// What each machine has: a runner that plays its part.
const RUNNER: &str = "#!/bin/sh\n\
    printf %s \"$ACTIONS_RUNNER_INPUT_JITCONFIG\" | base64 -d > play.sh\n\
    exec sh play.sh\n";

struct Plugins {
    bench: Bench,
    /// The machines' image.
    _image: TempDir,
}

impl Plugins {
    fn new(bench: Bench) -> Self {
        let image = TempDir::new().unwrap();
        let runner = image.path().join("runner");
        std::fs::create_dir(&runner).unwrap();
        std::fs::write(runner.join("run.sh"), RUNNER).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(runner.join("run.sh"), executable).unwrap();
        let bench = bench.with("TEST_IMAGE", image.path().to_str().unwrap());
        Self { bench, _image: image }
    }
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
        provisioner(self.bench.host(), script(".".as_ref()))
    }

    fn jit(&self, play: &Play) -> JitConfig {
        JitConfig::new(STANDARD.encode(play.shell()).into())
    }

    async fn create_foreign(&self, _: &InstanceName, _: Foreign) -> Option<()> {
        None
    }

    async fn foreign_intact(&self, _: &InstanceName) -> bool {
        true
    }

    async fn remove_foreign(&self, _: &InstanceName) {}

    async fn leftovers(&self, names: &[InstanceName]) -> Vec<String> {
        let machines = names.iter().map(|name| self.bench.machine(name.as_str()));
        machines.filter(|machine| machine.exists()).map(|it| it.display().to_string()).collect()
    }
}

#[tokio::test]
async fn plugins_keep_the_contract() {
    let Some(program) = program() else { return };
    for bench in [Bench::new(program.clone(), ""), Bench::new(program, "idempotent").per_call()] {
        let report = conformance::run(&Plugins::new(bench)).await;
        println!("{report}");
        report.assert_passed();
    }
}
