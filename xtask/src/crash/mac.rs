//! Machines of Tart: the stand-in for `tart`, what a daemon has to know of it, and what must be left of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use super::audit::{LAST, working_in};
use super::bed::directories;
use crate::process::wait_until;

/// The image of Tart's machines, and where they are.
const BASE: &str = "base";
const VMS: &str = "mac/vms";

/// A Mac's machines, with an image among them, and `tart` in a directory of its own.
pub(super) fn set_up(tart: &Path, dir: &Path) -> Result<()> {
    let base = dir.join(VMS).join(BASE);
    std::fs::create_dir_all(&base)?;
    for (name, text) in
        [("disk.img", "base"), ("nvram.bin", ""), ("config.json", "{\"os\": \"linux\"}")]
    {
        std::fs::write(base.join(name), text)?;
    }
    std::fs::create_dir(dir.join("bin"))?;
    std::os::unix::fs::symlink(tart, dir.join("bin/tart"))?;
    Ok(())
}

/// What programs find it by.
pub(super) fn surround(command: &mut Command, home: &Path, path: &str) {
    command.env("PATH", format!("{}:{path}", home.join("bin").display()));
    command.env("TART_HOME", home.join("mac"));
}

/// The lines of a pool.
pub(super) fn lines(dir: &Path) -> String {
    format!("    tart:\n      image: {BASE}\n      runner_cmd: {}/runner/run.sh\n", dir.display())
}

/// What `tart` has and was asked for.
pub(super) fn audit(dir: &Path) -> Result<()> {
    let left: Vec<_> = directories(&dir.join(VMS)).into_iter().filter(|it| it != BASE).collect();
    ensure!(left.is_empty(), "machines are left: {}", left.join(", "));
    let calls = std::fs::read_to_string(dir.join("mac/stand-in/calls"))?;
    let mut run = BTreeSet::new();
    for call in calls.lines() {
        let words: Vec<String> = serde_json::from_str(call)?;
        if let [first, .., name] = &words[..]
            && first == "run"
        {
            ensure!(run.insert(name.clone()), "machine {name} was run twice");
        }
    }
    let gone = wait_until(LAST, || working_in(&dir.join(VMS)).is_empty());
    ensure!(gone, "processes are left: {}", working_in(&dir.join(VMS)).join(", "));
    Ok(())
}
