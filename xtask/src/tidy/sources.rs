//! What a source file may not contain, and what it must begin with.

use std::path::Path;

use anyhow::Result;

use super::RustFile;

/// Words that have no place in any source, with the reason.
/// They are written in two halves so that this file does not contain them.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("#[ig", "nore", "a test that lacks its tool says `SKIPPED: needs <tool>` and returns"),
    ("to", "do!(", "unfinished work is an issue, not a macro"),
    ("unimpl", "emented!(", "unfinished work is an issue, not a macro"),
    ("db", "g!(", "it is for the moment of looking, not for the record"),
    ("FIX", "ME", "mend it, or file it"),
    ("XX", "X", "mend it, or file it"),
];

/// Rooms that run in a simulated world, where one order comes from one seed (decision 0013).
const ORDERED: &[&str] = &["core", "controller", "github", "provisioner", "sim", "store", "world"];

/// File names that say nothing about what is inside.
const VAGUE: &[&str] = &["manager", "managers", "helper", "helpers", "util", "utils", "misc"];

/// All findings.
pub(super) fn check(root: &Path, files: &[RustFile]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in files {
        check_file(file, &mut findings);
    }
    for (page, must) in
        [("ARCHITECTURE.md", "## Invariants"), ("README.md", "cargo run --release -- demo")]
    {
        let text = std::fs::read_to_string(root.join(page)).unwrap_or_default();
        if !text.contains(must) {
            findings.push(format!("{page}: does not mention `{must}`"));
        }
    }
    Ok(findings)
}

fn check_file(file: &RustFile, findings: &mut Vec<String>) {
    let path = &file.path;
    for (number, line) in file.text.lines().enumerate() {
        for (first, second, why) in FORBIDDEN {
            if contains_word(line, first, second) {
                findings.push(format!("{path}:{}: `{first}{second}`: {why}", number + 1));
            }
        }
    }
    let orderly =
        ORDERED.iter().any(|room| path.starts_with(&format!("crates/fleetfoot-{room}/src/")));
    for (number, line) in file.text.lines().enumerate().filter(|_| orderly) {
        if imports_watch(line) {
            let why = "its waiters wake in no order: use that of `fleetfoot_ordered`";
            findings.push(format!("{path}:{}: tokio's `watch`: {why}", number + 1));
        }
    }
    let name = path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    if VAGUE.contains(&name) {
        findings.push(format!("{path}: `{name}` does not say what is inside"));
    }
    let is_room = path.ends_with("/src/lib.rs") || path.ends_with("xtask/src/main.rs");
    if is_room && !file.text.starts_with("//!") {
        findings.push(format!(
            "{path}: begins with what the room is for, what it does not know, where to start"
        ));
    }
}

/// Whether tokio's `watch` is brought in; where it is only read it is spelled out.
fn imports_watch(line: &str) -> bool {
    let Some(names) = line.strip_prefix("use tokio::sync::") else { return false };
    names.split(|c: char| !c.is_alphanumeric() && c != '_').any(|name| name == "watch")
}

/// Whether `first` + `second` stands in the line, not as the end of a longer word.
fn contains_word(line: &str, first: &str, second: &str) -> bool {
    let word = format!("{first}{second}");
    line.match_indices(&word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let ends_open = word.chars().all(char::is_alphanumeric) && is_word(after);
        !is_word(before) && !ends_open
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check_file(&RustFile { path: path.into(), text: text.into() }, &mut findings);
        findings
    }

    #[test]
    fn channels_of_a_world_wake_in_order() {
        let text = "//! x\nuse tokio::sync::{mpsc, watch};\n";
        assert_eq!(findings("crates/fleetfoot-store/src/a.rs", text).len(), 1);
        assert!(findings("crates/fleetfoot-server/src/a.rs", text).is_empty());
        let other = "//! x\nuse tokio::sync::mpsc;\nuse fleetfoot_ordered::watch;\n";
        assert!(findings("crates/fleetfoot-store/src/a.rs", other).is_empty());
    }

    #[test]
    fn forbidden_words_are_found_with_their_line() {
        let text = format!("//! x\n    {}{}\"later\")\n", "to", "do!(");
        let found = findings("crates/x/src/a.rs", &text);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/x/src/a.rs:2: "), "{found:?}");
        assert!(findings("crates/x/src/a.rs", "let mastodon = pseudo!(1);").is_empty());
    }

    #[test]
    fn a_room_says_what_it_is_for() {
        assert_eq!(findings("crates/x/src/lib.rs", "mod a;\n").len(), 1);
        assert!(findings("crates/x/src/lib.rs", "//! The room.\n").is_empty());
        assert_eq!(findings("crates/x/src/util.rs", "").len(), 1);
    }
}
