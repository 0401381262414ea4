//! An rpm, by rpmbuild.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::contents::{Arch, Entry, Product};
use super::deb::text_mode;
use super::{Job, output, quiet};

pub(super) fn make(
    job: &Job,
    product: Product,
    arch: Arch,
    entries: &[Entry],
    stage: &Path,
) -> Result<PathBuf> {
    let work = job.out.join("rpm-work");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let spec = work.join("package.spec");
    fs::write(&spec, description(job, product, entries, stage)?)?;
    quiet(
        Command::new("rpmbuild")
            .args(["-bb", "--quiet", "--target", arch.rpm()])
            .arg("--define")
            .arg(format!("_topdir {}", work.display()))
            .arg(&spec),
    )?;
    let built = fs::read_dir(work.join("RPMS").join(arch.rpm()))?
        .next()
        .context("rpmbuild made nothing")??
        .path();
    let file = format!("{}_{}_linux_{}.rpm", product.package(), job.version, arch.deb());
    let rpm = job.out.join(file);
    fs::copy(built, &rpm)?;
    fs::remove_dir_all(&work)?;
    Ok(rpm)
}

/// Debian's zsh looks for what packages bring elsewhere than that of the distributions with rpm.
pub(super) fn place(path: &str) -> String {
    path.replace("/zsh/vendor-completions", "/zsh/site-functions")
}

fn description(job: &Job, product: Product, entries: &[Entry], stage: &Path) -> Result<String> {
    let mut text = format!(
        "%global debug_package %{{nil}}\n%global __os_install_post %{{nil}}\n%global _build_id_links none\nName: {}\nVersion: {}\nRelease: 1\nSummary: GitHub Actions jobs on machines you own\nLicense: Apache-2.0\nURL: https://github.com/fleetfoot/fleetfoot\nAutoReqProv: no\nRequires(pre): shadow-utils\n",
        product.package(),
        // A hyphen divides version and release.
        job.version.replace('-', "~"),
    );
    if product == Product::Outrunner {
        let _ = writeln!(text, "Provides: outrunner = %{{version}}\nObsoletes: outrunner");
        text.push_str("Recommends: fleetfoot\n");
    }
    let _ = writeln!(
        text,
        "%description\nOne fresh environment for each job, gone afterwards.\n%install\ncp -a {}/. %{{buildroot}}/",
        stage.display()
    );
    for path in entries.iter().map(|entry| entry.path.as_str()).filter(|path| place(path) != *path)
    {
        let _ = writeln!(text, "install -D %{{buildroot}}{path} %{{buildroot}}{}", place(path));
        let _ = writeln!(text, "rm %{{buildroot}}{path}");
    }
    let mut sections =
        vec![("pre", "preinst"), ("post", "postinst"), ("preun", "prerm"), ("postun", "postrm")];
    if product == Product::Outrunner {
        // What the original's removal does to the service is undone once it is gone.
        sections.extend([("pretrans", "rpm-pretrans"), ("posttrans", "rpm-posttrans")]);
    }
    for (section, script) in sections {
        let script = product.script(script)?;
        let _ = writeln!(text, "%{section}\n{}", script.trim_start_matches("#!/bin/sh\n"));
    }
    text.push_str("%files\n");
    for entry in entries {
        let word = match (&entry.source, entry.is_config) {
            (None, _) => "%dir ",
            (Some(_), true) => "%config(noreplace) ",
            (Some(_), false) => "",
        };
        let Entry { mode, owner, path, .. } = entry;
        let path = place(path);
        // Compressed pages would have another name.
        let _ = writeln!(text, "%attr({mode:04o}, {owner}, {owner}) {word}{path}");
    }
    Ok(text)
}

/// Holds the package against the list: every path, owner and mode, and nothing else.
pub(super) fn check(rpm: &Path, entries: &[Entry]) -> Result<()> {
    // `rpm -qlpv` cuts long user names.
    let form = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]";
    let listed = output(Command::new("rpm").args(["-qp", "--queryformat", form]).arg(rpm))?;
    let mut found = BTreeMap::new();
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, path] = words.as_slice() else { continue };
        found.insert((*path).to_owned(), format!("{mode} {owner}"));
    }
    for entry in entries {
        let wanted = format!("{} {1}/{1}", text_mode(entry), entry.owner);
        let path = place(&entry.path);
        match found.remove(&path) {
            Some(listed) if listed == wanted => {}
            listed => bail!("{}: {path} is {listed:?}, not {wanted}", rpm.display()),
        }
    }
    if let Some(path) = found.keys().next() {
        bail!("{} has {path}, which is not on its list", rpm.display());
    }
    Ok(())
}
