//! The contract, fulfilled with processes.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleetfoot_provisioner::InstanceName;
use fleetfoot_provisioner::{
    BackendError, Capabilities, Deletion, EnvironmentSpec, ErrorKind, EventStream, Finding, Handle,
    JitConfig, Listing, Provisioner, Reach,
};

use crate::directory::{self, COOKIE, Directory, Meta, PidRecord};
use crate::failure::{At, AtPath, failed, kind, lost};
use crate::host::{Owner, ProcessHost};
use crate::layout::Limits;
use crate::pool::{ProcessPool, RunnerSource, Sandbox};
use crate::shim::Order;
use crate::stop::{self, Held};
use crate::{cgroup, check, create, leftovers, logs, remove, sandbox, watch};

/// How long what was killed may keep its cgroup.
const CGROUP_BOUND: Duration = Duration::from_secs(5);

/// Processes of one pool on this host.
#[derive(Debug)]
pub struct ProcessProvisioner {
    host: Arc<ProcessHost>,
    pool: Arc<ProcessPool>,
    shim: PathBuf,
}

impl ProcessProvisioner {
    /// A backend for one pool. `shim` is the program that acts as shim when its first argument is [`crate::shim::WORD`].
    #[must_use]
    pub fn new(host: Arc<ProcessHost>, pool: ProcessPool, shim: PathBuf) -> Self {
        Self { host, pool: Arc::new(pool), shim }
    }

    fn order(
        &self,
        name: &InstanceName,
        directory: &Directory,
        uid: Option<u32>,
        jit: &JitConfig,
    ) -> Result<Order, String> {
        let limits =
            Limits { cpus: self.pool.cpus, memory: self.pool.memory, pids: self.pool.pids };
        let (command, sandboxed) = match &self.pool.sandbox {
            Sandbox::None => (self.pool.command.clone(), false),
            Sandbox::Bubblewrap(settings) => {
                let bwrap = sandbox::find("bwrap")
                    .ok_or("`bwrap` is not in PATH (apt install bubblewrap)")?;
                (sandbox::wrap(&bwrap, settings, directory, &self.pool.command), true)
            }
        };
        Ok(Order {
            command,
            work: directory.runner(),
            env: self.env(name, directory, sandboxed),
            jit: jit.expose().to_owned(),
            uid,
            groups: self.host.layout.plan(&self.host.cgroup_name(name), &limits),
            grace_ms: u64::try_from(self.pool.stop_grace.as_millis()).unwrap_or(u64::MAX),
            log_max_size: self.pool.log_max_size,
            sandboxed,
        })
    }

    /// A small environment that is the same on every start; the pool's own settings win over it.
    fn env(
        &self,
        name: &InstanceName,
        directory: &Directory,
        sandboxed: bool,
    ) -> Vec<(String, String)> {
        let tmp = if sandboxed { "/tmp".to_owned() } else { directory.tmp().display().to_string() };
        let base = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("HOME", directory.home().display().to_string()),
            ("TMPDIR", tmp),
            // So that `run.sh` passes signals on, and says when the runner is too old.
            ("RUNNER_MANUALLY_TRAP_SIG", "1".to_owned()),
            ("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE", "1".to_owned()),
            ("FLEETFOOT_INSTANCE", name.as_str().to_owned()),
        ];
        let mut env: Vec<(String, String)> =
            base.map(|(name, value)| (name.to_owned(), value)).into();
        env.extend(self.pool.env.iter().cloned());
        // Last: by this our processes are found again.
        env.push((COOKIE.to_owned(), directory.path().display().to_string()));
        env
    }

    /// Stops what runs; says which process it was, and whether it left nothing behind.
    async fn stop(&self, directory: &Directory) -> Result<(Option<PidRecord>, bool), At> {
        let path = directory.pid();
        let record = directory::read::<PidRecord>(&path).at("read", &path)?.ok();
        let mut clean = directory.exit().exists() || record.is_none();
        if let Some(record) = &record
            && let Some(held) = Held::new(record, &self.host.boot_id).at("hold", &path)?
        {
            let grace = Duration::from_millis(record.grace_ms);
            clean = held.stop(grace).await.at("stop", directory.path())?;
        }
        Ok((record, clean))
    }

    /// Runs blocking work that reads the host's files.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&ProcessHost) -> Result<T, At> + Send + 'static,
    ) -> Result<T, BackendError> {
        let host = Arc::clone(&self.host);
        let outcome = tokio::task::spawn_blocking(move || work(&host))
            .await
            .map_err(|error| lost(operation, error))?;
        outcome.map_err(|error| {
            BackendError::new(operation, kind(&error.source, ErrorKind::Backend), error.one_line())
        })
    }
}

/// Tells blocking work that nobody waits for it any more.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Provisioner for ProcessProvisioner {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            idempotent_create: true,
            list: true,
            watch: true,
            logs: true,
            late_binding: true,
            reach: Reach::Host,
            ends_with_host: true,
        }
    }

    fn connection(&self) -> &str {
        &self.host.connection
    }

    async fn create(
        &self,
        spec: &EnvironmentSpec,
        jit: Option<&JitConfig>,
    ) -> Result<Handle, BackendError> {
        const OPERATION: &str = "create process directory";
        if jit.is_some() {
            return Err(BackendError::new(
                OPERATION,
                ErrorKind::Instance,
                "processes take the JIT config at launch",
            )
            .about(&spec.name));
        }
        let guard = self.host.locks.lock(&spec.name).await;
        let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
        let (host, pool, spec, cancelled) =
            (Arc::clone(&self.host), Arc::clone(&self.pool), spec.clone(), Arc::clone(&cancel.0));
        let work = tokio::task::spawn_blocking(move || {
            let made = create::create(&host, &pool, &spec, &cancelled);
            drop(guard);
            made
        });
        let directory = work.await.map_err(|error| lost(OPERATION, error))??;
        Ok(Handle(directory.path().display().to_string()))
    }

    async fn launch(
        &self,
        spec: &EnvironmentSpec,
        _handle: &Handle,
        jit: &JitConfig,
    ) -> Result<(), BackendError> {
        const OPERATION: &str = "launch runner process";
        let name = &spec.name;
        let guard = self.host.locks.lock(name).await;
        let refused = |message: String| {
            BackendError::new(OPERATION, ErrorKind::Instance, message).about(name)
        };
        let owner = self
            .host
            .owner(name)
            .map_err(|error| failed(OPERATION, name, ErrorKind::Backend, error))?;
        let directory = self.host.directory(name);
        let Owner::Ours(Meta { uid, .. }) = owner else {
            return Err(refused("there is no such directory of ours".to_owned()));
        };
        if !directory.runner().is_dir() {
            return Err(refused("its directory is not finished".to_owned()));
        }
        let order = self.order(name, &directory, uid, jit).map_err(refused)?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.launch.before");
        let warnings = stop::launch(&self.shim, &directory, &order, name).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.launch.after");
        drop(guard);
        for warning in warnings {
            tracing::warn!(instance = %name, pool = %spec.pool, %warning, "limit not enforced");
        }
        // Without watchers nobody takes it.
        let _ = self.host.launches.send(name.clone());
        Ok(())
    }

    async fn delete(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        const OPERATION: &str = "delete process directory";
        let guard = self.host.locks.lock(name).await;
        let backend = |error| failed(OPERATION, name, ErrorKind::Backend, error);
        let directory = self.host.directory(name);
        let uid = match self.host.owner(name).map_err(backend)? {
            Owner::Nobody => return Ok(Deletion::WasAbsent),
            Owner::Ours(meta) => meta.uid,
            Owner::OursUnwritten => None,
            Owner::Foreign => {
                let message = format!("{} is not of this installation", directory.path().display());
                return Err(BackendError::new(OPERATION, ErrorKind::NameTaken, message).about(name));
            }
        };
        // First the mark, then the look: a shim that comes late writes its pid first and then looks for the mark.
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.mark.before");
        mark(&directory).at("write", &directory.deleting()).map_err(backend)?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.mark.after");
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.stop.before");
        let (record, clean) = self.stop(&directory).await.map_err(backend)?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("process.stop.after");
        let (root, name) = (self.host.root.clone(), name.clone());
        let work = tokio::task::spawn_blocking(move || {
            let _guard = guard;
            if !clean && !leftovers::kill(&directory, record.as_ref(), uid) {
                let message = "processes are left that the kernel does not end";
                return Err(BackendError::new(OPERATION, ErrorKind::Backend, message).about(&name));
            }
            // Usually the shim has removed them.
            let cgroups = record.map(|record| record.cgroups).unwrap_or_default();
            if !cgroup::remove(&cgroups, CGROUP_BOUND) {
                let message = "its cgroup cannot be removed";
                return Err(BackendError::new(OPERATION, ErrorKind::Backend, message).about(&name));
            }
            // The mark is there until the runner's directory is gone: a late shim looks for both. The evidence goes last.
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("process.remove.before");
            remove::tree(&root, name.as_str(), &["deleting", "meta.json"])
                .at("remove", directory.path())
                .map_err(|error| failed(OPERATION, &name, ErrorKind::Backend, error))?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("process.remove.after");
            Ok(Deletion::Removed)
        });
        work.await.map_err(|error| lost(OPERATION, error))?
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        self.blocking("list process directories", |host| {
            let identity = host.identity()?;
            let environments = host.instances()?.into_iter().map(|(info, _)| info).collect();
            Ok(Listing { identity, environments })
        })
        .await
    }

    async fn watch(&self) -> Result<EventStream, BackendError> {
        let watching = watch::watch(&self.host).await;
        watching.map_err(|error| {
            BackendError::new("watch processes", ErrorKind::Backend, error.one_line())
        })
    }

    async fn logs(&self, name: &InstanceName, lines: usize) -> Result<String, BackendError> {
        let directory = self.host.directory(name);
        let bytes = self.pool.log_max_size;
        let known = name.clone();
        let text = self.blocking("read process output", move |host| {
            Ok(match host.owner(&known)? {
                Owner::Ours(_) => Some(
                    logs::last_lines(&directory, lines, bytes).at("read", &directory.output())?,
                ),
                Owner::OursUnwritten | Owner::Nobody | Owner::Foreign => None,
            })
        });
        let missing = || {
            BackendError::new(
                "read process output",
                ErrorKind::Instance,
                "there is no such instance",
            )
            .about(name)
        };
        text.await.map_err(|error| error.about(name))?.ok_or_else(missing)
    }

    async fn check(&self) -> Vec<Finding> {
        let (host, pool, shim) =
            (Arc::clone(&self.host), Arc::clone(&self.pool), self.shim.clone());
        tokio::task::spawn_blocking(move || check::check(&host, &pool, &shim))
            .await
            .unwrap_or_default()
    }

    async fn prepare(&self) -> Result<(), BackendError> {
        let archive = match &self.pool.source {
            RunnerSource::RunnerArchive(archive) => archive.clone(),
            RunnerSource::RunnerDirectory(_) | RunnerSource::KeptRunner(_) => {
                let missing = check::missing_source(&self.pool);
                return missing.map_or(Ok(()), |message| {
                    Err(BackendError::new("look at the runner", ErrorKind::Instance, message))
                });
            }
        };
        self.blocking("unpack runner archive", move |host| host.with_unpacked(&archive, |_| Ok(())))
            .await
    }

    fn storage_directory(&self) -> Option<PathBuf> {
        Some(self.host.root.clone())
    }
}

/// Marks an instance as being deleted. A full disk does not keep it from being deleted.
fn mark(directory: &Directory) -> io::Result<()> {
    let path = directory.deleting();
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    match File::create_new(path) {
        Err(error) if kind(&error, ErrorKind::Backend) != ErrorKind::NoRoom => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
