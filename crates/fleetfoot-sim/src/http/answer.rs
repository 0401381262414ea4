//! Answers in the words of the service and of the REST API.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use crate::state::{Dead, RestDenied};

pub(crate) fn raw(status: u16, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

pub(crate) fn json<T: Serialize>(status: u16, body: &T) -> Response {
    match serde_json::to_string(body) {
        Ok(body) => raw(status, body),
        Err(error) => raw(500, error.to_string()),
    }
}

pub(crate) fn empty(status: u16) -> Response {
    let mut response = raw(status, String::new());
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
}

/// An error in the words of the REST API.
pub(crate) fn message(status: u16, message: &str) -> Response {
    json(
        status,
        &json!({
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": status.to_string(),
        }),
    )
}

pub(crate) fn denied(denied: &RestDenied) -> Response {
    match denied {
        RestDenied::Unauthorized(text) => message(401, text),
        RestDenied::Forbidden(text) => message(403, text),
        RestDenied::NotFound => message(404, "Not Found"),
    }
}

/// An error in the words of the scale set service.
pub(crate) fn exception(status: u16, name: &str, text: &str) -> Response {
    let room = if name.starts_with("Agent") || name.starts_with("JobStillRunning") {
        "GitHub.DistributedTask.WebApi"
    } else {
        "GitHub.Actions.Runtime.WebApi"
    };
    json(
        status,
        &json!({
            "$id": "1",
            "innerException": null,
            "message": text,
            "typeName": format!("{room}.{name}, {room}"),
            "typeKey": name,
            "errorCode": 0,
            "eventId": 3000,
        }),
    )
}

pub(crate) fn no_scale_set(id: i64) -> Response {
    exception(
        404,
        "RunnerScaleSetNotFoundException",
        &format!("No runner scale set found with identifier {id}."),
    )
}

pub(crate) fn unauthorized() -> Response {
    exception(401, "VssUnauthorizedException", "The token is expired or not valid.")
}

pub(crate) fn dead(dead: Dead, set: i64, setting: crate::DeadSession) -> Response {
    match (dead, setting) {
        (Dead::ScaleSet, _) => no_scale_set(set),
        (Dead::Token, _) => unauthorized(),
        (Dead::Session, crate::DeadSession::BadRequest) => exception(
            400,
            "RunnerScaleSetSessionExpiredException",
            "The session of the runner scale set has expired.",
        ),
        (Dead::Session, crate::DeadSession::NotFound) => exception(
            404,
            "RunnerScaleSetSessionNotFoundException",
            "The session of the runner scale set was not found.",
        ),
    }
}

pub(crate) fn fault(
    status: u16,
    name: Option<String>,
    text: Option<String>,
    retry_after_s: Option<u64>,
    headers: &BTreeMap<String, String>,
) -> Response {
    let text = text.unwrap_or_else(|| "injected fault".to_owned());
    let mut response = match name {
        Some(name) => exception(status, &name, &text),
        None => message(status, &text),
    };
    let all = response.headers_mut();
    if let Some(seconds) = retry_after_s {
        set(all, "retry-after", &seconds.to_string());
    }
    for (name, value) in headers {
        set(all, name, value);
    }
    response
}

pub(crate) fn rate_limited(seconds: u64) -> Response {
    let mut response = message(429, "You have exceeded a secondary rate limit.");
    set(response.headers_mut(), "retry-after", &seconds.to_string());
    response
}

pub(crate) fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}
