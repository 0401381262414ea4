//! The control API, `/_box/...`: what a test, the demo or `fleetfoot sim job` tells the box.

use std::sync::Arc;

use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json};

use crate::config::Settings;
use crate::faults::Fault;
use crate::request::{ExpireRequest, QueueJobs, Queued, ScaleSetRef, Told};
use crate::state::{OPEN_JOBS_MAX, Shared, State};

use super::route::Route;
use super::{Call, answer};

pub(crate) fn answer(shared: &Arc<Shared>, route: &Route, call: &Call) -> Response {
    let Route::Control(path) = route else { return not_found() };
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    if parts == ["cut"] && call.method == Method::POST {
        shared.cut_connections();
        return answer::empty(204);
    }
    if parts == ["state"] && call.method == Method::GET {
        // Large: the lock is held while it is copied, not while it is written down.
        let view = shared.lock().view();
        return answer::json(200, &view);
    }
    let mut state = shared.lock();
    if call.method == Method::GET {
        get(&state, &parts)
    } else {
        change(&mut state, &call.method, &parts, call)
    }
}

fn not_found() -> Response {
    answer::message(404, "no such control call")
}

fn get(state: &State, parts: &[&str]) -> Response {
    match parts {
        ["health"] => answer::empty(204),
        ["summary"] => answer::json(200, &state.summary()),
        ["settings"] => answer::json(200, &state.settings),
        ["faults"] => answer::json(200, &state.faults.list()),
        ["jit-calls"] => answer::json(200, &state.jit_calls),
        ["requests"] => answer::json(200, &state.requests),
        ["jobs", id] => match id.parse().ok().and_then(|id: u64| state.jobs.get(&id)) {
            Some(job) => answer::json(200, &state.view_job(job)),
            None => answer::message(404, "no such job"),
        },
        _ => not_found(),
    }
}

fn change(state: &mut State, method: &Method, parts: &[&str], call: &Call) -> Response {
    let (posts, removes) = (method == Method::POST, method == Method::DELETE);
    match parts {
        ["jobs"] if posts => with(call, |jobs: QueueJobs| {
            if jobs.scope.is_empty() || (jobs.scale_set.is_none() && jobs.labels.is_empty()) {
                return answer::message(400, "a job needs a scope and a scale set or labels");
            }
            let open = state.totals.jobs_queued_total - state.totals.jobs_completed;
            let count = u64::try_from(jobs.count).unwrap_or(u64::MAX);
            if open.saturating_add(count) > OPEN_JOBS_MAX {
                return answer::message(400, "more jobs are open than a box holds");
            }
            answer::json(201, &Queued { ids: state.queue_jobs(&jobs) })
        }),
        ["jobs", id, "cancel"] if posts => {
            let done = id.parse().is_ok_and(|id| state.cancel_job(id));
            if done { answer::empty(204) } else { answer::message(404, "no such job, or ended") }
        }
        ["jobs", id, "tell"] if posts => with(call, |told: Told| {
            let done = id.parse().is_ok_and(|id| state.tell_anyway(id, &told));
            if done {
                answer::empty(204)
            } else {
                answer::message(404, "no such job in a scale set")
            }
        }),
        ["vanish"] if posts => with(call, |set: ScaleSetRef| {
            let tenant = state.tenant(&set.scope);
            match state.find_set(tenant, None, &set.scale_set) {
                Some(id) => {
                    state.remove_set(id, "vanished");
                    answer::empty(204)
                }
                None => answer::message(404, "no such scale set"),
            }
        }),
        ["expire"] if posts => with(call, |request: ExpireRequest| {
            if state.expire(&request) {
                answer::empty(204)
            } else {
                answer::message(404, "no such scale set")
            }
        }),
        ["faults"] if posts => with(call, |fault: Fault| {
            state.faults.add(fault);
            answer::empty(204)
        }),
        ["faults"] if removes => {
            state.faults.clear();
            answer::empty(204)
        }
        ["settings"] => with(call, |patch: Value| match merged(&state.settings, patch) {
            Ok(settings) => {
                state.settings = settings;
                answer::json(200, &state.settings)
            }
            Err(error) => answer::message(400, &error),
        }),
        ["reset"] if posts => {
            state.reset();
            answer::empty(204)
        }
        _ => not_found(),
    }
}

/// The settings with the keys of an object replaced.
fn merged(settings: &Settings, patch: Value) -> Result<Settings, String> {
    let mut all = json!(settings);
    let Value::Object(patch) = patch else { return Err("settings are an object".to_owned()) };
    for (key, value) in patch {
        all[key] = value;
    }
    serde_json::from_value(all).map_err(|error| error.to_string())
}

fn with<T: serde::de::DeserializeOwned>(call: &Call, work: impl FnOnce(T) -> Response) -> Response {
    match serde_json::from_slice(&call.body) {
        Ok(body) => work(body),
        Err(error) => answer::message(400, &error.to_string()),
    }
}
