//! This Mac's machines: what the provisioners of all pools share.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fleetfoot_provisioner::{
    BackendError, EnvironmentInfo, EnvironmentState, ErrorKind, Handle, InstallationId,
    InstanceName, PoolName,
};
use tokio::sync::watch;

use crate::command::{self, Done};
use crate::directory::{self, Directory, End, Job, Meta};
use crate::images::ListedVm;
use crate::life::{Life, Lives};
use crate::locks::NameLocks;

/// The marker in a machine's own directory.
const MARKER: &str = "fleetfoot.json";

/// The root directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to prepare the directory of tart instances {}", path.display())]
pub struct HostError {
    /// The root.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The shared part: the program, where it keeps its machines, and a directory of ours for records of them.
#[derive(Debug)]
pub struct TartHost {
    pub(crate) root: PathBuf,
    pub(crate) installation: InstallationId,
    pub(crate) keeper: PathBuf,
    pub(crate) tart: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) connection: String,
    /// How the files of standard error begin.
    pub(crate) program_name: &'static str,
    /// Where they are.
    pub(crate) temporary: PathBuf,
    pub(crate) locks: NameLocks,
    /// Counts what was begun, to wake watchers.
    pub(crate) begun: watch::Sender<u64>,
    /// Images of all pools: never taken for leftovers.
    images: Mutex<BTreeSet<String>>,
    /// Pools that were told that leftovers cannot be listed.
    pub(crate) told_of_list: Mutex<BTreeSet<PoolName>>,
    pub(crate) agent_period: Duration,
    pub(crate) agent_bound: Duration,
    pub(crate) stop_grace: Duration,
}

impl TartHost {
    /// Prepares `root` (made with its parents if missing) for the instances of `installation`. `keeper` is the program that
    /// acts as keeper when its first argument is [`crate::keeper::WORD`], `program_name` what files in the temporary
    /// directory begin with.
    ///
    /// # Errors
    /// The root cannot be made or reached.
    pub fn open(
        root: &Path,
        installation: InstallationId,
        keeper: PathBuf,
        program_name: &'static str,
    ) -> Result<Self, HostError> {
        let failed = |source| HostError { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(failed)?;
        fs::set_permissions(root, PermissionsExt::from_mode(0o700)).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let home = command::home();
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Self {
            connection: format!("tart of {host_name} in {}", home.display()),
            root,
            installation,
            keeper,
            tart: PathBuf::from("tart"),
            home,
            program_name,
            temporary: std::env::temp_dir(),
            locks: NameLocks::default(),
            begun: watch::Sender::new(0),
            images: Mutex::default(),
            told_of_list: Mutex::default(),
            agent_period: Duration::from_secs(2),
            agent_bound: Duration::from_secs(180),
            stop_grace: Duration::from_secs(30),
        })
    }

    /// The same with another program than the `tart` in `PATH`, and another place than `TART_HOME`.
    #[must_use]
    pub fn with_tart(mut self, program: PathBuf, home: PathBuf) -> Self {
        (self.tart, self.home) = (program, home);
        self
    }

    /// The same with the files of standard error elsewhere than in the system's temporary directory.
    #[must_use]
    pub fn with_temporary_directory(mut self, directory: PathBuf) -> Self {
        self.temporary = directory;
        self
    }

    /// The same with other times: between two asks of the guest agent, for all of them, and to stop.
    #[must_use]
    pub fn with_times(mut self, period: Duration, bound: Duration, stop_grace: Duration) -> Self {
        (self.agent_period, self.agent_bound, self.stop_grace) = (period, bound, stop_grace);
        self
    }

    /// Names an image of a configuration: whatever its name looks like, it is no leftover.
    pub(crate) fn protect_image(&self, image: &str) {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).insert(image.to_owned());
    }

    pub(crate) fn is_image(&self, name: &str) -> bool {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    pub(crate) fn directory(&self, name: &InstanceName) -> Directory {
        Directory(self.root.join(name.as_str()))
    }

    /// The machine's own directory.
    pub(crate) fn machine(&self, name: &str) -> PathBuf {
        self.home.join("vms").join(name)
    }

    pub(crate) fn handle(&self, name: &InstanceName) -> Handle {
        Handle(self.machine(name.as_str()).display().to_string())
    }

    /// The home of the machines and the root of the records, by their numbers too.
    pub(crate) fn identity(&self) -> io::Result<String> {
        let root = fs::metadata(&self.root)?;
        Ok(format!(
            "tart home {} root {} {}:{}",
            self.home.display(),
            self.root.display(),
            root.dev(),
            root.ino()
        ))
    }

    /// One short invocation.
    pub(crate) async fn tart(
        &self,
        operation: &'static str,
        arguments: &[String],
    ) -> Result<Done, BackendError> {
        command::short(&self.tart, arguments).await.map_err(|error| {
            let message = format!("cannot start {}: {error}", self.tart.display());
            BackendError::new(operation, ErrorKind::Backend, message)
        })
    }

    fn meta(&self, name: &InstanceName, pool: &PoolName) -> Meta {
        Meta {
            version: 1,
            installation: self.installation.as_str().to_owned(),
            instance: name.as_str().to_owned(),
            pool: pool.as_str().to_owned(),
        }
    }

    /// Writes the record that comes before everything.
    pub(crate) fn record(&self, name: &InstanceName, pool: &PoolName) -> io::Result<()> {
        let directory = self.directory(name);
        match fs::create_dir(directory.path()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        directory::write(&directory.meta(), &self.meta(name, pool))
    }

    /// Marks the machine itself.
    pub(crate) fn mark(&self, name: &InstanceName, pool: &PoolName) -> io::Result<()> {
        directory::write(&self.machine(name.as_str()).join(MARKER), &self.meta(name, pool))
    }

    /// Whose a name is.
    pub(crate) fn owner(&self, name: &InstanceName) -> io::Result<Owner> {
        let directory = self.directory(name);
        let ours = |meta: &Meta| {
            meta.installation == self.installation.as_str() && meta.instance == name.as_str()
        };
        if directory.path().exists() {
            return Ok(match directory::read::<Meta>(&directory.meta())? {
                Some(meta) if ours(&meta) => Owner::Ours(meta),
                Some(_) => Owner::Foreign,
                None => match directory.blank() {
                    Ok(blank) => {
                        if blank {
                            Owner::OursUnwritten
                        } else {
                            Owner::Foreign
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Owner::Nobody,
                    Err(error) => return Err(error),
                },
            });
        }
        let machine = self.machine(name.as_str());
        if !machine.exists() {
            return Ok(Owner::Nobody);
        }
        Ok(match directory::read::<Meta>(&machine.join(MARKER))? {
            Some(meta) if ours(&meta) => Owner::OursUnrecorded(meta),
            Some(_) | None => Owner::Foreign,
        })
    }

    /// All instances with a record, and those whose record was lost and whose machine bears our mark.
    pub(crate) async fn instances(&self) -> Result<Vec<EnvironmentInfo>, BackendError> {
        const OPERATION: &str = "list tart machines";
        let failed =
            |error: io::Error| BackendError::new(OPERATION, ErrorKind::Backend, error.to_string());
        let mut found = Vec::new();
        for name in names_in(&self.root).map_err(failed)? {
            let meta = match self.owner(&name).map_err(failed)? {
                Owner::Ours(meta) => Some(meta),
                Owner::OursUnwritten => None,
                Owner::OursUnrecorded(_) | Owner::Foreign | Owner::Nobody => continue,
            };
            let directory = self.directory(&name);
            let pool = meta.and_then(|meta| PoolName::new(&meta.pool).ok());
            let mut lives = Lives::look(&directory).map_err(failed)?;
            self.tell(&name, pool.as_ref(), &directory, &lives);
            if lives.must_be_settled() && !directory.deleting().exists() {
                self.settle(&name, &directory, &lives).await?;
                lives = Lives::look(&directory).map_err(failed)?;
            }
            found.push(EnvironmentInfo {
                pool,
                handle: self.handle(&name),
                state: lives.state(),
                name,
            });
        }
        found.extend(self.unrecorded().await?);
        found.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(found)
    }

    /// Machines with our mark and without a record: whether they run, only `tart` can say.
    async fn unrecorded(&self) -> Result<Vec<EnvironmentInfo>, BackendError> {
        let mut found = Vec::new();
        for (name, meta) in self.marked("list tart machines")? {
            if meta.installation == self.installation.as_str()
                && !self.directory(&name).path().exists()
            {
                found.push((name, meta));
            }
        }
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let listed = self.listed("list tart machines").await?;
        Ok(found
            .into_iter()
            .map(|(name, meta)| EnvironmentInfo {
                pool: PoolName::new(&meta.pool).ok(),
                handle: self.handle(&name),
                state: listed.iter().find(|vm| vm.name == name.as_str()).map_or_else(
                    || EnvironmentState::Ended(End::default().into_exit()),
                    ListedVm::state,
                ),
                name,
            })
            .collect())
    }

    /// Machines with a mark, whoever's.
    pub(crate) fn marked(
        &self,
        operation: &'static str,
    ) -> Result<Vec<(InstanceName, Meta)>, BackendError> {
        let failed =
            |error: io::Error| BackendError::new(operation, ErrorKind::Backend, error.to_string());
        let mut found = Vec::new();
        for name in names_in(&self.home.join("vms")).map_err(failed)? {
            let marker = self.machine(name.as_str()).join(MARKER);
            if let Some(meta) = directory::read::<Meta>(&marker).map_err(failed)?
                && meta.instance == name.as_str()
            {
                found.push((name, meta));
            }
        }
        Ok(found)
    }

    /// Makes the end of what nobody keeps any more true, and writes it down.
    async fn settle(
        &self,
        name: &InstanceName,
        directory: &Directory,
        lives: &Lives,
    ) -> Result<(), BackendError> {
        const OPERATION: &str = "stop tart machine";
        let done = self.tart(OPERATION, &command::stop(name)).await?;
        if !done.succeeded() && !done.says_not_there() {
            let message = format!("tart stop: {}", done.said());
            return Err(BackendError::new(OPERATION, ErrorKind::Backend, message).about(name));
        }
        for (job, life) in [(Job::Vm, &lives.vm), (Job::Runner, &lives.runner)] {
            if *life == Life::Lost {
                let end = End::of_reason("its keeper was killed, or the host restarted");
                // If it cannot be written it is settled again.
                let _ = directory::write(&directory.of(job, "exit"), &end);
            }
        }
        Ok(())
    }

    /// Logs each failure once, whichever daemon sees it first.
    fn tell(
        &self,
        name: &InstanceName,
        pool: Option<&PoolName>,
        directory: &Directory,
        lives: &Lives,
    ) {
        let pool = pool.map(tracing::field::display);
        for (job, life) in [(Job::Vm, &lives.vm), (Job::Runner, &lives.runner)] {
            let Life::Ended(end) = life else { continue };
            let told = directory.of(job, "told");
            if !end.is_failure() || told.exists() || fs::write(&told, "").is_err() {
                continue;
            }
            let (error, stderr) = (end.error(), &end.stderr);
            let log = end.log.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
            if job == Job::Vm {
                tracing::error!(pool, instance = %name, error, stderr, log, "tart vm exited with error");
            } else {
                tracing::error!(pool, instance = %name, error, stderr, log, "tart runner exited with error");
            }
        }
    }
}

/// Names of directories that can be instances.
pub(crate) fn names_in(directory: &Path) -> io::Result<Vec<InstanceName>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(|name| InstanceName::new(name).ok()));
    }
    Ok(names)
}

/// Whose a name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// There is none.
    Nobody,
    /// Ours, as its record says.
    Ours(Meta),
    /// Ours: a directory of our root that is empty but for a record that was being written.
    OursUnwritten,
    /// A machine with our mark whose record is lost.
    OursUnrecorded(Meta),
    /// Somebody else's.
    Foreign,
}
