//! The contract, on two calls of a plugin.

use std::sync::Arc;

use async_trait::async_trait;
use fleetfoot_provisioner::{
    BackendError, Capabilities, Deletion, EnvironmentSpec, ErrorKind, Finding, Handle,
    InstanceName, JitConfig, Listing, Provisioner, Reach, ResourceType, Severity,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tonic::Code;

use crate::calls::{CallError, Created};
use crate::failure;
use crate::host::PluginHost;
use crate::messages::{AddInstanceRequest, DeleteInstanceRequest};
use crate::script::Script;

/// A longer name fits into no column, the original's included.
const CLOUD_ID_MAX: usize = 65_535;

/// What a pool of machines is.
#[derive(Debug, Clone)]
pub struct ShoesPool {
    /// How big its machines are.
    pub resource_type: ResourceType,
    /// What the plugin is told besides; in scale set mode `scaleset` and the target's scope, and what is configured.
    pub labels: Vec<String>,
    /// What machines are told. The runner's release changes over time; without any nothing can be made.
    pub script: watch::Receiver<Option<Arc<Script>>>,
}

/// What is known of a machine: our handle of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The plugin's name for it, by which it is deleted.
    pub cloud_id: String,
    /// The plugin's name for itself.
    pub shoes_type: String,
    /// Where it is, if the plugin said.
    pub ip_address: String,
    /// How big it is, in the word of [`ResourceType`]: what the plugin said, or else what was asked for.
    pub resource_type: String,
}

impl Machine {
    /// Reads a handle.
    #[must_use]
    pub fn of(handle: &Handle) -> Option<Self> {
        serde_json::from_str(&handle.0).ok()
    }

    fn handle(&self) -> Handle {
        // A struct of strings is always JSON.
        Handle(serde_json::to_string(self).unwrap_or_default())
    }
}

/// One pool on a plugin.
#[derive(Debug)]
pub struct ShoesProvisioner {
    host: Arc<PluginHost>,
    connection: String,
    pool: ShoesPool,
}

impl ShoesProvisioner {
    /// Sets up a pool.
    #[must_use]
    pub fn new(host: Arc<PluginHost>, pool: ShoesPool) -> Self {
        let connection = format!("shoes:{}", host.program().display());
        Self { host, connection, pool }
    }

    fn machine(&self, made: Created) -> Machine {
        let is_said = made.resource_type != ResourceType::Unknown;
        let size = if is_said { made.resource_type } else { self.pool.resource_type };
        Machine {
            cloud_id: made.cloud_id,
            shoes_type: made.shoes_type,
            ip_address: made.ip_address,
            resource_type: size.word().to_owned(),
        }
    }

    async fn delete_by(
        &self,
        name: &InstanceName,
        cloud_id: String,
    ) -> Result<Deletion, BackendError> {
        let labels = self.pool.labels.clone();
        match self.host.delete(DeleteInstanceRequest { cloud_id, labels }).await {
            // A plugin has no list that could tell more.
            Ok(()) | Err(CallError::Refused { code: Code::NotFound, .. }) => Ok(Deletion::Removed),
            Err(error) => Err(failure::call("delete machine", name, &error)),
        }
    }
}

#[async_trait]
impl Provisioner for ShoesProvisioner {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            idempotent_create: false,
            list: false,
            ..Capabilities::single_step(Reach::Shared)
        }
    }

    fn connection(&self) -> &str {
        &self.connection
    }

    async fn create(
        &self,
        spec: &EnvironmentSpec,
        jit: Option<&JitConfig>,
    ) -> Result<Handle, BackendError> {
        const OPERATION: &str = "create machine";
        let refuse =
            |why: &str| BackendError::new(OPERATION, ErrorKind::Instance, why).about(&spec.name);
        let jit = jit.ok_or_else(|| refuse("a plugin gets its credential with the creation"))?;
        let script = self.pool.script.borrow().clone().ok_or_else(|| {
            let why = "the runner's release is not known yet";
            BackendError::new(OPERATION, ErrorKind::Backend, why).about(&spec.name)
        })?;
        let request = AddInstanceRequest {
            runner_name: spec.name.as_str().to_owned(),
            setup_script: script.jit(jit.expose()),
            resource_type: self.pool.resource_type.number(),
            labels: self.pool.labels.clone(),
        };
        match self.host.add(request).await {
            Ok(made) if made.cloud_id.is_empty() || made.cloud_id.len() > CLOUD_ID_MAX => {
                let bytes = made.cloud_id.len();
                let why = format!("the plugin answered with a cloud id of {bytes} bytes");
                Err(BackendError::new(OPERATION, ErrorKind::Unanswered, why).about(&spec.name))
            }
            Ok(made) => Ok(self.machine(made).handle()),
            Err(error) => Err(failure::call(OPERATION, &spec.name, &error)),
        }
    }

    /// Without a handle the name is tried: some plugins name their machines by it.
    async fn delete(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        self.delete_by(name, name.as_str().to_owned()).await
    }

    async fn delete_by_handle(
        &self,
        name: &InstanceName,
        handle: &Handle,
    ) -> Result<Deletion, BackendError> {
        match Machine::of(handle) {
            Some(machine) => self.delete_by(name, machine.cloud_id).await,
            None => self.delete(name).await,
        }
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        Err(BackendError::new("list machines", ErrorKind::Backend, "a shoes plugin has no list"))
    }

    async fn check(&self) -> Vec<Finding> {
        match self.host.check().await {
            Ok(()) => Vec::new(),
            Err(error) => vec![Finding {
                severity: Severity::Error,
                message: error.to_string(),
                hint: "run it by hand: a go-plugin program then says that it is a plugin, and ends"
                    .to_owned(),
            }],
        }
    }
}
