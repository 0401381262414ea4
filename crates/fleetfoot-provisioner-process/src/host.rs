//! This host's processes: what the provisioners of all pools share.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use fleetfoot_provisioner::EnvironmentInfo;
use fleetfoot_provisioner::Handle;
use fleetfoot_provisioner::{InstallationId, InstanceName, PoolName};
use tokio::sync::broadcast;

use crate::directory::{self, Directory, Meta, Record};
use crate::failure::{At, AtPath};
use crate::layout::Layout;
use crate::life::{self, Life};
use crate::locks::NameLocks;
use crate::{archive, leftovers, proc};

/// Launches that a watcher has not seen yet; beyond it looks at everything again.
const LAUNCHES_MAX: usize = 1024;

/// The root directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The root cannot be made or reached.
    #[error("failed to prepare the directory of process instances {}", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `/proc` is not there.
    #[error("failed to read the id of this boot from /proc")]
    Boot(#[source] io::Error),
}

/// The shared part: a root directory below the state directory, and whose it is.
#[derive(Debug)]
pub struct ProcessHost {
    pub(crate) root: PathBuf,
    pub(crate) installation: InstallationId,
    pub(crate) boot_id: String,
    pub(crate) connection: String,
    pub(crate) layout: Layout,
    pub(crate) locks: NameLocks,
    pub(crate) launches: broadcast::Sender<InstanceName>,
    /// User ids are chosen by looking at all instances, one chooser at a time.
    uids: Mutex<()>,
    /// Clones of an unpacked archive read; unpacking and clearing away write.
    cache: RwLock<()>,
}

impl ProcessHost {
    /// Prepares `root` (made with its parents if missing) for the instances of `installation`.
    pub fn open(root: &Path, installation: InstallationId) -> Result<Arc<Self>, HostError> {
        let boot_id = proc::boot_id().map_err(HostError::Boot)?;
        Self::open_in_boot(root, installation, boot_id)
    }

    /// The same with the boot id given: tests restart the host with it.
    pub(crate) fn open_in_boot(
        root: &Path,
        installation: InstallationId,
        boot_id: String,
    ) -> Result<Arc<Self>, HostError> {
        let failed = |source| HostError::Root { path: root.to_owned(), source };
        if !root.is_dir() {
            fs::create_dir_all(root).map_err(failed)?;
            // Jobs with a user id of their own pass through to their directories; nobody else has to look.
            fs::set_permissions(root, PermissionsExt::from_mode(0o711)).map_err(failed)?;
        }
        let root = root.canonicalize().map_err(failed)?;
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let connection = format!("processes of {host_name} in {}", root.display());
        let (launches, _) = broadcast::channel(LAUNCHES_MAX);
        Ok(Arc::new(Self {
            root,
            installation,
            boot_id,
            connection,
            layout: Layout::detect(),
            locks: NameLocks::default(),
            launches,
            uids: Mutex::new(()),
            cache: RwLock::new(()),
        }))
    }

    pub(crate) fn directory(&self, name: &InstanceName) -> Directory {
        Directory(self.root.join(name.as_str()))
    }

    /// The name of an instance's cgroups: no other root on this host has the same.
    pub(crate) fn cgroup_name(&self, name: &InstanceName) -> String {
        format!(
            "fleetfoot-{}-{name}",
            archive::short_hash(self.root.as_os_str().as_encoded_bytes())
        )
    }

    /// Boot and root directory, by its number too: a root that was replaced is another one.
    pub(crate) fn identity(&self) -> Result<String, At> {
        let meta = fs::metadata(&self.root).at("read", &self.root)?;
        Ok(format!(
            "boot {} root {} {}:{}",
            self.boot_id,
            self.root.display(),
            meta.dev(),
            meta.ino()
        ))
    }

    /// Whose an entry of the root is.
    pub(crate) fn owner(&self, name: &InstanceName) -> Result<Owner, At> {
        let directory = self.directory(name);
        match fs::symlink_metadata(directory.path()) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Ok(Owner::Foreign),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Owner::Nobody),
            Err(error) => return Err(error).at("read", directory.path()),
        }
        match directory::read::<Meta>(&directory.meta()).at("read", &directory.meta())? {
            Record::Read(meta) => {
                let ours = meta.installation == self.installation.as_str()
                    && meta.instance == name.as_str();
                Ok(if ours { Owner::Ours(meta) } else { Owner::Foreign })
            }
            // A job that runs as the daemon's user may have written into it; the directory itself is our evidence.
            Record::Unreadable => Ok(Owner::OursUnwritten),
            Record::Missing => match directory.blank() {
                Ok(blank) => Ok(if blank { Owner::OursUnwritten } else { Owner::Foreign }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Owner::Nobody),
                Err(error) => Err(error).at("read", directory.path()),
            },
        }
    }

    /// All instances of ours, dead ones too. The tree of an instance whose shim was killed is killed on the way, so that
    /// "ended" is true when it is said.
    pub(crate) fn instances(&self) -> Result<Vec<(EnvironmentInfo, Life)>, At> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.root).at("read", &self.root)? {
            let entry = entry.at("read", &self.root)?;
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str().and_then(|name| InstanceName::new(name).ok())
            else {
                continue;
            };
            let meta = match self.owner(&name)? {
                Owner::Ours(meta) => Some(meta),
                Owner::OursUnwritten => None,
                Owner::Foreign | Owner::Nobody => continue,
            };
            let directory = self.directory(&name);
            let life = life::look(&directory, &self.boot_id).at("read", directory.path())?;
            if let Life::ShimLost(record) = &life {
                let uid = meta.as_ref().and_then(|meta| meta.uid);
                leftovers::settle(&directory, record, uid);
            }
            let info = EnvironmentInfo {
                pool: meta.and_then(|meta| PoolName::new(&meta.pool).ok()),
                handle: Handle(directory.path().display().to_string()),
                state: life.clone().state(),
                name,
            };
            found.push((info, life));
        }
        found.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
        Ok(found)
    }

    /// Calls `make` with a user id of `range` that no instance has, while nobody else chooses one. `None` if all are taken.
    pub(crate) fn with_free_uid<T>(
        &self,
        range: (u32, u32),
        make: impl FnOnce(u32) -> T,
    ) -> Result<Option<T>, At> {
        let _chooser = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        // Another process of ours (an old daemon on its way out) may choose at the same time.
        let path = self.root.join(".uids.lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .at("open", &path)?;
        lock.lock().at("lock", &path)?;
        let mut taken = BTreeSet::new();
        for entry in fs::read_dir(&self.root).at("read", &self.root)? {
            let path = entry.at("read", &self.root)?.path().join("meta.json");
            let meta = directory::read::<Meta>(&path).at("read", &path)?;
            taken.extend(meta.ok().and_then(|meta| meta.uid));
        }
        Ok((range.0..=range.1).find(|uid| !taken.contains(uid)).map(make))
    }

    /// Calls `copy` with the contents of `archive`, which stay while it copies.
    pub(crate) fn with_unpacked<T>(
        &self,
        path: &Path,
        copy: impl FnOnce(&Path) -> Result<T, At>,
    ) -> Result<T, At> {
        let unpacked = {
            let _write = self.cache.write().unwrap_or_else(PoisonError::into_inner);
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("process.unpack.before");
            let unpacked = archive::unpacked(&self.root, path)?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("process.unpack.after");
            unpacked
        };
        let _read = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        copy(&unpacked)
    }
}

/// Whose an entry of the root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// There is none.
    Nobody,
    /// Ours, as its record says.
    Ours(Meta),
    /// Ours: in our root and empty but for a record that was being written (a crash in create or at the end of delete), or with a
    /// record that cannot be read.
    OursUnwritten,
    /// Somebody else's: of another installation, with content but no record, a copy under another name, not a directory.
    Foreign,
}
