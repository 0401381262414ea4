//! Snapshots: none that is pending, and none whose test is gone.

use std::path::Path;

use anyhow::Result;

use super::RustFile;

/// All findings.
pub(super) fn check(root: &Path, files: &[RustFile]) -> Result<Vec<String>> {
    let mut snapshots = Vec::new();
    for dir in ["crates", "xtask"] {
        collect(&root.join(dir), &mut snapshots)?;
    }
    let paths = snapshots.iter().filter_map(|path| path.strip_prefix(root).ok()?.to_str());
    Ok(paths.filter_map(|path| judge(path, files)).collect())
}

fn collect(dir: &Path, found: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.to_string_lossy().contains(".snap") {
            found.push(path);
        }
    }
    Ok(())
}

/// A snapshot is called after its test: `module__test.snap` or `test.snap`, perhaps with a number.
fn judge(path: &str, files: &[RustFile]) -> Option<String> {
    let Some(stem) = path.strip_suffix(".snap") else {
        return Some(format!("{path}: a pending snapshot: accept it or drop it"));
    };
    let name = stem.rsplit('/').next().unwrap_or(stem);
    let name = name.rsplit("__").next().unwrap_or(name);
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
    let room = path.split('/').take(2).collect::<Vec<_>>().join("/");
    let is_named =
        files.iter().any(|file| file.path.starts_with(&room) && file.text.contains(name));
    (!is_named).then(|| format!("{path}: a stale snapshot: no source of {room} names `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_needs_its_test() {
        let file = RustFile { path: "crates/a/tests/b.rs".into(), text: "fn shows_help()".into() };
        let files = [file];
        assert_eq!(judge("crates/a/tests/snapshots/b__shows_help.snap", &files), None);
        assert_eq!(judge("crates/a/tests/snapshots/b__shows_help-2.snap", &files), None);
        assert!(judge("crates/a/tests/snapshots/b__gone.snap", &files).is_some());
        assert!(judge("crates/a/tests/snapshots/b__shows_help.snap.new", &files).is_some());
    }
}
