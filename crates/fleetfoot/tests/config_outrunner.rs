//! A file that cannot be used, in the original's words.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use fleetfoot::config::{Class, Flavor, LoadError, LoadOptions, load, parse};
use fleetfoot::outrunner::load_error;

fn original_text(text: &str) -> String {
    let options = LoadOptions { flavor: Flavor::Outrunner, ..LoadOptions::default() };
    let (_, report) = parse(text.as_bytes(), Path::new("/etc/outrunner/config.yml"), &options);
    assert!(!report.is_ok(), "{text}");
    load_error(&LoadError::Invalid(report))
}

/// Checklist 4 to 6, and the checks of D-18.
#[test]
fn the_originals_texts() {
    let none = "load config: no runners configured (uncomment the runners section in /etc/outrunner/config.yml)";
    let table = [
        ("", none),
        ("url: x\n", none),
        ("runners:\n", none),
        ("runners: {}\n", none),
        ("runners:\n  a:\n", "load config: runner \"a\": labels are required"),
        ("runners:\n  a: {docker: {image: i}}\n", "load config: runner \"a\": labels are required"),
        ("runners:\n  a: {labels: []}\n", "load config: runner \"a\": labels are required"),
        ("runners:\n  a: {labels: [~]}\n", "load config: runner \"a\": labels are required"),
        (
            "runners:\n  a: {labels: [x]}\n",
            "load config: runner \"a\": must specify docker, libvirt, or tart",
        ),
        (
            "runners:\n  a: {labels: [x], docker: }\n",
            "load config: runner \"a\": must specify docker, libvirt, or tart",
        ),
        (
            "runners:\n  b: {labels: [x]}\n  a.b: {labels: [x]}\n",
            "load config: runner \"a.b\": must specify docker, libvirt, or tart",
        ),
        (
            "runners:\n  b: {labels: [x]}\n  a: {}\n",
            "load config: runner \"a\": labels are required",
        ),
        (
            "runners:\n  a: {labels: [x], docker: {}}\n",
            "load config: runner \"a\": docker.image: `image` is required (line 2)",
        ),
        (
            "runners:\n  a: {labels: [x], max_runners: -2, docker: {image: i}}\n",
            "load config: runner \"a\": max_runners: -2 is negative (line 2)",
        ),
        (
            "runners:\n  a b: {labels: [x], docker: {image: i}}\n",
            "load config: runner \"a b\": the name `a b` cannot be used (line 2)",
        ),
        (
            "runners:\n  a: {labels: linux}\n",
            "load config: parse config: yaml: unmarshal errors:\n  line 2: cannot unmarshal !!str `linux` into []string",
        ),
        ("url: [\n", "load config: parse config: yaml: line 1: did not find expected node content"),
    ];
    for (text, expected) in table {
        assert_eq!(original_text(text), expected, "{text}");
    }
}

/// Checklist 12: two backends are reported, and under the original's name the first still wins.
#[test]
fn two_backends_are_reported() {
    let text = "runners:\n  a: {labels: [x], tart: {image: t}, docker: {image: i}}\n";
    let options = LoadOptions { flavor: Flavor::Outrunner, ..LoadOptions::default() };
    let (config, report) = parse(text.as_bytes(), Path::new("f.yml"), &options);
    assert!(report.is_ok());
    let warning = report.warnings().next().unwrap();
    assert_eq!(warning.class, Class::Conflict);
    assert_eq!(warning.suggestion.as_deref(), Some("`docker` is used; remove the others"));
    assert_eq!(config.unwrap().runners[0].backend.kind(), "docker");
}

/// Checklist 3: the text of a missing file.
#[test]
fn files_that_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none.yml");
    let error = load(&missing, &LoadOptions::default()).unwrap_err();
    assert_eq!(
        load_error(&error),
        format!("load config: read config: open {}: no such file or directory", missing.display())
    );
    assert_eq!(error.to_string(), format!("failed to read configuration {}", missing.display()));
    // What it is told as: what is wrong, where, what to do.
    let line = error.line();
    assert!(line.starts_with(&format!("{error}: No such file")), "{line}");
    assert!(line.ends_with(": write one, or name another with --config"), "{line}");
    let error = load(directory.path(), &LoadOptions::default()).unwrap_err();
    assert_eq!(
        load_error(&error),
        format!("load config: read config: read {}: is a directory", directory.path().display())
    );
}

/// Checklist 75.
#[test]
fn the_shipped_file_names_what_to_uncomment_and_then_loads() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/config");
    for (file, flavor) in [("outrunner.yml", Flavor::Outrunner), ("fleetfoot.yml", Flavor::Native)]
    {
        let shipped = std::fs::read_to_string(packaging.join(file)).unwrap();
        assert!(original_text(&shipped).starts_with("load config: no runners configured"));
        let example = |line: &str| line.starts_with("#r") || line.starts_with("#  ");
        let lines = shipped.lines().map(|line| if example(line) { &line[1..] } else { line });
        let uncommented = lines.collect::<Vec<_>>().join("\n");
        let options = LoadOptions { flavor, ..LoadOptions::default() };
        let (config, report) = parse(uncommented.as_bytes(), Path::new(file), &options);
        assert!(report.is_ok(), "{report:?}");
        assert_eq!(config.unwrap().runners.len(), 2);
    }
}
