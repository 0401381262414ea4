//! A deb: an ar archive of two tar archives.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::contents::{Arch, Entry, Product};
use super::{Job, output, quiet};

pub(super) fn make(
    job: &Job,
    product: Product,
    arch: Arch,
    entries: &[Entry],
    stage: &Path,
) -> Result<PathBuf> {
    let work = job.out.join("deb-work");
    let control = work.join("control");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&control)?;
    fs::write(control.join("control"), description(job, product, arch, stage)?)?;
    let configs: String =
        entries.iter().filter(|it| it.is_config).map(|it| format!("{}\n", it.path)).collect();
    fs::write(control.join("conffiles"), configs)?;
    for script in ["preinst", "postinst", "prerm", "postrm"] {
        let path = control.join(script);
        fs::write(&path, product.script(script)?)?;
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
    }
    fs::write(work.join("debian-binary"), "2.0\n")?;
    tar(&work.join("control.tar"), &control, "root", &[".".to_owned()], true)?;
    tar(&work.join("data.tar"), stage, "root", &directories(entries), false)?;
    for owner in ["root", product.name()] {
        let owned = entries.iter().filter(|it| it.owner == owner);
        let paths: Vec<String> = owned.map(|it| format!(".{}", it.path)).collect();
        tar(&work.join("data.tar"), stage, owner, &paths, false)?;
    }
    for name in ["control.tar", "data.tar"] {
        quiet(Command::new("gzip").args(["-9n", name]).current_dir(&work))?;
    }
    let file = format!("{}_{}_linux_{}.deb", product.package(), job.version, arch.deb());
    let deb = job.out.join(file);
    if deb.exists() {
        fs::remove_file(&deb)?;
    }
    quiet(
        Command::new("ar")
            .arg("rcD")
            .arg(&deb)
            .args(["debian-binary", "control.tar.gz", "data.tar.gz"])
            .current_dir(&work),
    )?;
    fs::remove_dir_all(&work)?;
    Ok(deb)
}

fn description(job: &Job, product: Product, arch: Arch, stage: &Path) -> Result<String> {
    let size = output(Command::new("du").arg("-sk").arg(stage))?;
    let size = size.split_whitespace().next().unwrap_or("0").to_owned();
    let mut text = format!(
        "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: the fleetfoot authors <fleetfoot@localhost>\nInstalled-Size: {size}\nSection: admin\nPriority: optional\nPre-Depends: passwd\n",
        product.package(),
        job.version,
        arch.deb(),
    );
    if product == Product::Outrunner {
        // Without `Conflicts`: what is replaced whole disappears, and its script that would stop the service is not run.
        text.push_str("Provides: outrunner\nReplaces: outrunner\n");
        // The command that asks it, with manual and completions.
        text.push_str("Recommends: fleetfoot\n");
    }
    let _ = writeln!(
        text,
        "Homepage: https://github.com/fleetfoot/fleetfoot\nDescription: GitHub Actions jobs on machines you own\n One fresh environment for each job, gone afterwards."
    );
    Ok(text)
}

/// Directories above the files, which nobody else may own differently.
fn directories(entries: &[Entry]) -> Vec<String> {
    let mut found = std::collections::BTreeSet::new();
    for entry in entries {
        let parents = Path::new(&entry.path).ancestors().skip(1);
        found.extend(parents.map(|path| format!(".{}", path.display())));
    }
    let ours = |path: &String| entries.iter().any(|entry| format!(".{}", entry.path) == *path);
    found.into_iter().filter(|path| !ours(path)).collect()
}

fn tar(file: &Path, root: &Path, owner: &str, paths: &[String], recurse: bool) -> Result<()> {
    let mut command = Command::new("tar");
    command.arg("--append").arg("--file").arg(file).arg("--directory").arg(root);
    command.args(["--format=gnu", "--sort=name", "--mtime=@0"]);
    command.arg(if recurse { "--recursion" } else { "--no-recursion" });
    // By name: the number is only for a system that does not know it.
    let number = if owner == "root" { 0 } else { 65534 };
    command.arg(format!("--owner={owner}:{number}")).arg(format!("--group={owner}:{number}"));
    quiet(command.args(paths))
}

/// Holds the package against the list: every path, owner and mode, and nothing else.
pub(super) fn check(deb: &Path, entries: &[Entry]) -> Result<()> {
    let listed = output(Command::new("dpkg-deb").arg("-c").arg(deb))?;
    let mut found = BTreeMap::new();
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, .., path] = words.as_slice() else { continue };
        let path = path.trim_start_matches('.').trim_end_matches('/').to_owned();
        found.insert(path, ((*mode).to_owned(), (*owner).to_owned()));
    }
    for entry in entries {
        let Some((mode, owner)) = found.remove(&entry.path) else {
            bail!("{} has no {}", deb.display(), entry.path);
        };
        let wanted = format!("{0}/{0}", entry.owner);
        if owner != wanted || mode != text_mode(entry) {
            bail!(
                "{}: {} is {mode} {owner}, not {} {wanted}",
                deb.display(),
                entry.path,
                text_mode(entry)
            );
        }
    }
    if let Some((path, _)) = found.iter().find(|(_, (mode, _))| !mode.starts_with('d')) {
        bail!("{} has {path}, which is not on its list", deb.display());
    }
    Ok(())
}

/// `-rw-r--r--`.
pub(super) fn text_mode(entry: &Entry) -> String {
    let mut text = String::from(if entry.source.is_none() { "d" } else { "-" });
    for shift in [6, 3, 0] {
        for (bit, letter) in [(4, 'r'), (2, 'w'), (1, 'x')] {
            text.push(if entry.mode >> shift & bit != 0 { letter } else { '-' });
        }
    }
    text
}
