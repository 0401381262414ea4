//! What the original would have read, before any check: for comparing our reading with its.

use serde_json::{Map, Value as Json, json};

use super::findings::{Finding, Findings, Severity};
use super::read_table;
use super::shape::{Table, Value};

/// The keys that the original has, by the mapping they stand in.
const ORIGINAL: &[(&str, &[&str])] = &[
    ("", &["url", "token_file", "runners"]),
    ("runners", &["url", "token_file", "labels", "max_runners", "docker", "libvirt", "tart"]),
    ("docker", &["image", "runner_cmd", "mounts"]),
    ("libvirt", &["path", "runner_cmd", "socket", "cpus", "memory", "mount"]),
    ("tart", &["image", "runner_cmd", "cpus", "memory", "mounts"]),
    ("mounts", &["name", "source", "target", "read_only"]),
    ("mount", &["source"]),
];

/// The original's keys as JSON, absent and empty ones left out; or the errors of reading.
///
/// A runner that is null is `null`.
///
/// # Errors
/// The findings that make the text unreadable or of wrong types.
pub fn original_view(bytes: &[u8]) -> Result<Json, Vec<Finding>> {
    let mut findings = Findings::default();
    let (_, table) = read_table(bytes, false, &mut findings);
    findings.list.retain(|finding| finding.severity == Severity::Error);
    if !findings.list.is_empty() {
        return Err(findings.list);
    }
    Ok(table.map_or_else(|| json!({}), |table| table_view(&table, "")))
}

fn table_view(table: &Table, place: &str) -> Json {
    let keys = ORIGINAL.iter().find(|(name, _)| *name == place).map_or(&[][..], |(_, keys)| *keys);
    let mut out = Map::new();
    for key in keys {
        let Some(placed) = table.entries.get(key) else {
            continue;
        };
        let value = match &placed.value {
            Value::Text(text) => json!(text),
            Value::Int(number) => json!(number),
            Value::Bool(value) => json!(value),
            Value::TextList(list) => {
                json!(list.iter().map(|item| &item.value).collect::<Vec<_>>())
            }
            Value::Table(inner) => table_view(inner, key),
            Value::Tables(list) => {
                Json::Array(list.iter().map(|inner| table_view(inner, key)).collect())
            }
            Value::Named(list) => Json::Object(
                list.iter()
                    .map(|(name, inner)| {
                        let inner = inner.as_ref().map(|inner| table_view(inner, key));
                        (name.value.clone(), inner.unwrap_or(Json::Null))
                    })
                    .collect(),
            ),
            Value::Duration(_)
            | Value::Size(_)
            | Value::DiskShare(_)
            | Value::Cpus(_)
            | Value::TextMap(_) => continue,
        };
        let empty = match &value {
            Json::String(text) => text.is_empty(),
            Json::Number(number) => number.as_i64() == Some(0),
            Json::Bool(value) => !value,
            Json::Array(list) => list.is_empty(),
            Json::Object(map) => map.is_empty() && *key == "runners",
            Json::Null => true,
        };
        if !empty {
            out.insert((*key).to_owned(), value);
        }
    }
    Json::Object(out)
}
