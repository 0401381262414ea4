//! Making an instance's runner from the pool's: a reflink where the file system can, else a copy.
//!
//! Hard links are made only where a job cannot write through them: the instance has a user id of its own and the file
//! belongs to somebody else and is writable by nobody else. Then cloning a runner of some hundred megabytes costs its
//! directory entries only.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

use crate::failure::{At, AtPath};

/// What an earlier registration or job left in a runner's directory.
const LEFT_BEHIND: [&str; 8] = [
    "_work",
    "_diag",
    ".runner",
    ".credentials",
    ".credentials_rsaparams",
    ".runner_migrated",
    ".credentials_migrated",
    ".service",
];

/// One copy in progress.
pub(crate) struct Copy<'a> {
    /// Set when nobody waits for the copy any more.
    pub(crate) cancelled: &'a AtomicBool,
    /// The user id that shall own the copy.
    pub(crate) owner: Option<u32>,
    reflink: bool,
}

impl<'a> Copy<'a> {
    pub(crate) fn new(cancelled: &'a AtomicBool, owner: Option<u32>) -> Self {
        Self { cancelled, owner, reflink: true }
    }

    /// Copies the directory `from` to `to`, which must not exist.
    pub(crate) fn runner(&mut self, from: &Path, to: &Path) -> Result<(), At> {
        self.directory(from, to, &LEFT_BEHIND)
    }

    fn directory(&mut self, from: &Path, to: &Path, except: &[&str]) -> Result<(), At> {
        let meta = fs::metadata(from).at("read", from)?;
        crate::directory::make(to, 0o700).at("create", to)?;
        for entry in fs::read_dir(from).at("read", from)? {
            let entry = entry.at("read", from)?;
            if except.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::from(io::ErrorKind::Interrupted)).at("copy", from);
            }
            self.entry(&entry.path(), &to.join(entry.file_name()))?;
        }
        let mode = meta.permissions().mode() & 0o777 | 0o700;
        fs::set_permissions(to, PermissionsExt::from_mode(mode)).at("set the mode of", to)?;
        self.give(to)
    }

    fn entry(&mut self, from: &Path, to: &Path) -> Result<(), At> {
        let meta = fs::symlink_metadata(from).at("read", from)?;
        if meta.is_dir() {
            self.directory(from, to, &[])
        } else if meta.is_symlink() {
            let target = fs::read_link(from).at("read", from)?;
            symlink(target, to).at("create", to)?;
            self.give(to)
        } else if meta.is_file() {
            self.file(from, to, &meta)
        } else {
            // Sockets, pipes and devices are no part of a runner.
            Ok(())
        }
    }

    fn file(&mut self, from: &Path, to: &Path, meta: &Metadata) -> Result<(), At> {
        let source = File::open(from).at("open", from)?;
        let mode = meta.permissions().mode() & 0o777;
        // Closed and gone before the fallback: a link must not find it.
        if self.reflink {
            let target = create(to, mode).at("create", to)?;
            match rustix::fs::ioctl_ficlone(&target, &source) {
                Ok(()) => {
                    fs::set_permissions(to, PermissionsExt::from_mode(mode))
                        .at("set the mode of", to)?;
                    return self.give(to);
                }
                Err(
                    Errno::OPNOTSUPP
                    | Errno::XDEV
                    | Errno::INVAL
                    | Errno::NOTTY
                    | Errno::NOSYS
                    | Errno::PERM,
                ) => {
                    self.reflink = false;
                    fs::remove_file(to).at("replace", to)?;
                }
                Err(error) => return Err(error).at("clone", to),
            }
        }
        if self.safe_to_link(meta) && fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
        let mut target = create(to, mode).at("create", to)?;
        // The kernel copies without passing the bytes through us.
        io::copy(&mut &source, &mut target).at("copy to", to)?;
        target.set_permissions(PermissionsExt::from_mode(mode)).at("set the mode of", to)?;
        self.give(to)
    }

    /// Whether the job's user can neither write to the file nor become able to.
    fn safe_to_link(&self, meta: &Metadata) -> bool {
        let mode = meta.permissions().mode();
        self.owner.is_some_and(|owner| owner != meta.uid())
            && mode & 0o6022 == 0
            && mode & 0o004 != 0
    }

    fn give(&self, path: &Path) -> Result<(), At> {
        give(path, self.owner)
    }
}

/// Makes `owner` and the group of the same number the owner of `path` itself, links too.
pub(crate) fn give(path: &Path, owner: Option<u32>) -> Result<(), At> {
    match owner {
        Some(owner) => std::os::unix::fs::lchown(path, Some(owner), Some(owner))
            .at("change the owner of", path),
        None => Ok(()),
    }
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(mode | 0o200).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_modes_and_links_and_leaves_registrations_behind() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir_all(from.join("bin")).unwrap();
        fs::create_dir_all(from.join("_work")).unwrap();
        fs::write(from.join(".runner"), "old").unwrap();
        fs::write(from.join("bin/run"), "x").unwrap();
        fs::set_permissions(from.join("bin/run"), PermissionsExt::from_mode(0o555)).unwrap();
        symlink("bin/run", from.join("run")).unwrap();
        let cancelled = AtomicBool::new(false);
        Copy::new(&cancelled, None).runner(&from, &to).unwrap();
        assert_eq!(fs::metadata(to.join("bin/run")).unwrap().mode() & 0o777, 0o555);
        assert_ne!(
            fs::metadata(to.join("bin/run")).unwrap().ino(),
            fs::metadata(from.join("bin/run")).unwrap().ino()
        );
        assert_eq!(fs::read_link(to.join("run")).unwrap(), Path::new("bin/run"));
        assert!(!to.join(".runner").exists() && !to.join("_work").exists());
        let cancelled = AtomicBool::new(true);
        assert!(Copy::new(&cancelled, None).runner(&from, &root.path().join("never")).is_err());
    }

    #[test]
    fn clones_where_the_file_system_can() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::write(from.join("run.sh"), vec![b'x'; 1 << 20]).unwrap();
        let probe = File::create(root.path().join("probe")).unwrap();
        let able =
            rustix::fs::ioctl_ficlone(probe, File::open(from.join("run.sh")).unwrap()).is_ok();
        let never = AtomicBool::new(false);
        let mut copy = Copy::new(&never, None);
        copy.runner(&from, &to).unwrap();
        assert_eq!(copy.reflink, able);
        assert_eq!(fs::read(to.join("run.sh")).unwrap().len(), 1 << 20);
    }

    #[test]
    fn links_only_what_the_job_cannot_write() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        let never = AtomicBool::new(false);
        let safe = |owner, mode| {
            fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            Copy::new(&never, owner).safe_to_link(&fs::metadata(&file).unwrap())
        };
        let me = fs::metadata(&file).unwrap().uid();
        assert!(safe(Some(me + 1), 0o755));
        for (owner, mode) in [
            (None, 0o755),
            (Some(me), 0o755),
            (Some(me + 1), 0o775),
            (Some(me + 1), 0o757),
            (Some(me + 1), 0o4755),
            (Some(me + 1), 0o700),
        ] {
            assert!(!safe(owner, mode), "{owner:?} {mode:o}");
        }
    }
}
