//! A scripted daemon with the real `qemu-img`, and an agent whose runner never ends.

use std::path::Path;
use std::time::Duration;

use fleetfoot_provisioner::{EnvironmentState, InstanceName, Provisioner};
use fleetfoot_provisioner_libvirt::{LibvirtPool, LibvirtProvisioner};

use super::engine;
use super::scripted::{Agent, Daemon};

const BOUND: Duration = Duration::from_secs(30);
pub const SILENT: &str = "Guest agent is not responding: QEMU guest agent is not connected";

pub struct Stand {
    pub directory: tempfile::TempDir,
    pub daemon: Daemon,
}

impl Stand {
    /// `None` without `qemu-img`.
    pub fn new(
        agent: impl FnMut(&serde_json::Value) -> Result<String, (i32, String)> + Send + 'static,
    ) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base.qcow2");
        let made = std::process::Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .args([&base, Path::new("1M")])
            .status();
        if !made.is_ok_and(|it| it.success()) {
            println!("SKIPPED: needs qemu-img");
            return None;
        }
        let agent: Agent = Box::new(agent);
        let daemon = Daemon::start(directory.path().join("libvirt-sock"), agent);
        Some(Self { directory, daemon })
    }

    pub fn pool(&self) -> LibvirtPool {
        let mut pool = LibvirtPool::new(self.directory.path().join("base.qcow2"));
        pool.overlay_dir = self.directory.path().to_owned();
        pool.agent_max = Duration::from_secs(10);
        pool
    }

    pub fn with(&self, pool: LibvirtPool) -> LibvirtProvisioner {
        let records = self.directory.path().join("records");
        LibvirtProvisioner::new(engine(&self.daemon.socket, &records), pool)
    }

    pub fn provisioner(&self) -> LibvirtProvisioner {
        self.with(self.pool())
    }

    pub fn overlay(&self, name: &InstanceName) -> std::path::PathBuf {
        self.directory.path().join(format!("{name}.qcow2"))
    }

    pub fn record(&self, name: &InstanceName, end: &str) -> std::path::PathBuf {
        self.directory.path().join("records").join(format!("{name}.{end}"))
    }

    pub fn is_clean(&self, name: &InstanceName) -> bool {
        !self.daemon.names().iter().any(|it| it == name.as_str())
            && !self.overlay(name).exists()
            && ["json", "log"].iter().all(|end| !self.record(name, end).exists())
    }
}

/// An agent whose runner never ends.
pub fn agent(command: &serde_json::Value) -> Result<String, (i32, String)> {
    match command["execute"].as_str().unwrap() {
        "guest-ping" => Ok("{\"return\":{}}".to_owned()),
        "guest-exec" => Ok("{\"return\":{\"pid\":77}}".to_owned()),
        "guest-exec-status" => Ok("{\"return\":{\"exited\":false}}".to_owned()),
        other => Err((
            9,
            format!("internal error: unable to execute QEMU guest agent command '{other}'"),
        )),
    }
}

pub async fn state(
    provisioner: &LibvirtProvisioner,
    name: &InstanceName,
) -> Option<EnvironmentState> {
    let listing = provisioner.list().await.unwrap();
    listing.environments.into_iter().find(|it| it.name == *name).map(|it| it.state)
}

pub async fn until_ended(
    provisioner: &LibvirtProvisioner,
    name: &InstanceName,
) -> fleetfoot_provisioner::Exit {
    let end = tokio::time::Instant::now() + BOUND;
    loop {
        if let Some(EnvironmentState::Ended(exit)) = state(provisioner, name).await {
            return exit;
        }
        assert!(tokio::time::Instant::now() < end, "{name} does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
