//! Requests of this process: no connection, no bytes on a wire, and all else as over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::http::{Request, Response};

use crate::state::Shared;
use crate::tasks::Task;

use super::connection::Connection;
use super::receive;

/// Answers a request as over a connection of its own; nothing, if that was cut. It is worked on beside the caller,
/// and no further once nobody waits for it.
pub(crate) async fn ask(
    shared: Arc<Shared>,
    local: SocketAddr,
    request: Request<Vec<u8>>,
) -> Option<Response<Vec<u8>>> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let _worked_on = Task::start(async move {
        let _ = answer.send(work(shared, local, request).await);
    });
    answered.await.ok().flatten()
}

async fn work(
    shared: Arc<Shared>,
    local: SocketAddr,
    request: Request<Vec<u8>>,
) -> Option<Response<Vec<u8>>> {
    let connection = Connection::new(local);
    let mut closing = shared.closing.subscribe();
    let arrived_us = shared.lock().now_us();
    let (parts, body) = request.into_parts();
    let answer = receive(&shared, &connection, parts, body.into(), arrived_us);
    let (parts, body) = tokio::select! {
        biased;
        _ = closing.changed() => return None,
        answer = answer => answer.into_parts(),
    };
    if connection.is_cut() {
        return None;
    }
    let body = to_bytes(body, usize::MAX).await.ok()?;
    Some(Response::from_parts(parts, body.into()))
}
