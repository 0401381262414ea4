//! Bringing components to a Debian or Ubuntu machine, and running them as an unprivileged user.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Kind, is_root};
use crate::process::{find_program, run_loud};

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs the packages of the kinds that are not found. Needs Debian or Ubuntu, and root.
pub(crate) fn install(kinds: &[Kind]) -> Result<()> {
    let missing: Vec<Kind> = kinds.iter().copied().filter(|kind| !kind.is_found()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let words = missing.iter().map(|kind| kind.title()).collect::<Vec<_>>().join(", ");
    if !is_root() {
        bail!("cannot install {words}: needs root");
    }
    if find_program("apt-get").is_none() {
        bail!("cannot install {words}: there is no apt-get; install them yourself");
    }
    println!("installing {words}");
    let _policy = NoServices::establish()?;
    run_loud(Command::new("apt-get").args(["-qq", "update"]))?;
    let packages = missing.iter().flat_map(|kind| kind.packages());
    run_loud(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-qq", "install", "-y", "--no-install-recommends"])
            .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
            .args(packages),
    )
    .context("apt-get could not install them")
}

/// While it lives, packages do not start their services: tests start private ones.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn establish() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let ours = !Path::new(POLICY).exists();
        if ours {
            std::fs::write(POLICY, "#!/bin/sh\nexit 101\n")
                .with_context(|| format!("cannot write {POLICY}"))?;
            std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

const NOBODY: u32 = 65534;

/// A command that runs as `nobody` when we are root, else as ourselves.
pub(crate) fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    // setpriv replaces itself: the child's pid is the program's own.
    let mut command = Command::new("setpriv");
    let id = NOBODY.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
    command.env("HOME", "/nonexistent");
    command
}

/// Makes a directory writable for [`as_nobody`].
pub(crate) fn give_to_nobody(dir: &Path) -> Result<()> {
    if is_root() {
        std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY))
            .with_context(|| format!("cannot give {} to nobody", dir.display()))?;
    }
    Ok(())
}
