//! The example, as a host of ours starts it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetfoot_provisioner::conformance::{self, Foreign, Harness, Play};
use fleetfoot_provisioner::{
    EnvironmentSpec, ErrorKind, InstallationId, InstanceName, JitConfig, PoolName, Provisioner,
    ResourceType,
};
use fleetfoot_provisioner_shoes::script::{DOWNLOADS, ScriptSettings};
use fleetfoot_provisioner_shoes::{
    HostSettings, Machine, PluginHost, ProcessModel, ShoesPool, ShoesProvisioner,
};
use tempfile::TempDir;
use tokio::sync::watch;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fleetfoot-shoes-processes");

/// What each machine has: a runner that plays its part.
const RUNNER: &str = "#!/bin/sh\n\
    printf %s \"$ACTIONS_RUNNER_INPUT_JITCONFIG\" | base64 -d > play.sh\n\
    exec sh play.sh\n";

struct Plugins {
    directory: TempDir,
    model: Option<ProcessModel>,
}

impl Plugins {
    fn new(model: Option<ProcessModel>) -> Self {
        let directory = TempDir::new().unwrap();
        let runner = directory.path().join("image/runner");
        std::fs::create_dir_all(&runner).unwrap();
        std::fs::write(runner.join("run.sh"), RUNNER).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(runner.join("run.sh"), executable).unwrap();
        Self { directory, model }
    }

    fn host(&self) -> Arc<PluginHost> {
        let mut settings = HostSettings::new(PROGRAM.into());
        settings.model = self.model.unwrap_or(settings.model);
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        settings.environment = vec![
            ("MACHINES_DIR".to_owned(), path("machines")),
            ("MACHINES_IMAGE".to_owned(), path("image")),
        ];
        PluginHost::new(settings)
    }

    fn machine(&self, name: &InstanceName) -> PathBuf {
        self.directory.path().join("machines").join(name.as_str())
    }
}

fn provisioner(host: Arc<PluginHost>) -> Arc<ShoesProvisioner> {
    let script = ScriptSettings {
        version: "v2.330.0".to_owned(),
        checksums: String::new(),
        user: "root".to_owned(),
        base_directory: ".".to_owned(),
        downloads: DOWNLOADS.to_owned(),
    };
    let (_, script) = watch::channel(Some(script));
    let labels = vec!["scaleset".to_owned(), "acme".to_owned()];
    let pool = ShoesPool { resource_type: ResourceType::Micro, labels, script };
    Arc::new(ShoesProvisioner::new(host, pool))
}

fn pool() -> PoolName {
    PoolName::new("shoes").unwrap()
}

fn installation() -> InstallationId {
    InstallationId::new("test").unwrap()
}

fn spec(number: u32) -> EnvironmentSpec {
    let name = InstanceName::of_pool(&pool(), number);
    EnvironmentSpec { name, pool: pool(), installation: installation() }
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
        provisioner(self.host())
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
        let machines = names.iter().map(|name| self.machine(name));
        machines.filter(|machine| machine.exists()).map(|it| it.display().to_string()).collect()
    }
}

#[tokio::test]
async fn the_example_keeps_the_contract() {
    for model in [None, Some(ProcessModel::PerCall)] {
        let report = conformance::run(&Plugins::new(model)).await;
        println!("{report}");
        report.assert_passed();
    }
}

#[tokio::test]
async fn a_machine_is_made_once_and_deleted_and_the_process_ends() {
    let plugins = Plugins::new(None);
    let host = plugins.host();
    let provisioner = provisioner(host.clone());
    let spec = spec(1);
    let jit = JitConfig::new(STANDARD.encode("true").into());
    for _ in 0..2 {
        let handle = provisioner.create(&spec, Some(&jit)).await.unwrap();
        let machine = Machine::of(&handle).unwrap();
        assert_eq!(machine.cloud_id, spec.name.as_str());
        assert_eq!(
            (machine.shoes_type.as_str(), machine.resource_type.as_str()),
            ("processes", "micro")
        );
    }
    provisioner.delete(&spec.name).await.unwrap();
    assert!(!plugins.machine(&spec.name).exists());
    provisioner.delete(&spec.name).await.unwrap();
    host.end().await;
    let refused = provisioner.create(&spec, Some(&jit)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Backend, "nothing is started after the end");
}

/// The host of go-plugin itself, which myshoes is made with.
#[test]
fn the_real_go_plugin_calls_it() {
    let Some(host) = std::env::var_os("FLEETFOOT_TEST_SHOES_PLUGIN") else {
        println!("SKIPPED: needs shoes-plugin");
        return;
    };
    let directory = TempDir::new().unwrap();
    let output = Command::new(host)
        .args(["host", PROGRAM])
        .env("MACHINES_DIR", directory.path().join("machines"))
        .env("PLUGIN_UNIX_SOCKET_DIR", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let once = "added myshoes-host, a processes of size 3\ndeleted: OK\ndeleted: NotFound\n";
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, format!("{once}{once}exited: true\n"), "{log}");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "its socket is gone: {left:?}");
}

#[test]
fn by_hand_it_says_who_starts_it() {
    let output = Command::new(PROGRAM).env("MACHINES_DIR", "/tmp").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with("error: this is a shoes plugin: "), "{said}");
    assert!(output.stdout.is_empty());
}
