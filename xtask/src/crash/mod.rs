//! `cargo xtask crash`: the real binary, ended by SIGKILL at every named point, and started again.
//!
//! ```text
//! points (read from the sources) ──┐
//! scenarios, each once uncrashed ──┴▶ cases: backend, scenario, point, pass ─▶ verdicts ─▶ lines, table
//! ```
//!
//! A case has a box, a directory and pools of its own. It runs the daemon with one point to end at,
//! starts it again without, plays its scenario to the end and holds the books: [`audit`]. Start at
//! [`run`]; what is played is in [`scenario`] and [`story`].

mod audit;
mod backend;
mod bed;
mod built;
mod case;
mod database;
mod engine;
mod github;
mod hypervisor;
mod mac;
mod page;
mod planted;
pub(crate) mod points;
mod scenario;
mod story;
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::components::{Kind, Set};
use crate::process::is_interrupted;
use crate::tidy;

pub(crate) use backend::Backend;
use bed::Ground;
pub(crate) use built::build;
use built::{build_plugin, build_stand_in};
use database::Server;
use scenario::Scenario;

pub(crate) use page::{PAGE, names_in_page};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Only on this backend; without it on all
    #[arg(long)]
    backend: Option<Backend>,
    /// Only points whose names contain this, or match it if it has a `*`; several with commas between them
    #[arg(long, value_name = "PATTERN")]
    points: Option<String>,
    /// Of the points on anything but processes only the third that this commit chooses
    #[arg(long, value_name = "COMMIT")]
    third: Option<String>,
    /// The first pass of each point, a later one, or both
    #[arg(long, default_value = "both")]
    pass: Pass,
    /// Cases at once
    #[arg(long, default_value_t = 4)]
    jobs: usize,
    /// How to print; json: one line with everything at the end
    #[arg(long, default_value = "text")]
    output: Output,
    /// Write what came out into docs/crash-points.md
    #[arg(long)]
    write_docs: bool,
    /// Leave the directories of cases that failed
    #[arg(long)]
    keep: bool,
    /// A planted defect that every daemon has, by its name: what the audit says of it
    #[arg(long, value_name = "NAME")]
    defect: Option<String>,
    /// The binary, built with `--features faults`; without it, it is built
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Pass {
    #[value(name = "1")]
    One,
    #[value(name = "2")]
    Two,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

/// A crash at one pass of one point.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Case {
    backend: Backend,
    scenario: Scenario,
    /// Scenarios that passed the point too, for when this one comes by there only by chance.
    others: Vec<Scenario>,
    point: String,
    pass: u64,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It crashed there, and nothing was lost.
    Survived,
    /// The daemon did not come there.
    NotReached,
    /// What is wrong.
    Lost(String),
}

#[derive(Debug)]
struct Outcome {
    case: Case,
    verdict: Verdict,
    took: Duration,
}

impl Verdict {
    fn word(&self) -> &str {
        match self {
            Self::Survived => "ok",
            Self::NotReached => "not reached",
            Self::Lost(_) => "LOST",
        }
    }
}

impl Outcome {
    /// A later pass that did not come is no loss: the first one did.
    fn is_failure(&self) -> bool {
        match self.verdict {
            Verdict::Survived => false,
            Verdict::NotReached => self.case.pass == 1,
            Verdict::Lost(_) => true,
        }
    }

    fn print(&self) {
        let Case { backend, scenario, others: _, point, pass } = &self.case;
        let why = match &self.verdict {
            Verdict::Lost(why) => format!(": {why}"),
            Verdict::Survived | Verdict::NotReached => String::new(),
        };
        let (backend, took) = (backend.word(), case::seconds(self.took));
        let (scenario, word) = (scenario.name(), self.verdict.word());
        println!("{point:48} {backend:8} {scenario:12} #{pass} {took:>6} s  {word}{why}");
    }
}

impl Args {
    /// What the gate asks for: every point on processes, a third of those on Docker and around machines, first pass.
    pub(crate) fn for_ci() -> Self {
        let head = crate::process::run_quiet(Command::new("git").args(["rev-parse", "HEAD"]));
        Self {
            backend: None,
            points: None,
            third: Some(head.unwrap_or_default().trim().to_owned()),
            pass: Pass::One,
            jobs: 6,
            output: Output::Text,
            write_docs: false,
            keep: false,
            defect: None,
            binary: None,
        }
    }

    /// Nothing is left out of what a backend has.
    fn is_whole(&self) -> bool {
        self.points.is_none() && self.defect.is_none()
    }

    fn chosen(&self, points: &BTreeMap<String, String>, backend: Backend) -> Vec<String> {
        let asked = |name: &&String| {
            let matches = |pattern: &str| points::matches(pattern, name);
            self.points.as_ref().is_none_or(|all| all.split(',').any(matches))
        };
        let names = points.keys().filter(asked).filter(|name| backend.plays(name));
        let names: Vec<String> = names.cloned().collect();
        match (&self.third, backend) {
            (Some(_), Backend::Process) | (None, _) => names,
            (
                Some(commit),
                Backend::Docker
                | Backend::Tart
                | Backend::Libvirt
                | Backend::Postgres
                | Backend::Mariadb,
            ) => third(names, commit),
        }
    }
}

/// Every third name; where it begins, the commit says.
fn third(names: Vec<String>, commit: &str) -> Vec<String> {
    let digits = commit.bytes().map(usize::from).sum::<usize>();
    names.into_iter().enumerate().filter(|(at, _)| (at + digits) % 3 == 0).map(|it| it.1).collect()
}

/// Runs the cases that are asked for, and fails if something was lost or a point is never passed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let begun = Instant::now();
    let root = tidy::root();
    let points = points::read(&root)?;
    let binary = match &args.binary {
        Some(binary) => binary.canonicalize()?,
        None => build(&root)?,
    };
    let mut set = Set::new()?;
    let mut outcomes = Vec::new();
    let mut passed = BTreeMap::new();
    let backends = args.backend.map_or(Backend::ALL.to_vec(), |one| vec![one]);
    for backend in backends {
        let chosen = args.chosen(&points, backend);
        if chosen.is_empty() {
            continue;
        }
        let Some(ground) = ground(&mut set, backend, &binary, args.defect.clone())? else {
            continue;
        };
        if backend == Backend::Process && args.is_whole() {
            planted::all_are_seen(&ground, args.jobs, args.keep)?;
        }
        let surveys = surveys(&ground, args)?;
        let seen = surveys.iter().flat_map(|(_, seen)| seen.keys().cloned()).collect();
        passed.insert(backend, seen);
        let cases = case::plan(backend, &chosen, &surveys, args.pass);
        outcomes.extend(case::at_once(&cases, args.jobs, |one| {
            let outcome = case::run(&ground, one, args.keep);
            outcome.print();
            outcome
        }));
    }
    if is_interrupted() {
        bail!("interrupted");
    }
    if args.write_docs {
        page::write(&root, &points, &outcomes)?;
    }
    let unpassed = unpassed(args, &points, &passed);
    finish(args, &outcomes, &unpassed, begun.elapsed())
}

/// Points that no scenario passes. Of one backend alone only its own room's are known to be missed.
fn unpassed(
    args: &Args,
    points: &BTreeMap<String, String>,
    passed: &BTreeMap<Backend, BTreeSet<String>>,
) -> Vec<String> {
    let all_are_here = Backend::ALL.iter().all(|backend| passed.contains_key(backend));
    let missed = |backend: &Backend| {
        args.chosen(points, *backend)
            .into_iter()
            .filter(|name| {
                (backend.is_own(name) || all_are_here)
                    && !passed.values().any(|seen| seen.contains(name))
            })
            .collect::<BTreeSet<_>>()
    };
    passed.keys().flat_map(missed).collect::<BTreeSet<_>>().into_iter().collect()
}

fn ground(
    set: &mut Set,
    backend: Backend,
    binary: &Path,
    defect: Option<String>,
) -> Result<Option<Ground>> {
    let dir = set.tests_dir().join(backend.word());
    std::fs::create_dir(&dir)?;
    let engine = match backend {
        Backend::Process
        | Backend::Tart
        | Backend::Libvirt
        | Backend::Postgres
        | Backend::Mariadb => None,
        Backend::Docker => {
            set.start(Kind::Docker);
            let Some(socket) = set.env.get("FLEETFOOT_TEST_DOCKER_SOCKET") else {
                println!("SKIPPED: needs docker");
                return Ok(None);
            };
            Some(engine::Engine::prepare(Path::new(socket), binary, &dir)?)
        }
    };
    let root = tidy::root();
    let tart = match backend {
        Backend::Tart => Some(build_stand_in(&root, "tart")?),
        Backend::Process
        | Backend::Docker
        | Backend::Libvirt
        | Backend::Postgres
        | Backend::Mariadb => None,
    };
    let hypervisor = match backend {
        Backend::Libvirt if crate::process::find_program("qemu-img").is_none() => {
            println!("SKIPPED: needs qemu-img");
            return Ok(None);
        }
        Backend::Libvirt => {
            Some(hypervisor::Hypervisor::start(&build_stand_in(&root, "libvirt")?, &dir)?)
        }
        Backend::Process
        | Backend::Docker
        | Backend::Tart
        | Backend::Postgres
        | Backend::Mariadb => None,
    };
    let server = match backend {
        Backend::Postgres => Server::start(set, Kind::Postgres, "FLEETFOOT_TEST_POSTGRES_URL"),
        Backend::Mariadb => Server::start(set, Kind::MariaDb, "FLEETFOOT_TEST_MARIADB_URL"),
        Backend::Process | Backend::Docker | Backend::Tart | Backend::Libvirt => None,
    };
    if server.is_none() && matches!(backend, Backend::Postgres | Backend::Mariadb) {
        println!("SKIPPED: needs {}", backend.word());
        return Ok(None);
    }
    let plugin = match backend {
        Backend::Process => Some(build_plugin(&root)?),
        Backend::Docker
        | Backend::Tart
        | Backend::Libvirt
        | Backend::Postgres
        | Backend::Mariadb => None,
    };
    let binary = binary.to_owned();
    Ok(Some(Ground { binary, dir, backend, engine, tart, hypervisor, server, plugin, defect }))
}

/// Every scenario once, without a crash.
fn surveys(ground: &Ground, args: &Args) -> Result<Vec<(Scenario, BTreeMap<String, u64>)>> {
    let scenarios = ground.backend.scenarios();
    let seen = case::at_once(scenarios, args.jobs, |scenario| {
        let seen = case::survey(ground, *scenario, args.keep);
        seen.with_context(|| {
            format!("without a crash, {} on {}", scenario.name(), ground.backend.word())
        })
    });
    scenarios.iter().zip(seen).map(|(scenario, seen)| Ok((*scenario, seen?))).collect()
}

fn finish(args: &Args, outcomes: &[Outcome], unpassed: &[String], took: Duration) -> Result<()> {
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.is_failure()).collect();
    for outcome in &failed {
        outcome.print();
    }
    for name in unpassed {
        println!("{name}: no scenario comes there");
    }
    if args.output == Output::Json {
        let told = |outcome: &Outcome| {
            json!({
                "point": outcome.case.point, "backend": outcome.case.backend.word(),
                "scenario": outcome.case.scenario.name(), "pass": outcome.case.pass,
                "result": outcome.verdict.word(), "seconds": outcome.took.as_secs_f64(),
            })
        };
        let cases: Vec<_> = outcomes.iter().map(told).collect();
        let line = json!({
            "cases": cases, "lost": failed.len(), "unpassed": unpassed,
            "seconds": took.as_secs_f64(),
        });
        println!("{line}");
    }
    let (cases, took) = (outcomes.len(), case::seconds(took));
    println!("crash: {cases} cases in {took} s, {} lost", failed.len());
    if !failed.is_empty() || !unpassed.is_empty() {
        bail!("{} cases failed, {} points are never passed", failed.len(), unpassed.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_commits_choose_everything_once() {
        let names: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        let mut all: Vec<String> =
            ["a", "b", "c"].iter().flat_map(|commit| third(names.clone(), commit)).collect();
        all.sort();
        assert_eq!(all, names);
    }
}
