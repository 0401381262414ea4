//! Not Linux: no session leaders that outlive us, no subreapers, no `/proc`. What is here refuses, in one sentence.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use fleetfoot_provisioner::{
    BackendError, Capabilities, Deletion, EnvironmentSpec, Handle, InstallationId, InstanceName,
    JitConfig, Listing, Provisioner,
};

use crate::pool::ProcessPool;

/// Why there is no such host here.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The backend is made of what Linux has.
    #[error("jobs as processes need Linux: use `docker`, `libvirt` or `tart` here")]
    Elsewhere,
}

/// There is none.
#[derive(Debug)]
pub enum ProcessHost {}

impl ProcessHost {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn open(_root: &Path, _installation: InstallationId) -> Result<Arc<Self>, HostError> {
        Err(HostError::Elsewhere)
    }
}

/// There is none either, for it needs a host.
#[derive(Debug)]
pub struct ProcessProvisioner(Arc<ProcessHost>);

impl ProcessProvisioner {
    /// Takes a host, which nobody has.
    #[must_use]
    pub fn new(host: Arc<ProcessHost>, _pool: ProcessPool, _shim: PathBuf) -> Self {
        Self(host)
    }
}

#[async_trait]
impl Provisioner for ProcessProvisioner {
    fn capabilities(&self) -> Capabilities {
        match *self.0 {}
    }

    fn connection(&self) -> &str {
        match *self.0 {}
    }

    async fn create(
        &self,
        _spec: &EnvironmentSpec,
        _jit: Option<&JitConfig>,
    ) -> Result<Handle, BackendError> {
        match *self.0 {}
    }

    async fn delete(&self, _name: &InstanceName) -> Result<Deletion, BackendError> {
        match *self.0 {}
    }

    async fn list(&self) -> Result<Listing, BackendError> {
        match *self.0 {}
    }
}

/// The small parent that each instance has on Linux.
pub mod shim {
    use std::ffi::OsString;
    use std::process::ExitCode;

    /// Refuses.
    pub fn main(_arguments: impl Iterator<Item = OsString>) -> ExitCode {
        ExitCode::from(78)
    }
}
