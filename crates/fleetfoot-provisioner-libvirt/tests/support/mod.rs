//! A daemon and a guest for the tests: found by the environment, spoken to beside the room's own client (by
//! `virsh`), and broken by a proxy in front of the socket.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

pub mod harness;
pub mod scripted;
pub mod stand;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetfoot_provisioner::{EnvironmentSpec, InstallationId, InstanceName, JitConfig, PoolName};
use fleetfoot_provisioner_libvirt::{
    Address, Bus, DirectBoot, DomainType, Firmware, LibvirtEngine, LibvirtPool, LibvirtProvisioner,
    Network,
};

/// A guest boots on an emulated processor, with others beside it.
pub const BOUND: Duration = Duration::from_secs(240);

/// A daemon that is there for tests, and a guest whose runner runs its JIT config as a shell script.
#[derive(Debug, Clone)]
pub struct Bench {
    pub socket: PathBuf,
    pub guest: PathBuf,
    /// A script that becomes a daemon of the test's own: `libvirtd.sh DIR` serves on `DIR/libvirt-sock`.
    pub script: PathBuf,
}

/// The daemon; `None` after it said that the test is skipped.
pub fn bench() -> Option<Bench> {
    let variable =
        |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
    let found = (
        variable("FLEETFOOT_TEST_LIBVIRT_SOCKET"),
        variable("FLEETFOOT_TEST_LIBVIRT_GUEST"),
        variable("FLEETFOOT_TEST_LIBVIRTD"),
    );
    if let (Some(socket), Some(guest), Some(script)) = found {
        return Some(Bench { socket, guest, script });
    }
    let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|it| it.trim() == "libvirt");
    assert!(!is_required, "libvirt is required, but FLEETFOOT_TEST_LIBVIRT_* are not set");
    println!("SKIPPED: needs libvirt");
    None
}

/// The test's settings: emulated, booted directly, no network.
pub fn pool(guest: &Path, directory: &Path) -> LibvirtPool {
    let mut pool = LibvirtPool::new(guest);
    pool.domain_type = DomainType::Qemu;
    pool.firmware = Firmware::Bios;
    pool.machine = Some("pc".to_owned());
    pool.bus = Bus::Virtio;
    pool.network = Network::None;
    pool.cpus = 1;
    pool.memory_mib = 192;
    pool.overlay_dir = directory.to_owned();
    pool.agent_max = BOUND;
    pool.direct_boot = Some(DirectBoot {
        kernel: guest.with_extension("vmlinuz"),
        initrd: Some(guest.with_extension("initrd")),
        cmdline: Some(
            "quiet loglevel=3 console=ttyS0 random.trust_cpu=on mitigations=off tsc=reliable no_timer_check rcupdate.rcu_expedited=1"
                .to_owned(),
        ),
    });
    pool
}

pub fn installation() -> InstallationId {
    InstallationId::new(&format!("test-{:08x}", std::process::id())).unwrap()
}

pub fn pool_name() -> PoolName {
    PoolName::new("fftest").unwrap()
}

pub fn spec() -> EnvironmentSpec {
    let name = InstanceName::of_pool(&pool_name(), fastrand::u32(..));
    EnvironmentSpec { name, pool: pool_name(), installation: installation() }
}

pub fn script(text: &str) -> JitConfig {
    // One line, as GitHub's is: the wrapper reads one.
    JitConfig::new(text.trim_end().replace('\n', "; ").into())
}

pub fn engine(socket: &Path, records: &Path) -> Arc<LibvirtEngine> {
    let address = Address::parse(&socket.display().to_string()).unwrap();
    LibvirtEngine::open(address, records, installation()).unwrap()
}

pub fn provisioner(bench: &Bench, directory: &Path) -> LibvirtProvisioner {
    let engine = engine(&bench.socket, &directory.join("records"));
    LibvirtProvisioner::new(engine, pool(&bench.guest, directory))
}

/// Asks the daemon with libvirt's own program.
pub async fn virsh(socket: &Path, arguments: &[&str]) -> (bool, String) {
    let uri = format!("qemu:///system?socket={}", socket.display());
    let output = tokio::process::Command::new("virsh")
        .args(["-q", "-c", &uri])
        .args(arguments)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(if output.status.success() {
        &output.stdout
    } else {
        &output.stderr
    });
    (output.status.success(), text.into_owned())
}

/// The names of all domains.
pub async fn domains(socket: &Path) -> Vec<String> {
    let (ok, names) = virsh(socket, &["list", "--all", "--name"]).await;
    assert!(ok, "{names}");
    names.lines().map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// Looks until `holds`, within the bound.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + BOUND;
    while !holds().await {
        assert!(Instant::now() < end, "not within {} s: {what}", BOUND.as_secs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
