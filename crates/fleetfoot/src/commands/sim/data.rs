//! A directory that is gone at the end, and with it every process that lives in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

/// A control socket must fit below it: 108 bytes are all a socket's path may have.
const PATH_MAX: usize = 60;

/// A temporary directory with a random name, readable by its owner only.
pub(crate) struct DataDirectory(tempfile::TempDir);

impl DataDirectory {
    /// Makes one in the system's place for such things.
    pub(crate) fn new(purpose: &str) -> Result<Self> {
        let parent = Some(std::env::temp_dir()).filter(|path| path.as_os_str().len() <= PATH_MAX);
        let parent = parent.unwrap_or_else(|| PathBuf::from("/tmp"));
        let made =
            tempfile::Builder::new().prefix(&format!("fleetfoot-{purpose}-")).tempdir_in(&parent);
        let directory =
            made.with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        Ok(Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Processes whose command line or environment names this directory. The name is random, so they are ours.
    pub(crate) fn processes(&self) -> BTreeMap<i32, String> {
        let mark = self.path().as_os_str().as_encoded_bytes();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        numbers
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| *pid != own)
            .filter_map(|pid| {
                let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let command = read("cmdline");
                let named = contains(&command, mark) || contains(&read("environ"), mark);
                let words = String::from_utf8_lossy(&command).replace('\0', " ");
                // A process that ended and waits to be noticed has neither.
                named.then(|| (pid, words.trim().to_owned()))
            })
            .collect()
    }

    /// Kills what [`Self::processes`] finds, until there is nothing.
    pub(crate) async fn end_processes(&self) {
        for _ in 0..100 {
            let processes = self.processes();
            if processes.is_empty() {
                return;
            }
            for pid in processes.keys().filter_map(|pid| Pid::from_raw(*pid)) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Removes the directory now, and says why if it cannot.
    pub(crate) fn remove(self) -> Result<()> {
        let path = self.path().to_owned();
        self.0.close().with_context(|| format!("cannot remove {}", path.display()))
    }
}

fn contains(text: &[u8], mark: &[u8]) -> bool {
    text.windows(mark.len()).any(|window| window == mark)
}
