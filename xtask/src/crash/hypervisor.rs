//! Machines of libvirt: a stand-in for its daemon that all cases share, and what must be left of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::audit::{LAST, working_in};
use super::bed::directories;
use crate::process::{run_quiet, wait_until};

/// The stand-in; it ends with the last who knows of it.
#[derive(Clone)]
pub(super) struct Hypervisor {
    /// What it keeps of each domain is here.
    dir: PathBuf,
    _process: Arc<Process>,
}

struct Process(Mutex<Child>);

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Hypervisor {
    /// Starts it, and makes an image for its machines.
    pub(super) fn start(program: &Path, dir: &Path) -> Result<Self> {
        let dir = dir.join("lv");
        std::fs::create_dir(&dir)?;
        let image = dir.with_file_name("base.qcow2");
        run_quiet(
            Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(image).arg("1M"),
        )?;
        let mut command = Command::new(program);
        command.arg(&dir).stdin(Stdio::null()).stdout(Stdio::null());
        let process = Arc::new(Process(Mutex::new(command.spawn()?)));
        let serves = wait_until(Duration::from_secs(10), || dir.join("sock").exists());
        ensure!(serves, "the stand-in for libvirt does not serve");
        Ok(Self { dir, _process: process })
    }

    /// The lines of a pool.
    pub(super) fn lines(&self, case: &Path) -> String {
        let dir = self.dir.display();
        format!(
            "    libvirt:\n      path: {}\n      socket: {dir}/sock\n      type: qemu\n      network: none\n      \
             overlay_dir: {case}/overlays\n      runner_cmd: {case}/runner/run.sh\n",
            self.dir.with_file_name("base.qcow2").display(),
            case = case.display(),
        )
    }

    /// No domain, disk or record is left, and none was made twice.
    pub(super) fn audit(&self, case: &Path, pools: &[&str]) -> Result<()> {
        let ours = |name: &str| pools.iter().any(|pool| name.starts_with(&format!("{pool}-")));
        let left: Vec<_> = directories(&self.dir).into_iter().filter(|it| ours(it)).collect();
        ensure!(left.is_empty(), "domains are left: {}", left.join(", "));
        let disks = directories(&case.join("overlays"));
        ensure!(disks.is_empty(), "disks are left: {}", disks.join(", "));
        let calls = std::fs::read_to_string(self.dir.join("calls"))?;
        let mut made = BTreeSet::new();
        for name in calls.lines().filter(|it| ours(it)) {
            ensure!(made.insert(name), "machine {name} was made twice");
        }
        let runner = case.join("runner");
        let gone = wait_until(LAST, || working_in(&runner).is_empty());
        ensure!(gone, "processes are left: {}", working_in(&runner).join(", "));
        Ok(())
    }
}
