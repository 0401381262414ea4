//! What is on disk for one instance, and how it is written.
//!
//! ```text
//! <root>/<instance name>/       below the state directory
//!   meta.json                   whose it is; written before anything is cloned, removed last
//!   <job>.lock                  held by the keeper of `clone`, `vm` or `runner` while it lives
//!   <job>.pid                   its process id, to be trusted only while the lock is held
//!   <job>.exit                  how it ended
//!   <job>.told                  its failure was logged
//!   <job>.log, <job>.log.1      what it printed, the newer and the older half
//!   deleting                    a delete has begun: a keeper that comes late must not start anything
//!   elsewhere                   `tart` cloned it to a place that is not ours to see: a wrapper with a home of its own
//! $TART_HOME/vms/<instance name>/
//!   fleetfoot.json              whose it is, beside Tart's own files
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fleetfoot_provisioner::Exit;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// `meta.json` and `fleetfoot.json`: the evidence of ownership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) version: u32,
    pub(crate) installation: String,
    pub(crate) instance: String,
    pub(crate) pool: String,
}

/// What a keeper keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Job {
    /// `tart clone`.
    Clone,
    /// `tart run`.
    Vm,
    /// `tart exec` of the runner.
    Runner,
}

impl Job {
    pub(crate) const ALL: [Self; 3] = [Self::Clone, Self::Vm, Self::Runner];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Clone => "clone",
            Self::Vm => "vm",
            Self::Runner => "runner",
        }
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.word() == word)
    }
}

/// `<job>.exit`: how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// We ended it.
    pub(crate) by_us: bool,
    /// Why, where no status says it.
    pub(crate) message: Option<String>,
    /// The last bytes of its standard error.
    pub(crate) stderr: String,
    /// Where all of its standard error is, if it was kept.
    pub(crate) log: Option<PathBuf>,
}

impl End {
    /// An end of which only the reason is known.
    pub(crate) fn of_reason(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..Self::default() }
    }

    /// In the words of the original's error values.
    pub(crate) fn error(&self) -> String {
        match (self.code, self.signal, &self.message) {
            (_, _, Some(message)) => message.clone(),
            (Some(code), ..) => format!("exit status {code}"),
            (None, Some(signal), None) => format!("signal: {signal}"),
            (None, None, None) => "ended".to_owned(),
        }
    }

    /// Neither in order nor by us.
    pub(crate) fn is_failure(&self) -> bool {
        !self.by_us && self.code != Some(0)
    }

    /// The same in the words of the contract.
    pub(crate) fn into_exit(self) -> Exit {
        let message = match (&self.message, self.signal) {
            (Some(message), _) => Some(message.clone()),
            (None, Some(signal)) => Some(format!("killed by signal {signal}")),
            (None, None) if self.stderr.is_empty() => None,
            (None, None) => self.stderr.lines().last().map(str::to_owned),
        };
        Exit { code: self.code, out_of_memory: false, message }
    }
}

/// The paths of one instance's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn meta(&self) -> PathBuf {
        self.0.join("meta.json")
    }

    pub(crate) fn deleting(&self) -> PathBuf {
        self.0.join("deleting")
    }

    pub(crate) fn elsewhere(&self) -> PathBuf {
        self.0.join("elsewhere")
    }

    pub(crate) fn of(&self, job: Job, what: &str) -> PathBuf {
        self.0.join(format!("{}.{what}", job.word()))
    }

    /// Nothing in it but, at most, a record that was being written: what a crash between two steps leaves.
    pub(crate) fn blank(&self) -> io::Result<bool> {
        for entry in fs::read_dir(&self.0)? {
            if !entry?.file_name().to_string_lossy().ends_with(WRITING) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes everything, the evidence last. What is gone is fine.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let last = [self.deleting(), self.meta()];
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if !last.contains(&path) {
                gone(fs::remove_file(&path))?;
            }
        }
        for path in last {
            gone(fs::remove_file(path))?;
        }
        gone(fs::remove_dir(&self.0))
    }
}

/// What is gone is fine.
pub(crate) fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

const WRITING: &str = ".writing";

/// Reads a record; none if it is not there or not to be read as what it should be.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Writes a record so that it is there whole or not at all, also after a power cut.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{WRITING}", std::process::id()));
    let writing = path.with_file_name(name);
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&writing)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&writing, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_whole_and_the_evidence_goes_last() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory(root.path().join("macos-01234567"));
        fs::create_dir(directory.path()).unwrap();
        assert!(directory.blank().unwrap());
        let end = End { code: Some(3), stderr: "a\nb".into(), ..End::default() };
        write(&directory.of(Job::Vm, "exit"), &end).unwrap();
        assert!(!directory.blank().unwrap());
        assert_eq!(read::<End>(&directory.of(Job::Vm, "exit")).unwrap().unwrap(), end);
        fs::write(directory.of(Job::Runner, "exit"), "{").unwrap();
        assert_eq!(read::<End>(&directory.of(Job::Runner, "exit")).unwrap(), None);
        directory.remove().unwrap();
        directory.remove().unwrap();
        assert!(!directory.path().exists());
        assert_eq!(end.error(), "exit status 3");
        assert_eq!(end.into_exit().message.as_deref(), Some("b"));
    }
}
