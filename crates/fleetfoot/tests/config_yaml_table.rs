//! Odd YAML inputs against what the original's YAML library makes of them.
//!
//! `fixtures/config/yaml-table.json` is written by the Go program beside it from gopkg.in/yaml.v3.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods)] // the generator is a program of its own

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use fleetfoot::config::{Flavor, LoadError, LoadOptions, original_view, parse};
use fleetfoot::outrunner::load_error;
use serde_json::Value;

/// Rows where we differ on purpose, each with its reason.
const DEVIATIONS: &[(&str, &str)] = &[
    (
        "anchor of itself",
        "a node inside itself is refused; the original reads it as an empty runner",
    ),
    ("empty key", "an absent key is null, as a written `~` is; the original's parser gives up"),
    ("label -", "`[-]` is refused, as YAML 1.2 does; the original reads a dash"),
    ("broken %YAML 3.0\n---\nurl: a", "what a later version of YAML may be is read all the same"),
];

#[test]
fn every_row_reads_as_in_the_original() {
    let table = include_str!("fixtures/config/yaml-table.json");
    let rows: Vec<Value> = serde_json::from_str(table).unwrap();
    assert!(rows.len() >= 60);
    let deviations: BTreeMap<&str, &str> = DEVIATIONS.iter().copied().collect();
    let mut wrong = Vec::new();
    for row in &rows {
        let name = row["name"].as_str().unwrap();
        let input = row["input"].as_str().unwrap();
        let input = base64::engine::general_purpose::STANDARD.decode(input).unwrap();
        let ours = original_view(&input);
        let agree = match (&row["value"], &ours) {
            (Value::Null, Err(_)) => true,
            (Value::Null, Ok(_)) | (_, Err(_)) => false,
            (theirs, Ok(ours)) => theirs == ours,
        };
        if agree == deviations.contains_key(name) {
            wrong.push(format!(
                "{name}: {:?}\n   theirs {} {}\n   ours {ours:?}",
                String::from_utf8_lossy(&input),
                row["value"],
                row["error"],
            ));
        }
    }
    assert!(deviations.values().all(|reason| !reason.is_empty()));
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn wrong_types_are_found_on_the_lines_the_original_names() {
    let table = include_str!("fixtures/config/yaml-table.json");
    let rows: Vec<Value> = serde_json::from_str(table).unwrap();
    let mut compared = 0;
    for row in &rows {
        let error = row["error"].as_str().unwrap_or_default();
        let Some(list) = error.strip_prefix("yaml: unmarshal errors:\n") else {
            continue;
        };
        let input = row["input"].as_str().unwrap();
        let input = base64::engine::general_purpose::STANDARD.decode(input).unwrap();
        let ours = original_view(&input).unwrap_err();
        for line in list.lines() {
            let line = line.trim().strip_prefix("line ").unwrap();
            let line: u32 = line.split(':').next().unwrap().parse().unwrap();
            let found = ours.iter().any(|finding| finding.position.unwrap().line == line);
            assert!(found, "{}: {error}\n{ours:?}", row["name"]);
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}

/// Under the original's name a value of a wrong type is told of in its library's own words.
#[test]
fn wrong_types_are_told_in_the_librarys_words() {
    let table = include_str!("fixtures/config/yaml-table.json");
    let rows: Vec<Value> = serde_json::from_str(table).unwrap();
    // The types of the program beside the table, and what they are called in the original.
    let types = [
        ("map[string]*main.runner", "map[string]outrunner.RunnerConfig"),
        ("main.file", "outrunner.Config"),
        ("main.runner", "outrunner.RunnerConfig"),
        ("main.docker", "outrunner.DockerImage"),
        ("main.bind", "outrunner.DockerMount"),
    ];
    let options = LoadOptions { flavor: Flavor::Outrunner, ..LoadOptions::default() };
    let mut compared = 0;
    for row in &rows {
        let error = row["error"].as_str().unwrap_or_default();
        let told =
            ["unmarshal errors", "cannot decode", "map merge", "control char", "invalid lead"];
        if !told.iter().any(|it| error.starts_with(&format!("yaml: {it}"))) {
            continue;
        }
        let error = types.iter().fold(error.to_owned(), |it, (main, own)| it.replace(main, own));
        let input = row["input"].as_str().unwrap();
        let input = base64::engine::general_purpose::STANDARD.decode(input).unwrap();
        let (_, report) = parse(&input, Path::new("f.yml"), &options);
        let ours = load_error(&LoadError::Invalid(report));
        assert_eq!(ours, format!("load config: parse config: {error}"), "{}", row["name"]);
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

/// Under the original's name a text that is no YAML is told of in its library's own words, with its line.
#[test]
fn mistakes_of_the_text_are_told_in_the_librarys_words() {
    let table = include_str!("fixtures/config/yaml-table.json");
    let rows: Vec<Value> = serde_json::from_str(table).unwrap();
    let options = LoadOptions { flavor: Flavor::Outrunner, ..LoadOptions::default() };
    let mut compared = 0;
    let mut wrong = Vec::new();
    for row in &rows {
        let (name, error) = (row["name"].as_str().unwrap(), row["error"].as_str());
        let Some(error) = error.filter(|it| !it.contains("unmarshal errors")) else { continue };
        if DEVIATIONS.iter().any(|(deviating, _)| *deviating == name) {
            continue;
        }
        let input = row["input"].as_str().unwrap();
        let input = base64::engine::general_purpose::STANDARD.decode(input).unwrap();
        let (_, report) = parse(&input, Path::new("f.yml"), &options);
        let ours = load_error(&LoadError::Invalid(report));
        if ours != format!("load config: parse config: {error}") {
            let input = String::from_utf8_lossy(&input).into_owned();
            wrong.push(format!("{input:?}\n   theirs {error}\n   ours   {ours}"));
        }
        compared += 1;
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 80, "{compared}");
}

#[test]
fn the_table_is_what_the_go_program_writes() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/config/go");
    let run = std::process::Command::new("go").args(["run", "."]).current_dir(directory).output();
    let Ok(run) = run else {
        println!("SKIPPED: needs go");
        return;
    };
    if !run.status.success() {
        let why = String::from_utf8_lossy(&run.stderr).into_owned();
        let no_module =
            why.contains("dial tcp") || why.contains("GOPROXY") || why.contains("proxy");
        assert!(no_module, "{why}");
        println!("SKIPPED: needs go module gopkg.in/yaml.v3");
        return;
    }
    let table = include_str!("fixtures/config/yaml-table.json");
    assert!(
        String::from_utf8_lossy(&run.stdout) == table,
        "stale; run `go run . > ../yaml-table.json`"
    );
}
