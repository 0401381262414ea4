//! What is on disk for one instance, and how it is written.
//!
//! ```text
//! <root>/<instance name>/
//!   meta.json     whose it is; written first, removed last
//!   runner/       the runner's files and its working directory
//!   home/ tmp/    the job's HOME and TMPDIR
//!   pid           the shim: process id, start time, boot id, its cgroups
//!   output.log    what the runner printed; output.log.1 is the older half
//!   exit.json     how it ended
//!   reserve       a few bytes, so that exit.json can be written on a disk that the job filled
//!   deleting      a delete has begun: a shim that comes late must not start the runner
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fleetfoot_provisioner::Exit;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// `meta.json`: the evidence of ownership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) version: u32,
    pub(crate) installation: String,
    pub(crate) instance: String,
    pub(crate) pool: String,
    /// The boot it was made in. Nothing of another boot can still run.
    pub(crate) boot_id: String,
    /// The user id that is this instance's alone.
    pub(crate) uid: Option<u32>,
}

/// `pid`: which process is the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PidRecord {
    pub(crate) pid: i32,
    pub(crate) start_time: u64,
    pub(crate) boot_id: String,
    /// Directories of the cgroups that hold the runner.
    pub(crate) cgroups: Vec<PathBuf>,
    /// How long it gives its runner to stop.
    pub(crate) grace_ms: u64,
}

/// `exit.json`: how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) oom: bool,
    pub(crate) message: Option<String>,
    /// Seconds since 1970.
    pub(crate) at: u64,
}

impl ExitRecord {
    /// An end of which only the reason is known.
    pub(crate) fn of_reason(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), at: now(), ..Self::default() }
    }

    /// The same in the words of the contract.
    pub(crate) fn into_exit(self) -> Exit {
        let message =
            self.message.or_else(|| self.signal.map(|signal| format!("killed by signal {signal}")));
        Exit { code: self.code, out_of_memory: self.oom, message }
    }
}

/// Seconds since 1970, for people who read the file.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

/// The paths of one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn meta(&self) -> PathBuf {
        self.0.join("meta.json")
    }

    pub(crate) fn runner(&self) -> PathBuf {
        self.0.join("runner")
    }

    /// The runner while it is being copied.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.0.join("runner.unfinished")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    pub(crate) fn pid(&self) -> PathBuf {
        self.0.join("pid")
    }

    pub(crate) fn exit(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// Room for the exit on a disk that the job fills.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.0.join("reserve")
    }

    pub(crate) fn deleting(&self) -> PathBuf {
        self.0.join("deleting")
    }

    pub(crate) fn output(&self) -> PathBuf {
        self.0.join("output.log")
    }

    pub(crate) fn older_output(&self) -> PathBuf {
        self.0.join("output.log.1")
    }

    /// The environment entry that every process of the instance inherits.
    pub(crate) fn cookie(&self) -> String {
        format!("{COOKIE}={}", self.0.display())
    }

    /// Nothing in it but, at most, a record that was being written: what a crash between two steps leaves.
    pub(crate) fn blank(&self) -> io::Result<bool> {
        for entry in fs::read_dir(&self.0)? {
            let name = entry?.file_name();
            if !name.to_string_lossy().ends_with(WRITING) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The variable of [`Directory::cookie`].
pub(crate) const COOKIE: &str = "FLEETFOOT_INSTANCE_DIR";
/// How names of records that are being written end.
const WRITING: &str = ".writing";

/// What a record's file holds.
#[derive(Debug)]
pub(crate) enum Record<T> {
    Missing,
    /// There, but not ours to read as what it should be.
    Unreadable,
    Read(T),
}

impl<T> Record<T> {
    pub(crate) fn ok(self) -> Option<T> {
        match self {
            Self::Missing | Self::Unreadable => None,
            Self::Read(value) => Some(value),
        }
    }
}

/// Reads a record. Symbolic links are not followed: a job may have made them.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Record<T>> {
    let opened = fs::OpenOptions::new().read(true).custom_flags(no_follow()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.kind() == io::ErrorKind::NotADirectory =>
        {
            return Ok(Record::Missing);
        }
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Ok(Record::Unreadable);
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(Record::Unreadable);
    }
    Ok(serde_json::from_reader(io::BufReader::new(file)).map_or(Record::Unreadable, Record::Read))
}

/// Flags that keep an open from following a link or waiting for the other end of a pipe.
pub(crate) fn no_follow() -> i32 {
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed()
}

/// Writes a record so that it is there whole or not at all, also after a power cut.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let writing = write_beside(path, value)?;
    fs::rename(&writing, path)
}

/// The same, but fails with `AlreadyExists` if the record is there.
pub(crate) fn write_once<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let writing = write_beside(path, value)?;
    let linked = fs::hard_link(&writing, path);
    let removed = fs::remove_file(&writing);
    linked.and(removed)
}

fn write_beside<T: Serialize>(path: &Path, value: &T) -> io::Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{WRITING}", std::process::id()));
    let writing = path.with_file_name(name);
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(&writing)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    Ok(writing)
}

/// Makes one directory with exactly this mode.
pub(crate) fn make(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().mode(mode).create(path)?;
    // The mask of the daemon may have taken bits away.
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_whole_once_and_never_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("exit.json");
        assert!(matches!(read::<ExitRecord>(&path).unwrap(), Record::Missing));
        write(&path, &ExitRecord::of_reason("a")).unwrap();
        let again = write_once(&path, &ExitRecord::of_reason("b")).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(read::<ExitRecord>(&path).unwrap().ok().unwrap().message.as_deref(), Some("a"));
        std::os::unix::fs::symlink(&path, root.path().join("link")).unwrap();
        assert!(matches!(
            read::<ExitRecord>(&root.path().join("link")).unwrap(),
            Record::Unreadable
        ));
        fs::write(&path, "{").unwrap();
        assert!(matches!(read::<ExitRecord>(&path).unwrap(), Record::Unreadable));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_is_blank_until_it_holds_something() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory(root.path().to_owned());
        fs::write(root.path().join("meta.json.7.writing"), "").unwrap();
        assert!(directory.blank().unwrap());
        fs::write(root.path().join("file"), "").unwrap();
        assert!(!directory.blank().unwrap());
    }
}
