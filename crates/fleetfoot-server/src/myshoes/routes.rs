//! Which request goes where.

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use fleetfoot_myshoes::body;
use fleetfoot_myshoes::rules::Failure;

use super::answer::{self, Answer};
use super::{MyshoesState, access, targets};

/// Longer bodies are no targets.
const BODY_MAX: usize = 1024 * 1024;

/// The whole API.
pub fn router(state: MyshoesState) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/target", get(targets::list).post(targets::create))
        .route("/target/{id}", get(targets::show).post(targets::update).delete(targets::delete))
        .route("/config/debug", post(debug))
        .route("/config/strict", post(strict))
        .route("/metrics", get(metrics))
        .fallback(no_such_page)
        .method_not_allowed_fallback(no_such_page)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn_with_state(state.clone(), access::guard))
        .layer(from_fn(access::log))
        .with_state(state)
}

/// What a process tells that waits for another one's lock: that it lives.
pub fn standby() -> Router {
    let healthz =
        || async { answer::json(StatusCode::OK, "{\"health\":\"standby\"}\n".to_owned()) };
    Router::new()
        .route("/healthz", get(healthz))
        .fallback(no_such_page)
        .method_not_allowed_fallback(no_such_page)
}

async fn no_such_page() -> Answer {
    answer::no_such_page()
}

async fn healthz() -> Answer {
    answer::json(StatusCode::OK, "{\"health\":\"ok\"}\n".to_owned())
}

async fn debug(State(state): State<MyshoesState>, body: targets::Sent) -> Answer {
    turn(&state.debug, "debug", body)
}

async fn strict(State(state): State<MyshoesState>, body: targets::Sent) -> Answer {
    turn(&state.strict, "strict", body)
}

/// A field that is missing means off.
fn turn(switch: &super::Switch, field: &str, body: targets::Sent) -> Answer {
    let bytes = body.unwrap_or_default();
    match body::switch(&bytes, field) {
        Ok(on) => {
            tracing::info!("switch {field} mode to {on}");
            switch(on);
            answer::nothing()
        }
        Err(_) => answer::failed(Failure::Decode),
    }
}

async fn metrics(State(state): State<MyshoesState>) -> Answer {
    const TEXT: HeaderValue =
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    let mut answer = Answer::new((state.metrics)().into());
    answer.headers_mut().insert(CONTENT_TYPE, TEXT);
    answer
}
