//! The conformance suite's view of a daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleetfoot_provisioner::conformance::proxy::{Asked, Dialect, Proxy};
use fleetfoot_provisioner::conformance::{Foreign, Harness, Play};
use fleetfoot_provisioner::{InstallationId, InstanceName, JitConfig, PoolName, Provisioner};
use fleetfoot_provisioner_libvirt::{LibvirtPool, LibvirtProvisioner, NAMESPACE};

use super::{BOUND, Bench, domains, engine, installation, pool, pool_name, script, virsh};

const LIST_ALL_DOMAINS: [u8; 4] = 273i32.to_be_bytes();
const EVENT_REGISTER: [u8; 4] = 316i32.to_be_bytes();

/// What of libvirt's language the proxy has to know. Whole frames come in one write of the client.
const LIBVIRT: Dialect = Dialect { asked, cut: |answer| answer.len().min(33) };

fn asked(words: &[u8]) -> Asked {
    match words.get(12..16) {
        Some(procedure) if procedure == EVENT_REGISTER => Asked::Watch,
        Some(procedure) if procedure == LIST_ALL_DOMAINS => Asked::List,
        _ => Asked::Other,
    }
}

pub struct Libvirt {
    bench: Bench,
    proxy: Proxy,
    pool: LibvirtPool,
    directory: tempfile::TempDir,
}

impl Libvirt {
    pub fn new(bench: Bench, change: impl FnOnce(&mut LibvirtPool)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let proxy = Proxy::start(directory.path().join("p.sock"), &bench.socket, LIBVIRT).unwrap();
        let mut pool = pool(&bench.guest, directory.path());
        // The suite's own bounds end what hangs; twenty that boot at once on a busy host take their time.
        pool.agent_max = BOUND * 8;
        change(&mut pool);
        Self { proxy, pool, directory, bench }
    }

    fn records(&self) -> PathBuf {
        self.directory.path().join("records")
    }
}

#[async_trait]
impl Harness for Libvirt {
    fn backend(&self) -> String {
        "libvirt".to_owned()
    }

    fn installation(&self) -> InstallationId {
        installation()
    }

    fn pool(&self) -> PoolName {
        pool_name()
    }

    /// A new engine each time: nothing is remembered but what is on disk and at libvirt.
    async fn provisioner(&self) -> Arc<dyn Provisioner> {
        let engine = engine(self.proxy.socket(), &self.records());
        Arc::new(LibvirtProvisioner::new(engine, self.pool.clone()))
    }

    fn jit(&self, play: &Play) -> JitConfig {
        script(&play.shell())
    }

    async fn create_foreign(&self, name: &InstanceName, foreign: Foreign) -> Option<()> {
        let metadata = match foreign {
            Foreign::Unlabelled => String::new(),
            Foreign::OtherInstallation => format!(
                "<metadata><f:instance xmlns:f='{NAMESPACE}' installation='somebody-else' name='{name}' pool='x'/></metadata>"
            ),
        };
        let xml = format!(
            "<domain type='qemu'><name>{name}</name>{metadata}<memory unit='MiB'>32</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
        );
        let file = self.directory.path().join(format!("{name}.xml"));
        std::fs::write(&file, xml).unwrap();
        let (ok, told) = virsh(&self.bench.socket, &["create", &file.display().to_string()]).await;
        assert!(ok, "{told}");
        Some(())
    }

    async fn foreign_intact(&self, name: &InstanceName) -> bool {
        let (ok, state) = virsh(&self.bench.socket, &["domstate", name.as_str()]).await;
        ok && state.trim() == "running"
    }

    async fn remove_foreign(&self, name: &InstanceName) {
        virsh(&self.bench.socket, &["destroy", name.as_str()]).await;
    }

    async fn leftovers(&self, names: &[InstanceName]) -> Vec<String> {
        let there = domains(&self.bench.socket).await;
        let domains = there.into_iter().filter(|it| names.iter().any(|name| name.as_str() == it));
        let mut left: Vec<_> = domains.map(|name| format!("domain {name}")).collect();
        for name in names {
            let files = [
                self.directory.path().join(format!("{name}.qcow2")),
                self.records().join(format!("{name}.json")),
            ];
            left.extend(files.iter().filter(|it| it.exists()).map(|it| it.display().to_string()));
        }
        left
    }

    async fn freeze(&self) -> bool {
        self.proxy.set_frozen(true);
        true
    }

    async fn thaw(&self) {
        self.proxy.set_frozen(false);
    }

    async fn cut_next_list(&self) -> bool {
        self.proxy.cut_next_list();
        true
    }

    async fn break_watch(&self) -> bool {
        self.proxy.break_watch();
        true
    }

    fn bound(&self) -> Duration {
        BOUND
    }
}
