//! The main job with Tart's machines, by the stand-in for the `tart` program: a process of this host is the guest's.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{BOUND, Bed, Daemon, PROGRAM, eventually};

/// Between a kill and the next start.
const DEAD: Duration = Duration::from_secs(1);
const POOL: &str = "mac";
/// Apple's licence.
const LIMIT: u32 = 2;

struct Mac {
    bed: Bed,
}

impl Mac {
    /// A Mac with a base image, if the stand-in was built beside the binary.
    async fn new(pool: &str) -> Option<Self> {
        let stand_in = Path::new(PROGRAM).with_file_name("fleetfoot-tart-stand-in");
        if !stand_in.exists() {
            let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
            assert!(required.is_empty(), "{} was not built", stand_in.display());
            eprintln!("SKIPPED: needs fleetfoot-tart-stand-in");
            return None;
        }
        let mac = Self { bed: Bed::new().await };
        let base = mac.vms().join("base");
        std::fs::create_dir_all(&base).unwrap();
        std::fs::write(base.join("disk.img"), "base").unwrap();
        std::fs::write(base.join("nvram.bin"), "").unwrap();
        std::fs::write(base.join("config.json"), "{\"os\": \"darwin\"}").unwrap();
        std::fs::create_dir(mac.bed.path("bin")).unwrap();
        std::os::unix::fs::symlink(stand_in, mac.bed.path("bin/tart")).unwrap();
        mac.write(pool);
        Some(mac)
    }

    fn vms(&self) -> PathBuf {
        self.bed.path("mac/vms")
    }

    fn write(&self, pool: &str) {
        let runner = self.bed.path("runner/run.sh");
        let lines =
            format!("{pool}    tart:\n      image: base\n      runner_cmd: {}\n", runner.display());
        self.bed.write(&self.bed.config("", &[(POOL, LIMIT)], &lines));
    }

    async fn start(&self) -> Daemon {
        let mut command = self.bed.command();
        let config = self.bed.config_file();
        command.args(["run", "--config", config.to_str().unwrap()]);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.bed.path("bin").display()));
        command.env("TART_HOME", self.bed.path("mac"));
        let mut daemon = self.bed.daemon(command);
        daemon.ready().await;
        daemon
    }

    async fn restart(&self, daemon: Daemon) -> Daemon {
        daemon.kill().await;
        tokio::time::sleep(DEAD).await;
        self.start().await
    }

    /// The machines that are no image.
    fn machines(&self) -> BTreeSet<String> {
        let names = std::fs::read_dir(self.vms()).unwrap().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "base").collect()
    }

    /// How often each machine was run, by the stand-in's own account.
    fn runs(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.bed.path("mac/stand-in/calls")).unwrap();
        let calls = calls.lines().map(|line| serde_json::from_str::<Vec<String>>(line).unwrap());
        calls.filter(|call| call[0] == "run").map(|call| call.last().unwrap().clone()).collect()
    }

    async fn finish(&self, daemon: Daemon, jobs: u64) {
        self.bed.all_succeeded(jobs, BOUND).await;
        self.bed.nothing_left().await;
        assert_eq!(self.machines(), BTreeSet::new());
        let runs = self.runs();
        let names: BTreeSet<_> = runs.iter().collect();
        assert_eq!(names.len(), runs.len(), "run twice: {runs:?}");
        daemon.stop().await;
    }
}

/// Killed while jobs run, and again while machines are cloned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_jobs_run_in_machines_of_tart() {
    let Some(mac) = Mac::new("").await else { return };
    let daemon = mac.start().await;
    mac.bed.queue(POOL, 2, 6000);
    mac.bed.running(2).await;
    let before = mac.machines();
    assert_eq!(before.len(), 2);
    mac.bed.queue(POOL, 4, 100);
    let daemon = mac.restart(daemon).await;
    assert_eq!(before, mac.machines(), "the same machines");
    // The two go, and others are made: killed then.
    eventually("another machine", BOUND, || async {
        (!mac.machines().is_subset(&before)).then_some(())
    })
    .await;
    let daemon = mac.restart(daemon).await;
    mac.finish(daemon, 6).await;
}

/// A machine waits booted; a job takes it, and the next is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_of_tart_wait_booted() {
    let Some(mac) = Mac::new("    warm: 1\n").await else { return };
    let daemon = mac.start().await;
    let warm = || async {
        let status = mac.bed.status().await;
        let instances = status["instances"].as_array().unwrap().clone();
        let warm = instances.iter().find(|one| one["phase"] == "warm")?;
        Some(warm["name"].as_str().unwrap().to_owned())
    };
    let first = eventually("a machine that waits", BOUND, warm).await;
    assert!(mac.bed.github.state().runners.is_empty(), "unknown to GitHub");
    let mut daemon = mac.restart(daemon).await;
    mac.bed.queue(POOL, 1, 100);
    mac.bed.all_succeeded(1, BOUND).await;
    let state = mac.bed.github.state();
    assert_eq!(state.jobs[0].runner.as_deref(), Some(first.as_str()), "the one that waited");
    let next = eventually("the next one", BOUND, warm).await;
    assert_ne!(next, first);
    mac.write("    warm: 0\n");
    daemon.signal(Signal::HUP);
    daemon.logs("configuration applied").await;
    mac.finish(daemon, 1).await;
}
