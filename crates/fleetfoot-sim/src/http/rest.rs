//! The REST calls: App tokens, registration tokens, runners, runner groups.

use axum::http::Method;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::rfc3339;
use crate::config::App;
use crate::state::{Principal, Register, RegisterError, Removal, Shared, State};

use super::route::{ApiRoute, RestRoute};
use super::{Call, answer, releases};

/// Calls below an organization, repository or enterprise.
pub(crate) fn scoped(shared: &Shared, scope: &str, route: &RestRoute, call: &Call) -> Response {
    let mut state = shared.lock();
    if matches!(route, RestRoute::Installation) {
        return installation_of(&state, scope, call);
    }
    let who = match state.principal(call.authorization()) {
        Ok(who) => who,
        Err(denied) => return answer::denied(&denied),
    };
    let allowed = match route {
        // What an account is, and what is public, everybody may see.
        RestRoute::About | RestRoute::Release { .. } => Ok(()),
        RestRoute::Installation
        | RestRoute::RegistrationToken
        | RestRoute::Runners
        | RestRoute::Runner { .. }
        | RestRoute::GenerateJitConfig
        | RestRoute::Downloads
        | RestRoute::Groups
        | RestRoute::Group { .. } => state.may_administer(&who, scope),
    };
    let mut response = match allowed {
        Err(denied) => answer::denied(&denied),
        Ok(()) => permitted(&mut state, scope, route, call),
    };
    announce(&who, &mut response);
    response
}

/// Headers that tell a token about itself.
fn announce(who: &Principal, response: &mut Response) {
    let Principal::Token(token) = who else { return };
    let headers = response.headers_mut();
    if let Some(expiration) = &token.expiration {
        answer::set(headers, "github-authentication-token-expiration", expiration);
    }
    if let Some(scopes) = &token.oauth_scopes {
        answer::set(headers, "x-oauth-scopes", scopes);
    }
}

fn permitted(state: &mut State, scope: &str, route: &RestRoute, call: &Call) -> Response {
    match route {
        RestRoute::About if state.is_missing(scope) => answer::message(404, "Not Found"),
        RestRoute::About | RestRoute::Installation => about(scope),
        RestRoute::RegistrationToken => {
            let (token, until) = state.registration_token(scope);
            answer::json(201, &json!({ "token": token, "expires_at": rfc3339(until) }))
        }
        RestRoute::Runners => runners(state, scope, call),
        RestRoute::Runner { runner } => one_runner(state, scope, *runner, call),
        RestRoute::GenerateJitConfig => jit_config(state, scope, call),
        RestRoute::Downloads => releases::downloads(&state.settings, call),
        RestRoute::Release { tag } => releases::notes(state, scope, tag, call),
        RestRoute::Groups => groups(state, scope, call),
        RestRoute::Group { group } => {
            match group_json(state, scope).into_iter().find(|known| known["id"] == *group) {
                Some(group) => answer::json(200, &group),
                None => answer::message(404, "Not Found"),
            }
        }
    }
}

fn about(scope: &str) -> Response {
    match scope.split_once('/') {
        Some(("enterprises", name)) => answer::json(200, &json!({ "id": 1, "slug": name })),
        Some((owner, name)) => answer::json(
            200,
            &json!({
                "id": 1,
                "name": name,
                "full_name": scope,
                "private": true,
                "visibility": "private",
                "owner": { "login": owner, "type": "Organization" },
                "permissions": { "admin": true, "push": true, "pull": true },
            }),
        ),
        None => answer::json(200, &json!({ "id": 1, "login": scope, "type": "Organization" })),
    }
}

fn page(call: &Call) -> (usize, usize) {
    let number = |key: &str| call.query.get(key).and_then(|value| value.parse::<usize>().ok());
    let per_page = number("per_page").unwrap_or(30).clamp(1, 100);
    (per_page, number("page").unwrap_or(1).max(1))
}

fn runner_json(state: &State, id: i64) -> Option<Value> {
    state.runners.get(&id).map(|runner| {
        let labels: Vec<Value> = runner
            .labels
            .iter()
            .enumerate()
            .map(|(at, name)| json!({ "id": at + 1, "name": name, "type": "custom" }))
            .collect();
        json!({
            "id": runner.id,
            "name": runner.name,
            "os": if runner.connected_us.is_some() { "Linux" } else { "unknown" },
            "status": if runner.online { "online" } else { "offline" },
            "busy": runner.job.is_some(),
            "ephemeral": true,
            "runner_group_id": runner.group_id,
            "labels": labels,
        })
    })
}

fn runners(state: &mut State, scope: &str, call: &Call) -> Response {
    let tenant = state.tenant(scope);
    let name = call.query.get("name");
    let ids: Vec<i64> = match name {
        Some(name) => state.runner_by_name(tenant, name).into_iter().collect(),
        None => state
            .runners
            .values()
            .filter(|runner| runner.tenant == tenant)
            .map(|runner| runner.id)
            .collect(),
    };
    let (per_page, number) = page(call);
    let shown: Vec<Value> = ids
        .iter()
        .skip((number - 1) * per_page)
        .take(per_page)
        .filter_map(|id| runner_json(state, *id))
        .collect();
    let mut response = answer::json(200, &json!({ "total_count": ids.len(), "runners": shown }));
    if number * per_page < ids.len() {
        let next = format!(
            "<{}/api/v3/{}/actions/runners?per_page={per_page}&page={}>; rel=\"next\"",
            call.base,
            scope_path(scope),
            number + 1
        );
        answer::set(response.headers_mut(), "link", &next);
    }
    response
}

fn scope_path(scope: &str) -> String {
    match scope.split_once('/') {
        Some(("enterprises", _)) => scope.to_owned(),
        Some(_) => format!("repos/{scope}"),
        None => format!("orgs/{scope}"),
    }
}

fn one_runner(state: &mut State, scope: &str, id: i64, call: &Call) -> Response {
    let tenant = state.tenant(scope);
    if call.method == Method::DELETE {
        let name = state.runners.get(&id).map(|runner| runner.name.clone()).unwrap_or_default();
        return match state.remove_runner(tenant, id) {
            Removal::Removed => answer::empty(204),
            Removal::NotFound => answer::message(404, "Not Found"),
            Removal::Busy => answer::message(
                422,
                &format!("Runner \"{name}\" is currently running a job and cannot be deleted."),
            ),
        };
    }
    let known = state.runners.get(&id).is_some_and(|runner| runner.tenant == tenant);
    match runner_json(state, id).filter(|_| known) {
        Some(runner) => answer::json(200, &runner),
        None => answer::message(404, "Not Found"),
    }
}

#[derive(Debug, Deserialize)]
struct JitBody {
    name: String,
    #[serde(default)]
    runner_group_id: Option<i64>,
    #[serde(default)]
    labels: Vec<String>,
}

fn jit_config(state: &mut State, scope: &str, call: &Call) -> Response {
    let Some(body) = call.json::<JitBody>() else {
        return answer::message(422, "Invalid request.");
    };
    if let Err(seconds) = state.take_jit_permit() {
        return answer::rate_limited(seconds);
    }
    let tenant = state.tenant(scope);
    let new = Register {
        tenant,
        set: None,
        group_id: body.runner_group_id.unwrap_or(1),
        name: body.name.clone(),
        labels: body.labels,
    };
    match state.register(new) {
        Ok((id, credential)) => {
            let encoded = super::runner::jit_config(state, id, &body.name, &credential, call);
            let runner = runner_json(state, id);
            answer::json(201, &json!({ "runner": runner, "encoded_jit_config": encoded }))
        }
        Err(RegisterError::Exists) => answer::message(
            409,
            &format!("Already exists - A runner with the name {} already exists.", body.name),
        ),
    }
}

fn group_json(state: &State, scope: &str) -> Vec<Value> {
    state
        .groups(scope)
        .into_iter()
        .map(|(id, name, public)| {
            json!({
                "id": id,
                "name": name,
                "visibility": "all",
                "default": id == 1,
                "inherited": false,
                "allows_public_repositories": public,
                "restricted_to_workflows": false,
                "selected_workflows": [],
            })
        })
        .collect()
}

fn groups(state: &State, scope: &str, call: &Call) -> Response {
    let groups = group_json(state, scope);
    let (per_page, number) = page(call);
    let total = groups.len();
    let shown: Vec<Value> =
        groups.into_iter().skip((number - 1) * per_page).take(per_page).collect();
    answer::json(200, &json!({ "total_count": total, "runner_groups": shown }))
}

fn app_json(app: &App) -> Value {
    json!({
        "id": app.id,
        "client_id": app.client_id,
        "slug": "fleetfoot-box",
        "name": "fleetfoot box",
        "owner": { "login": "box" },
    })
}

fn installation_json(app: &App, installation: &crate::config::Installation) -> Value {
    json!({
        "id": installation.id,
        "app_id": app.id,
        "client_id": app.client_id,
        "account": { "login": installation.account, "type": account_type(installation) },
        "target_type": account_type(installation),
        "html_url": format!("https://github.com/organizations/{}/settings/installations/{}", installation.account, installation.id),
        "repository_selection": if installation.repositories.is_some() { "selected" } else { "all" },
        "permissions": installation.granted(),
        "suspended_at": installation.is_suspended.then_some("2026-01-02T03:04:05Z"),
    })
}

fn account_type(installation: &crate::config::Installation) -> &'static str {
    if installation.is_user { "User" } else { "Organization" }
}

/// What an installation's own token is told of its repositories.
fn installed_repositories(state: &State, call: &Call) -> Response {
    let installation = match state.principal(call.authorization()) {
        Ok(Principal::Installation(installation)) => installation,
        Ok(Principal::Token(_)) => return answer::message(403, "this is no installation"),
        Err(denied) => return answer::denied(&denied),
    };
    let names =
        installation.repositories.unwrap_or_else(|| vec![format!("{}/repo", installation.account)]);
    let (per_page, page) = page(call);
    let shown = names.iter().skip((page - 1) * per_page).take(per_page);
    let shown: Vec<Value> = shown.map(|name| json!({ "full_name": name })).collect();
    answer::json(200, &json!({ "total_count": names.len(), "repositories": shown }))
}

fn installation_of(state: &State, scope: &str, call: &Call) -> Response {
    let app = match state.app_assertion(call.authorization()) {
        Ok(app) => app,
        Err(denied) => return answer::denied(&denied),
    };
    let account = scope.split('/').next().unwrap_or(scope);
    match app.installations.iter().find(|known| known.account.eq_ignore_ascii_case(account)) {
        Some(installation) => answer::json(200, &installation_json(&app, installation)),
        None => answer::message(404, "Not Found"),
    }
}

/// Calls beside the scopes.
pub(crate) fn api(shared: &Shared, route: &ApiRoute, call: &Call) -> Response {
    let mut state = shared.lock();
    match route {
        ApiRoute::Meta => answer::json(
            200,
            &json!({ "verifiable_password_authentication": true, "installed_version": "3.18.0" }),
        ),
        ApiRoute::RateLimit => rate_limit(&state),
        ApiRoute::User => match state.principal(call.authorization()) {
            Ok(who) => {
                let mut response = answer::json(200, &json!({ "login": "box", "id": 1 }));
                announce(&who, &mut response);
                response
            }
            Err(denied) => answer::denied(&denied),
        },
        ApiRoute::AdminConnection => admin_connection(&mut state, call),
        ApiRoute::Archive { name, moved } => releases::archive(&state.settings, name, *moved, call),
        ApiRoute::Repositories => installed_repositories(&state, call),
        ApiRoute::App
        | ApiRoute::Installations
        | ApiRoute::Installation { .. }
        | ApiRoute::AccessToken { .. } => {
            let app = match state.app_assertion(call.authorization()) {
                Ok(app) => app,
                Err(denied) => return answer::denied(&denied),
            };
            as_app(&mut state, &app, route, call)
        }
    }
}

fn as_app(state: &mut State, app: &App, route: &ApiRoute, call: &Call) -> Response {
    let find = |id: i64| app.installations.iter().find(|known| known.id == id);
    match route {
        ApiRoute::Installations => {
            let (per_page, page) = page(call);
            let shown = app.installations.iter().skip((page - 1) * per_page).take(per_page);
            let all: Vec<Value> = shown.map(|one| installation_json(app, one)).collect();
            answer::json(200, &all)
        }
        ApiRoute::Installation { id } => match find(*id) {
            Some(installation) => answer::json(200, &installation_json(app, installation)),
            None => answer::message(404, "Not Found"),
        },
        ApiRoute::AccessToken { id } => match find(*id) {
            Some(installation) => {
                let (token, until) = state.installation_token(*id);
                answer::json(
                    201,
                    &json!({
                        "token": token,
                        "expires_at": rfc3339(until),
                        "permissions": installation.granted(),
                        "repository_selection": "all",
                    }),
                )
            }
            None => answer::message(404, "Not Found"),
        },
        ApiRoute::App
        | ApiRoute::Repositories
        | ApiRoute::Meta
        | ApiRoute::RateLimit
        | ApiRoute::AdminConnection
        | ApiRoute::Archive { .. }
        | ApiRoute::User => answer::json(200, &app_json(app)),
    }
}

fn rate_limit(state: &State) -> Response {
    let (limit, remaining, reset) = match state.settings.rate_limit {
        Some(rate) => (rate.limit, rate.remaining, rate.reset_in_s),
        None => (5000, 5000, 3600),
    };
    let reset = state.wall_s() + i64::try_from(reset).unwrap_or(0);
    let core = json!({
        "limit": limit,
        "remaining": remaining,
        "used": limit.saturating_sub(remaining),
        "reset": reset,
    });
    answer::json(200, &json!({ "resources": { "core": core }, "rate": core }))
}

fn admin_connection(state: &mut State, call: &Call) -> Response {
    match state.admin_token(call.authorization()) {
        Some((tenant, token)) => answer::json(
            200,
            &json!({ "url": format!("{}/tenant/{tenant}/", call.base), "token": token }),
        ),
        None => answer::message(401, "Bad credentials"),
    }
}
