//! The main job with virtual machines of a real libvirt daemon: this binary is the runner inside the guests.

use std::time::Duration;

use fleetfoot_sim::Settings;
use rustix::process::Signal;

use crate::harness::{BOOT_BOUND, Bed, Daemon, Hypervisor, eventually, unique};

/// Between a kill and the next start.
const DEAD: Duration = Duration::from_secs(1);
const LIMIT: u32 = 2;

struct Stage {
    bed: Bed,
    hypervisor: Hypervisor,
    pool: String,
}

impl Stage {
    async fn new(backend: &str, pool: &str) -> Option<Self> {
        let hypervisor = Hypervisor::shared().await?;
        // Killed while it opens its session, a daemon has not noted its id: that one has to lapse.
        let bed = Bed::with(Settings { session_lapse_ms: 2000, ..Settings::default() }).await;
        // The guests' way to this host's loopback interface.
        let url = bed.github.url().replace("127.0.0.1", "10.0.2.2");
        bed.github.change(|settings| settings.runner_url = Some(url));
        let stage = Self { bed, hypervisor, pool: unique("vm") };
        stage.write(backend, pool);
        Some(stage)
    }

    fn write(&self, backend: &str, pool: &str) {
        let lines = self.hypervisor.lines(&self.bed, backend);
        let text = self.bed.config("", &[(&self.pool, LIMIT)], &format!("{pool}{lines}"));
        // A runner in an emulated machine takes its time.
        self.bed.write(&text.replace("boot_timeout: 30s", "boot_timeout: 90s"));
    }

    fn records(&self) -> std::path::PathBuf {
        // A directory for each daemon of libvirt, and this is the only one.
        let mut all = std::fs::read_dir(self.bed.state_dir().join("libvirt")).unwrap().flatten();
        all.next().expect("records of one libvirt daemon").path()
    }

    async fn running(&self, count: u64) {
        let running = |state: &fleetfoot_sim::BoxState| state.summary.jobs_running >= count;
        let waited = self.bed.github.wait_until(BOOT_BOUND, running).await;
        waited.unwrap_or_else(|error| panic!("{count} running jobs: {error}"));
    }

    async fn restart(&self, daemon: Daemon) -> Daemon {
        daemon.kill().await;
        tokio::time::sleep(DEAD).await;
        self.bed.start_ready().await
    }

    /// No domain, disk, record or registration is left; `kept` says which files may be.
    async fn nothing_left(&self, kept: impl Fn(&str) -> bool) {
        self.hypervisor.no_domains(&[&self.pool]).await;
        self.bed.nothing_left().await;
        for directory in [self.bed.path("overlays"), self.records()] {
            for entry in std::fs::read_dir(&directory).unwrap().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_file = entry.path().is_file();
                assert!(!is_file || kept(&name), "{} in {}", name, directory.display());
            }
        }
    }
}

/// Cold boots, killed while jobs run in machines: they do not notice, and what was queued meanwhile is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_jobs_run_in_machines() {
    let Some(stage) = Stage::new("", "").await else { return };
    let daemon = stage.bed.start_ready().await;
    let domains = stage.hypervisor.record(&stage.pool).await;
    stage.bed.queue(&stage.pool, 2, 20_000);
    stage.running(2).await;
    let before = stage.hypervisor.domains(&[&stage.pool]).await;
    assert_eq!(before.len(), 2);
    stage.bed.queue(&stage.pool, 2, 100);
    let daemon = stage.restart(daemon).await;
    let after = stage.hypervisor.domains(&[&stage.pool]).await;
    assert_eq!(before, after, "the same machines, never started anew");
    stage.bed.all_succeeded(4, BOOT_BOUND).await;
    domains.never_above(LIMIT as usize);
    stage.nothing_left(|_| false).await;
    daemon.stop().await;
}

/// Killed while a template boots, and again while jobs run in clones of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_machines_are_made_from_memory() {
    let snapshot = "      warm_mode: snapshot\n";
    let Some(stage) = Stage::new(snapshot, "    warm: 1\n").await else { return };
    let daemon = stage.bed.start().await_template(&stage).await;
    let daemon = stage.restart(daemon).await;
    let domains = stage.hypervisor.record(&stage.pool).await;
    stage.bed.queue(&stage.pool, 2, 20_000);
    stage.running(2).await;
    stage.bed.queue(&stage.pool, 3, 100);
    let mut daemon = stage.restart(daemon).await;
    stage.bed.all_succeeded(5, BOOT_BOUND).await;
    let from_memory = daemon.count("machine could not be made from memory, booting it");
    assert_eq!(from_memory, 0);
    // Nobody is to wait any more.
    stage.write(snapshot, "    warm: 0\n");
    daemon.signal(Signal::HUP);
    daemon.logs("configuration applied").await;
    domains.never_above(LIMIT as usize);
    stage.nothing_left(|name| name.starts_with("fleetfoot-template-")).await;
    stage.hypervisor.no_domains(&["fleetfoot-template"]).await;
    daemon.stop().await;
}

trait AwaitTemplate {
    async fn await_template(self, stage: &Stage) -> Daemon;
}

impl AwaitTemplate for Daemon {
    /// Waits until the first template's machine is there.
    async fn await_template(self, stage: &Stage) -> Daemon {
        eventually("a template that boots", BOOT_BOUND, || async {
            let overlays = std::fs::read_dir(stage.bed.path("overlays")).ok()?.flatten();
            let mut names = overlays.map(|entry| entry.file_name());
            names
                .any(|name| name.to_string_lossy().starts_with("fleetfoot-template-"))
                .then_some(())
        })
        .await;
        self
    }
}
