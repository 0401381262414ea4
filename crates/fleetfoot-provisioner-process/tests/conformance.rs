//! The contract's own suite, against real processes; once plain, once in the sandbox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use common::{Bench, in_path, jit, lacks, leftovers, shim};
use fleetfoot_provisioner::conformance::{self, Foreign, Harness, Play};
use fleetfoot_provisioner::{InstallationId, InstanceName, JitConfig, PoolName, Provisioner};
use fleetfoot_provisioner_process::{
    BubblewrapSettings, ProcessHost, ProcessPool, ProcessProvisioner, Sandbox,
};

struct Processes {
    bench: Bench,
    pool: ProcessPool,
    backend: &'static str,
}

#[async_trait]
impl Harness for Processes {
    fn backend(&self) -> String {
        self.backend.to_owned()
    }

    fn installation(&self) -> InstallationId {
        common::installation()
    }

    fn pool(&self) -> PoolName {
        PoolName::new("linux").unwrap()
    }

    async fn provisioner(&self) -> Arc<dyn Provisioner> {
        let host = ProcessHost::open(&self.bench.root(), common::installation()).unwrap();
        Arc::new(ProcessProvisioner::new(host, self.pool.clone(), shim()))
    }

    fn jit(&self, play: &Play) -> JitConfig {
        jit(&play.shell())
    }

    async fn create_foreign(&self, name: &InstanceName, foreign: Foreign) -> Option<()> {
        let directory = self.bench.directory(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("file"), "precious").unwrap();
        if foreign == Foreign::OtherInstallation {
            let meta = serde_json::json!({
                "version": 1, "installation": "somebody-else", "instance": name.as_str(), "pool": "linux",
                "boot_id": "b", "uid": null,
            });
            fs::write(directory.join("meta.json"), meta.to_string()).unwrap();
        }
        Some(())
    }

    async fn foreign_intact(&self, name: &InstanceName) -> bool {
        fs::read_to_string(self.bench.directory(name).join("file"))
            .is_ok_and(|text| text == "precious")
    }

    async fn remove_foreign(&self, name: &InstanceName) {
        fs::remove_dir_all(self.bench.directory(name)).unwrap();
    }

    async fn leftovers(&self, names: &[InstanceName]) -> Vec<String> {
        names.iter().flat_map(|name| leftovers(&self.bench.root(), name)).collect()
    }

    async fn freeze(&self) -> bool {
        false
    }
}

async fn conform(processes: Processes) {
    let report = conformance::run(&processes).await;
    println!("{report}");
    report.assert_passed();
    processes.bench.clean(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let bench = Bench::new();
    conform(Processes { pool: bench.pool(), bench, backend: "process" }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_in_the_sandbox() {
    if lacks("bwrap", in_path("bwrap")) {
        return;
    }
    let bench = Bench::new();
    let mut pool = bench.pool();
    pool.sandbox = Sandbox::Bubblewrap(BubblewrapSettings::default());
    conform(Processes { pool, bench, backend: "process in bubblewrap" }).await;
}
