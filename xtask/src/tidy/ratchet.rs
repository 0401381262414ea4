//! The ratchet of file lengths: production code of a file stays under [`LINES_MAX`] lines. Files
//! that were longer when they were written down in `xtask/ratchet.txt` may only get shorter.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::RustFile;

const LINES_MAX: usize = 400;

const HEAD: &str = "\
# Files whose production code is longer than 400 lines, with the length that they may have.
# `cargo xtask tidy --update` makes entries smaller and drops them; it never makes one larger.
";

type Allowed = BTreeMap<String, usize>;

fn list_path(root: &Path) -> PathBuf {
    root.join("xtask/ratchet.txt")
}

/// What is written down, or nothing if there is no list yet.
fn read(root: &Path) -> Result<Option<Allowed>> {
    let path = list_path(root);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path)?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (length, file) = line.split_once(' ').context("a line is `LENGTH FILE`")?;
            Ok((file.trim().to_owned(), length.parse()?))
        })
        .collect::<Result<_>>()
        .map(Some)
        .with_context(|| format!("{} is not understood", path.display()))
}

/// The length of each long file today.
fn long_files(files: &[RustFile]) -> Allowed {
    files
        .iter()
        .filter(|file| !file.is_test())
        .map(|file| (file.path.clone(), file.production().lines().count()))
        .filter(|(_, length)| *length > LINES_MAX)
        .collect()
}

/// All findings.
pub(super) fn check(root: &Path, files: &[RustFile]) -> Result<Vec<String>> {
    let allowed = read(root)?.unwrap_or_default();
    Ok(compare(&allowed, &long_files(files)))
}

fn compare(allowed: &Allowed, long: &Allowed) -> Vec<String> {
    let mut findings = Vec::new();
    for (file, length) in long {
        match allowed.get(file) {
            None => findings.push(format!(
                "{file}: {length} lines of production code, at most {LINES_MAX}: divide it"
            )),
            Some(limit) if length > limit => {
                findings.push(format!("{file}: grew from {limit} to {length} lines: divide it"));
            }
            Some(limit) if length < limit => findings.push(format!(
                "{file}: shrank from {limit} to {length} lines: `cargo xtask tidy --update`"
            )),
            Some(_) => {}
        }
    }
    for file in allowed.keys().filter(|file| !long.contains_key(*file)) {
        findings.push(format!("{file}: no longer long: `cargo xtask tidy --update`"));
    }
    findings
}

/// Tightens the list; makes the first one if there is none.
pub(super) fn update(root: &Path, files: &[RustFile]) -> Result<()> {
    let long = long_files(files);
    let next = match read(root)? {
        None => long,
        Some(allowed) => tighten(&allowed, &long),
    };
    let mut text = HEAD.to_owned();
    for (file, length) in &next {
        text.push_str(&format!("{length} {file}\n"));
    }
    std::fs::write(list_path(root), text).context("cannot write the ratchet's list")
}

fn tighten(allowed: &Allowed, long: &Allowed) -> Allowed {
    let kept = allowed.iter().filter_map(|(file, limit)| {
        long.get(file).map(|length| (file.clone(), *length.min(limit)))
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, usize)]) -> Allowed {
        entries.iter().map(|(file, length)| ((*file).to_owned(), *length)).collect()
    }

    #[test]
    fn the_list_only_shrinks() {
        let allowed = list(&[("a", 500), ("b", 600), ("c", 450)]);
        let long = list(&[("a", 480), ("b", 700), ("d", 420)]);
        assert_eq!(tighten(&allowed, &long), list(&[("a", 480), ("b", 600)]));
    }

    #[test]
    fn each_deviation_is_a_finding() {
        let allowed = list(&[("a", 500), ("b", 600), ("c", 450), ("e", 401)]);
        let long = list(&[("a", 480), ("b", 700), ("d", 420), ("e", 401)]);
        let findings = compare(&allowed, &long);
        assert_eq!(findings.len(), 4, "{findings:?}");
    }
}
