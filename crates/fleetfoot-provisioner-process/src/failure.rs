//! From what the operating system says to whose failure it is.

use std::io;
use std::path::{Path, PathBuf};

use fleetfoot_provisioner::InstanceName;
use fleetfoot_provisioner::{BackendError, ErrorKind};
use rustix::io::Errno;

/// Something at a path failed.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}", path.display())]
pub(crate) struct At {
    what: &'static str,
    path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

impl At {
    /// What failed, where and why, for a message that stands alone.
    pub(crate) fn one_line(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// Says where an error happened.
pub(crate) trait AtPath<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, At>;
}

impl<T, E: Into<io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, what: &'static str, path: &Path) -> Result<T, At> {
        self.map_err(|source| At { what, path: path.to_owned(), source: source.into() })
    }
}

/// Whose failure an error of the file system is; `otherwise` if it does not tell by itself.
pub(crate) fn kind(error: &io::Error, otherwise: ErrorKind) -> ErrorKind {
    let full = [Errno::NOSPC, Errno::DQUOT].map(Errno::raw_os_error);
    let exhausted =
        [Errno::NFILE, Errno::MFILE, Errno::NOMEM, Errno::AGAIN].map(Errno::raw_os_error);
    match error.raw_os_error() {
        Some(number) if full.contains(&number) => ErrorKind::NoRoom,
        Some(number) if exhausted.contains(&number) => ErrorKind::Backend,
        Some(_) | None => otherwise,
    }
}

/// The error of an operation on an instance.
pub(crate) fn failed(
    operation: &'static str,
    name: &InstanceName,
    otherwise: ErrorKind,
    error: At,
) -> BackendError {
    BackendError::new(operation, kind(&error.source, otherwise), error.one_line()).about(name)
}

/// The blocking part of a call ended without an answer.
pub(crate) fn lost(operation: &'static str, error: tokio::task::JoinError) -> BackendError {
    BackendError::new(
        operation,
        ErrorKind::Unanswered,
        "the blocking part of the call ended without an answer",
    )
    .caused_by(error)
}
