//! Probes, numbers, and requests that go nowhere.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::IntoResponse;
use fleetfoot_api::ErrorCode;
use fleetfoot_core::{Health, Span, Timestamp};

use crate::error::ApiError;
use crate::state::ServerState;

/// An idle pool is passed over every five minutes, a busy one more often: older than this means that the
/// controller hangs.
pub(crate) const LAST_PASS_MAX: Span = Span::minutes(15);

/// Pools named at most in an answer that says what is not ready.
const POOLS_NAMED_MAX: usize = 10;

pub(crate) async fn healthz(State(state): State<ServerState>) -> (StatusCode, String) {
    let health = state.health.borrow().clone();
    // Whoever tells its health has ended, and not by being told to.
    if state.health.has_changed().is_err() && !health.stopping {
        return (StatusCode::SERVICE_UNAVAILABLE, "the controller has ended\n".to_owned());
    }
    match stuck(&health, (state.clock)()) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(age) => {
            let seconds = age.0 / 1000;
            (StatusCode::SERVICE_UNAVAILABLE, format!("no pass over the pools for {seconds} s\n"))
        }
    }
}

/// How long the controller has made no pass, if that is too long.
fn stuck(health: &Health, now: Timestamp) -> Option<Span> {
    // No pool, no pass; and no pass told since the start says nothing either way.
    if health.pools.is_empty() || health.stopping || health.last_pass_at <= health.started_at {
        return None;
    }
    let age = health.last_pass_at.age(now);
    (age > LAST_PASS_MAX).then_some(age)
}

pub(crate) async fn readyz(State(state): State<ServerState>) -> (StatusCode, String) {
    let health = state.health.borrow().clone();
    let refuse = |text: String| (StatusCode::SERVICE_UNAVAILABLE, text);
    if health.stopping {
        return refuse("stopping\n".to_owned());
    }
    if health.ready {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let waits: Vec<&str> = health
        .pools
        .iter()
        .filter(|(_, pool)| !pool.polled)
        .map(|(name, _)| name.as_str())
        .take(POOLS_NAMED_MAX)
        .collect();
    if waits.is_empty() {
        return refuse("starting\n".to_owned());
    }
    refuse(format!("no poll is open yet for: {}\n", waits.join(", ")))
}

pub(crate) async fn metrics(State(state): State<ServerState>) -> impl IntoResponse {
    let text = state.metrics.render(&state.snapshot());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

pub(crate) async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is nothing at `{}`", uri.path()))
}

pub(crate) async fn no_such_method(method: Method, uri: Uri) -> impl IntoResponse {
    let text = format!("`{}` does not take {method}", uri.path());
    let body = ApiError::new(ErrorCode::BadRequest, text).into_response();
    (StatusCode::METHOD_NOT_ALLOWED, body)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleetfoot_core::{PoolHealth, PoolName};

    use super::*;

    #[test]
    fn a_controller_without_a_pass_is_stuck() {
        let name = PoolName::new("linux").unwrap();
        let mut health = Health { started_at: Timestamp(1_000_000), ..Health::default() };
        health.last_pass_at = Timestamp(1_000_001);
        let later = health.last_pass_at + LAST_PASS_MAX;
        assert_eq!(stuck(&health, later + Span(1)), None, "no pool, no pass");
        health.pools.insert(name, Arc::new(PoolHealth::default()));
        assert_eq!(stuck(&health, later), None);
        assert_eq!(stuck(&health, later + Span(1)), Some(Span(LAST_PASS_MAX.0 + 1)));
        health.last_pass_at = health.started_at;
        assert_eq!(stuck(&health, later + Span(1)), None, "none was told of");
        health.last_pass_at = Timestamp(1_000_001);
        health.stopping = true;
        assert_eq!(stuck(&health, later + Span(1)), None);
    }
}
