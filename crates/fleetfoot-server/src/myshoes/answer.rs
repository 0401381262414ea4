//! Answers as Go's server wrote them.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode};
use fleetfoot_myshoes::body;
use fleetfoot_myshoes::rules::{Failure, Refusal};

const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_SNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));

/// What a handler gives back.
pub(super) type Answer = Response<Body>;

/// One JSON value and a newline.
pub(super) fn json(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Body::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// Nothing, with the type of JSON all the same.
pub(super) fn deleted() -> Answer {
    let mut answer = nothing();
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

/// Nothing at all.
pub(super) fn nothing() -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// An error in its words.
pub(super) fn error(status: StatusCode, words: &str) -> Answer {
    json(status, body::of_error(words))
}

/// A refusal in its words.
pub(super) fn refused(refusal: &Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(status, &refusal.words)
}

/// A failure in its words.
pub(super) fn failed(failure: Failure) -> Answer {
    refused(&failure.into())
}

/// There is no such path, or it does not take this method.
pub(super) fn no_such_page() -> Answer {
    let mut answer = Response::new(Body::from("404 page not found\n"));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, PLAIN);
    let (name, value) = NO_SNIFF;
    headers.insert(name, value);
    answer
}
