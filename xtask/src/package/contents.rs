//! What is in a package: every path with its owner, mode and source.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    /// Under its own name.
    Fleetfoot,
    /// In the place of the original: its paths, its user, its unit.
    Outrunner,
}

impl Product {
    pub(super) const ALL: [Self; 2] = [Self::Fleetfoot, Self::Outrunner];

    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Fleetfoot => "fleetfoot",
            Self::Outrunner => "fleetfoot-outrunner",
        }
    }

    /// The name of its program, user, unit and directories.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fleetfoot => "fleetfoot",
            Self::Outrunner => "outrunner",
        }
    }

    pub(super) fn config(self) -> &'static str {
        match self {
            Self::Fleetfoot => "/etc/fleetfoot/fleetfoot.yml",
            Self::Outrunner => "/etc/outrunner/config.yml",
        }
    }

    /// A maintainer script of `packaging/scripts`.
    pub(super) fn script(self, name: &str) -> Result<String> {
        let path = Path::new("packaging/scripts").join(name);
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(text.replace("@NAME@", self.name()))
    }
}

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arch {
    Amd64,
    Arm64,
}

impl Arch {
    pub(super) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    pub(super) fn of_deb(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.deb() == word)
    }

    pub(super) fn deb(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    pub(super) fn rpm(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Absolute, in the installed system.
    pub(super) path: String,
    pub(super) mode: u32,
    /// User and group.
    pub(super) owner: &'static str,
    /// None for a directory of our own.
    pub(super) source: Option<PathBuf>,
    /// Never overwritten once it was changed.
    pub(super) is_config: bool,
}

/// All paths of a package, in order.
pub(super) fn of(product: Product, binary: &Path, manual: &Path) -> Result<Vec<Entry>> {
    let name = product.name();
    let file = |path: String, mode, source: PathBuf| Entry {
        path,
        mode,
        owner: "root",
        source: Some(source),
        is_config: false,
    };
    let packaging = Path::new("packaging");
    let mut entries = vec![
        file(format!("/usr/bin/{name}"), 0o755, binary.to_owned()),
        file(
            format!("/lib/systemd/system/{name}.service"),
            0o644,
            packaging.join(format!("systemd/{name}.service")),
        ),
        file(
            format!("/usr/lib/sysusers.d/{name}.conf"),
            0o644,
            packaging.join(format!("sysusers/{name}.conf")),
        ),
        file(
            format!("/usr/lib/tmpfiles.d/{name}.conf"),
            0o644,
            packaging.join(format!("tmpfiles/{name}.conf")),
        ),
        file(format!("/usr/share/doc/{}/copyright", product.package()), 0o644, "LICENSE".into()),
        Entry {
            path: format!("/etc/{name}"),
            mode: 0o750,
            owner: name,
            source: None,
            is_config: false,
        },
        Entry {
            path: product.config().to_owned(),
            mode: 0o640,
            owner: name,
            source: Some(packaging.join(format!("config/{name}.yml"))),
            is_config: true,
        },
    ];
    if product == Product::Fleetfoot {
        for (directory, target) in [("man", "/usr/share/man/man1/"), ("completions", "")] {
            for source in sorted(&manual.join(directory))? {
                let file_name = source.file_name().unwrap_or_default().to_string_lossy();
                let target = match file_name.as_ref() {
                    "fleetfoot" => "/usr/share/bash-completion/completions/",
                    "_fleetfoot" => "/usr/share/zsh/vendor-completions/",
                    "fleetfoot.fish" => "/usr/share/fish/vendor_completions.d/",
                    _ => target,
                };
                entries.push(file(format!("{target}{file_name}"), 0o644, source.clone()));
            }
        }
    }
    entries.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(entries)
}

fn sorted(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Lays the files out as they will be installed, but for their owners.
pub(super) fn stage(entries: &[Entry], root: &Path) -> Result<()> {
    if root.exists() {
        fs::remove_dir_all(root)?;
    }
    fs::create_dir_all(root)?;
    for entry in entries {
        let path = root.join(entry.path.trim_start_matches('/'));
        match &entry.source {
            None => fs::create_dir_all(&path)?,
            Some(source) => {
                fs::create_dir_all(path.parent().unwrap_or(root))?;
                fs::copy(source, &path)
                    .with_context(|| format!("cannot copy {}", source.display()))?;
            }
        }
        fs::set_permissions(&path, PermissionsExt::from_mode(entry.mode))?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
