//! Requests that change what an operator wants. The change is committed to the store; the store's tick
//! wakes the controller, which does the rest.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use fleetfoot_api::{ErrorCode, InstanceStatus, PoolStatus, StopRequest, TakeoverAnswer};
use fleetfoot_core::{InstanceName, Intent, PoolName};
use tokio::sync::mpsc::error::TrySendError;

use crate::error::ApiError;
use crate::record;
use crate::state::{ControlRequest, ServerState};
use crate::views;

pub(crate) async fn drain(
    State(state): State<ServerState>,
    Path(name): Path<String>,
) -> Result<Json<PoolStatus>, ApiError> {
    set_intent(&state, &name, Intent::Draining).await
}

pub(crate) async fn resume(
    State(state): State<ServerState>,
    Path(name): Path<String>,
) -> Result<Json<PoolStatus>, ApiError> {
    set_intent(&state, &name, Intent::Active).await
}

async fn set_intent(
    state: &ServerState,
    name: &str,
    intent: Intent,
) -> Result<Json<PoolStatus>, ApiError> {
    let key = PoolName::new(name).map_err(|_| ApiError::no_pool(name))?;
    record::set_intent(&state.store, &key, intent, (state.clock)()).await?;
    let snapshot = state.snapshot();
    let pool = snapshot.pools.get(&key).ok_or_else(|| ApiError::no_pool(name))?;
    Ok(Json(snapshot.pool(pool)))
}

pub(crate) async fn stop(
    State(state): State<ServerState>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<InstanceStatus>, ApiError> {
    let request: StopRequest = if body.is_empty() {
        StopRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| {
            ApiError::new(ErrorCode::BadRequest, format!("the body is no stop request: {error}"))
        })?
    };
    let key = InstanceName::new(&name).map_err(|_| ApiError::no_instance(&name))?;
    record::stop(&state.store, &key, request.force, (state.clock)()).await?;
    let snapshot = state.snapshot();
    if let Some((pool, instance)) = snapshot.instance(&key) {
        return Ok(Json(snapshot.instance_status(pool, instance)));
    }
    // What was never begun may be closed by now.
    let closed = record::closed_instance(&state.store, &key).await?;
    let closed = closed.ok_or_else(|| ApiError::no_instance(&name))?;
    Ok(Json(views::closed_status(&closed)))
}

pub(crate) async fn takeover(
    State(state): State<ServerState>,
) -> Result<(StatusCode, Json<TakeoverAnswer>), ApiError> {
    let answer = (StatusCode::ACCEPTED, Json(TakeoverAnswer { pid: std::process::id() }));
    match state.control.try_send(ControlRequest::Takeover) {
        // A full channel holds the same wish already.
        Ok(()) | Err(TrySendError::Full(_)) => {
            tracing::info!("asked to leave the state directory to another process");
            Ok(answer)
        }
        Err(TrySendError::Closed(_)) => {
            Err(ApiError::new(ErrorCode::Unavailable, "the daemon is stopping already"))
        }
    }
}

pub(crate) async fn takeover_refused() -> ApiError {
    ApiError::new(ErrorCode::Forbidden, "a takeover is asked for over the control socket only")
        .with_hint("run `fleetfoot run --takeover` on the same host, with the same state directory")
}
