//! Runner groups and scale sets: found, made, changed, removed.

use axum::http::Method;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::rfc3339;
use crate::model::Label;
use crate::state::{ScaleSet, SetChange, State};

use super::service::{bad_body, list, service_base};
use super::{Call, answer};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SetBody {
    name: Option<String>,
    runner_group_id: Option<i64>,
    runner_group_name: Option<String>,
    labels: Option<Vec<Label>>,
    #[serde(rename = "RunnerSetting")]
    runner_setting: Option<SettingBody>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SettingBody {
    #[serde(default)]
    disable_update: bool,
}

impl SetBody {
    /// What it asks for, or why it cannot be had.
    fn change(self, state: &State, tenant: i64) -> Result<SetChange, Box<Response>> {
        let scope = state.scope_of(tenant);
        let group_id = match (self.runner_group_id, self.runner_group_name) {
            (Some(id), _) if id > 0 => Some(id),
            (_, Some(name)) if !name.is_empty() => state
                .groups(scope)
                .into_iter()
                .find(|(_, known, _)| known.eq_ignore_ascii_case(&name))
                .map(|(id, _, _)| id),
            _ => None,
        };
        if let Some(id) = group_id
            && state.group_name(scope, id).is_none()
        {
            let text = format!("No runner group found with identifier {id}.");
            return Err(Box::new(answer::exception(404, "RunnerGroupNotFoundException", &text)));
        }
        for label in self.labels.iter().flatten() {
            let known = ["System", "User"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(&label.label_type));
            if !known || label.name.trim().is_empty() {
                let text = format!(
                    "The label '{}' of type '{}' is not valid.",
                    label.name, label.label_type
                );
                return Err(Box::new(answer::exception(400, "ArgumentException", &text)));
            }
        }
        Ok(SetChange {
            name: self.name.filter(|name| !name.is_empty()),
            group_id,
            labels: self.labels,
            disable_update: self.runner_setting.map(|setting| setting.disable_update),
        })
    }
}

pub(super) fn groups(state: &State, tenant: i64, call: &Call) -> Response {
    let want = call.query.get("groupName");
    let groups = state.groups(state.scope_of(tenant));
    list(
        groups
            .into_iter()
            .filter(|(_, name, _)| want.is_none_or(|want| name.eq_ignore_ascii_case(want)))
            .map(|(id, name, _)| {
                let size = state
                    .runners
                    .values()
                    .filter(|runner| runner.tenant == tenant && runner.group_id == id)
                    .count();
                json!({ "id": id, "name": name, "size": size, "isDefaultGroup": id == 1 })
            })
            .collect(),
    )
}

pub(super) fn set_json(state: &State, set: &ScaleSet, call: &Call) -> Value {
    let scope = state.scope_of(set.tenant);
    let base = service_base(call, set.tenant);
    json!({
        "id": set.id,
        "name": set.name,
        "runnerGroupId": set.group_id,
        "runnerGroupName": state.group_name(scope, set.group_id).unwrap_or_default(),
        "labels": set.labels,
        "RunnerSetting": { "disableUpdate": set.disable_update },
        "createdOn": rfc3339(set.created_us),
        "runnerJitConfigUrl":
            format!("{base}/_apis/runtime/runnerscalesets/{}/generatejitconfig", set.id),
        "statistics": set.stated(&state.settings),
    })
}

pub(super) fn list_sets(state: &State, tenant: i64, call: &Call) -> Response {
    let group: Option<i64> = call.query.get("runnerGroupId").and_then(|id| id.parse().ok());
    let name = call.query.get("name");
    let ids = state.candidates(tenant, name.map(String::as_str));
    list(
        ids.iter()
            .filter_map(|id| state.sets.get(id))
            .filter(|set| group.is_none_or(|group| set.group_id == group))
            .map(|set| set_json(state, set, call))
            .collect(),
    )
}

pub(super) fn create_set(state: &mut State, tenant: i64, call: &Call) -> Response {
    let Some(body) = call.json::<SetBody>() else { return bad_body() };
    let change = match body.change(state, tenant) {
        Ok(change) => change,
        Err(response) => return *response,
    };
    let Some(name) = change.name.clone() else {
        return answer::exception(400, "ArgumentException", "The scale set needs a name.");
    };
    match state.create_set(tenant, change).and_then(|id| state.sets.get(&id)) {
        Some(set) => answer::json(200, &set_json(state, set, call)),
        None => answer::exception(
            409,
            "RunnerScaleSetExistsException",
            &format!("A runner scale set named '{name}' already exists in this runner group."),
        ),
    }
}

pub(super) fn one_set(state: &mut State, set: i64, call: &Call) -> Response {
    if call.method == Method::DELETE {
        state.remove_set(set, "deleted with its scale set");
        return answer::empty(204);
    }
    if call.method == Method::PATCH || call.method == Method::PUT {
        let Some(body) = call.json::<SetBody>() else { return bad_body() };
        let Some(tenant) = state.sets.get(&set).map(|set| set.tenant) else {
            return answer::no_scale_set(set);
        };
        match body.change(state, tenant) {
            Ok(change) => {
                state.update_set(set, change);
            }
            Err(response) => return *response,
        }
    }
    match state.sets.get(&set) {
        Some(known) => answer::json(200, &set_json(state, known, call)),
        None => answer::no_scale_set(set),
    }
}
