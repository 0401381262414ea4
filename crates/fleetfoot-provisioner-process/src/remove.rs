//! Removing a directory that a job has written: whatever is in it, and nothing that is not.
//!
//! Symbolic links are removed, never followed. Mounts are never entered: a mount that a job left is detached if we may,
//! else it is an error. Read-only directories are made writable, immutable files mutable. Depth is bounded by moving deep
//! directories to the top, so descriptors do not run out.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, IFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

/// Deeper directories are moved to the top first.
const DEPTH_MAX: usize = 40;
/// Someone may still write while we remove, or mounts be detached: this often we begin again.
const ROUNDS_MAX: usize = 1000;
/// A look at the top for each deep directory that was moved there, and no end of looks at one that grows.
const LOOKS_MAX: usize = 100_000;

/// Removes `name` in `parent` with everything below. What is gone is fine. `last` are files that go after everything
/// else, in this order.
pub(crate) fn tree(parent: &Path, name: &str, last: &[&str]) -> io::Result<()> {
    let path = parent.join(name);
    let top = match open_beneath(rustix::fs::CWD, &c_string(path.as_os_str().as_encoded_bytes())?) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut outcome = Ok(());
    for round in 0..ROUNDS_MAX {
        let removal = Removal { top: top.as_fd(), path: &path, last, moved: round * 1_000_000 };
        outcome = removal.all();
        outcome = outcome.and_then(|()| match fs::remove_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        });
        match &outcome {
            Err(error) if error.raw_os_error() == Some(Errno::NOTEMPTY.raw_os_error()) => {}
            Ok(()) | Err(_) => break,
        }
    }
    outcome
}

/// Opens a directory only if it is one itself (no link) and no mount begins at it. One call, `openat2`, would say both,
/// but sandboxes refuse it that cannot look at its arguments (`RestrictSUIDSGID=` of systemd, older engines).
fn open_beneath(parent: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // The top itself may lie on a file system of its own.
    if name.to_bytes().first() != Some(&b'/') && begins_a_mount(&directory)? {
        return Err(Errno::XDEV);
    }
    Ok(directory)
}

/// Kernels before 5.8 do not say it: nothing is removed there rather than something of somebody else.
fn begins_a_mount(directory: &OwnedFd) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statx(directory, c"", AtFlags::EMPTY_PATH, StatxFlags::empty())?;
    if !stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(Errno::NOSYS);
    }
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    path: &'a Path,
    last: &'a [&'a str],
    /// Counts directories moved to the top, for their names.
    moved: usize,
}

impl Removal<'_> {
    /// Removes everything in the top directory, again until nothing is left to see, then `last`.
    fn all(mut self) -> io::Result<()> {
        for _ in 0..LOOKS_MAX {
            let mut names = entries(self.top)?;
            names.retain(|(name, _)| {
                !self.last.iter().any(|last| name.to_bytes() == last.as_bytes())
            });
            if names.is_empty() {
                #[cfg(feature = "faults")]
                fleetfoot_faults::point("process.remove.evidence.before");
                return self.last.iter().try_for_each(|name| {
                    self.entry(self.top, &c_string(name.as_bytes())?, FileType::Unknown, 0)
                });
            }
            for (name, kind) in names {
                self.entry(self.top, &name, kind, 0)?;
            }
        }
        Err(Errno::NOTEMPTY.into())
    }

    fn entry(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> io::Result<()> {
        if kind != FileType::Directory {
            match unlink(parent, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => {}
                Err(Errno::BUSY) => return self.detach(parent, name),
                other => return Ok(other?),
            }
        }
        if depth >= DEPTH_MAX {
            return self.move_up(parent, name);
        }
        let directory = match open_beneath(parent, name) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::XDEV) => return self.detach(parent, name),
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(unlink(parent, name, AtFlags::empty())?),
            Err(Errno::ACCESS) => {
                make_writable(parent, name)?;
                open_beneath(parent, name)?
            }
            Err(error) => return Err(error.into()),
        };
        for (child, kind) in entries(directory.as_fd())? {
            self.entry(directory.as_fd(), &child, kind, depth + 1)?;
        }
        match unlink(parent, name, AtFlags::REMOVEDIR) {
            Err(Errno::BUSY) => self.detach(parent, name),
            other => Ok(other?),
        }
    }

    /// Detaches a mount (lazily: a job may have left it busy) and takes the entry again on the next round.
    fn detach(&self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let directory =
            fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&parent)))?;
        let path = directory.join(String::from_utf8_lossy(name.to_bytes()).as_ref());
        if !path.starts_with(self.path) {
            return Err(io::Error::other("a mounted directory was moved"));
        }
        rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).map_err(
            |error| io::Error::new(error.kind(), format!("{} is a mount: {error}", path.display())),
        )?;
        Err(Errno::NOTEMPTY.into())
    }

    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        self.moved += 1;
        let new = format!("deep.{}", self.moved);
        match rustix::fs::renameat(parent, name, self.top, &new) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ACCESS) => {
                make_writable(parent, name)?;
                Ok(rustix::fs::renameat(parent, name, self.top, &new)?)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The entries of a directory with their kinds, read whole before anything is removed.
fn entries(directory: BorrowedFd<'_>) -> io::Result<Vec<(CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown
            && let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
        {
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        found.push((name.to_owned(), kind));
    }
    Ok(found)
}

/// Removes an entry, after making its directory writable or itself mutable if that is what it takes.
fn unlink(parent: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> rustix::io::Result<()> {
    let outcome = match rustix::fs::unlinkat(parent, name, flags) {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(parent, Mode::RWXU)?;
            rustix::fs::unlinkat(parent, name, flags)
        }
        Err(Errno::PERM) => {
            make_mutable(parent, c".");
            make_mutable(parent, name);
            rustix::fs::unlinkat(parent, name, flags)
        }
        other => other,
    };
    match outcome {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn make_writable(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // A path descriptor is opened without rights and without following links; its mode is changed through /proc.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
    Ok(rustix::fs::chmod(path, Mode::RWXU)?)
}

fn make_mutable(parent: BorrowedFd<'_>, name: &CStr) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(parent, name, flags, Mode::empty()) else { return };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
        let cleared = flags.difference(IFlags::IMMUTABLE | IFlags::APPEND);
        if cleared != flags {
            // If it is refused, the removal that follows says so.
            let _ = rustix::fs::ioctl_setflags(&file, cleared);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn removes_links_deep_trees_and_read_only_directories_but_not_what_links_point_to() {
        let root = tempfile::tempdir().unwrap();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("keep"), "x").unwrap();
        let top = root.path().join("top");
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/file"), "x").unwrap();
        symlink(&outside, top.join("a/link")).unwrap();
        symlink("nowhere", top.join("dangling")).unwrap();
        fs::set_permissions(top.join("a/b"), PermissionsExt::from_mode(0o000)).unwrap();
        fs::set_permissions(top.join("a"), PermissionsExt::from_mode(0o500)).unwrap();
        let mut deep = rustix::fs::open(&top, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..1000 {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        fs::create_dir_all(top.join("meta.json/is/a/directory")).ok();
        tree(root.path(), "top", &["meta.json"]).unwrap();
        assert!(!top.exists());
        assert!(outside.join("keep").exists());
        tree(root.path(), "top", &["meta.json"]).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_an_error_and_untouched() {
        let root = tempfile::tempdir().unwrap();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, root.path().join("top")).unwrap();
        assert!(tree(root.path(), "top", &["meta.json"]).is_err());
        assert!(outside.exists());
    }

    #[test]
    fn a_mount_is_detached_and_what_is_in_it_stays() {
        let root = tempfile::tempdir().unwrap();
        let (outside, inside) = (root.path().join("outside"), root.path().join("top/mounted"));
        fs::create_dir_all(&outside).unwrap();
        fs::create_dir_all(&inside).unwrap();
        fs::write(outside.join("keep"), "x").unwrap();
        if rustix::mount::mount_bind(&outside, &inside).is_err() {
            println!("SKIPPED: needs root");
            return;
        }
        tree(root.path(), "top", &["meta.json"]).unwrap();
        assert!(outside.join("keep").exists());
        assert!(!root.path().join("top").exists());
    }
}
