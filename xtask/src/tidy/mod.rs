//! `cargo xtask tidy`: the house rules that no compiler knows.
//!
//! [`rooms`]: who may know whom. [`sources`]: what a source file may not contain. [`ratchet`]:
//! long files may only get shorter. [`snapshots`]: no snapshot without its test. [`generated`]: what
//! documents take from the code. And the table of
//! planted defects is that of the sources.

mod crash_points;
mod generated;
mod ratchet;
mod rooms;
mod snapshots;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// Checks everything and prints all findings. With `update`, the ratchet is tightened first, and the
/// table of planted defects and what documents take from the code are brought up to date.
pub(crate) fn run(update: bool) -> Result<()> {
    let root = root();
    let files = rust_files(&root)?;
    if update {
        ratchet::update(&root, &files)?;
        generated::update(&root)?;
        crate::defects::refresh(&root)?;
    }
    let mut findings = rooms::check(&rooms::read(&root)?);
    findings.extend(sources::check(&root, &files)?);
    findings.extend(ratchet::check(&root, &files)?);
    findings.extend(snapshots::check(&root, &files)?);
    findings.extend(crash_points::check(&root)?);
    findings.extend(generated::check(&root)?);
    findings.extend(crate::defects::check(&root)?);
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    println!("tidy: {} files, no findings", files.len());
    Ok(())
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| ".".into(), Path::to_owned)
}

/// A source file: its path from the root, and its text.
pub(crate) struct RustFile {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl RustFile {
    /// Whether all of it is test code: integration tests, benches, and modules named for tests.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/")
            || self.path.contains("/benches/")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
    }

    /// The lines in front of the inline test module: production code.
    fn production(&self) -> &str {
        let mut offset = 0;
        let mut gate = None;
        for line in self.text.split_inclusive('\n') {
            match gate {
                None if line.trim_end() == "#[cfg(test)]" => gate = Some(offset),
                Some(start) if line.starts_with("mod ") && line.trim_end().ends_with('{') => {
                    return &self.text[..start];
                }
                Some(_) if line.starts_with("#[") => {}
                Some(_) => gate = None,
                None => {}
            }
            offset += line.len();
        }
        &self.text
    }
}

/// Every source file of ours, by path.
pub(crate) fn rust_files(root: &Path) -> Result<Vec<RustFile>> {
    let mut files = Vec::new();
    for dir in ["crates", "xtask"] {
        collect(root, &root.join(dir), &mut files)?;
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<RustFile>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            let path = path.strip_prefix(root)?.to_string_lossy().into_owned();
            files.push(RustFile { path, text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn production_ends_where_the_test_module_begins() {
        let text =
            "a\n#[cfg(test)]\nmod x_tests;\nb\n#[cfg(test)]\n#[allow(x)]\nmod tests {\nc\n}\n";
        let file = RustFile { path: "crates/x/src/a.rs".into(), text: text.into() };
        assert_eq!(file.production(), "a\n#[cfg(test)]\nmod x_tests;\nb\n");
        assert!(!file.is_test());
    }
}
