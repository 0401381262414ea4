//! The JSON Schema of the file, for editors, from the same tables that read it.

use serde_json::{Map, Value, json};

use super::keys::{Key, Kind, Section, TOP};

/// The JSON Schema of a configuration file.
#[must_use]
pub fn schema_json() -> Value {
    let mut schema = section(&TOP);
    if let Value::Object(map) = &mut schema {
        map.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        map.insert("title".into(), json!("fleetfoot configuration"));
    }
    schema
}

/// [`schema_json`] as text, as it is committed and printed.
#[must_use]
pub fn schema_text() -> String {
    format!("{:#}\n", schema_json())
}

fn section(section: &Section) -> Value {
    let mut properties = Map::new();
    for key in section.keys {
        properties.insert(key.name.to_owned(), property(key));
    }
    let required: Vec<&str> =
        section.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut out = json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "patternProperties": { "^(x-|\\.|<<$)": true },
        "additionalProperties": false,
    });
    if !required.is_empty()
        && let Value::Object(map) = &mut out
    {
        map.insert("required".into(), json!(required));
    }
    if section.name == "runner"
        && let Value::Object(map) = &mut out
    {
        let one: Vec<Value> = BACKENDS.iter().map(|name| json!({ "required": [name] })).collect();
        map.insert("oneOf".into(), json!(one));
    }
    out
}

/// The keys of a runner that name a backend.
pub(crate) const BACKENDS: [&str; 5] = ["docker", "libvirt", "tart", "process", "simulated"];

fn property(key: &Key) -> Value {
    let mut out = kind(&key.kind);
    if let Value::Object(map) = &mut out {
        let mut text = key.doc.to_owned();
        if let Some(unit) = unit(&key.kind) {
            text.push(' ');
            text.push_str(unit);
        }
        if !key.default.is_empty() {
            text.push_str(&format!(" Default: {}.", key.default));
        }
        map.insert("description".into(), json!(text));
    }
    out
}

fn unit(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::Duration => Some("A duration such as 90s, 5m, 1h30m, or a number of seconds."),
        Kind::Size => Some("A size such as 512MiB, 2GiB, or a number of bytes."),
        Kind::DiskShare => {
            Some("A percentage such as 10%, a size such as 20GiB, or a number of bytes.")
        }
        Kind::Cpus => Some("A number of processors."),
        Kind::Text
        | Kind::Int
        | Kind::Bool
        | Kind::Choice(_)
        | Kind::TextList
        | Kind::TextMap
        | Kind::Table(_)
        | Kind::BoolOrTable(_)
        | Kind::Tables(_)
        | Kind::Named(_) => None,
    }
}

fn kind(kind: &Kind) -> Value {
    let scalar = json!(["string", "number", "boolean"]);
    match kind {
        Kind::Text => json!({ "type": scalar }),
        Kind::Int => json!({ "type": "number", "minimum": 0 }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Duration | Kind::Size | Kind::DiskShare | Kind::Cpus => {
            json!({ "type": ["string", "number"] })
        }
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::TextList => json!({ "type": "array", "items": { "type": scalar } }),
        Kind::TextMap => json!({ "type": "object", "additionalProperties": { "type": scalar } }),
        Kind::Table(inner) => section(inner),
        Kind::BoolOrTable(inner) => json!({ "anyOf": [{ "type": "boolean" }, section(inner)] }),
        Kind::Tables(inner) => json!({ "type": "array", "items": section(inner) }),
        Kind::Named(inner) => json!({
            "type": "object",
            "minProperties": 1,
            "additionalProperties": section(inner),
        }),
    }
}
