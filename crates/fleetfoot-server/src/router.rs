//! Which request goes where.

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use secrecy::SecretString;

use crate::auth;
use crate::handlers::{health, read, write};
use crate::state::ServerState;

/// Which way a request comes in.
#[derive(Debug, Clone)]
pub enum Face {
    /// The control socket: whoever can open it is the operator.
    Control,
    /// TCP, with the token that requests must carry, if one is configured.
    Network {
        /// The token.
        token: Option<Arc<SecretString>>,
    },
}

/// The routes of one face.
pub fn router(state: ServerState, face: &Face) -> Router {
    let v1 = Router::new()
        .route("/status", get(read::status))
        .route("/pools", get(read::pools))
        .route("/pools/{name}", get(read::pool))
        .route("/pools/{name}/drain", post(write::drain))
        .route("/pools/{name}/resume", post(write::resume))
        .route("/instances", get(read::instances))
        .route("/instances/{name}", get(read::instance))
        .route("/instances/{name}/logs", get(read::logs))
        .route("/instances/{name}/stop", post(write::stop))
        .route("/why/{*subject}", get(read::why))
        .route("/events", get(read::events));
    let v1 = match face {
        Face::Control => v1.route("/takeover", post(write::takeover)),
        Face::Network { .. } => v1.route("/takeover", post(write::takeover_refused)),
    };
    let routes = Router::new()
        .nest(fleetfoot_api::API_V1, v1)
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(health::no_such_path)
        .method_not_allowed_fallback(health::no_such_method)
        .with_state(state);
    match face {
        Face::Control => routes,
        Face::Network { token: None } => routes.layer(from_fn(auth::refuse_foreign_pages)),
        Face::Network { token: Some(token) } => {
            routes.layer(from_fn_with_state(Arc::clone(token), auth::require_token))
        }
    }
}
