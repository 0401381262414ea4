//! What we remember of each machine, in one small file a name.
//!
//! A machine that ends vanishes from libvirt; its disk, how its runner ended and whether it was ever launched
//! are here. A file is written before anything else of the machine is made and removed after everything is
//! gone. The directory is the installation's own: what is in it is ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fleetfoot_provisioner::{Exit, InstanceName, PoolName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Where a machine is, as far as we brought it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// Disk and domain are being made.
    Making,
    /// Its agent answered.
    Made,
    /// The runner's command may have been sent.
    Launching,
    /// The agent started the runner as this process.
    Launched { pid: i64 },
    /// The runner ended so; its machine is still to be switched off.
    Ending { code: Option<i32>, message: Option<String> },
    /// The machine is off.
    Ended { code: Option<i32>, message: Option<String> },
}

/// One machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) pool: String,
    #[serde(with = "uuid_text")]
    pub(crate) uuid: Uuid,
    pub(crate) overlay: PathBuf,
    /// The template's disk that the overlay stands on, if it is no overlay on the image itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<PathBuf>,
    /// The runner runs in our wrapper, which keeps its output and its exit status in the guest.
    pub(crate) wrapped: bool,
    /// It shares directories with the host, which its guest caches.
    #[serde(default = "unknown_shares")]
    pub(crate) shares: bool,
    /// Its processors are stopped while it waits for its job.
    #[serde(default)]
    pub(crate) suspends: bool,
    pub(crate) stage: Stage,
}

/// In a record of before: asking a guest without any costs a moment.
fn unknown_shares() -> bool {
    true
}

impl Record {
    pub(crate) fn instance(&self) -> Option<InstanceName> {
        InstanceName::new(&self.name).ok()
    }

    pub(crate) fn pool(&self) -> Option<PoolName> {
        PoolName::new(&self.pool).ok()
    }

    /// How its runner ended, or the machine without one.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match &self.stage {
            Stage::Ending { code, message } | Stage::Ended { code, message } => {
                Some(Exit { code: *code, out_of_memory: false, message: message.clone() })
            }
            Stage::Making | Stage::Made | Stage::Launching | Stage::Launched { .. } => None,
        }
    }
}

/// The directory of them.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    directory: PathBuf,
}

impl Records {
    /// Makes the directory, for this user alone.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Where they are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }

    pub(crate) fn read(&self, name: &InstanceName) -> io::Result<Option<Record>> {
        let path = self.path(name.as_str());
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(parse(&path, &bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, record: &Record) -> io::Result<()> {
        let path = self.path(&record.name);
        let new = path.with_extension("json.new");
        fs::write(&new, serde_json::to_vec(record)?)?;
        fs::rename(new, path)
    }

    fn output(&self, name: &InstanceName) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// Keeps what a runner printed, for as long as its record is there.
    pub(crate) fn keep_output(&self, name: &InstanceName, output: &str) -> io::Result<()> {
        let path = self.output(name);
        let new = path.with_extension("log.new");
        fs::write(&new, output)?;
        fs::rename(new, path)
    }

    /// What was kept of it, if anything was.
    pub(crate) fn kept_output(&self, name: &InstanceName) -> io::Result<Option<String>> {
        match fs::read(self.output(name)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn remove(&self, name: &InstanceName) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.output(name)))?;
        absent_is_fine(fs::remove_file(self.path(name.as_str())))
    }

    pub(crate) fn all(&self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|it| it != "json") {
                continue;
            }
            match fs::read(&path) {
                Ok(bytes) => records.push(parse(&path, &bytes)?),
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }
}

fn parse(path: &Path, bytes: &[u8]) -> io::Result<Record> {
    serde_json::from_slice(bytes)
        .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// Removing what is gone already.
pub(crate) fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(crate) mod uuid_text {
    //! A UUID as people write it.

    use serde::{Deserialize as _, Deserializer, Serializer, de};
    use uuid::Uuid;

    pub(crate) fn serialize<S: Serializer>(uuid: &Uuid, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(uuid)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
        let text = String::deserialize(from)?;
        Uuid::parse_str(&text).map_err(de::Error::custom)
    }
}
