//! A refusal on its way to the caller.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use fleetfoot_api::{ErrorBody, ErrorCode, ErrorDetail};

/// A refusal: a code for programs, a line for people, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// For programs.
    pub code: ErrorCode,
    /// One line for people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl ApiError {
    /// A refusal without advice.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn no_pool(name: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("no pool is named `{name}`"))
            .with_hint("`fleetfoot status` lists the pools")
    }

    pub(crate) fn no_instance(name: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("no instance is named `{name}`"))
            .with_hint("`fleetfoot status` lists the instances")
    }

    /// The store failed: the chain goes to the log, the caller learns that it did.
    pub(crate) fn store(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = %chain(error), "the store failed a request");
        Self::new(ErrorCode::Internal, "the store could not be read or written")
            .with_hint("the daemon's log has the details")
    }
}

/// An error with all its sources, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let detail = ErrorDetail { code: self.code, message: self.message, hint: self.hint };
        (status, Json(ErrorBody { error: detail })).into_response()
    }
}
