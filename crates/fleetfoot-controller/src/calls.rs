//! A call to GitHub or a backend, and the bound of its answer.

use std::time::Duration;

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
