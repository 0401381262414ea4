//! The documentation says what the program does: keys, examples, words, causes, numbers and links.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fleetfoot::config::{Class, LoadOptions, parse, schema_json};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every page of the documentation, by its path from the root.
fn pages() -> Vec<(PathBuf, String)> {
    fn collect(directory: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                out.push(path);
            }
        }
    }
    let mut paths: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
            .map(|name| root().join(name))
            .into();
    collect(&root().join("docs"), &mut paths);
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The keys of each mapping of the schema, by the mapping's place in a file.
fn sections() -> BTreeMap<String, BTreeMap<String, Value>> {
    fn walk(schema: &Value, place: &str, out: &mut BTreeMap<String, BTreeMap<String, Value>>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                out.entry(place.to_owned()).or_default().insert(name.clone(), property.clone());
                let inner = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                walk(property, &inner, out);
            }
        }
        for (key, suffix) in [("items", "[]"), ("additionalProperties", ".<name>")] {
            if schema[key].is_object() {
                walk(&schema[key], &format!("{place}{suffix}"), out);
            }
        }
        for either in schema["anyOf"].as_array().into_iter().flatten() {
            walk(either, place, out);
        }
    }
    let mut out = BTreeMap::new();
    walk(&schema_json(), "", &mut out);
    // The same mapping may stand in a runner; one table is enough.
    for part in ["github", "github.app"] {
        assert_eq!(out.remove(&format!("runners.<name>.{part}")).as_ref(), out.get(part));
    }
    out
}

/// One section's keys as a table.
fn table(keys: &BTreeMap<String, Value>) -> String {
    let mut text = "| Key | Value | Default | Meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for (name, property) in keys {
        let description = property["description"].as_str().unwrap();
        let (meaning, default) = match description.rsplit_once(" Default: ") {
            Some((meaning, default)) => (meaning, default.trim_end_matches('.')),
            None => (description, ""),
        };
        let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
        let row = [format!("`{name}`"), kind(property), cell(default), cell(meaning)];
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

fn kind(property: &Value) -> String {
    if let Some(words) = property["enum"].as_array() {
        let words: Vec<String> =
            words.iter().map(|word| format!("`{}`", word.as_str().unwrap())).collect();
        return words.join(", ");
    }
    let types = match &property["type"] {
        Value::Array(types) => types.len(),
        Value::String(word) => {
            return match word.as_str() {
                "array" if property["items"]["properties"].is_object() => "list of mappings",
                "array" => "list",
                "object" => "mapping",
                "boolean" => "`true`, `false`",
                word => word,
            }
            .to_owned();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => 0,
    };
    match types {
        0 => "`true`, `false`, or a mapping",
        2 => "text or number",
        _ => "text",
    }
    .to_owned()
}

/// `configuration.md` has each section's table as the schema has it; with `UPDATE_SNAPSHOTS` it is written.
#[test]
fn the_reference_of_keys_is_the_schema() {
    let file = "docs/configuration.md";
    let mut text = read(file);
    for (place, keys) in sections() {
        let begin = format!("<!-- keys {place} -->\n").replace("  ", " ");
        let end = "<!-- end -->";
        let (before, rest) =
            text.split_once(&begin).unwrap_or_else(|| panic!("{file} has no section {begin}"));
        let (_, after) = rest.split_once(end).unwrap();
        text = format!("{before}{begin}\n{}\n{end}{after}", table(&keys));
    }
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(root().join(file), &text).unwrap();
    }
    let hint = "stale; run UPDATE_SNAPSHOTS=1 cargo test -p fleetfoot --test docs";
    assert!(read(file) == text, "{hint}");
}

/// The fenced blocks of a page that are marked with `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    for line in text.lines() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, &mut block) {
            (Some(_), Some(lines)) => {
                out.push(lines.join("\n"));
                block = None;
            }
            (Some(word), None) if word.trim() == language => block = Some(Vec::new()),
            (None, Some(lines)) => lines.push(line),
            (Some(_) | None, None) => {}
        }
    }
    out
}

#[test]
fn every_yaml_example_is_a_configuration() {
    let mut count = 0;
    for (path, text) in pages() {
        for block in blocks(&text, "yaml") {
            let options = LoadOptions { strict: true, ..LoadOptions::default() };
            let (config, report) = parse(block.as_bytes(), &path, &options);
            assert!(report.is_ok() && config.is_some(), "{}\n{block}", report.render());
            let odd: Vec<_> =
                report.warnings().filter(|warning| warning.class != Class::Conflict).collect();
            assert!(odd.is_empty(), "{}: {odd:?}\n{block}", path.display());
            count += 1;
        }
    }
    assert!(count >= 8, "{count}");
}

#[test]
fn every_command_is_in_the_readme() {
    let readme = read("README.md");
    for command in fleetfoot::cli::definition().get_subcommands() {
        let word = command.get_name();
        assert!(
            readme.contains(&format!("`{word}")) || readme.contains(&format!("fleetfoot {word}")),
            "README.md says nothing of `{word}`"
        );
    }
}

/// The words between quotes that a piece of source has after `marker`.
fn quoted_after(source: &str, marker: &str) -> Vec<String> {
    source
        .split(marker)
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_cause_has_a_remedy_in_the_page_of_troubles() {
    let source = read("crates/fleetfoot-core/src/cause.rs");
    let (_, codes) = source.split_once("pub fn code(&self)").unwrap();
    let mut codes = quoted_after(codes, "=>");
    codes.push(fleetfoot_server::causes::NO_DAEMON.to_owned());
    assert!(codes.len() >= 15, "{codes:?}");
    let page = read("docs/troubleshooting.md");
    for code in codes {
        assert!(page.contains(&format!("| `{code}` |")), "docs/troubleshooting.md lacks `{code}`");
    }
}

#[test]
fn every_number_is_in_the_page_of_operations() {
    let page = read("docs/operations.md");
    let mut count = 0;
    for file in ["levels", "mod"] {
        let source = read(&format!("crates/fleetfoot-server/src/metrics/{file}.rs"));
        for name in source.split('"').filter(|text| text.starts_with("fleetfoot_")) {
            assert!(page.contains(&format!("`{name}`")), "docs/operations.md lacks `{name}`");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn every_link_leads_somewhere() {
    for (path, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let place = path.parent().unwrap().join(file);
            assert!(place.exists(), "{}: there is no {target}", path.display());
        }
    }
}

/// The book has every page of `docs/`, once.
#[test]
fn the_book_has_every_page() {
    let docs = root().join("docs");
    let summary = std::fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    for (path, _) in pages() {
        let Ok(page) = path.strip_prefix(&docs) else { continue };
        let link = format!("]({})", page.display());
        let wanted = usize::from(page != Path::new("SUMMARY.md"));
        assert_eq!(summary.matches(&link).count(), wanted, "docs/SUMMARY.md: {link}");
    }
}

/// The unit that the page of operations shows is the one in the package.
#[test]
fn the_page_of_operations_shows_the_shipped_unit() {
    let units = blocks(&read("docs/operations.md"), "ini");
    let shipped = read("packaging/systemd/fleetfoot.service");
    assert!(units.iter().any(|unit| unit.trim() == shipped.trim()), "docs/operations.md is older");
}
