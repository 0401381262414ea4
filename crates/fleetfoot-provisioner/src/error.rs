//! The one error type of backends: what was tried, whose failure it is, and what to do about it.

use std::time::Duration;

use fleetfoot_core::InstanceName;

/// Whose failure it is (design, 11.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// This environment cannot be made or started as it is described (image missing, command missing).
    Instance,
    /// The backend itself does not answer or refuses everything (connection, 5xx).
    Backend,
    /// The call's answer was lost: it may have happened or may still happen.
    Unanswered,
    /// The name is taken by something that is not ours.
    NameTaken,
    /// The backend has no room for now (quota, disk full): capacity, not failure.
    NoRoom,
}

/// What the caller should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Try again with the usual backoff.
    Retry,
    /// Try again after this time.
    Wait(Duration),
    /// Trying again changes nothing.
    GiveUp,
}

/// A backend call failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation}{}: {message}", name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default())]
pub struct BackendError {
    /// What was tried: `create container`, `pull image`, `list processes`, …
    pub operation: &'static str,
    /// The instance it concerned.
    pub name: Option<InstanceName>,
    /// Whose failure it is.
    pub kind: ErrorKind,
    /// The tool's own words, one line.
    pub message: String,
    /// The error underneath.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl BackendError {
    /// An error of `operation` with the tool's own words.
    #[must_use]
    pub fn new(operation: &'static str, kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { operation, name: None, kind, message: message.into(), source: None }
    }

    /// The same error, about an instance.
    #[must_use]
    pub fn about(mut self, name: &InstanceName) -> Self {
        self.name = Some(name.clone());
        self
    }

    /// The same error, with what lies underneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// What the caller should do.
    #[must_use]
    pub fn advice(&self) -> Advice {
        match self.kind {
            ErrorKind::Backend | ErrorKind::Unanswered => Advice::Retry,
            ErrorKind::NoRoom => Advice::Wait(Duration::from_secs(10)),
            ErrorKind::Instance | ErrorKind::NameTaken => Advice::GiveUp,
        }
    }
}

/// `3m0s`: a time in whole seconds, as the original writes it into errors.
#[must_use]
pub fn original_duration(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}
