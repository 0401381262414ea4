//! Whether a file is another one than before: looked at every few seconds, and only once it holds still.
//!
//! Editors put a new file in the old one's place, Kubernetes turns a link, a script writes in place: what the
//! path leads to is looked at each time, so all three are seen. A file that is just being written differs
//! from one look to the next, and is left until it does not.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks: one question to the file system.
const LOOK: Duration = Duration::from_secs(2);

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    /// `None` while there is nothing at the path: between the two halves of a replacement, say.
    fn of(path: &Path) -> Option<Self> {
        let it = std::fs::metadata(path).ok()?;
        Some(Self {
            device: it.dev(),
            inode: it.ino(),
            size: it.size(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
        })
    }
}

/// Looks at one file.
#[derive(Debug)]
pub(super) struct FileWatch {
    path: PathBuf,
    known: Option<Signature>,
    /// Another one than the known, seen at the last look.
    candidate: Option<Signature>,
}

impl FileWatch {
    /// Nothing is known yet: whether the file is still as it was read at the start, the first looks show.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), known: None, candidate: None }
    }

    /// The file as it is now is known.
    pub(super) fn note(&mut self) {
        self.known = Signature::of(&self.path);
        self.candidate = None;
    }

    /// Waits until it is another one and holds still.
    pub(super) async fn changed(&mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.look() {
                return;
            }
        }
    }

    fn look(&mut self) -> bool {
        let now = Signature::of(&self.path);
        let other = now.filter(|_| now != self.known);
        let still = other.is_some() && other == self.candidate;
        self.candidate = other;
        still
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_seen_once_it_holds_still_however_it_came() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.yml");
        std::fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::new(&path);
        watch.note();
        assert!(!watch.look());
        // In place, in two halves.
        std::fs::write(&path, "tw").unwrap();
        assert!(!watch.look());
        std::fs::write(&path, "two, longer").unwrap();
        assert!(!watch.look(), "it changed since the last look");
        assert!(watch.look());
        watch.note();
        assert!(!watch.look());
        // Replaced by another file, with a gap in between.
        std::fs::remove_file(&path).unwrap();
        assert!(!watch.look());
        std::fs::write(dir.path().join("new"), "two, longer").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        watch.note();
        // A link that is turned, as Kubernetes does.
        let linked = dir.path().join("linked");
        for name in ["a", "b"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("a", &linked).unwrap();
        let mut watch = FileWatch::new(&linked);
        watch.note();
        std::os::unix::fs::symlink("b", dir.path().join("turned")).unwrap();
        std::fs::rename(dir.path().join("turned"), &linked).unwrap();
        assert!(!watch.look());
        assert!(watch.look());
    }
}
