//! The contract's own suite, against the stand-in for `tart`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod common;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use common::{Bench, jit};
use fleetfoot_provisioner::conformance::{self, Foreign, Harness, Play};
use fleetfoot_provisioner::{InstallationId, InstanceName, JitConfig, PoolName, Provisioner};
use fleetfoot_provisioner_tart::JitDelivery;

struct Machines {
    bench: Bench,
    jit: JitDelivery,
}

#[async_trait]
impl Harness for Machines {
    fn backend(&self) -> String {
        format!("tart, JIT config by {:?}", self.jit)
    }

    fn installation(&self) -> InstallationId {
        common::installation()
    }

    fn pool(&self) -> PoolName {
        PoolName::new("linux").unwrap()
    }

    async fn provisioner(&self) -> Arc<dyn Provisioner> {
        let mut pool = self.bench.pool();
        pool.jit = self.jit;
        self.bench.with(pool)
    }

    fn jit(&self, play: &Play) -> JitConfig {
        jit(&play.shell())
    }

    async fn create_foreign(&self, name: &InstanceName, foreign: Foreign) -> Option<()> {
        self.bench.image(name.as_str(), "linux");
        if foreign == Foreign::OtherInstallation {
            let meta = serde_json::json!({
                "version": 1, "installation": "somebody-else", "instance": name.as_str(), "pool": "linux",
            });
            let marker = self.bench.machine(name.as_str()).join("fleetfoot.json");
            fs::write(marker, meta.to_string()).unwrap();
        }
        Some(())
    }

    async fn foreign_intact(&self, name: &InstanceName) -> bool {
        let disk = fs::read_to_string(self.bench.machine(name.as_str()).join("disk.img"));
        disk.is_ok_and(|disk| disk == name.as_str())
    }

    async fn remove_foreign(&self, name: &InstanceName) {
        fs::remove_dir_all(self.bench.machine(name.as_str())).unwrap();
    }

    async fn leftovers(&self, names: &[InstanceName]) -> Vec<String> {
        self.bench.leftovers(names)
    }

    fn landing_time(&self) -> Duration {
        Duration::from_secs(1)
    }
}

async fn conform(jit: JitDelivery) {
    let machines = Machines { bench: Bench::new(), jit };
    let report = conformance::run(&machines).await;
    println!("{report}");
    report.assert_passed();
    // One for each runner that failed by itself; nothing of those that were ended, and nothing of machines.
    let kept = machines.bench.kept_logs();
    assert!(kept.iter().all(|log| log.display().to_string().contains("-runner-")), "{kept:?}");
    assert_eq!(kept.len(), 5, "{kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    conform(JitDelivery::Stdin).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_the_originals_arguments() {
    conform(JitDelivery::Argument).await;
}
