//! No text, however odd, makes the reader panic, hang or eat the machine's memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use fleetfoot::config::{Class, LoadOptions, parse};
use proptest::prelude::*;

fn read(bytes: &[u8]) -> String {
    let (_, report) = parse(bytes, Path::new("f.yml"), &LoadOptions::default());
    let _ =
        fleetfoot::outrunner::load_error(&fleetfoot::config::LoadError::Invalid(report.clone()));
    report.render()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        read(text.as_bytes());
    }

    #[test]
    fn yaml_like_text_never_panics(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "runners", "labels", "docker", "url", ": ", ":", "\n", "\n  ", "\n    ", "- ", "[", "]",
                "{", "}", ", ", "&a ", "*a", "<<", "'", "\"", "|\n", ">-\n", "!!int ", "? ", "---\n", "...\n",
                "~", "1.5", "0x10", "#", "\t", "é", "\r\n", "%", "max_runners", "x",
            ]),
            0..60,
        )
    ) {
        read(parts.concat().as_bytes());
    }

    #[test]
    fn a_cut_file_never_panics(at in 0usize..800) {
        let whole = include_str!("fixtures/config/everything.yml");
        read(whole.as_bytes().get(..at.min(whole.len())).unwrap());
    }
}

#[test]
fn a_deep_file_is_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let text = format!("url: {}{}\n", open.repeat(5000), close.repeat(5000));
        let (config, report) = parse(text.as_bytes(), Path::new("f.yml"), &LoadOptions::default());
        assert!(config.is_none());
        assert_eq!(report.findings[0].class, Class::Syntax);
    }
    let mut text = String::new();
    for depth in 0..3000 {
        let _ = writeln!(text, "{}a:", " ".repeat(depth));
    }
    let (_, report) = parse(text.as_bytes(), Path::new("f.yml"), &LoadOptions::default());
    assert!(!report.is_ok());
}

#[test]
fn aliases_cannot_multiply_without_end() {
    let mut text = "x-0: &a0 [l, l, l, l, l, l, l, l, l, l]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        let _ = writeln!(text, "x-{level}: &a{level} [{before}]");
    }
    text.push_str("runners: {a: {docker: {image: i, mounts: *a11}, labels: *a11}}\n");
    let began = Instant::now();
    let (_, report) = parse(text.as_bytes(), Path::new("f.yml"), &LoadOptions::default());
    assert!(!report.is_ok());

    let mut merges = "x-0: &m0 {labels: [x]}\n".to_owned();
    for level in 1..40 {
        let before = level - 1;
        let _ = writeln!(merges, "x-{level}: &m{level} {{<<: [*m{before}, *m{before}]}}");
    }
    merges.push_str("runners: {a: *m39}\n");
    let (_, report) = parse(merges.as_bytes(), Path::new("f.yml"), &LoadOptions::default());
    let lines: Vec<String> = report.errors().map(|f| f.message.clone()).collect();
    assert_eq!(lines, ["document contains excessive aliasing"]);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_huge_file_is_refused() {
    let text = "#".repeat(5 * 1024 * 1024);
    let (config, report) = parse(text.as_bytes(), Path::new("f.yml"), &LoadOptions::default());
    assert!(config.is_none() && !report.is_ok());
}
