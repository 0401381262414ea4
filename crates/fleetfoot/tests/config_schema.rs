//! The committed schema is what the tables say, and says of files what the reader says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use fleetfoot::config::{schema_json, schema_text};
use serde_json::Value;

#[test]
fn the_committed_schema_is_not_stale() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/fleetfoot.schema.json");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, schema_text()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema_text(),
        "stale; run UPDATE_SNAPSHOTS=1 cargo test -p fleetfoot --test config_schema"
    );
}

#[test]
fn every_key_has_a_description() {
    fn walk(value: &Value, path: &str, count: &mut usize) {
        let Some(map) = value.as_object() else { return };
        if let Some(properties) = map.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                let path = format!("{path}.{name}");
                let text = property["description"].as_str().unwrap_or_default();
                assert!(text.len() > 10 && text.ends_with('.'), "{path}: {text}");
                *count += 1;
                walk(property, &path, count);
            }
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = map.get(inner) {
                walk(inner, path, count);
            }
        }
    }
    let mut count = 0;
    walk(&schema_json(), "", &mut count);
    assert!(count > 80, "{count}");
}

#[test]
fn durations_and_sizes_name_their_units() {
    let text = schema_text();
    assert!(
        text.contains("A duration such as 90s, 5m, 1h30m, or a number of seconds. Default: 5m.")
    );
    assert!(text.contains("A size such as 512MiB, 2GiB, or a number of bytes."));
}
