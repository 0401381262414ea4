//! Tar archives, checksums, and the formula that names them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::contents::Arch;
use super::{Job, output, quiet};

/// The program with its manual, completions, unit and an example of its configuration.
pub(super) fn make(job: &Job, arch: Arch, binary: &Path) -> Result<PathBuf> {
    let stage = job.out.join("tar-work");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    fs::create_dir_all(&stage)?;
    fs::copy(binary, stage.join("fleetfoot"))?;
    for (source, name) in [
        ("LICENSE", "LICENSE"),
        ("README.md", "README.md"),
        ("packaging/config/fleetfoot.yml", "fleetfoot.yml"),
        ("packaging/systemd/fleetfoot.service", "fleetfoot.service"),
        ("packaging/Dockerfile", "Dockerfile"),
    ] {
        fs::copy(source, stage.join(name))?;
    }
    for directory in ["man", "completions"] {
        quiet(Command::new("cp").arg("-r").arg(job.manual.join(directory)).arg(&stage))?;
    }
    let archive = job.out.join(format!("fleetfoot_{}_linux_{}.tar.gz", job.version, arch.deb()));
    quiet(
        Command::new("tar")
            .args(["--create", "--gzip", "--sort=name", "--mtime=@0"])
            .args(["--owner=root:0", "--group=root:0", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(&stage)
            .arg("."),
    )?;
    fs::remove_dir_all(&stage)?;
    Ok(archive)
}

/// An archive of the same layout, for Macs, which was made on one.
pub(super) fn of_a_mac(job: &Job, made: &Path) -> Result<PathBuf> {
    let archive = job.out.join(format!("fleetfoot_{}_darwin_arm64.tar.gz", job.version));
    fs::copy(made, &archive).with_context(|| format!("cannot copy {}", made.display()))?;
    Ok(archive)
}

/// `checksums.txt`, as sha256sum writes and checks it.
pub(super) fn checksums(job: &Job, made: &[PathBuf]) -> Result<()> {
    let names = made.iter().filter_map(|path| path.file_name());
    let text = output(Command::new("sha256sum").args(names).current_dir(&job.out))?;
    Ok(fs::write(job.out.join("checksums.txt"), text)?)
}

/// The formula with the version and the checksums of the archives; those that were not made keep their place holders.
pub(super) fn formula(job: &Job) -> Result<()> {
    let sums = fs::read_to_string(job.out.join("checksums.txt"))?;
    let mut text = fs::read_to_string("packaging/homebrew/fleetfoot.rb")?;
    text = text.replace("@VERSION@", &job.version);
    for (name, place) in [
        ("linux_amd64.tar.gz", "@SHA256_AMD64@"),
        ("linux_arm64.tar.gz", "@SHA256_ARM64@"),
        ("darwin_arm64.tar.gz", "@SHA256_DARWIN@"),
    ] {
        let line = sums.lines().find(|line| line.ends_with(name));
        if let Some(sum) = line.and_then(|line| line.split_whitespace().next()) {
            text = text.replace(place, sum);
        }
    }
    Ok(fs::write(job.out.join("fleetfoot.rb"), text)?)
}
