//! `cargo xtask defects`: does the simulated world find every mistake that we planted?
//!
//! The mistakes are in `fleetfoot-faults`, each in one statement of the production file that it breaks.
//! For each, worlds are run from seed 1 until one is found broken; the table with what was found, and
//! within how many seeds it must be, is in `docs/simulation.md`. The same seeds without a defect must find
//! nothing: a check that always fails proves as little as one that never does.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::is_interrupted;
use crate::tidy::root;

/// Where the defects are declared.
const DECLARED: &str = "crates/fleetfoot-faults/src/defect.rs";
/// Where the table is.
const PAGE: &str = "docs/simulation.md";
const BEGIN: &str = "<!-- defects: written by `cargo xtask defects --update` -->";
const END: &str = "<!-- end of defects -->";
/// Seeds within which a defect must be found if the table does not say.
const BOUND: u64 = 100;
/// Rooms that a planted defect must not be in: they are what finds it.
const CLEAN: &[&str] = &["fleetfoot-sim/", "fleetfoot-world/", "/simulated/"];

/// Which defects, and what becomes of the table.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these, by name
    names: Vec<String>,
    /// Write what was found into docs/simulation.md
    #[arg(long)]
    update: bool,
    /// Search at most this many seeds, instead of what the table says
    #[arg(long)]
    bound: Option<u64>,
    /// Run each only on the seed at which the table says it was found, and that seed without it
    #[arg(long, conflicts_with_all = ["update", "bound"])]
    known: bool,
}

impl Args {
    /// What the gate runs: a world for each defect, and the same worlds without.
    pub(crate) fn for_ci() -> Self {
        Self { names: Vec::new(), update: false, bound: None, known: true }
    }
}

/// A planted defect, as the sources have it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planted {
    name: String,
    says: String,
    file: String,
}

/// One row of the table on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    file: String,
    bound: u64,
    seed: String,
    broken: String,
}

/// Worlds to run, with a defect or without.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Search {
    defect: Option<String>,
    seed: u64,
    seeds: u64,
}

/// What a run of worlds told.
struct Told {
    failing: Option<u64>,
    broken: String,
}

/// Runs worlds with each defect, prints the table, and fails if one is not found in time.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = root();
    let mut planted = read_planted(&root)?;
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let rows = read_rows(&page);
    if let Some(unknown) =
        args.names.iter().find(|name| !planted.iter().any(|it| it.name == **name))
    {
        bail!("no defect is named `{unknown}`");
    }
    let all = planted.clone();
    planted.retain(|it| args.names.is_empty() || args.names.contains(&it.name));
    let binary = crate::crash::build(&root)?;
    if args.known {
        return known(&binary, &planted, &rows);
    }
    let bound_of =
        |name: &str| args.bound.or_else(|| rows.get(name).map(|row| row.bound)).unwrap_or(BOUND);
    let highest = planted.iter().map(|it| bound_of(&it.name)).max().unwrap_or(BOUND);
    let mut searches = vec![Search { defect: None, seed: 1, seeds: highest }];
    searches.extend(planted.iter().map(|it| Search {
        defect: Some(it.name.clone()),
        seed: 1,
        seeds: bound_of(&it.name),
    }));
    let told = search(&binary, &searches);
    if is_interrupted() {
        bail!("interrupted");
    }
    let mut failures = Vec::new();
    let mut found = rows.clone();
    let mut told = told.into_iter();
    match told.next().context("nothing was run")?? {
        Told { failing: Some(seed), broken } => {
            failures.push(format!("seed {seed} is broken without a defect: {broken}"));
        }
        Told { failing: None, .. } => println!("no defect: {highest} seeds, no violation"),
    }
    println!("{:28} {:>6} {:>6}  broken", "defect", "within", "seed");
    for (it, told) in planted.iter().zip(told) {
        let (told, bound) = (told?, bound_of(&it.name));
        let seed = told.failing.map_or_else(|| "none".to_owned(), |seed| seed.to_string());
        println!("{:28} {bound:>6} {seed:>6}  {}  ({})", it.name, told.broken, it.file);
        if told.failing.is_none() {
            failures.push(format!("`{}` is not found within {bound} seeds", it.name));
        }
        let row = Row { file: it.file.clone(), bound, seed, broken: told.broken };
        found.insert(it.name.clone(), row);
    }
    if args.update {
        write_rows(&root, &page, &all, &found)?;
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

/// Each defect is found at its seed again, and nothing is found there without it.
fn known(binary: &Path, planted: &[Planted], rows: &BTreeMap<String, Row>) -> Result<()> {
    let searches = known_searches(planted, rows)?;
    let mut failures = Vec::new();
    for (search, told) in searches.iter().zip(self::search(binary, &searches)) {
        let Told { failing, broken } = told?;
        let seed = search.seed;
        match (&search.defect, failing) {
            (None, None) => println!("{:28} {seed:>6}  nothing broken", "no defect"),
            (Some(name), Some(_)) => println!("{name:28} {seed:>6}  {broken}"),
            (None, Some(_)) => {
                failures.push(format!("seed {seed} is broken without a defect: {broken}"));
            }
            (Some(name), None) => {
                failures.push(format!("`{name}` is not found at seed {seed} any more"));
            }
        }
    }
    if is_interrupted() {
        bail!("interrupted");
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{}; `cargo xtask defects --update` searches anew", failures.join("; "))
}

/// One world for each defect, and each of those worlds once without any.
fn known_searches(planted: &[Planted], rows: &BTreeMap<String, Row>) -> Result<Vec<Search>> {
    let mut seeds = BTreeSet::new();
    let mut searches = Vec::new();
    for it in planted {
        let seed = rows.get(&it.name).and_then(|row| row.seed.parse::<u64>().ok());
        let seed =
            seed.with_context(|| format!("{PAGE} names no seed that finds `{}`", it.name))?;
        seeds.insert(seed);
        searches.push(Search { defect: Some(it.name.clone()), seed, seeds: 1 });
    }
    searches.extend(seeds.into_iter().map(|seed| Search { defect: None, seed, seeds: 1 }));
    Ok(searches)
}

/// Runs each search in a process of its own, as many at once as there are processors.
fn search(binary: &Path, searches: &[Search]) -> Vec<Result<Told>> {
    let next = AtomicUsize::new(0);
    let answers: Mutex<Vec<Option<Result<Told>>>> =
        Mutex::new(searches.iter().map(|_| None).collect());
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(search) = searches.get(place) else { return };
            let began = Instant::now();
            let told = simulate(binary, search);
            let word = search.defect.as_deref().unwrap_or("no defect");
            eprintln!("{word}: {:.1} s", began.elapsed().as_secs_f64());
            let mut answers = answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(answer) = answers.get_mut(place) {
                *answer = Some(told);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let answers = answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|| Err(anyhow::anyhow!("it was not run"))))
        .collect()
}

/// Worlds from the first seed; with a defect only until one is found broken.
fn simulate(binary: &Path, search: &Search) -> Result<Told> {
    if is_interrupted() {
        bail!("interrupted");
    }
    let mut command = Command::new(binary);
    command.args(["simulate", "--output", "json"]);
    command.args(["--seed", &search.seed.to_string(), "--seeds", &search.seeds.to_string()]);
    if let Some(defect) = &search.defect {
        command.args(["--defect", defect]);
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let end: serde_json::Value = serde_json::from_str(last).with_context(|| {
        format!("`simulate` ended without a summary ({}): {last}", output.status)
    })?;
    let failing = end["failing_seeds"].as_array().and_then(|seeds| seeds.first()?.as_u64());
    let broken = end["broken"].as_str().unwrap_or_default().replace('|', "/");
    Ok(Told { failing, broken })
}

/// What tidy finds: a defect that is in no file, in several or in the wrong one, and a page that does not
/// have it.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let rows = read_rows(&page);
    let planted = read_planted(root)?;
    for it in &planted {
        match it.file.split(", ").collect::<Vec<_>>()[..] {
            [""] => findings.push(format!("{DECLARED}: `{}` is planted nowhere", it.name)),
            [file] if CLEAN.iter().any(|room| file.contains(room)) => {
                findings.push(format!("{file}: `{}` is planted in what has to find it", it.name));
            }
            [_] => {}
            _ => findings.push(format!("{}: `{}` is one statement in one file", it.file, it.name)),
        }
        if rows.get(&it.name).is_none_or(|row| row.file != it.file) {
            findings.push(format!(
                "{PAGE}: its table is not up to date with `{}`: cargo xtask tidy --update",
                it.name
            ));
        }
    }
    let gone = rows.keys().filter(|name| !planted.iter().any(|it| it.name == **name));
    findings.extend(gone.map(|name| format!("{PAGE}: no defect is named `{name}`")));
    Ok(findings)
}

/// Brings names, sentences and files of the table up to date; what was found stays.
pub(crate) fn refresh(root: &Path) -> Result<()> {
    let page = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let planted = read_planted(root)?;
    write_rows(root, &page, &planted, &read_rows(&page))
}

/// The defects as they are declared, each with the file that names it.
fn read_planted(root: &Path) -> Result<Vec<Planted>> {
    let declared = std::fs::read_to_string(root.join(DECLARED))
        .with_context(|| format!("cannot read {DECLARED}"))?;
    let files = crate::tidy::rust_files(root)?;
    let mut out = Vec::new();
    for (variant, name, says) in parse_declared(&declared) {
        let needle = format!("fleetfoot_faults::Defect::{variant}.");
        let elsewhere = files.iter().filter(|file| !file.path.contains("/fleetfoot-faults/"));
        let used = elsewhere.filter(|file| file.text.contains(&needle));
        let file = used.map(|file| file.path.clone()).collect::<Vec<_>>().join(", ");
        out.push(Planted { name, says, file });
    }
    Ok(out)
}

/// `/// Says.` lines followed by `Variant = "name",`.
fn parse_declared(text: &str) -> Vec<(String, String, String)> {
    let mut says = String::new();
    let mut out = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            says.push_str(words);
            continue;
        }
        let parts = line.strip_suffix("\",").and_then(|line| line.split_once(" = \""));
        if let Some((variant, name)) = parts {
            out.push((variant.to_owned(), name.to_owned(), says.trim().to_owned()));
        }
        says.clear();
    }
    out
}

/// The table on the page, by defect.
fn read_rows(page: &str) -> BTreeMap<String, Row> {
    let table = page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let mut rows = BTreeMap::new();
    for line in table.map_or("", |(table, _)| table).lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, file, bound, seed, broken] = cells[..] else { continue };
        let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')) else {
            continue;
        };
        let row = Row {
            file: file.trim_matches('`').to_owned(),
            bound: bound.parse().unwrap_or(BOUND),
            seed: seed.to_owned(),
            broken: broken.to_owned(),
        };
        rows.insert(name.to_owned(), row);
    }
    rows
}

fn write_rows(
    root: &Path,
    page: &str,
    planted: &[Planted],
    rows: &BTreeMap<String, Row>,
) -> Result<()> {
    let (before, rest) = page.split_once(BEGIN).context("the page has no place for the table")?;
    let (_, after) = rest.split_once(END).context("the table on the page has no end")?;
    let mut table = format!(
        "{BEGIN}\n\n| defect | what it does | file | within seeds | found at seed | what breaks |\n| --- | --- | --- | --- | --- | --- |\n"
    );
    for it in planted {
        let none = Row {
            file: String::new(),
            bound: BOUND,
            seed: "none".to_owned(),
            broken: String::new(),
        };
        let row = rows.get(&it.name).unwrap_or(&none);
        let Planted { name, says, file } = it;
        let Row { bound, seed, broken, .. } = row;
        let _ = writeln!(table, "| `{name}` | {says} | `{file}` | {bound} | {seed} | {broken} |");
    }
    std::fs::write(root.join(PAGE), format!("{before}{table}\n{END}{after}"))
        .with_context(|| format!("cannot write {PAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_with_their_sentence() {
        let text = "defects! {\n    /// Counts\n    /// messages.\n    CountMessages = \"count-messages\",\n}\nlet x = \"y\";\n";
        let wanted = ("CountMessages".into(), "count-messages".into(), "Counts messages.".into());
        assert_eq!(parse_declared(text), [wanted]);
    }

    #[test]
    fn what_is_known_is_one_world_for_each_and_each_of_them_without() {
        let planted = ["a", "b", "c"].map(|name| Planted {
            name: name.into(),
            says: String::new(),
            file: String::new(),
        });
        let row = |seed: &str| Row {
            file: String::new(),
            bound: 100,
            seed: seed.into(),
            broken: String::new(),
        };
        let mut rows = BTreeMap::from([
            ("a".to_owned(), row("9")),
            ("b".to_owned(), row("2")),
            ("c".to_owned(), row("9")),
        ]);
        let searches = known_searches(&planted, &rows).unwrap();
        let told: Vec<_> =
            searches.iter().map(|it| (it.defect.as_deref(), it.seed, it.seeds)).collect();
        let wanted =
            [(Some("a"), 9, 1), (Some("b"), 2, 1), (Some("c"), 9, 1), (None, 2, 1), (None, 9, 1)];
        assert_eq!(told, wanted);
        rows.insert("c".to_owned(), row("none"));
        assert!(known_searches(&planted, &rows).unwrap_err().to_string().contains("`c`"));
    }

    #[test]
    fn a_table_is_read_as_it_is_written() {
        let page = format!(
            "# x\n{BEGIN}\n\n| defect | does | file | within | seed | breaks |\n| --- | --- | --- | --- | --- | --- |\n| `ignore-busy` | Takes it. | `crates/a.rs` | 40 | 3 | a job was killed |\n\n{END}\n| `other` | a | b | 1 | 2 | c |\n"
        );
        let rows = read_rows(&page);
        assert_eq!(rows.len(), 1);
        assert_eq!(
            rows["ignore-busy"],
            Row {
                file: "crates/a.rs".into(),
                bound: 40,
                seed: "3".into(),
                broken: "a job was killed".into()
            }
        );
    }
}
