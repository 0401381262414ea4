//! The state directory: where it is, that it is ours, and the files beside the store.
//!
//! Looked for in this order: the key `state_dir`; `$STATE_DIRECTORY` (systemd); `/var/lib/fleetfoot` if
//! writable; `$XDG_STATE_HOME/fleetfoot`; and, under the name `outrunner` only, whose unit leaves nothing
//! but `/tmp` writable, `/var/tmp/fleetfoot-<uid>` or `/tmp/fleetfoot-<uid>` with strict checks. The original keeps no
//! state, so that several of it run on one host with a file each: under its name each file but the usual one has a
//! directory of its own below the one that is found.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fleetfoot_core::InstallationId;
use rustix::fs::{Access, access};

use crate::error::{LockError, OpenError, StateDirError};
use crate::identity::{read_word, write_atomically};
use crate::location::Location;
use crate::lock::Lock;
use crate::options::Options;
use crate::store::Store;

/// Below a place that nobody named: the directories of configuration files that have one of their own.
const OF_FILES: &str = "files";

/// Where to look for the state directory.
#[derive(Debug, Clone)]
pub struct Search {
    /// The configuration's key `state_dir`.
    pub key: Option<PathBuf>,
    /// `$STATE_DIRECTORY`, first entry.
    pub state_directory: Option<PathBuf>,
    /// The system's place.
    pub system: PathBuf,
    /// `$XDG_STATE_HOME`, or `$HOME/.local/state`.
    pub state_home: Option<PathBuf>,
    /// Shared places to fall back to; empty except under the name `outrunner`.
    pub temporary: Vec<PathBuf>,
}

impl Search {
    /// The places that this process's environment names.
    #[must_use]
    pub fn from_environment(key: Option<PathBuf>, outrunner: bool) -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let state_directory = path("STATE_DIRECTORY").map(|list| {
            let text = list.to_string_lossy().into_owned();
            PathBuf::from(text.split(':').next().unwrap_or_default())
        });
        let state_home = path("XDG_STATE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| path("HOME").map(|home| home.join(".local/state")));
        let temporary = if outrunner {
            vec![PathBuf::from("/var/tmp"), PathBuf::from("/tmp")]
        } else {
            Vec::new()
        };
        Self {
            key,
            state_directory,
            system: PathBuf::from("/var/lib/fleetfoot"),
            state_home,
            temporary,
        }
    }

    /// The places that someone named: they are used or refused, never skipped.
    fn named(&self) -> Option<&Path> {
        self.key.as_deref().or(self.state_directory.as_deref())
    }

    /// The usual places, in order.
    fn usual(&self) -> Vec<PathBuf> {
        let mut places = vec![self.system.clone()];
        places.extend(self.state_home.as_ref().map(|home| home.join("fleetfoot")));
        places
    }

    /// The shared places, in order.
    fn shared(&self) -> Vec<PathBuf> {
        let name = format!("fleetfoot-{}", rustix::process::geteuid().as_raw());
        self.temporary.iter().map(|place| place.join(&name)).collect()
    }
}

/// The directory that holds everything fleetfoot must not forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
    warning: Option<String>,
}

impl StateDir {
    /// Finds the directory and makes it if it is missing (0700).
    ///
    /// # Errors
    /// When the named one cannot be used, or none of the usual ones.
    pub fn resolve(search: &Search) -> Result<Self, StateDirError> {
        if let Some(named) = search.named() {
            return usable(named)
                .map(|path| Self { path, warning: None })
                .map_err(|source| StateDirError::Unusable { path: named.to_owned(), source });
        }
        let mut tried = Vec::new();
        for place in search.usual() {
            match usable(&place) {
                Ok(path) => return Ok(Self { path, warning: None }),
                Err(error) => tried.push(format!("{}: {error}", place.display())),
            }
        }
        for place in search.shared() {
            match private(&place) {
                Ok(path) => {
                    let warning = Some(shared_warning(&path));
                    return Ok(Self { path, warning });
                }
                Err(Private::Unsafe(detail)) => {
                    return Err(StateDirError::Unsafe { path: place, detail });
                }
                Err(Private::Io(error)) => tried.push(format!("{}: {error}", place.display())),
            }
        }
        Err(StateDirError::None { tried: tried.join("; ") })
    }

    /// The same for one configuration file of several: unless someone named the place, it is the file's own.
    ///
    /// # Errors
    /// As [`StateDir::resolve`].
    pub fn resolve_of_file(search: &Search, config: &Path) -> Result<Self, StateDirError> {
        let found = Self::resolve(search)?;
        if search.named().is_some() {
            return Ok(found);
        }
        let place = found.path.join(of_file(config));
        match usable(&place) {
            Ok(path) => Ok(Self { path, warning: found.warning }),
            Err(source) => Err(StateDirError::Unusable { path: place, source }),
        }
    }

    /// Finds the directory that a controller uses, for readers: nothing is made. The file's own comes first, if one is
    /// given; without any, that of a file is taken if there is no other.
    #[must_use]
    pub fn find(search: &Search, config: Option<&Path>) -> Option<Self> {
        let mut places = match search.named() {
            Some(named) => vec![named.to_owned()],
            None => [search.usual(), search.shared()].concat(),
        };
        if search.named().is_none() {
            let below: Vec<PathBuf> = match config {
                Some(config) => places.iter().map(|place| place.join(of_file(config))).collect(),
                None => Vec::new(),
            };
            let only = if config.is_none() { only_file(&places) } else { None };
            places = below.into_iter().chain(places).chain(only).collect();
        }
        places.into_iter().find(|place| is_used(place)).map(|path| Self { path, warning: None })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the operator should be told about this place, with the unit's line to add.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The file of the built-in store.
    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.path.join("store.sqlite")
    }

    /// The socket that the local CLI speaks to.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// Where process instances live.
    #[must_use]
    pub fn instances(&self) -> PathBuf {
        self.path.join("instances")
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// When another process has it; the error names it.
    pub fn lock(&self) -> Result<Lock, LockError> {
        Lock::take(&self.path)
    }

    /// The identity kept beside the store, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read or holds no name.
    pub fn installation(&self) -> Result<Option<InstallationId>, StateDirError> {
        let path = self.path.join("installation-id");
        let word = read_word(&path)
            .map_err(|source| StateDirError::File { path: path.clone(), source })?;
        word.map(|word| InstallationId::new(&word))
            .transpose()
            .map_err(|_| StateDirError::Identity { path })
    }

    /// The identity of this host, made when there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn host_id(&self) -> Result<String, StateDirError> {
        let path = self.path.join("host-id");
        let failed = |source| StateDirError::File { path: path.clone(), source };
        if let Some(word) = read_word(&path).map_err(failed)? {
            return Ok(word);
        }
        let made = uuid::Uuid::new_v4().to_string();
        write_atomically(&path, &format!("{made}\n")).map_err(failed)?;
        Ok(made)
    }

    /// Opens the store with the identities beside it, and keeps those files and the store in agreement.
    ///
    /// # Errors
    /// One line that says what, where and what to do.
    pub async fn open_store(
        &self,
        location: Location,
        options: Options,
    ) -> Result<Store, StateDirOpenError> {
        let file = self.installation()?;
        let host = self.host_id()?;
        let seen = options.member.is_some().then(|| self.path.join("database.seen"));
        let options = Options { installation: file.clone(), host: Some(host), seen, ..options };
        let store = Store::open(location, options).await?;
        if file.is_none() {
            let path = self.path.join("installation-id");
            write_atomically(&path, &format!("{}\n", store.installation()))
                .map_err(|source| StateDirError::File { path, source })?;
        }
        Ok(store)
    }
}

/// The store of a state directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StateDirOpenError {
    /// A file beside it.
    #[error(transparent)]
    Directory(#[from] StateDirError),
    /// The store itself.
    #[error(transparent)]
    Store(#[from] OpenError),
}

fn is_used(place: &Path) -> bool {
    ["lock", "store.sqlite", "installation-id"].iter().any(|file| place.join(file).exists())
}

/// The directory of a configuration file, told by where the file is.
fn of_file(config: &Path) -> PathBuf {
    let whole = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    // Short, for the path of a socket has little room.
    let bytes = whole.as_os_str().as_encoded_bytes();
    let hash = fleetfoot_core::naming::fnv1a(bytes.iter().copied());
    Path::new(OF_FILES).join(format!("{hash:016x}"))
}

/// The one directory of a file that is used below these places, if there is exactly one.
fn only_file(places: &[PathBuf]) -> Option<PathBuf> {
    let entries = places.iter().filter_map(|place| fs::read_dir(place.join(OF_FILES)).ok());
    let mut used = entries.flatten().flatten().map(|entry| entry.path()).filter(|it| is_used(it));
    used.next().filter(|_| used.next().is_none())
}

fn shared_warning(path: &Path) -> String {
    format!(
        "state is kept in {}, which others may clean up: add `StateDirectory=fleetfoot` to the [Service] section of the unit",
        path.display()
    )
}

/// The directory, made if it is missing, if this process can write in it.
fn usable(path: &Path) -> io::Result<PathBuf> {
    if !path.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        // A power cut must not take the directory with all that is synced in it.
        crate::driver::sqlite::sync_directory(path)?;
    }
    access(path, Access::WRITE_OK | Access::EXEC_OK | Access::READ_OK)?;
    // A relative path would change its meaning with the working directory.
    std::path::absolute(path)
}

enum Private {
    Unsafe(String),
    Io(io::Error),
}

/// The directory in a place that others write too: ours alone, or refused.
fn private(path: &Path) -> Result<PathBuf, Private> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Private::Io(error));
        }
        Ok(()) | Err(_) => {}
    }
    let meta = fs::symlink_metadata(path).map_err(Private::Io)?;
    if meta.is_symlink() {
        return Err(Private::Unsafe("it is a symbolic link".to_owned()));
    }
    if !meta.is_dir() {
        return Err(Private::Unsafe("it is not a directory".to_owned()));
    }
    let owner = meta.uid();
    if owner != rustix::process::geteuid().as_raw() {
        return Err(Private::Unsafe(format!("it belongs to user {owner}")));
    }
    if meta.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(Private::Io)?;
    }
    usable(path).map_err(Private::Io)
}
