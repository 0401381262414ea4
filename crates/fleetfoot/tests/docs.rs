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

/// A heading's anchor, as GitHub and mdBook make it.
fn anchors(text: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in text.lines() {
        in_block ^= line.trim_start().starts_with("```");
        let heading = line.trim_start_matches('#');
        if in_block || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
        let plain: String = heading.trim().to_lowercase().chars().filter(kept).collect();
        found.push(plain.replace(' ', "-"));
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    for (path, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.contains("://") {
                continue;
            }
            let place = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(place.exists(), "{}: there is no {target}", path.display());
            if !anchor.is_empty() {
                let there = anchors(&std::fs::read_to_string(&place).unwrap());
                let is_there = there.iter().any(|it| it == anchor);
                assert!(is_there, "{}: {target} has only {there:?}", path.display());
            }
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

/// A fenced block: where it begins, what it says it is, its lines.
struct Block {
    place: String,
    language: String,
    text: String,
}

fn all_blocks() -> Vec<Block> {
    let mut out = Vec::new();
    for (path, text) in pages() {
        let mut open: Option<Block> = None;
        for (number, line) in text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => out.extend(open.take()),
                (Some(word), None) => {
                    let place = format!("{}:{}", path.display(), number + 1);
                    let language = word.trim().to_owned();
                    open = Some(Block { place, language, text: String::new() });
                }
                (None, Some(block)) => block.text += &format!("{line}\n"),
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a block has no end", path.display());
    }
    out
}

/// What a block is decides how it is checked, so each says it; what is in none of these languages is `text`.
#[test]
fn every_block_is_what_it_says() {
    for Block { place, language, text } in all_blocks() {
        match language.as_str() {
            // `every_yaml_example_is_a_configuration`, `every_command_is_one`, the unit and the compiler see to these.
            "yaml" | "sh" | "ini" | "rust" => {}
            // A workflow: GitHub's, not ours.
            "yml" => assert!(text.contains("runs-on: "), "{place}"),
            "json" => {
                let whole = serde_json::from_str::<Value>(&text);
                assert!(whole.is_ok(), "{place}: {whole:?}");
            }
            "toml" => assert!(text.starts_with('['), "{place}"),
            "dockerfile" => assert!(text.starts_with("FROM "), "{place}"),
            // What somebody saw who typed the first line.
            "console" => assert!(text.starts_with("$ "), "{place}"),
            "text" => {}
            other => panic!("{place}: `{other}` is no language of ours"),
        }
    }
}

/// The shapes that scripts rely on are the ones of the types that answer.
#[test]
fn the_json_of_the_pages_has_the_shapes_of_the_program() {
    /// Whether every key of one is in the other, at every depth.
    fn keys(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                map.iter().map(|(key, value)| (key.clone(), keys(value))).collect()
            }
            Value::Array(list) => list.iter().map(keys).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Value::Null,
        }
    }
    let page = read("docs/exit-codes-and-json.md");
    let examples: Vec<Value> =
        blocks(&page, "json").iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let with = |key: &str| {
        let found = examples.iter().find(|value| value.get(key).is_some());
        found.unwrap_or_else(|| panic!("no example has `{key}`")).clone()
    };
    let status = with("pools");
    let read_back: fleetfoot_api::Status = serde_json::from_value(status.clone()).unwrap();
    assert_eq!(keys(&serde_json::to_value(read_back).unwrap()), keys(&status));
    let why = with("subject");
    let read_back: fleetfoot_api::Why = serde_json::from_value(why.clone()).unwrap();
    assert_eq!(keys(&serde_json::to_value(read_back).unwrap()), keys(&why));
    let error = with("error");
    let read_back: fleetfoot_api::ErrorBody = serde_json::from_value(error.clone()).unwrap();
    assert_eq!(keys(&serde_json::to_value(read_back).unwrap()), keys(&error));
    for text in blocks(&read("docs/box.md"), "json") {
        let fault: Result<fleetfoot_sim::Fault, _> = serde_json::from_str(&text);
        assert!(fault.is_ok(), "{text}: {fault:?}");
    }
}

/// The commands of a shell's block, continued lines as one, without their comments.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ");
    let lines = joined.lines().map(|line| line.split(" #").next().unwrap_or(line).trim());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// What our command line says to these words; what only lacks a value or an argument is one of our commands, too.
fn refusal(line: &str) -> Option<String> {
    let words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"']));
    let error = fleetfoot::cli::parse(words.map(std::ffi::OsString::from)).err()?;
    let text = error.to_string();
    let lacks = ["required", "a value is", "a command is missing"];
    (!lacks.iter().any(|part| text.contains(part))).then_some(text)
}

/// In the shell's language, and every line of ours is one that the program takes. `e2e::pages` runs them.
#[test]
fn every_command_is_one() {
    #[expect(clippy::disallowed_methods, reason = "a shell reads, and runs nothing")]
    let shell = || std::process::Command::new("bash");
    let mut count = 0;
    for Block { place, text, .. } in all_blocks().into_iter().filter(|it| it.language == "sh") {
        let read = shell().args(["-n", "-c", &text]).output().unwrap();
        assert!(read.status.success(), "{place}: {}", String::from_utf8_lossy(&read.stderr));
        for line in commands(&text) {
            let line = line.strip_prefix("sudo ").unwrap_or(&line);
            let line = line.strip_prefix("-u fleetfoot ").unwrap_or(line);
            let line = line.replacen("cargo run --release -- ", "fleetfoot ", 1);
            if !line.starts_with("fleetfoot ") {
                continue;
            }
            // What the shell does with it is the shell's.
            let ours = line.split(['>', '&', '|']).next().unwrap_or_default();
            if let Some(text) = refusal(ours) {
                panic!("{place}: {line}: {text}");
            }
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

/// `fleetfoot …` between backquotes is a command, too.
#[test]
fn every_command_in_a_sentence_is_one() {
    let mut count = 0;
    for (path, text) in pages() {
        let mut in_block = false;
        for line in text.lines() {
            in_block ^= line.trim_start().starts_with("```");
            if in_block {
                continue;
            }
            // Between the first and the second backquote, the third and the fourth.
            for span in line.split('`').skip(1).step_by(2) {
                let is_hidden = span.starts_with("fleetfoot __") || span.contains('…');
                let other = ["fleetfoot outrunner", "fleetfoot myshoes"];
                if !span.starts_with("fleetfoot ") || is_hidden || other.contains(&span) {
                    continue;
                }
                if let Some(text) = refusal(span) {
                    panic!("{}: {span}: {text}", path.display());
                }
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}
