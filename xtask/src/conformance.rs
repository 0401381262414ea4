//! `cargo xtask conformance`: the tables in `docs/conformance/` name tests that exist.
//!
//! A row begins with a number or `D-nn` and ends with the tests that show it, each in backticks:
//! package, `::`, and the name as `cargo test -- --list` prints it. An integration test may carry
//! its file's name in between (`package::file::test`). A row without a test says `none` and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process::run_quiet;
use crate::tidy::root;

/// A row of a table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// The file and line it stands in.
    place: String,
    id: String,
    text: String,
    tests: Vec<String>,
}

/// Checks all tables and says how many rows have a test.
pub(crate) fn run() -> Result<()> {
    let rows = read_tables(&root().join("docs/conformance"))?;
    if rows.is_empty() {
        println!("conformance: no rows yet");
        return Ok(());
    }
    let known = list_tests()?;
    let findings = check(&rows, &known);
    for finding in &findings {
        println!("{finding}");
    }
    let open = rows.iter().filter(|row| row.tests.is_empty()).count();
    println!("conformance: {} rows, {open} of them without a test", rows.len());
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    Ok(())
}

fn read_tables(dir: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            rows.extend(rows_of(&name, &std::fs::read_to_string(&path)?));
        }
    }
    rows.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(rows)
}

fn rows_of(file: &str, text: &str) -> Vec<Row> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(number, line)| row_of(format!("{file}:{}", number + 1), line)).collect()
}

fn row_of(place: String, line: &str) -> Option<Row> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<&str> = inner.split(" | ").map(str::trim).collect();
    let (id, last) = (*cells.first()?, *cells.last()?);
    let digits = id.strip_prefix("D-").unwrap_or(id);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) || cells.len() < 2 {
        return None;
    }
    let tests = last.split('`').skip(1).step_by(2).filter(|name| name.contains("::"));
    let tests = tests.map(str::to_owned).collect();
    Some(Row { place, id: id.to_owned(), text: inner.to_owned(), tests })
}

fn check(rows: &[Row], known: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    let mut users: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for row in rows {
        let file = row.place.split(':').next().unwrap_or_default();
        if !ids.insert((file, &row.id)) {
            findings.push(format!("{}: {} has a row already", row.place, row.id));
        }
        if row.tests.is_empty() && !row.text.contains("none") {
            findings.push(format!("{}: {} names no test and does not say why", row.place, row.id));
        }
        for test in &row.tests {
            users.entry((file, test)).or_default().push(row);
            if !known.contains(&normal(test)) {
                findings.push(format!("{}: {}: there is no test `{test}`", row.place, row.id));
            }
        }
    }
    for ((_, test), rows) in users.iter().filter(|(_, rows)| rows.len() > 1) {
        for row in rows.iter().filter(|row| !row.text.contains("shared")) {
            findings.push(format!(
                "{}: {}: `{test}` stands for other rows too; say `shared with N`",
                row.place, row.id
            ));
        }
    }
    findings
}

/// Cargo writes a package with `-` and its targets with either.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    package_id: Option<String>,
    target: Option<Target>,
    executable: Option<String>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Every test of the workspace, under each spelling that a table may use.
fn list_tests() -> Result<BTreeSet<String>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--workspace", "--no-run", "--message-format=json"]);
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not compile");
    }
    let mut names = BTreeSet::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Message>(line) else { continue };
        let (Some(package), Some(target), Some(program)) =
            (message.package_id, message.target, message.executable)
        else {
            continue;
        };
        // A program that tests start is built as well, and would not end by itself.
        let is_test = message.profile.is_some_and(|profile| profile.test);
        if message.reason != "compiler-artifact" || !is_test {
            continue;
        }
        let package = package_name(&package);
        // Integration tests of the binary find it by a variable that only `cargo test` sets at
        // compile time; listing needs none.
        let list = run_quiet(Command::new(program).args(["--list", "--format", "terse"]));
        for test in list.unwrap_or_default().lines().filter_map(|line| line.strip_suffix(": test"))
        {
            names.insert(normal(&format!("{package}::{test}")));
            names.insert(normal(&format!("{package}::{}::{test}", target.name)));
        }
    }
    Ok(names)
}

/// The package's name in an id such as `path+file:///x/crates/fleetfoot-core#0.1.0`, or
/// `…/crates/a#name@0.1.0` where the folder is called otherwise.
fn package_name(id: &str) -> &str {
    let (path, version) = id.rsplit_once('#').unwrap_or((id, ""));
    match version.split_once('@') {
        Some((name, _)) => name,
        None => path.rsplit('/').next().unwrap_or(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| nr | what | tests |
| --- | --- | --- |
| 1 | a | b `fleetfoot-core::plan::tests::never_above` |
| D-02 | x | `fleetfoot::sixty::all_complete`, `fleetfoot::sixty::none_twice` |
| 3 | y | none: needs a real Mac |
| 4 | z |  |
";

    fn known() -> BTreeSet<String> {
        let names = ["fleetfoot-core::plan::tests::never_above", "fleetfoot::sixty::all_complete"];
        names.iter().map(|name| normal(name)).collect()
    }

    #[test]
    fn rows_are_read() {
        let rows = rows_of("o.md", TABLE);
        assert_eq!(
            rows.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(),
            ["1", "D-02", "3", "4"]
        );
        assert_eq!(rows[0].tests, ["fleetfoot-core::plan::tests::never_above"]);
        assert_eq!(rows[1].tests.len(), 2);
        assert_eq!(rows[0].place, "o.md:3");
    }

    #[test]
    fn a_missing_test_and_an_empty_row_are_findings() {
        let findings = check(&rows_of("o.md", TABLE), &known());
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings.iter().any(|finding| finding.contains("none_twice")));
        assert!(findings.iter().any(|finding| finding.contains("4 names no test")));
    }

    #[test]
    fn a_test_that_stands_for_several_rows_says_so() {
        let table = "| 1 | a | `fleetfoot::sixty::all_complete` |\n\
                     | 2 | b, shared with 1 | `fleetfoot::sixty::all_complete` |\n";
        let findings = check(&rows_of("o.md", table), &known());
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].starts_with("o.md:1: 1: "));
    }

    #[test]
    fn package_names_come_from_their_ids() {
        assert_eq!(package_name("path+file:///w/crates/fleetfoot-core#0.1.0"), "fleetfoot-core");
        assert_eq!(package_name("path+file:///w/xtask#tasks@0.1.0"), "tasks");
    }
}
