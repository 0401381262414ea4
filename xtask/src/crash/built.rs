//! What a run builds first: the binary, and what stands in for tools that are not here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run_loud;

/// The example of a plugin.
const PLUGIN: &str = "fleetfoot-shoes-processes";

/// The binary with everything that tests do to it from within, for us and for `defects`. It is built beside the others, so that nothing is compiled twice, and
/// copied away, because the next build takes its place.
pub(crate) fn build(root: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--package", "fleetfoot", "--features", "faults"]).current_dir(root);
    run_loud(&mut cargo)?;
    let target = target(root);
    let (built, dir) = (target.join("debug/fleetfoot"), target.join("faults"));
    std::fs::create_dir_all(&dir)?;
    let binary = dir.join("fleetfoot");
    // A program that runs cannot be written over.
    let _ = std::fs::remove_file(&binary);
    std::fs::copy(&built, &binary).with_context(|| format!("{} was not built", built.display()))?;
    Ok(binary.canonicalize()?)
}

/// The stand-in of a backend's room.
pub(super) fn build_stand_in(root: &Path, room: &str) -> Result<PathBuf> {
    let (package, name) =
        (format!("fleetfoot-provisioner-{room}"), format!("fleetfoot-{room}-stand-in"));
    let mut cargo = Command::new("cargo");
    run_loud(cargo.args(["build", "--package", &package, "--bin", &name]).current_dir(root))?;
    Ok(target(root).join("debug").join(name).canonicalize()?)
}

/// A shoes plugin whose machines are processes: the example of its room.
pub(super) fn build_plugin(root: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    // With the features that the program has, or what both depend on is compiled twice.
    cargo.args(["build", "--package", "fleetfoot-shoes-plugin", "--package", "fleetfoot"]);
    cargo.args(["--bin", PLUGIN]);
    run_loud(cargo.current_dir(root))?;
    Ok(target(root).join("debug").join(PLUGIN).canonicalize()?)
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
