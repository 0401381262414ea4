//! A call to GitHub or a backend, and the bound of its answer.

use std::time::Duration;

use fleetfoot_core::Span;
use fleetfoot_github::{Advice, GithubError};

/// A call that failed, or did not answer within its bound.
pub(crate) enum Failure<E> {
    Failed(E),
    Unanswered,
}

pub(crate) async fn bounded<T, E>(
    bound: Duration,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure<E>> {
    match tokio::time::timeout(bound, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::Failed(error)),
        Err(_) => Err(Failure::Unanswered),
    }
}

/// How long GitHub wants to be left alone.
pub(crate) fn asked(error: &GithubError) -> Option<Span> {
    match error.advice() {
        Advice::Wait(wait) => Some(Span(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))),
        Advice::Retry | Advice::GiveUp => None,
    }
}
