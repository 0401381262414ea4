//! The HTTP face: every request is read, counted, delayed, struck by a fault or not, and answered.

mod answer;
mod connection;
mod control;
mod polls;
mod releases;
mod rest;
mod route;
mod runner;
mod scale_sets;
mod service;
mod within;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State as Extract;
use axum::extract::connect_info::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use axum::response::Response;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::clock::http_date;
use crate::faults::{Endpoint, FaultAction, Subject};
use crate::observe::Seen;
use crate::state::Shared;

pub(crate) use connection::ALL as CLOSE_ALL;
pub(crate) use connection::Bound;
use connection::{Connection, Listener};
pub(crate) use polls::RunnerCall;
use route::{ApiRoute, RestRoute, Route, ServiceRoute};
pub(crate) use within::ask;

/// Larger bodies are nothing that anybody here has to say.
const BODY_MAX: usize = 4 << 20;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-github-request-id");
const ACTIVITY_ID: HeaderName = HeaderName::from_static("activityid");

/// A request, read completely.
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) query: HashMap<String, String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// `http://host:port` as the caller spells it.
    pub(crate) base: String,
    pub(crate) arrived_us: u64,
}

impl Call {
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn bearer(&self) -> &str {
        self.authorization().and_then(|value| value.split_once(' ')).map_or("", |(_, token)| token)
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// Serves a bound listener until the task is ended.
pub(crate) async fn serve(shared: Arc<Shared>, bound: Bound, address: SocketAddr) {
    let router = axum::Router::new().fallback(handle).with_state(Arc::clone(&shared));
    let served = axum::serve(
        Listener::new(bound, address, shared.closing.subscribe()),
        router.into_make_service_with_connect_info::<Connection>(),
    );
    if let Err(error) = served.await {
        tracing::error!(%error, "box stopped serving");
    }
}

async fn handle(
    Extract(shared): Extract<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request<Body>,
) -> Response {
    let arrived_us = shared.lock().now_us();
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_MAX).await else {
        return answer::message(413, "body too large");
    };
    receive(&shared, &connection, parts, body, arrived_us).await
}

/// A request that was read completely.
async fn receive(
    shared: &Arc<Shared>,
    connection: &Connection,
    parts: Parts,
    body: Bytes,
    arrived_us: u64,
) -> Response {
    let route = Route::parse(&parts.method, parts.uri.path());
    let call = Call {
        base: base_url(&parts.headers, connection.local()),
        method: parts.method,
        query: route::query(parts.uri.query().unwrap_or("")),
        headers: parts.headers,
        body,
        arrived_us,
    };
    let endpoint = route.endpoint(&call.method);
    if endpoint.is_control() {
        connection.spare();
        return control::answer(shared, &route, &call);
    }
    let subject = subject(shared, &route, &call);
    let (number, latency) = arrive(shared, endpoint, &route, &subject, arrived_us);
    if latency > 0 {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    let struck = strike(shared, endpoint, &subject, &route);
    shared.watching.tell(|| asked(endpoint, &subject, &route, &call));
    let answered = |status, retry_after_s| answered(endpoint, &subject, status, retry_after_s);
    let mut response = match struck {
        None => dispatch(shared, &route, call).await,
        Some(action) => match faulty(shared, action, &route, call, connection).await {
            Some(response) => response,
            None => {
                shared.watching.tell(|| answered(0, None));
                return answer::empty(500);
            }
        },
    };
    let retry_after = response.headers().get("retry-after").and_then(|it| it.to_str().ok());
    let retry_after_s = retry_after.and_then(|text| text.parse().ok());
    shared.watching.tell(|| answered(response.status().as_u16(), retry_after_s));
    if let Some(number) = number {
        shared.lock().answered_jit_call(number, response.status().as_u16());
    }
    decorate(shared, &mut response);
    let status = response.status().as_u16();
    tracing::debug!(?endpoint, status, scope = subject.scope, "box answered");
    response
}

fn asked(endpoint: Endpoint, subject: &Subject, route: &Route, call: &Call) -> Seen {
    let capacity = call.headers.get("x-scalesetmaxcapacity");
    let text = capacity.and_then(|value| value.to_str().ok());
    Seen::Asked {
        endpoint,
        scope: subject.scope.clone(),
        scale_set: subject.scale_set.clone(),
        runner: subject.runner.clone(),
        message: route.message(),
        capacity: text.and_then(|text| text.parse().ok()),
    }
}

fn answered(
    endpoint: Endpoint,
    subject: &Subject,
    status: u16,
    retry_after_s: Option<u64>,
) -> Seen {
    Seen::Answered {
        endpoint,
        scope: subject.scope.clone(),
        scale_set: subject.scale_set.clone(),
        runner: subject.runner.clone(),
        status,
        retry_after_s,
    }
}

/// Counts the request and says how long it has to wait.
fn arrive(
    shared: &Shared,
    endpoint: Endpoint,
    route: &Route,
    subject: &Subject,
    arrived_us: u64,
) -> (Option<u64>, u64) {
    let mut state = shared.lock();
    state.count_request(endpoint);
    let jit = [Endpoint::GenerateJitConfig, Endpoint::RestGenerateJitConfig].contains(&endpoint);
    let number = jit.then(|| {
        let name = subject.runner.clone().unwrap_or_default();
        state.record_jit_call(name, route.scale_set(), arrived_us)
    });
    let settings = &state.settings;
    let general = if endpoint == Endpoint::GetMessage {
        settings.poll_latency_ms
    } else if endpoint.is_runner() {
        0
    } else {
        settings.control_latency_ms
    };
    (number, general + settings.endpoint_latency_ms.get(&endpoint).copied().unwrap_or(0))
}

fn strike(
    shared: &Shared,
    endpoint: Endpoint,
    subject: &Subject,
    route: &Route,
) -> Option<FaultAction> {
    let mut state = shared.lock();
    let idle = route.runner().is_some_and(|runner| state.is_idle(runner));
    state
        .faults
        .strike(endpoint, subject, |action| idle || !matches!(action, FaultAction::OfferJob { .. }))
}

/// Answers as the fault says; `None` when the connection was cut.
async fn faulty(
    shared: &Arc<Shared>,
    action: FaultAction,
    route: &Route,
    call: Call,
    connection: &Connection,
) -> Option<Response> {
    match action {
        FaultAction::Status { status, exception, message, retry_after_s, headers } => {
            Some(answer::fault(status, exception, message, retry_after_s, &headers))
        }
        FaultAction::Body { status, body } => Some(answer::raw(status, body)),
        FaultAction::EmptyBody => Some(answer::raw(200, String::new())),
        FaultAction::Delay { ms } => {
            let delay = Duration::from_millis(ms);
            if route.endpoint(&call.method) == Endpoint::GetMessage {
                tokio::time::sleep(delay).await;
                return Some(dispatch(shared, route, call).await);
            }
            // Once received it goes on without its caller, as at the real service.
            let (shared, route) = (Arc::clone(shared), route.clone());
            let (answer, answered) = tokio::sync::oneshot::channel();
            crate::tasks::detach(async move {
                tokio::time::sleep(delay).await;
                let _ = answer.send(dispatch(&shared, &route, call).await);
            });
            answered.await.ok()
        }
        FaultAction::Hang => std::future::pending().await,
        FaultAction::Cut => {
            connection.cut();
            None
        }
        FaultAction::LoseAnswer => {
            dispatch(shared, route, call).await;
            connection.cut();
            None
        }
        FaultAction::OfferJob { duration_ms } => {
            if let Some(runner) = route.runner() {
                shared.lock().offer_now(runner, duration_ms);
            }
            Some(dispatch(shared, route, call).await)
        }
    }
}

async fn dispatch(shared: &Arc<Shared>, route: &Route, call: Call) -> Response {
    match route {
        Route::Service { tenant, route } => service::answer(shared, *tenant, route, call).await,
        Route::Rest { scope, route } => rest::scoped(shared, scope, route, &call),
        Route::Api(route) => rest::api(shared, route, &call),
        Route::Agent(route) => runner::answer(shared, route, &call).await,
        Route::Control(_) | Route::Unknown => answer::message(404, "Not Found"),
    }
}

#[derive(serde::Deserialize)]
struct Named {
    name: String,
}

#[derive(serde::Deserialize)]
struct Registration {
    url: String,
}

#[derive(serde::Deserialize)]
struct Presented {
    credential: String,
}

/// What faults can choose by.
fn subject(shared: &Shared, route: &Route, call: &Call) -> Subject {
    let state = shared.lock();
    let mut subject = Subject::default();
    match route {
        Route::Service { tenant, route } => {
            subject.scope = Some(state.scope_of(*tenant).to_owned());
            subject.scale_set = match route.scale_set() {
                Some(set) => state.sets.get(&set).map(|set| set.name.clone()),
                None if *route == ServiceRoute::ScaleSets => call
                    .query
                    .get("name")
                    .cloned()
                    .or_else(|| call.json::<Named>().map(|named| named.name)),
                None => None,
            };
            if matches!(route, ServiceRoute::GenerateJitConfig { .. }) {
                subject.runner = call.json::<Named>().map(|named| named.name);
            }
        }
        Route::Rest { scope, route } => {
            subject.scope = Some(scope.clone());
            if matches!(route, RestRoute::GenerateJitConfig) {
                subject.runner = call.json::<Named>().map(|named| named.name);
            }
        }
        Route::Api(ApiRoute::AdminConnection) => {
            subject.scope = call.json::<Registration>().and_then(|body| scope_of_url(&body.url));
        }
        Route::Agent(_) => {
            let credential = call.json::<Presented>().map(|body| body.credential);
            let known = state.runner_presenting(call.bearer(), credential.as_deref());
            if let Some(runner) = known.and_then(|id| state.runners.get(&id)) {
                subject.scope = Some(state.scope_of(runner.tenant).to_owned());
                subject.runner = Some(runner.name.clone());
                subject.scale_set =
                    runner.set.and_then(|set| state.sets.get(&set)).map(|set| set.name.clone());
            }
        }
        Route::Api(_) | Route::Control(_) | Route::Unknown => {}
    }
    if let Some(runner) = route.runner().and_then(|runner| state.runners.get(&runner)) {
        subject.runner = Some(runner.name.clone());
        if subject.scale_set.is_none() {
            subject.scale_set =
                runner.set.and_then(|set| state.sets.get(&set)).map(|set| set.name.clone());
        }
    }
    subject
}

/// `http://host/acme/app` is about `acme/app`.
fn scope_of_url(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (_, scope) = rest.split_once('/')?;
    Some(scope.trim_matches('/').to_owned())
}

/// Headers that every answer carries.
fn decorate(shared: &Shared, response: &mut Response) {
    let (date, rate, reset) = {
        let state = shared.lock();
        let rate = state.settings.rate_limit;
        let reset = rate.map(|rate| state.wall_s() + i64::try_from(rate.reset_in_s).unwrap_or(0));
        (http_date(state.now_us(), state.settings.clock_skew_s), rate, reset.unwrap_or(0))
    };
    let headers = response.headers_mut();
    if let Ok(date) = HeaderValue::from_str(&date) {
        headers.insert(header::DATE, date);
    }
    let id = format!("{:016X}", fastrand::u64(..));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id.clone());
        headers.insert(ACTIVITY_ID, id);
    }
    if let Some(rate) = rate {
        answer::set(headers, "x-ratelimit-limit", &rate.limit.to_string());
        answer::set(headers, "x-ratelimit-remaining", &rate.remaining.to_string());
        let used = rate.limit.saturating_sub(rate.remaining);
        answer::set(headers, "x-ratelimit-used", &used.to_string());
        answer::set(headers, "x-ratelimit-reset", &reset.to_string());
        answer::set(headers, "x-ratelimit-resource", "core");
    }
}

fn base_url(headers: &HeaderMap, local: SocketAddr) -> String {
    match headers.get(header::HOST).and_then(|host| host.to_str().ok()) {
        Some(host) => format!("http://{host}"),
        None => format!("http://{local}"),
    }
}
