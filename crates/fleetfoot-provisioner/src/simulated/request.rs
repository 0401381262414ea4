//! What an engine is asked, and what it answers.

use fleetfoot_core::{InstallationId, InstanceName, PoolName};

use super::faults::Operation;
use crate::error::{BackendError, ErrorKind};
use crate::provisioner::{Deletion, Handle, JitConfig, Listing};

#[derive(Debug, Clone)]
pub(super) enum Request {
    Create {
        installation: InstallationId,
        pool: PoolName,
        name: InstanceName,
        jit: Option<JitConfig>,
    },
    Launch {
        installation: InstallationId,
        name: InstanceName,
        jit: JitConfig,
    },
    Delete {
        installation: InstallationId,
        name: InstanceName,
    },
    List {
        installation: InstallationId,
    },
    Logs {
        installation: InstallationId,
        name: InstanceName,
        lines: usize,
    },
}

impl Request {
    pub(super) fn operation(&self) -> Operation {
        match self {
            Self::Create { .. } => Operation::Create,
            Self::Launch { .. } => Operation::Launch,
            Self::Delete { .. } => Operation::Delete,
            Self::List { .. } => Operation::List,
            Self::Logs { .. } => Operation::Logs,
        }
    }

    pub(super) fn name(&self) -> Option<&InstanceName> {
        match self {
            Self::Create { name, .. }
            | Self::Launch { name, .. }
            | Self::Delete { name, .. }
            | Self::Logs { name, .. } => Some(name),
            Self::List { .. } => None,
        }
    }

    pub(super) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> BackendError {
        let error = BackendError::new(self.operation().phrase(), kind, message);
        match self.name() {
            Some(name) => error.about(name),
            None => error,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    Handle(Handle),
    Done,
    Deleted(Deletion),
    Listing(Listing),
    Logs(String),
}
