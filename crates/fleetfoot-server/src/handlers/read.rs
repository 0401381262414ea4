//! Requests that only look.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use fleetfoot_api::{
    ErrorCode, EventList, InstanceList, InstanceStatus, LogTail, PoolList, PoolStatus, Status, Why,
};
use fleetfoot_core::{InstanceName, PoolName};
use fleetfoot_store::EventFilter;
use serde::Deserialize;

use crate::error::ApiError;
use crate::record;
use crate::state::ServerState;
use crate::views;

/// Lines of output shown unless more are asked for.
const LOG_LINES: usize = 200;
/// Lines of output at most.
const LOG_LINES_MAX: usize = 10_000;
/// Bytes of output at most, the last ones.
const LOG_BYTES_MAX: usize = 4 << 20;
/// The backend must hand the output over within this time.
const LOG_BOUND: Duration = Duration::from_secs(20);
/// Events shown unless more are asked for, and at most.
const EVENTS: u32 = 100;
const EVENTS_MAX: u32 = 1000;

pub(crate) async fn status(State(state): State<ServerState>) -> Json<Status> {
    Json(state.snapshot().status())
}

pub(crate) async fn pools(State(state): State<ServerState>) -> Json<PoolList> {
    Json(PoolList { pools: state.snapshot().pool_list() })
}

pub(crate) async fn pool(
    State(state): State<ServerState>,
    Path(name): Path<String>,
) -> Result<Json<PoolStatus>, ApiError> {
    let snapshot = state.snapshot();
    let found = PoolName::new(&name).ok().and_then(|name| snapshot.pools.get(&name).cloned());
    let found = found.ok_or_else(|| ApiError::no_pool(&name))?;
    Ok(Json(snapshot.pool(&found)))
}

pub(crate) async fn instances(State(state): State<ServerState>) -> Json<InstanceList> {
    Json(InstanceList { instances: state.snapshot().instance_list() })
}

pub(crate) async fn instance(
    State(state): State<ServerState>,
    Path(name): Path<String>,
) -> Result<Json<InstanceStatus>, ApiError> {
    let key = InstanceName::new(&name).map_err(|_| ApiError::no_instance(&name))?;
    let snapshot = state.snapshot();
    if let Some((pool, instance)) = snapshot.instance(&key) {
        return Ok(Json(snapshot.instance_status(pool, instance)));
    }
    let closed = record::closed_instance(&state.store, &key).await?;
    let closed = closed.ok_or_else(|| ApiError::no_instance(&name))?;
    Ok(Json(views::closed_status(&closed)))
}

#[derive(Debug, Deserialize)]
pub(crate) struct LogQuery {
    lines: Option<usize>,
}

pub(crate) async fn logs(
    State(state): State<ServerState>,
    Path(name): Path<String>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Json<LogTail>, ApiError> {
    let Query(query) = query.map_err(|error| bad_query(&error))?;
    let lines = query.lines.unwrap_or(LOG_LINES).min(LOG_LINES_MAX);
    let key = InstanceName::new(&name).map_err(|_| ApiError::no_instance(&name))?;
    let lives = state.snapshot().instance(&key).is_some();
    if !lives && record::closed_instance(&state.store, &key).await?.is_none() {
        return Err(ApiError::no_instance(&name));
    }
    let unavailable = |detail: String| {
        let refusal = ApiError::new(
            ErrorCode::Unavailable,
            format!("the output of `{name}` is not available: {detail}"),
        );
        if lives { refusal } else { refusal.with_hint("it is closed; its environment is removed") }
    };
    let read = tokio::time::timeout(LOG_BOUND, (state.logs)(key, lines)).await;
    let text = read
        .unwrap_or_else(|_| Err("the backend did not answer in time".to_owned()))
        .map_err(unavailable)?;
    Ok(Json(LogTail { instance: name.clone(), text: tail(text, lines) }))
}

/// The last `lines` lines of `text`, within the bound of bytes.
fn tail(mut text: String, lines: usize) -> String {
    let newlines = text.char_indices().rev().filter(|(_, c)| *c == '\n').map(|(at, _)| at);
    // The newline that ends the text ends its last line and begins none.
    let start = newlines.filter(|at| at + 1 < text.len()).nth(lines.saturating_sub(1));
    let mut from = start.map_or(0, |at| at + 1).max(text.len().saturating_sub(LOG_BYTES_MAX));
    while !text.is_char_boundary(from) {
        from += 1;
    }
    if lines == 0 { String::new() } else { text.split_off(from) }
}

pub(crate) async fn why(
    State(state): State<ServerState>,
    Path(subject): Path<String>,
) -> Result<Json<Why>, ApiError> {
    record::why(&state.store, &state.snapshot(), &subject).await.map(Json)
}

#[derive(Debug, Deserialize)]
pub(crate) struct EventQuery {
    pool: Option<String>,
    instance: Option<String>,
    limit: Option<u32>,
}

pub(crate) async fn events(
    State(state): State<ServerState>,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Result<Json<EventList>, ApiError> {
    let Query(query) = query.map_err(|error| bad_query(&error))?;
    let pool = query.pool.map(|name| PoolName::new(&name).map_err(|_| ApiError::no_pool(&name)));
    let instance = query
        .instance
        .map(|name| InstanceName::new(&name).map_err(|_| ApiError::no_instance(&name)));
    let filter = EventFilter {
        pool: pool.transpose()?,
        instance: instance.transpose()?,
        limit: query.limit.unwrap_or(EVENTS).clamp(1, EVENTS_MAX),
        ..EventFilter::default()
    };
    Ok(Json(EventList { events: record::events(&state.store, filter).await? }))
}

fn bad_query(error: &QueryRejection) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, error.body_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_whole_lines() {
        let table = [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\n", 5, "a\n"),
            ("", 5, ""),
            ("a\nb\n", 0, ""),
            ("ä\nö\n", 1, "ö\n"),
        ];
        for (text, lines, last) in table {
            assert_eq!(tail(text.to_owned(), lines), last, "{text:?} {lines}");
        }
        let long = "ä".repeat(LOG_BYTES_MAX);
        assert!(tail(long, 1).len() <= LOG_BYTES_MAX);
    }
}
