//! Packages: deb and rpm for two architectures, tar archives, checksums, the formula; signed if a key is given.
//!
//! One list of contents ([`contents`]) is what every package is made from and checked against. The files themselves lie in
//! `packaging/`; binaries are static ones, built here or given. Tools: tar, ar, gzip, dpkg-deb, rpmbuild and rpm, and to
//! sign them gpg and rpmsign.

mod archive;
mod contents;
mod deb;
mod rpm;
mod sign;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use contents::{Arch, Product};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A static binary for an architecture, amd64=PATH or arm64=PATH; without any, both are built
    #[arg(long, value_name = "ARCH=PATH")]
    binary: Vec<String>,
    /// The tar archive for Macs, which is made on one
    #[arg(long, value_name = "FILE")]
    mac: Option<PathBuf>,
    /// A secret key of OpenPGP without a passphrase, as gpg exports it, to sign debs, rpms and checksums with
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// Where packages go
    #[arg(long, default_value = "target/packages")]
    out: PathBuf,
    /// Manual pages and completions, as the example `manual` writes them; without it they are made
    #[arg(long, value_name = "DIR")]
    manual: Option<PathBuf>,
    /// Another version than that of the workspace
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
}

/// What all packages of one run have in common.
struct Job {
    version: String,
    out: PathBuf,
    manual: PathBuf,
}

/// Makes and checks all packages.
pub(crate) fn run(args: &Args) -> Result<()> {
    let binaries = if args.binary.is_empty() {
        Arch::ALL.into_iter().map(|arch| Ok((arch, build(arch)?))).collect::<Result<Vec<_>>>()?
    } else {
        args.binary.iter().map(|text| given(text)).collect::<Result<Vec<_>>>()?
    };
    fs::create_dir_all(&args.out)?;
    let out = args.out.canonicalize()?;
    let manual = match &args.manual {
        Some(manual) => manual.clone(),
        None => write_manual(&out.join("manual"))?,
    };
    // A short path, for the socket of gpg's agent lies in it.
    let home = std::env::temp_dir().join(format!("ffk-{}", std::process::id()));
    let key = args.sign.as_deref().map(|file| sign::Key::of(file, &home)).transpose()?;
    let job = Job { version: args.version.clone(), out, manual };
    let mut made = Vec::new();
    for (arch, binary) in &binaries {
        for product in Product::ALL {
            let entries = contents::of(product, binary, &job.manual)?;
            let stage = job.out.join(format!("stage-{}-{}", product.package(), arch.deb()));
            contents::stage(&entries, &stage)?;
            let deb = deb::make(&job, product, *arch, &entries, &stage)?;
            let rpm = rpm::make(&job, product, *arch, &entries, &stage)?;
            if let Some(key) = &key {
                key.deb(&deb)?;
                key.rpm(&rpm)?;
            }
            deb::check(&deb, &entries)?;
            rpm::check(&rpm, &entries)?;
            made.extend([deb, rpm]);
            fs::remove_dir_all(&stage)?;
        }
        made.push(archive::make(&job, *arch, binary)?);
    }
    if let Some(mac) = &args.mac {
        made.push(archive::of_a_mac(&job, mac)?);
    }
    archive::checksums(&job, &made)?;
    match &key {
        Some(key) => key.checksums(&job)?,
        // One of an earlier run would be a wrong one.
        None => drop(fs::remove_file(job.out.join("checksums.txt.sig"))),
    }
    archive::formula(&job)?;
    for path in &made {
        println!("{}", path.display());
    }
    Ok(())
}

fn given(text: &str) -> Result<(Arch, PathBuf)> {
    let (arch, path) = text.split_once('=').context("--binary is ARCH=PATH")?;
    let arch =
        Arch::of_deb(arch).with_context(|| format!("`{arch}` is neither amd64 nor arm64"))?;
    let path = PathBuf::from(path);
    let file = output(Command::new("file").arg("-bL").arg(&path)).unwrap_or_default();
    if file.contains("dynamically linked") {
        bail!("{} is not a static binary", path.display());
    }
    Ok((arch, path))
}

/// A static release binary. The other architecture needs cargo-zigbuild and ziglang (PyPI).
fn build(arch: Arch) -> Result<PathBuf> {
    let target = arch.target();
    let native = target.starts_with(std::env::consts::ARCH);
    let word = if native { "build" } else { "zigbuild" };
    quiet(Command::new("cargo").args([word, "--release", "-p", "fleetfoot", "--target", target]))?;
    Ok(Path::new("target").join(target).join("release/fleetfoot"))
}

fn write_manual(directory: &Path) -> Result<PathBuf> {
    quiet(
        Command::new("cargo")
            .args(["run", "-q", "-p", "fleetfoot", "--example", "manual", "--"])
            .arg(directory),
    )?;
    Ok(directory.to_owned())
}

/// Runs a tool; its words only if it fails.
fn quiet(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// What a tool says on standard output.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let done = command.output().with_context(|| format!("cannot start {name}"))?;
    if !done.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
