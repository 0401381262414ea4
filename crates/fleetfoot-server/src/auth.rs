//! Who may ask over TCP: the bearer token, and what keeps a web page in the operator's browser from
//! giving orders where no token is configured.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use fleetfoot_api::ErrorCode;
use secrecy::{ExposeSecret, SecretString};

use crate::error::ApiError;

/// Lets a request through that carries the token; probes of health need none.
pub(crate) async fn require_token(
    State(token): State<Arc<SecretString>>,
    request: Request,
    next: Next,
) -> Response {
    let probe = matches!(request.uri().path(), "/healthz" | "/readyz");
    if probe || carries(request.headers().get(AUTHORIZATION), &token) {
        return next.run(request).await;
    }
    let refusal = ApiError::new(ErrorCode::Unauthorized, "a bearer token is needed")
        .with_hint("send `Authorization: Bearer <token>` with the token of `listen`");
    let mut response = refusal.into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Without a token, refuses orders that a web page of another origin makes a browser send, also one whose
/// name was pointed at this address.
pub(crate) async fn refuse_foreign_pages(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if reads || is_own_page(request.headers()) {
        return next.run(request).await;
    }
    ApiError::new(ErrorCode::Forbidden, "an order from a web page of another origin is refused")
        .with_hint("use the command line, or configure a token for `listen`")
        .into_response()
}

fn is_own_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(HOST) else { return false };
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let literal = bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok();
    let origin = match headers.get(ORIGIN) {
        None => true,
        Some(_) => text(ORIGIN)
            .and_then(|origin| origin.split_once("://"))
            .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host)),
    };
    literal && origin
}

pub(crate) fn carries(header: Option<&HeaderValue>, token: &SecretString) -> bool {
    let Some(given) = header.and_then(|value| bearer(value.as_bytes())) else { return false };
    verify_slices_are_equal(given, token.expose_secret().as_bytes()).is_ok()
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_is_carried() {
        let token = SecretString::from("s3cret");
        let table = [
            ("Bearer s3cret", true),
            ("bearer s3cret", true),
            ("Bearer  s3cret ", true),
            ("Bearer s3cre", false),
            ("Bearer s3cret2", false),
            ("Bearer ", false),
            ("Basic s3cret", false),
            ("s3cret", false),
        ];
        for (header, passes) in table {
            let value = HeaderValue::from_static(header);
            assert_eq!(carries(Some(&value), &token), passes, "{header}");
        }
        assert!(!carries(None, &token));
    }

    #[test]
    fn only_own_pages_give_orders() {
        let table = [
            ("127.0.0.1:8080", None, true),
            ("localhost:8080", Some("http://localhost:8080"), true),
            ("[::1]:8080", Some("http://[::1]:8080"), true),
            ("[::1]", None, true),
            ("127.0.0.1:8080", Some("https://evil.example"), false),
            ("127.0.0.1:8080", Some("null"), false),
            ("evil.example:8080", Some("http://evil.example:8080"), false),
            ("evil.example", None, false),
        ];
        for (host, origin, passes) in table {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(is_own_page(&headers), passes, "{host} {origin:?}");
        }
        assert!(!is_own_page(&HeaderMap::new()));
    }
}
