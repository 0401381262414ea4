//! Signatures, with a key that is given as a file: of every deb and rpm, and of the checksums of all.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Job, output, quiet};
use crate::process::find_program;

/// A secret key without a passphrase, in a keyring of its own that goes with this value.
pub(super) struct Key {
    home: PathBuf,
    fingerprint: String,
}

impl Key {
    /// Takes the key of an exported file into a new directory.
    pub(super) fn of(file: &Path, home: &Path) -> Result<Self> {
        fs::DirBuilder::new().mode(0o700).create(home)?;
        let mut key = Self { home: home.to_owned(), fingerprint: String::new() };
        quiet(key.gpg().arg("--import").arg(file))
            .with_context(|| format!("cannot import {}", file.display()))?;
        let listed = output(key.gpg().args(["--with-colons", "--list-secret-keys"]))?;
        let found = listed.lines().find_map(|line| line.strip_prefix("fpr:"));
        let Some(found) = found else { bail!("{} has no secret key", file.display()) };
        key.fingerprint = found.trim_matches(':').to_owned();
        Ok(key)
    }

    fn gpg(&self) -> Command {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--yes", "--quiet", "--homedir"]).arg(&self.home);
        command
    }

    /// A detached signature of one file in another one.
    fn detached(&self, of: &Path, to: &Path) -> Result<()> {
        let mut gpg = self.gpg();
        gpg.args(["--local-user", &self.fingerprint, "--digest-algo", "SHA512"]);
        quiet(gpg.arg("--output").arg(to).arg("--detach-sign").arg(of))
    }

    /// By a member of the archive, as debsigs has it, of the members before it.
    pub(super) fn deb(&self, deb: &Path) -> Result<()> {
        let work = self.home.join("deb");
        fs::create_dir(&work)?;
        let mut members = fs::File::create(work.join("members"))?;
        for name in ["debian-binary", "control.tar.gz", "data.tar.gz"] {
            let mut ar = Command::new("ar");
            let done = ar.arg("p").arg(deb).arg(name).stdout(members.try_clone()?).status()?;
            anyhow::ensure!(done.success(), "{} has no {name}", deb.display());
        }
        std::io::Write::flush(&mut members)?;
        self.detached(&work.join("members"), &work.join("_gpgorigin"))?;
        fs::set_permissions(work.join("_gpgorigin"), PermissionsExt::from_mode(0o644))?;
        quiet(Command::new("ar").arg("rD").arg(deb).arg("_gpgorigin").current_dir(&work))?;
        Ok(fs::remove_dir_all(work)?)
    }

    pub(super) fn rpm(&self, rpm: &Path) -> Result<()> {
        // Distributions call it gpg or gpg2, and rpm looks for it by one path.
        let gpg = find_program("gpg").context("there is no gpg")?;
        quiet(
            Command::new("rpmsign")
                .args(["--define", &format!("_gpg_name {}", self.fingerprint)])
                .args(["--define", &format!("_gpg_path {}", self.home.display())])
                .args(["--define", &format!("__gpg {}", gpg.display())])
                .args(["--define", "_gpg_sign_cmd_extra_args --batch"])
                .arg("--addsign")
                .arg(rpm),
        )
    }

    /// `checksums.txt.sig`, and `fleetfoot.asc`, the public key it is checked with.
    pub(super) fn checksums(&self, job: &Job) -> Result<()> {
        let sums = job.out.join("checksums.txt");
        self.detached(&sums, &job.out.join("checksums.txt.sig"))?;
        let public = output(self.gpg().args(["--armor", "--export", &self.fingerprint]))?;
        Ok(fs::write(job.out.join("fleetfoot.asc"), public)?)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let mut agent = Command::new("gpgconf");
        let _ = quiet(agent.arg("--homedir").arg(&self.home).args(["--kill", "gpg-agent"]));
        let _ = fs::remove_dir_all(&self.home);
    }
}

#[cfg(test)]
mod tests;
