//! The scale set service (`_apis/...`) and its message queue.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::state::{Register, RegisterError, Removal, SessionOpened, Shared, State};

use super::polls::{self, Poll, SessionCall};
use super::route::ServiceRoute;
use super::scale_sets::{create_set, groups, list_sets, one_set, set_json};
use super::{Call, answer};

pub(crate) async fn answer(
    shared: &Arc<Shared>,
    tenant: i64,
    route: &ServiceRoute,
    call: Call,
) -> Response {
    if let Some(set) = route.scale_set() {
        let of_tenant = shared.lock().sets.get(&set).is_some_and(|set| set.tenant == tenant);
        if !of_tenant {
            return marked(shared, answer::no_scale_set(set)).await;
        }
    }
    let response = match route {
        ServiceRoute::Queue { set, session } => {
            let poll = Poll {
                set: *set,
                session,
                token: call.bearer(),
                capacity: capacity(&call),
                base: &service_base(&call, tenant),
                arrived_us: call.arrived_us,
            };
            polls::message(shared, poll).await
        }
        ServiceRoute::Message { set, session, message } => {
            with_session(shared, *set, Some(session), call.bearer(), |state| {
                state.acknowledge(*set, *message);
                answer::empty(204)
            })
        }
        ServiceRoute::AcquireJobs { set } => {
            let Some(ids) = call.json::<Vec<i64>>() else { return bad_body() };
            with_session(shared, *set, None, call.bearer(), |state| {
                let acquired: Vec<i64> =
                    ids.into_iter().filter(|id| state.acquire(*set, *id)).collect();
                answer::json(200, &json!({ "count": acquired.len(), "value": acquired }))
            })
        }
        ServiceRoute::RunnerGroups
        | ServiceRoute::ScaleSets
        | ServiceRoute::ScaleSet { .. }
        | ServiceRoute::GenerateJitConfig { .. }
        | ServiceRoute::Sessions { .. }
        | ServiceRoute::Session { .. }
        | ServiceRoute::Agents
        | ServiceRoute::Agent { .. } => {
            let mut state = shared.lock();
            if state.is_admin(call.authorization(), tenant) {
                administer(&mut state, tenant, route, &call)
            } else {
                answer::unauthorized()
            }
        }
    };
    marked(shared, response).await
}

/// Puts a byte order mark in front of the body when the settings ask for one.
async fn marked(shared: &Shared, response: Response) -> Response {
    if !shared.lock().settings.byte_order_mark {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return answer::empty(500);
    };
    parts.headers.remove("content-length");
    let mut marked = Vec::with_capacity(body.len() + 3);
    if !body.is_empty() {
        marked.extend_from_slice(b"\xEF\xBB\xBF");
    }
    marked.extend_from_slice(&body);
    Response::from_parts(parts, marked.into())
}

fn with_session(
    shared: &Arc<Shared>,
    set: i64,
    session: Option<&str>,
    token: &str,
    work: impl FnOnce(&mut State) -> Response,
) -> Response {
    let _call = match SessionCall::enter(shared, set, session, token, false) {
        Ok(call) => call,
        Err(dead) => {
            let setting = shared.lock().settings.dead_session;
            return answer::dead(dead, set, setting);
        }
    };
    work(&mut shared.lock())
}

fn administer(state: &mut State, tenant: i64, route: &ServiceRoute, call: &Call) -> Response {
    match route {
        ServiceRoute::RunnerGroups => groups(state, tenant, call),
        ServiceRoute::ScaleSets if call.method == Method::POST => create_set(state, tenant, call),
        ServiceRoute::ScaleSets => list_sets(state, tenant, call),
        ServiceRoute::ScaleSet { set } => one_set(state, *set, call),
        ServiceRoute::GenerateJitConfig { set } => jit_config(state, tenant, *set, call),
        ServiceRoute::Sessions { set } => open_session(state, tenant, *set, call),
        ServiceRoute::Session { set, session } => one_session(state, tenant, *set, session, call),
        ServiceRoute::Agents => find_agents(state, tenant, call),
        ServiceRoute::Agent { runner } => one_agent(state, tenant, *runner, call),
        ServiceRoute::AcquireJobs { .. }
        | ServiceRoute::Queue { .. }
        | ServiceRoute::Message { .. } => answer::message(404, "Not Found"),
    }
}

fn capacity(call: &Call) -> Option<u32> {
    call.headers.get("x-scalesetmaxcapacity")?.to_str().ok()?.trim().parse().ok()
}

pub(super) fn service_base(call: &Call, tenant: i64) -> String {
    format!("{}/tenant/{tenant}", call.base)
}

pub(super) fn bad_body() -> Response {
    answer::exception(400, "ArgumentException", "The request body is not what was expected.")
}

pub(super) fn list(values: Vec<Value>) -> Response {
    answer::json(200, &json!({ "count": values.len(), "value": values }))
}

#[derive(Debug, Deserialize)]
struct JitBody {
    #[serde(default)]
    name: String,
}

fn jit_config(state: &mut State, tenant: i64, set: i64, call: &Call) -> Response {
    let Some(body) = call.json::<JitBody>() else { return bad_body() };
    if body.name.is_empty() || body.name.len() > 64 {
        return answer::exception(
            400,
            "ArgumentException",
            "The runner name must have 1 to 64 characters.",
        );
    }
    if let Err(seconds) = state.take_jit_permit() {
        return answer::rate_limited(seconds);
    }
    let Some(known) = state.sets.get(&set) else { return answer::no_scale_set(set) };
    let labels = known.labels.iter().map(|label| label.name.clone()).collect();
    let new = Register {
        tenant,
        set: Some(set),
        group_id: known.group_id,
        name: body.name.clone(),
        labels,
    };
    match state.register(new) {
        Ok((id, credential)) => {
            let encoded = super::runner::jit_config(state, id, &body.name, &credential, call);
            answer::json(
                200,
                &json!({
                    "runner": { "id": id, "name": body.name, "runnerScaleSetId": set },
                    "encodedJITConfig": encoded,
                }),
            )
        }
        Err(RegisterError::Exists) => answer::exception(
            409,
            "AgentExistsException",
            &format!("Pool 0 already contains an agent with name {}.", body.name),
        ),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionBody {
    #[serde(default)]
    owner_name: String,
}

fn session_json(
    state: &State,
    tenant: i64,
    set: i64,
    session: &SessionOpened,
    call: &Call,
) -> Value {
    let known = state.sets.get(&set);
    json!({
        "sessionId": session.id,
        "ownerName": session.owner,
        "runnerScaleSet": known.map(|set| set_json(state, set, call)),
        "messageQueueUrl": format!(
            "{}/queue/{set}/{}?queue=box",
            service_base(call, tenant),
            session.id
        ),
        "messageQueueAccessToken": session.queue_token,
        "statistics": known.map(|set| set.stated(&state.settings)),
    })
}

fn open_session(state: &mut State, tenant: i64, set: i64, call: &Call) -> Response {
    let Some(body) = call.json::<SessionBody>() else { return bad_body() };
    match state.open_session(set, &body.owner_name) {
        Some(session) => answer::json(200, &session_json(state, tenant, set, &session, call)),
        None => {
            let known = state.sets.get(&set);
            answer::exception(
                409,
                "RunnerScaleSetSessionConflictException",
                &format!(
                    "The runner scale set {} already has an active session for owner {}.",
                    known.map_or("", |set| set.name.as_str()),
                    known
                        .and_then(|set| set.session.as_ref())
                        .map_or("", |session| session.owner.as_str()),
                ),
            )
        }
    }
}

fn one_session(state: &mut State, tenant: i64, set: i64, session: &str, call: &Call) -> Response {
    let setting = state.settings.dead_session;
    if call.method == Method::DELETE {
        return match state.delete_session(set, session) {
            Ok(()) => answer::empty(204),
            Err(dead) => answer::dead(dead, set, setting),
        };
    }
    match state.refresh_session(set, session) {
        Ok(opened) => answer::json(200, &session_json(state, tenant, set, &opened, call)),
        Err(dead) => answer::dead(dead, set, setting),
    }
}

fn agent_json(state: &State, id: i64) -> Option<Value> {
    state.runners.get(&id).map(|runner| {
        json!({
            "id": runner.id,
            "name": runner.name,
            "runnerScaleSetId": runner.set.unwrap_or(0),
            "enabled": true,
            "ephemeral": true,
            "status": if runner.online { "online" } else { "offline" },
            "version": "2.336.0",
        })
    })
}

fn find_agents(state: &State, tenant: i64, call: &Call) -> Response {
    let ids: Vec<i64> = match call.query.get("agentName") {
        Some(name) => state.runner_by_name(tenant, name).into_iter().collect(),
        None => state
            .runners
            .values()
            .filter(|runner| runner.tenant == tenant)
            .map(|runner| runner.id)
            .collect(),
    };
    list(ids.into_iter().filter_map(|id| agent_json(state, id)).collect())
}

fn no_agent(id: i64) -> Response {
    answer::exception(
        404,
        "AgentNotFoundException",
        &format!("No agent found with identifier {id}."),
    )
}

fn one_agent(state: &mut State, tenant: i64, id: i64, call: &Call) -> Response {
    if call.method == Method::DELETE {
        let name = state.runners.get(&id).map(|runner| runner.name.clone()).unwrap_or_default();
        return match state.remove_runner(tenant, id) {
            Removal::Removed => answer::empty(204),
            Removal::NotFound => no_agent(id),
            Removal::Busy => answer::exception(
                400,
                "JobStillRunningException",
                &format!("The runner \"{name}\" is currently running a job and cannot be deleted."),
            ),
        };
    }
    let known = state.runners.get(&id).is_some_and(|runner| runner.tenant == tenant);
    match agent_json(state, id).filter(|_| known) {
        Some(agent) => answer::json(200, &agent),
        None => no_agent(id),
    }
}
