//! The backend in memory that ships: for tests, `bench`, simulations, and to try a configuration.
//!
//! ```text
//! controller ── SimulatedProvisioner ──┬── in this process ──────────────────────▶ SimulatedEngine
//!                                      └── socket ── serve (another process) ────▶ SimulatedEngine
//! ```
//!
//! The [`SimulatedEngine`] holds the environments and survives whoever asks it: it is the stand-in for a
//! container engine. It can be slow, frozen, replaced by another, or misbehave by [`Rule`]. What runs in an
//! environment is played by whoever set [`SimulatedEngine::on_launch`], and ends by [`SimulatedEngine::end`].

mod engine;
mod faults;
mod request;
mod state;
mod wire;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use fleetfoot_core::{InstallationId, InstanceName};

pub use engine::SimulatedEngine;
pub use faults::{Fault, Latency, Operation, Rule};
pub use state::{Call, Change};
pub use wire::serve;

use crate::error::{BackendError, ErrorKind};
use crate::provisioner::{
    Capabilities, Deletion, EnvironmentInfo, EnvironmentSpec, EventStream, Finding, Handle,
    JitConfig, Listing, Provisioner, Reach, Severity,
};
use request::{Answer, Request};
use wire::Client;

/// The shape of start that a simulated provisioner shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// `create` carries the JIT config and launches.
    SingleStep,
    /// `create` makes, `launch` starts.
    LateBinding,
}

#[derive(Debug, Clone)]
enum Transport {
    Here(SimulatedEngine),
    There(Client),
}

/// A provisioner over a [`SimulatedEngine`], in this process or behind a socket.
#[derive(Debug, Clone)]
pub struct SimulatedProvisioner {
    transport: Transport,
    installation: InstallationId,
    binding: Binding,
    connection: String,
    listed: bool,
    reach: Reach,
    roused: Option<Ear>,
}

/// Who hears of hints.
#[derive(Clone)]
struct Ear(Arc<dyn Fn(&InstanceName) + Send + Sync>);

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ear")
    }
}

impl SimulatedProvisioner {
    /// A provisioner over an engine in this process.
    #[must_use]
    pub fn new(engine: &SimulatedEngine, installation: InstallationId, binding: Binding) -> Self {
        let connection = format!("simulated:{}", engine.name());
        let transport = Transport::Here(engine.clone());
        let reach = Reach::Host;
        Self { transport, installation, binding, connection, listed: true, reach, roused: None }
    }

    /// A provisioner over an engine that [`serve`]s on the Unix socket `path`, usually in another process.
    /// Connects with the first call, and again when the connection breaks. Several controllers may use one.
    #[must_use]
    pub fn remote(
        path: impl Into<std::path::PathBuf>,
        installation: InstallationId,
        binding: Binding,
    ) -> Self {
        let path = path.into();
        let connection = format!("simulated:{}", path.display());
        let transport = Transport::There(Client::new(path));
        let reach = Reach::Shared;
        Self { transport, installation, binding, connection, listed: true, reach, roused: None }
    }

    /// The same without `list`, `watch` and `logs`, as a plugin is.
    #[must_use]
    pub fn without_list(mut self) -> Self {
        self.listed = false;
        self
    }

    /// Tells of each hint that a launch is ahead, in the moment it is given.
    #[must_use]
    pub fn on_rouse(mut self, hear: impl Fn(&InstanceName) + Send + Sync + 'static) -> Self {
        self.roused = Some(Ear(Arc::new(hear)));
        self
    }

    /// Says that every controller can see the engine, for several of them in one process.
    #[must_use]
    pub fn shared(self) -> Self {
        Self { reach: Reach::Shared, ..self }
    }

    async fn call(&self, request: Request) -> Result<Answer, BackendError> {
        match &self.transport {
            Transport::Here(engine) => engine.call(request).await,
            Transport::There(client) => client.call(request).await,
        }
    }
}

fn refuse(operation: &'static str, spec: &EnvironmentSpec, message: &str) -> BackendError {
    BackendError::new(operation, ErrorKind::Instance, message).about(&spec.name)
}

fn odd(operation: &'static str) -> BackendError {
    BackendError::new(
        operation,
        ErrorKind::Backend,
        "the simulated engine gave an answer of another kind",
    )
}

#[async_trait]
impl Provisioner for SimulatedProvisioner {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            idempotent_create: self.listed,
            list: self.listed,
            watch: self.listed,
            logs: self.listed,
            late_binding: self.binding == Binding::LateBinding,
            reach: self.reach,
            ends_with_host: false,
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
        match (self.binding, jit) {
            (Binding::SingleStep, None) => {
                return Err(refuse("create environment", spec, "no JIT config given"));
            }
            (Binding::LateBinding, Some(_)) => {
                return Err(refuse("create environment", spec, "JIT config given too early"));
            }
            (Binding::SingleStep, Some(_)) | (Binding::LateBinding, None) => {}
        }
        let request = Request::Create {
            installation: self.installation.clone(),
            pool: spec.pool.clone(),
            name: spec.name.clone(),
            jit: jit.cloned(),
        };
        match self.call(request).await? {
            Answer::Handle(handle) => Ok(handle),
            Answer::Done | Answer::Deleted(_) | Answer::Listing(_) | Answer::Logs(_) => {
                Err(odd("create environment"))
            }
        }
    }

    fn rouse(&self, name: &InstanceName) {
        if let Some(Ear(hear)) = &self.roused {
            hear(name);
        }
    }

    async fn launch(
        &self,
        spec: &EnvironmentSpec,
        _: &Handle,
        jit: &JitConfig,
    ) -> Result<(), BackendError> {
        if self.binding == Binding::SingleStep {
            return Err(refuse("launch runner", spec, "a single-step backend launches in create"));
        }
        let (installation, name) = (self.installation.clone(), spec.name.clone());
        self.call(Request::Launch { installation, name, jit: jit.clone() }).await.map(drop)
    }

    async fn delete(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        let (installation, name) = (self.installation.clone(), name.clone());
        match self.call(Request::Delete { installation, name }).await? {
            Answer::Deleted(deletion) => Ok(deletion),
            Answer::Done | Answer::Handle(_) | Answer::Listing(_) | Answer::Logs(_) => {
                Err(odd("delete environment"))
            }
        }
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        match self.call(Request::List { installation: self.installation.clone() }).await? {
            Answer::Listing(listing) => Ok(listing),
            Answer::Done | Answer::Deleted(_) | Answer::Handle(_) | Answer::Logs(_) => {
                Err(odd("list environments"))
            }
        }
    }

    async fn others(&self) -> Result<Vec<EnvironmentInfo>, BackendError> {
        match &self.transport {
            Transport::Here(engine) => Ok(engine.others(&self.installation)),
            Transport::There(client) => client.others(&self.installation).await,
        }
    }

    async fn watch(&self) -> Result<EventStream, BackendError> {
        match &self.transport {
            Transport::Here(engine) => Ok(engine.events(&self.installation)),
            Transport::There(client) => client.events(&self.installation).await,
        }
    }

    async fn logs(&self, name: &InstanceName, lines: usize) -> Result<String, BackendError> {
        let (installation, name) = (self.installation.clone(), name.clone());
        match self.call(Request::Logs { installation, name, lines }).await? {
            Answer::Logs(text) => Ok(text),
            Answer::Done | Answer::Deleted(_) | Answer::Handle(_) | Answer::Listing(_) => {
                Err(odd("read logs"))
            }
        }
    }

    async fn check(&self) -> Vec<Finding> {
        match self.list().await {
            Ok(_) => Vec::new(),
            Err(error) => vec![Finding {
                severity: Severity::Error,
                message: error.to_string(),
                hint: "start the process that serves the simulated engine".to_owned(),
            }],
        }
    }
}
