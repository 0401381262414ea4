//! The contract, fulfilled with machines of Tart.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use fleetfoot_provisioner::{
    BackendError, Capabilities, Deletion, EnvironmentInfo, EnvironmentSpec, ErrorKind, EventStream,
    Finding, Handle, InstanceName, JitConfig, Listing, PoolName, Provisioner, Reach,
};

use crate::create::{self, Creation, OUTPUT_MAX};
use crate::directory::Job;
use crate::host::{Owner, TartHost};
use crate::life::{self, Life};
use crate::pool::TartPool;
use crate::{check, command, legacy, logs, remove, watch};

/// Machines of one pool on this Mac.
#[derive(Debug)]
pub struct TartProvisioner {
    host: Arc<TartHost>,
    pool: TartPool,
}

impl TartProvisioner {
    /// A backend for one pool.
    #[must_use]
    pub fn new(host: Arc<TartHost>, pool: TartPool) -> Self {
        host.protect_image(&pool.image);
        Self { host, pool }
    }

    fn owner(&self, operation: &'static str, name: &InstanceName) -> Result<Owner, BackendError> {
        self.host.owner(name).map_err(|error| {
            BackendError::new(operation, ErrorKind::Backend, error.to_string()).about(name)
        })
    }
}

#[async_trait]
impl Provisioner for TartProvisioner {
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
        if jit.is_some() {
            let message = "machines of tart take the JIT config at launch";
            let error = BackendError::new(create::OPERATION, ErrorKind::Instance, message);
            return Err(error.about(&spec.name));
        }
        let _guard = self.host.locks.lock(&spec.name).await;
        let directory = self.host.directory(&spec.name);
        Creation { host: &self.host, pool: &self.pool, spec, directory }.run().await?;
        Ok(self.host.handle(&spec.name))
    }

    async fn launch(
        &self,
        spec: &EnvironmentSpec,
        _handle: &Handle,
        jit: &JitConfig,
    ) -> Result<(), BackendError> {
        const OPERATION: &str = "launch runner in tart machine";
        let name = &spec.name;
        let _guard = self.host.locks.lock(name).await;
        let failed =
            |kind, message: &str| Err(BackendError::new(OPERATION, kind, message).about(name));
        let Owner::Ours(_) = self.owner(OPERATION, name)? else {
            return failed(ErrorKind::Instance, "there is no such machine of ours");
        };
        let directory = self.host.directory(name);
        match life::look(&directory, Job::Vm) {
            Ok(Life::Alive) => {}
            Ok(Life::Ended(_) | Life::Lost) => {
                return failed(ErrorKind::Instance, "its machine ended");
            }
            Ok(Life::NotBegun) => return failed(ErrorKind::Instance, "its machine is not made"),
            Err(error) => return failed(ErrorKind::Backend, &error.to_string()),
        }
        let (arguments, input) = command::runner(&self.pool, name, jit.expose());
        let order = create::order(&self.host, name, arguments, input, Some("runner"));
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("tart.launch.before");
        create::start(&self.host, &directory, spec, Job::Runner, &order, OPERATION).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("tart.launch.after");
        self.host.begun.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn delete(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        let _guard = self.host.locks.lock(name).await;
        match self.owner(remove::OPERATION, name)? {
            Owner::Nobody => Ok(Deletion::WasAbsent),
            Owner::Ours(_) | Owner::OursUnwritten | Owner::OursUnrecorded(_) => {
                remove::all(&self.host, name).await?;
                Ok(Deletion::Removed)
            }
            Owner::Foreign => {
                let message = format!("a machine `{name}` is not of this installation");
                let error = BackendError::new(remove::OPERATION, ErrorKind::NameTaken, message);
                Err(error.about(name))
            }
        }
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        let identity = self.host.identity().map_err(|error| {
            BackendError::new("list tart machines", ErrorKind::Backend, error.to_string())
        })?;
        Ok(Listing { identity, environments: self.host.instances().await? })
    }

    async fn watch(&self) -> Result<EventStream, BackendError> {
        watch::watch(&self.host).await
    }

    async fn logs(&self, name: &InstanceName, lines: usize) -> Result<String, BackendError> {
        const OPERATION: &str = "read output";
        let failed =
            |kind, message: String| BackendError::new(OPERATION, kind, message).about(name);
        match self.owner(OPERATION, name)? {
            Owner::Ours(_) => {
                let path = self.host.directory(name).of(Job::Runner, "log");
                logs::last_lines(&path, lines, OUTPUT_MAX)
                    .map_err(|error| failed(ErrorKind::Backend, error.to_string()))
            }
            Owner::Nobody | Owner::OursUnwritten | Owner::OursUnrecorded(_) | Owner::Foreign => {
                let message = format!("no output of `{name}` is kept by this installation");
                Err(failed(ErrorKind::Instance, message))
            }
        }
    }

    async fn check(&self) -> Vec<Finding> {
        check::check(&self.host, &self.pool).await
    }

    /// Pulls an image that is not here yet, so that no start waits for it.
    async fn prepare(&self) -> Result<(), BackendError> {
        const OPERATION: &str = "pull tart image";
        let image = &self.pool.image;
        if !image.contains('/') || self.host.image(image).is_some() {
            return Ok(());
        }
        let done = self.host.tart(OPERATION, &["pull".to_owned(), image.clone()]).await?;
        if done.succeeded() {
            return Ok(());
        }
        let message = format!("tart pull: {}", done.said());
        Err(BackendError::new(OPERATION, ErrorKind::Instance, message))
    }

    async fn legacy(&self, pool: &PoolName) -> Result<Vec<EnvironmentInfo>, BackendError> {
        legacy::of_pool(&self.host, pool).await
    }

    async fn delete_legacy(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        legacy::delete(&self.host, name).await
    }

    async fn others(&self) -> Result<Vec<EnvironmentInfo>, BackendError> {
        const OPERATION: &str = "list tart machines of others";
        let marked = self.host.marked(OPERATION)?;
        let others: Vec<_> = marked
            .into_iter()
            .filter(|(_, meta)| meta.installation != self.host.installation.as_str())
            .collect();
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let listed = self.host.listed(OPERATION).await?;
        Ok(others
            .into_iter()
            .filter_map(|(name, meta)| {
                let vm = listed.iter().find(|vm| vm.name == name.as_str())?;
                Some(EnvironmentInfo {
                    pool: PoolName::new(&meta.pool).ok(),
                    handle: self.host.handle(&name),
                    state: vm.state(),
                    name,
                })
            })
            .collect())
    }

    fn storage_directory(&self) -> Option<PathBuf> {
        Some(self.host.home.clone())
    }
}
