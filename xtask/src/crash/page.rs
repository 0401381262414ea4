//! docs/crash-points.md: every point, and what came out of a crash there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Backend, Outcome};

/// The page, from the root.
pub(crate) const PAGE: &str = "docs/crash-points.md";

const HEAD: &str = "# Crash points

Each is a place in the program at which a build for tests (feature `faults`) ends by SIGKILL when it is told to.
`cargo xtask crash` does so at every one of them with the real binary, on processes, on Docker and, those around its calls, on machines of Tart and libvirt by stand-ins for both, those of leases and of databases that several controllers share with a second controller on PostgreSQL and on MariaDB, on the first pass and on a later one, starts the program again and checks that no job was lost or started twice and that nothing is left over.
This page is written by `cargo xtask crash --write-docs`; a row without a result was not run since the point was made.

A result is the scenario that comes to the point and what came out of each pass.
";

/// The cells of a row: one for each backend.
type Cells = [String; 6];

/// Writes the results into the page. What this run did not try keeps what it had.
pub(super) fn write(
    root: &Path,
    points: &BTreeMap<String, String>,
    outcomes: &[Outcome],
) -> Result<()> {
    let path = root.join(PAGE);
    let before = rows(&std::fs::read_to_string(&path).unwrap_or_default());
    let mut text = format!(
        "{HEAD}\n| Point | In | Processes | Docker | Tart | libvirt | PostgreSQL | MariaDB |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    );
    for (name, file) in points {
        let known = before.get(name).cloned().unwrap_or_default();
        let mut at = 0..;
        let cells = Backend::ALL.map(|backend| {
            let known = at.next().and_then(|at| known.get(at));
            cell(name, backend, outcomes, known.map_or("", String::as_str))
        });
        let cells = cells.join(" | ");
        let file = file.trim_start_matches("crates/");
        let _ = writeln!(text, "| `{name}` | `{file}` | {cells} |");
    }
    std::fs::write(&path, text).with_context(|| format!("cannot write {PAGE}"))
}

/// What came out of this run, and of an earlier one where this one did not try.
fn cell(name: &str, backend: Backend, outcomes: &[Outcome], known: &str) -> String {
    let of_point: Vec<&Outcome> = outcomes
        .iter()
        .filter(|outcome| outcome.case.point == name && outcome.case.backend == backend)
        .collect();
    let Some(first) = of_point.first() else { return known.to_owned() };
    let mut passes: Vec<String> =
        of_point.iter().map(|it| format!("#{} {}", it.case.pass, it.verdict.word())).collect();
    let is_first = |pass: &str| pass.starts_with("#1 ");
    for pass in known.split_once(": ").map_or("", |it| it.1).split(", ") {
        if !pass.is_empty() && !passes.iter().any(|new| is_first(new) == is_first(pass)) {
            passes.push(pass.to_owned());
        }
    }
    passes.sort();
    format!("{}: {}", first.case.scenario.name(), passes.join(", "))
}

fn rows(text: &str) -> BTreeMap<String, Cells> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let name = cells.next()?.trim_end_matches('`').to_owned();
        let _file = cells.next()?;
        let mut cell = || cells.next().unwrap_or_default().to_owned();
        Some((name, [cell(), cell(), cell(), cell(), cell(), cell()]))
    };
    text.lines().filter_map(row).collect()
}

/// The points that the page names.
pub(crate) fn names_in_page(text: &str) -> BTreeSet<String> {
    rows(text).into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_that_was_not_tried_keeps_what_it_had() {
        let case = super::super::Case {
            backend: Backend::Docker,
            scenario: super::super::Scenario::Load,
            others: Vec::new(),
            point: "a".to_owned(),
            pass: 1,
        };
        let (verdict, took) = (super::super::Verdict::Survived, std::time::Duration::ZERO);
        let outcomes = [Outcome { case, verdict, took }];
        let cell = |backend, known| cell("a", backend, &outcomes, known);
        assert_eq!(cell(Backend::Docker, "app: #1 LOST, #3 ok"), "load: #1 ok, #3 ok");
        assert_eq!(cell(Backend::Docker, ""), "load: #1 ok");
        assert_eq!(cell(Backend::Process, "app: #1 ok"), "app: #1 ok");
    }

    #[test]
    fn rows_are_read_as_they_are_written() {
        let text = "| Point | In |\n| --- | --- |\n| `a.b.before` | `a/src/b.rs` | load: #1 ok |  | load: #1 ok |\n";
        let rows = rows(text);
        assert_eq!(
            rows["a.b.before"],
            ["load: #1 ok", "", "load: #1 ok", "", "", ""].map(str::to_owned)
        );
        assert_eq!(names_in_page(text).len(), 1);
    }
}
