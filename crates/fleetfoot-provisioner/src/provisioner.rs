//! The trait every backend implements, and the types that cross it.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use fleetfoot_core::{Exit, InstallationId, InstanceName, PoolName};
use futures_util::stream::BoxStream;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{BackendError, ErrorKind};

/// The one-use credential that starts a runner. Its `Debug` is redacted.
#[derive(Clone)]
pub struct JitConfig(SecretString);

impl JitConfig {
    /// Takes GitHub's `encodedJITConfig`.
    #[must_use]
    pub fn new(encoded: SecretString) -> Self {
        Self(encoded)
    }

    /// The encoded text, for the one place that hands it to the runner.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for JitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JitConfig(redacted)")
    }
}

/// Who can see a backend's environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every controller: a cloud, a cluster.
    Shared,
    /// This host only: a local engine, processes.
    Host,
}

/// What a backend can do. The conformance suite runs what is declared here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// `create` under a name that exists and is ours answers with what exists.
    pub idempotent_create: bool,
    /// `list` is complete or an error.
    pub list: bool,
    /// `watch` streams exits.
    pub watch: bool,
    /// `logs` returns the tail of the output.
    pub logs: bool,
    /// `create` without, `launch` with the JIT config. Otherwise `create` carries it.
    pub late_binding: bool,
    /// Who can see its environments.
    pub reach: Reach,
    /// Environments end when the host restarts (processes); otherwise inspection tells.
    pub ends_with_host: bool,
}

impl Capabilities {
    /// The least that a backend can do: `create` launches the runner, exits are found by listing.
    #[must_use]
    pub fn single_step(reach: Reach) -> Self {
        Self {
            idempotent_create: true,
            list: true,
            watch: false,
            logs: false,
            late_binding: false,
            reach,
            ends_with_host: false,
        }
    }
}

/// What an environment is made from, besides the settings its pool's provisioner already has.
#[derive(Debug, Clone)]
pub struct EnvironmentSpec {
    /// Its name, also the runner's.
    pub name: InstanceName,
    /// Its pool.
    pub pool: PoolName,
    /// The installation that owns it.
    pub installation: InstallationId,
}

/// The backend's own handle of an environment (container id, directory, domain UUID).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle(pub String);

/// Where an environment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvironmentState {
    /// Made; nothing was launched in it.
    Created,
    /// Its runner was launched and lives, as far as the backend knows.
    Running,
    /// Ended; remains are left.
    Ended(Exit),
}

/// One environment that carries our evidence of ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentInfo {
    /// Its instance.
    pub name: InstanceName,
    /// Its pool, where the backend keeps it.
    pub pool: Option<PoolName>,
    /// The backend's handle.
    pub handle: Handle,
    /// Where it is.
    pub state: EnvironmentState,
}

/// A complete list of what carries this installation's evidence at one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Which backend answered (engine id, host UUID, boot id and root directory): absence is evidence
    /// only against the same one (11.2).
    pub identity: String,
    /// All of them, dead ones too.
    pub environments: Vec<EnvironmentInfo>,
}

/// What a delete came upon.
///
/// Only [`Removed`](Self::Removed) proves by itself that the environment is gone. That nothing was there may as well mean
/// that another engine answers at the same address (11.2): a complete list of the one that holds it has to say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It was there, carried our evidence, and is gone.
    Removed,
    /// Nothing of ours was there under that name.
    WasAbsent,
}

/// Something a backend noticed by itself. A hint to look, and for exits the proof itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The environment ended.
    Ended {
        /// Its instance.
        name: InstanceName,
        /// How.
        exit: Exit,
    },
    /// The stream broke and began again: what happened meanwhile is only in `list`.
    Resynced,
}

/// Events of everything that carries this installation's evidence at one backend. Ends only with the backend's
/// own object; broken connections are repaired inside and told by [`Event::Resynced`].
pub type EventStream = BoxStream<'static, Event>;

/// How bad a finding of `check` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Works, but an operator should know.
    Warning,
    /// Will not work.
    Error,
}

/// One sentence of `check`: what is missing on this host and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// A backend, set up for one pool.
///
/// Provisioners of several pools may share one [`connection`](Self::connection) (an engine, this host's
/// processes); `list`, `watch`, `delete` and `logs` speak of everything of this installation there,
/// whichever pool's provisioner is asked.
///
/// Contract, tested by [`crate::conformance`]:
/// - `create` is idempotent by name where declared, and never touches what is not ours.
/// - `delete` of what is gone is `Ok`, and says so: [`Deletion::WasAbsent`]. It stops what still runs, within its caller's
///   bound. A backend without `list` that cannot tell the two apart says `Removed`; it is believed either way.
/// - `list` is complete, dead ones included, or an error; never a part.
/// - No retries inside. Every call is bounded by its caller and safe to drop at any await: what it
///   left behind, `list` shows.
/// - An environment survives the controller.
#[async_trait]
pub trait Provisioner: fmt::Debug + Send + Sync + 'static {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Names the shared engine: equal for provisioners that see the same environments.
    fn connection(&self) -> &str;

    /// Makes the environment. `jit` is given exactly if the backend is single step; then the runner is
    /// launched as well.
    async fn create(
        &self,
        spec: &EnvironmentSpec,
        jit: Option<&JitConfig>,
    ) -> Result<Handle, BackendError>;

    /// A job for an environment made before was told of, or its credential is being asked for, and its launch follows, as
    /// a rule: what needs no credential may begin. A hint: it answers at once, may be given for any name and more than
    /// once, and what it begins fails in silence; [`launch`](Self::launch) needs nothing of it.
    fn rouse(&self, name: &InstanceName) {
        let _ = name;
    }

    /// Launches the runner in an environment made before. Single-step backends refuse.
    async fn launch(
        &self,
        spec: &EnvironmentSpec,
        handle: &Handle,
        jit: &JitConfig,
    ) -> Result<(), BackendError> {
        let _ = (handle, jit);
        let why = "it was launched as it was created";
        Err(BackendError::new("launch runner", ErrorKind::Instance, why).about(&spec.name))
    }

    /// Stops and removes the environment and everything of it.
    async fn delete(&self, name: &InstanceName) -> Result<Deletion, BackendError>;

    /// The same for one whose handle is known: what [`create`](Self::create) answered. A backend that finds its
    /// environments by their names has no use for it.
    async fn delete_by_handle(
        &self,
        name: &InstanceName,
        handle: &Handle,
    ) -> Result<Deletion, BackendError> {
        let _ = handle;
        self.delete(name).await
    }

    /// Everything that carries `installation`'s evidence at this connection.
    async fn list(&self) -> Result<Listing, BackendError>;

    /// Exits as they happen. One that does not declare it tells nothing.
    async fn watch(&self) -> Result<EventStream, BackendError> {
        Ok(Box::pin(futures_util::stream::pending()))
    }

    /// The last `lines` lines of the environment's output. One that does not declare it has none.
    async fn logs(&self, name: &InstanceName, lines: usize) -> Result<String, BackendError> {
        let _ = (name, lines);
        Ok(String::new())
    }

    /// What is missing on this host, each with its remedy; empty when all is well.
    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }

    /// Prepares what starts will need (pull an image, unpack an archive). Called at start and on change;
    /// failures are findings, not the end.
    async fn prepare(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// What the original program left behind for `pool` at this connection: its labels and the exact name form
    /// `<pool>-<8 hex digits>`, nothing of ours. For takeover only; backends that it never used have none.
    async fn legacy(&self, pool: &PoolName) -> Result<Vec<EnvironmentInfo>, BackendError> {
        let _ = pool;
        Ok(Vec::new())
    }

    /// Removes one that [`legacy`](Self::legacy) told of, after the removal gate. Touches nothing else.
    async fn delete_legacy(&self, name: &InstanceName) -> Result<Deletion, BackendError> {
        let _ = name;
        Ok(Deletion::WasAbsent)
    }

    /// Things that carry our kind of evidence with the id of another installation: told, never touched. A backend
    /// that cannot tell has none.
    async fn others(&self) -> Result<Vec<EnvironmentInfo>, BackendError> {
        Ok(Vec::new())
    }

    /// The directory whose file system fills up as environments are made, for the host's disk gate.
    fn storage_directory(&self) -> Option<PathBuf> {
        None
    }
}
