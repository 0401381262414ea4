//! Which request goes where.

use std::io::Write as _;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, any, get};
use flate2::Compression;
use flate2::write::GzEncoder;
use fleetfoot_myshoes::body;
use fleetfoot_myshoes::rules::Failure;

use super::answer::{self, Answer};
use super::{MyshoesState, access, targets};

/// Longer bodies are no targets.
const BODY_MAX: usize = 1024 * 1024;

/// The whole API.
pub fn router(state: MyshoesState) -> Router {
    Router::new()
        .route("/healthz", none().get(healthz))
        .route("/target", none().get(targets::list).post(targets::create))
        .route(
            "/target/{id}",
            none().get(targets::show).post(targets::update).delete(targets::delete),
        )
        .route("/config/debug", none().post(debug))
        .route("/config/strict", none().post(strict))
        .route("/metrics", none().get(metrics))
        .fallback(no_such_page)
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

/// A path that takes no method yet. Its 404 names none either: axum adds `Allow` to what it refuses by itself.
fn none() -> MethodRouter<MyshoesState> {
    any(no_such_page)
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
    let bytes = body.0.unwrap_or_default();
    match body::switch(&bytes, field) {
        Ok(on) => {
            tracing::info!("switch {field} mode to {on}");
            switch(on);
            answer::nothing()
        }
        Err(_) => answer::failed(Failure::Decode),
    }
}

async fn metrics(State(state): State<MyshoesState>, headers: HeaderMap) -> Answer {
    const TEXT: HeaderValue =
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    const GZIP: HeaderValue = HeaderValue::from_static("gzip");
    let page = (state.metrics)().await;
    let packed = takes_gzip(&headers).then(|| packed(&page)).flatten();
    let is_packed = packed.is_some();
    let mut answer = Answer::new(packed.map_or_else(|| page.into(), Into::into));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    if is_packed {
        headers.insert(CONTENT_ENCODING, GZIP);
    }
    answer
}

/// Whether the client says that it takes gzip: by name and not with `q=0`, or by a star.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let said = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|it| it.to_str().ok());
    let mut by_name = None;
    let mut by_star = None;
    for one in said.flat_map(|it| it.split(',')) {
        let (name, weight) = one.split_once(';').unwrap_or((one, ""));
        let weight = weight.trim().strip_prefix("q=").and_then(|it| it.trim().parse::<f64>().ok());
        let takes = weight.is_none_or(|it| it > 0.0);
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => by_name = Some(takes),
            "*" => by_star = Some(takes),
            _ => {}
        }
    }
    by_name.or(by_star).unwrap_or(false)
}

/// The page as gzip. Writing to memory does not fail; if it did, the page goes out as it is.
fn packed(page: &str) -> Option<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(page.as_bytes()).ok()?;
    packed.finish().ok()
}
