//! The report of a file: everything at once, in the order of the text, with excerpts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use fleetfoot::config::{Finding, LoadError, LoadOptions, parse};

fn findings(text: &str) -> Vec<Finding> {
    parse(text.as_bytes(), Path::new("f.yml"), &LoadOptions::default()).1.findings
}

#[test]
fn all_mistakes_of_a_file_are_in_one_report() {
    let text = "urll: x\nrunners:\n  a:\n    labels: linux\n    max_runners: many\n    docker: {image: i, pull: sometimes}\n  b:\n    labels: [x]\n  c d: {labels: [x], docker: {}}\n";
    let (_, report) = parse(text.as_bytes(), Path::new("f.yml"), &LoadOptions::default());
    let found: Vec<(u32, &str)> =
        report.findings.iter().map(|f| (f.position.unwrap().line, f.path.as_str())).collect();
    assert_eq!(
        found,
        [
            (1, "urll"),
            (4, "runners.a.labels"),
            (5, "runners.a.max_runners"),
            (6, "runners.a.docker.pull"),
            (7, "runners.b"),
            (9, "runners.c d"),
            (9, "runners.c d.docker.image"),
        ]
    );
    let rendered = report.render();
    assert!(rendered.contains("warning: unknown key `urll` is ignored\n  --> f.yml:1:1  urll\n   |\n 1 | urll: x\n   | ^^^^\n   = did you mean `url`?\n"), "{rendered}");
    assert!(rendered.contains("error: `many` where a whole number is due\n  --> f.yml:5:18  runners.a.max_runners\n   |\n 5 |     max_runners: many\n   |                  ^^^^\n"), "{rendered}");
    assert_eq!(report.summary(), "6 errors, 1 warning in f.yml");
    let error = LoadError::Invalid(report);
    assert_eq!(
        error.to_string(),
        "f.yml:4:13: runners.a.labels: `linux` where a list is due; write it as a list: [linux] (and 5 more)"
    );
}

#[test]
fn names_leave_room_for_their_instances() {
    let name = |length: usize| {
        format!("runners: {{{}: {{labels: [x], docker: {{image: i}}}}}}", "n".repeat(length))
    };
    assert!(findings(&name(55)).is_empty());
    assert_eq!(findings(&name(56)).len(), 1);
}

#[test]
fn places_for_anchors_do_not_warn() {
    let text = "x-base: &b {labels: [x]}\n.other: 1\nrunners: {a: {<<: *b, docker: {image: i}}}\n";
    let strict = LoadOptions { strict: true, ..LoadOptions::default() };
    let (config, report) = parse(text.as_bytes(), Path::new("f.yml"), &strict);
    assert!(report.findings.is_empty(), "{}", report.render());
    assert_eq!(config.unwrap().runners[0].labels, ["x"]);
}

#[test]
fn columns_count_characters() {
    let text =
        "runners: {ä: {labels: [x], docker: {image: i}}, b: {labels: [x], max_runners: x}}\n";
    let (_, report) = parse(text.as_bytes(), Path::new("f.yml"), &LoadOptions::default());
    let rendered = report.render();
    assert!(rendered.contains("f.yml:1:11  runners.ä\n"), "{rendered}");
    let caret = format!("   | {}^\n", " ".repeat(78));
    assert!(rendered.contains(&caret), "{rendered}");
}
