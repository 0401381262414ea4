//! Errors of this room as the contract has them.

use fleetfoot_provisioner::{BackendError, ErrorKind, InstanceName};

use crate::agent::AgentError;
use crate::rpc::CallError;

/// What to make of a failed call. `changes`: whether it may have done something before its answer was lost.
pub(crate) fn call(operation: &'static str, changes: bool) -> impl Fn(CallError) -> BackendError {
    move |error| {
        let kind = match &error {
            CallError::Connect { .. } | CallError::Login(_) => ErrorKind::Backend,
            CallError::Lost(_) | CallError::Odd(_) if changes => ErrorKind::Unanswered,
            CallError::Lost(_) | CallError::Odd(_) => ErrorKind::Backend,
            CallError::Refused(refused) if is_full(&refused.message) => ErrorKind::NoRoom,
            CallError::Refused(_) => ErrorKind::Instance,
        };
        let words = match &error {
            CallError::Connect { cause, .. } => format!("{error}: {cause}"),
            CallError::Lost(_)
            | CallError::Odd(_)
            | CallError::Refused(_)
            | CallError::Login(_) => error.to_string(),
        };
        BackendError::new(operation, kind, words)
    }
}

fn is_full(message: &str) -> bool {
    message.contains("No space left") || message.contains("annot allocate memory")
}

pub(crate) fn agent(operation: &'static str, changes: bool) -> impl Fn(AgentError) -> BackendError {
    move |error| match error {
        AgentError::Call(error) => call(operation, changes)(error),
        error @ (AgentError::Silent(_) | AgentError::Refused(_) | AgentError::Malformed) => {
            BackendError::new(operation, ErrorKind::Instance, error.to_string())
        }
    }
}

pub(crate) fn instance(
    operation: &'static str,
    name: &InstanceName,
    message: impl Into<String>,
) -> BackendError {
    BackendError::new(operation, ErrorKind::Instance, message).about(name)
}

/// A file of ours cannot be read or written.
pub(crate) fn file(
    operation: &'static str,
    name: &InstanceName,
) -> impl Fn(std::io::Error) -> BackendError {
    move |error| {
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let kind = if full { ErrorKind::NoRoom } else { ErrorKind::Backend };
        BackendError::new(operation, kind, error.to_string()).about(name)
    }
}
