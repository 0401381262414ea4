//! What is left: directories and processes of instances.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::{BOUND, eventually};

/// The directories of instances.
pub(crate) fn directories(instances: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(instances) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path.join("meta.json").exists()).collect()
}

pub(crate) fn no_directories(instances: &Path) {
    let left = directories(instances);
    assert!(left.is_empty(), "directories left: {left:?}");
}

/// Processes that have the directory in their command line or work in it.
pub(crate) fn processes(dir: &Path) -> Vec<(Pid, String)> {
    let needle = dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let work = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if let Some(pid) = Pid::from_raw(pid)
            && (words.contains(&needle) || work.starts_with(dir))
            && pid != rustix::process::getpid()
        {
            found.push((pid, words));
        }
    }
    found
}

/// Waits until no process of an instance is left.
pub(crate) async fn no_processes(instances: &Path) {
    eventually(&format!("no process in {}", instances.display()), BOUND, || async {
        processes(instances).is_empty().then_some(())
    })
    .await;
}

/// Ends what a test left, by pid.
pub(crate) fn end_processes(dir: &Path) {
    for (pid, _) in processes(dir) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, Signal::KILL);
    }
}
