//! Errors of this room as the contract has them.

use fleetfoot_provisioner::{BackendError, ErrorKind, InstanceName};
use tonic::Code;

use crate::calls::CallError;

/// What to make of a failed call.
pub(crate) fn call(
    operation: &'static str,
    name: &InstanceName,
    error: &CallError,
) -> BackendError {
    let kind = match error {
        CallError::Start(_) | CallError::NotReached(_) => ErrorKind::Backend,
        CallError::Lost(_) => ErrorKind::Unanswered,
        CallError::Refused { code, .. } => refused(*code),
    };
    BackendError::new(operation, kind, error.to_string()).about(name)
}

fn refused(code: Code) -> ErrorKind {
    match code {
        // These labels, or this size, it can never make.
        Code::InvalidArgument => ErrorKind::Instance,
        Code::AlreadyExists => ErrorKind::NameTaken,
        Code::ResourceExhausted => ErrorKind::NoRoom,
        // It gave up waiting for its cloud, which may still make the machine.
        Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Unanswered,
        Code::Ok
        | Code::Unknown
        | Code::NotFound
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => ErrorKind::Backend,
    }
}
