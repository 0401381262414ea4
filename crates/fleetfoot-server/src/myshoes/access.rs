//! The access log, the bearer token, and the mode in which nothing is changed.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use fleetfoot_core::Timestamp;

use super::MyshoesState;
use super::answer::{self, Answer};
use crate::auth;

/// Whether the route is one whose requests are logged.
fn is_logged(method: &Method, path: &str) -> bool {
    let gets = *method == Method::GET || *method == Method::HEAD;
    let posts = *method == Method::POST;
    match path {
        "/target" => gets || posts,
        "/metrics" => gets,
        "/config/debug" | "/config/strict" => posts,
        other => {
            let id = other.strip_prefix("/target/").unwrap_or_default();
            let is_one = !id.is_empty() && !id.contains('/');
            is_one && (gets || posts || *method == Method::DELETE)
        }
    }
}

/// A line of the access log, without its own time.
fn line(peer: Option<SocketAddr>, now: Timestamp, request: &Request) -> String {
    let at = jiff::Timestamp::from_second(now.0.div_euclid(1000)).unwrap_or_default();
    let at = at.strftime("%d/%b/%Y:%H:%M:%S +0000");
    let peer = peer.map_or_else(|| "@".to_owned(), |peer| peer.to_string());
    // Without its query, which is no part of a route and may hold anything.
    let (method, path, version) = (request.method(), request.uri().path(), request.version());
    format!("HTTP - {peer} - - {at} \"{method} {path} {version:?}\"")
}

/// Logs a request before it is handled.
pub(super) async fn log(request: Request, next: Next) -> Answer {
    if is_logged(request.method(), request.uri().path()) {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|it| it.0);
        tracing::info!("{}", line(peer, crate::state::wall_clock(), &request));
    }
    next.run(request).await
}

/// Lets through what carries the token, if there is one, and what only looks, if nothing else may be done.
pub(super) async fn guard(
    State(state): State<MyshoesState>,
    request: Request,
    next: Next,
) -> Answer {
    if request.uri().path() == "/healthz" {
        return next.run(request).await;
    }
    let carried = request.headers().get(AUTHORIZATION);
    if state.token.as_ref().is_some_and(|token| !auth::carries(carried, token)) {
        let mut refusal = answer::error(StatusCode::UNAUTHORIZED, "a bearer token is needed");
        let headers = refusal.headers_mut();
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return refusal;
    }
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    if state.is_read_only && !looks && is_logged(request.method(), request.uri().path()) {
        return answer::error(StatusCode::FORBIDDEN, "targets are read-only here");
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_line_has_the_originals_form() {
        let request = Request::post("/target?x=1").body(Body::empty()).unwrap();
        let peer = Some("192.0.2.1:4711".parse().unwrap());
        assert_eq!(
            line(peer, Timestamp(1_704_164_645_999), &request),
            "HTTP - 192.0.2.1:4711 - - 02/Jan/2024:03:04:05 +0000 \"POST /target HTTP/1.1\""
        );
    }

    #[test]
    fn probes_and_what_is_no_route_are_not_logged() {
        for (method, path, logged) in [
            (Method::GET, "/target", true),
            (Method::HEAD, "/target/x", true),
            (Method::DELETE, "/target/x", true),
            (Method::POST, "/config/debug", true),
            (Method::GET, "/metrics", true),
            (Method::GET, "/healthz", false),
            (Method::PUT, "/target/x", false),
            (Method::GET, "/target/", false),
            (Method::GET, "/target/a/b", false),
            (Method::POST, "/metrics", false),
            (Method::POST, "/github/events", false),
        ] {
            assert_eq!(is_logged(&method, path), logged, "{method} {path}");
        }
    }
}
