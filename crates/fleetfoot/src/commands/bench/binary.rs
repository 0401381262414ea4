//! Row `binary`: how large the program is, and on request how long it takes to build.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::time::Instant;

use super::Measured;
use super::figure::Figure;
use crate::commands::sim::DataDirectory;

const ROW: &str = "binary";
const MIB: f64 = 1_048_576.0;

pub(super) async fn measure(build_time: bool) -> Result<Measured> {
    let exe = std::env::current_exe().context("cannot find the own program")?;
    let bytes = std::fs::metadata(&exe).context("cannot read the own program")?.len();
    let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
    let mut figures = vec![Figure::new(ROW, "size", "MiB", bytes / MIB, 1).goal("reported")];
    if build_time {
        figures
            .push(Figure::new(ROW, "cold_release_build", "s", build().await?, 1).goal("reported"));
    }
    Ok(Measured::Figures(figures))
}

/// Builds the workspace in this directory into a new place.
#[expect(
    clippy::disallowed_methods,
    reason = "the commands of the binary start programs; this one the compiler"
)]
async fn build() -> Result<f64> {
    ensure!(Path::new("Cargo.lock").exists(), "--build-time works in the source directory only");
    let target = DataDirectory::new("build")?;
    let mut command = Command::new("cargo");
    command
        .args(["build", "--release", "--locked", "-p", "fleetfoot", "--target-dir"])
        .arg(target.path());
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let began = Instant::now();
    let status = command.status().await.context("cannot start cargo")?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "cargo build failed: {status}");
    target.remove()?;
    Ok(seconds)
}
