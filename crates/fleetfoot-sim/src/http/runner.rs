//! What stand-in runners call. The protocol is the box's own; only the JIT blob has the real shape.

use std::sync::Arc;

use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use crate::state::{Connect, Shared, State};

use super::polls::{self, RunnerCall};
use super::route::AgentRoute;
use super::{Call, answer};

/// The blob of a JIT config: base64 of a map of file names to base64 of their contents.
pub(crate) fn jit_config(
    state: &State,
    id: i64,
    name: &str,
    credential: &str,
    call: &Call,
) -> String {
    let url = state.settings.runner_url.clone().unwrap_or_else(|| call.base.clone());
    let runner = json!({
        "AgentId": id,
        "AgentName": name,
        "PoolId": 1,
        "PoolName": "Default",
        "ServerUrl": url,
        "ServerUrlV2": url,
        "GitHubUrl": "",
        "WorkFolder": "_work",
        "Ephemeral": true,
        "UseV2Flow": true,
        "DisableUpdate": true,
    });
    let credentials = json!({
        "Scheme": "OAuth",
        "Data": { "ClientId": credential, "AuthorizationUrl": format!("{url}/_runner/connect") },
    });
    // The real file holds an RSA key; its place and size are what matters here.
    let key = json!({ "d": STANDARD.encode([7_u8; 256]), "modulus": STANDARD.encode([9_u8; 256]) });
    let blob = json!({
        ".runner": STANDARD.encode(runner.to_string()),
        ".credentials": STANDARD.encode(credentials.to_string()),
        ".credentials_rsaparams": STANDARD.encode(key.to_string()),
    });
    STANDARD.encode(blob.to_string())
}

#[derive(Debug, Deserialize)]
struct ConnectBody {
    credential: String,
}

#[derive(Debug, Deserialize)]
struct CompleteBody {
    result: String,
}

pub(crate) async fn answer(shared: &Arc<Shared>, route: &AgentRoute, call: &Call) -> Response {
    if *route == AgentRoute::Connect {
        return connect(shared, call);
    }
    let Some(held) = RunnerCall::enter(shared, call.bearer()) else { return polls::gone() };
    match route {
        AgentRoute::Connect => polls::gone(),
        AgentRoute::Poll => polls::job(shared, held).await,
        AgentRoute::Wait { job } => polls::cancellation(shared, held, *job).await,
        AgentRoute::Leave => {
            shared.lock().leave(held.runner);
            answer::empty(204)
        }
        AgentRoute::Start { job } => {
            if shared.lock().start_job(held.runner, *job) {
                answer::empty(204)
            } else {
                answer::message(409, "the job is not this runner's any more")
            }
        }
        AgentRoute::Complete { job } => {
            let result =
                call.json::<CompleteBody>().map_or_else(|| "failed".to_owned(), |body| body.result);
            if shared.lock().finish_job(held.runner, *job, &result) {
                answer::empty(204)
            } else {
                answer::message(409, "the job is not this runner's any more")
            }
        }
    }
}

fn connect(shared: &Shared, call: &Call) -> Response {
    let Some(body) = call.json::<ConnectBody>() else {
        return answer::message(400, "no credential");
    };
    let mut state = shared.lock();
    if state.settings.runner_version_deprecated {
        return answer::exception(
            403,
            "AccessDeniedException",
            "Runner version v2.336.0 is deprecated and cannot receive messages.",
        );
    }
    match state.connect(&body.credential) {
        Connect::Welcome { token, name } => {
            answer::json(200, &json!({ "token": token, "name": name }))
        }
        Connect::Refused => answer::message(
            401,
            "The runner registration has been deleted from the server, please re-configure.",
        ),
    }
}
