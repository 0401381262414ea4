//! `fleetfoot simulate`: runs simulated worlds and says which seeds broke a promise, and how.

mod held;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use fleetfoot_world::{
    Family, Hears, Options, PoolSize, Report, Stop, Violation, World, kept_seeds,
};
use serde::Serialize;

use self::held::{Held, Watch};
use super::output::{print, print_json, say};
use super::sim::Signals;
use crate::cli::{Output, OutputArgs};
use crate::config::{LoadOptions, load};
use crate::exit::{CommandError, Exit};

/// Progress is told this often.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Pools where their size is given and their number is not.
const RUNNERS_POOLS: usize = 4;
/// Ended by a signal, as a shell says it.
const INTERRUPTED: u8 = 130;
/// Failing seeds whose traces are printed; of the others only what they broke.
const TRACES_MAX: usize = 3;

/// `simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// How many worlds
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub seeds: u64,
    /// The first world's seed; the next ones follow it
    #[arg(long, value_name = "FIRST", default_value_t = 1)]
    pub seed: u64,
    /// Besides them every seed that once broke a promise
    #[arg(long)]
    pub kept: bool,
    /// Print everything that happened, also in worlds that went well
    #[arg(long)]
    pub trace: bool,
    /// Pools in each world [default: chosen by the seed, 1 to 4]
    #[arg(long, value_name = "N")]
    pub pools: Option<usize>,
    /// Instances of each pool at most [default: chosen by the seed, 1 to 6]
    #[arg(long, value_name = "N", conflicts_with = "config", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runners: Option<u32>,
    /// Jobs in each world [default: chosen by the seed, about 50]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Simulated hours before the faults stop [default: chosen by the seed, 0.3 to 2]
    #[arg(long, value_name = "HOURS", value_parser = hours)]
    pub hours: Option<f64>,
    /// Families of faults, with commas: `none`, `all`, or some of them [default: chosen by the seed]
    #[arg(long, value_name = "FAMILIES", value_parser = families)]
    pub faults: Option<Families>,
    /// Take the pools' names and sizes from this configuration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Worlds at once [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Switch a planted defect on, and stop at the first seed that finds it
    #[cfg(feature = "faults")]
    #[arg(long, value_name = "NAME", value_parser = defect)]
    pub defect: Option<fleetfoot_faults::Defect>,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Some families of faults.
#[derive(Debug, Clone)]
pub struct Families(Vec<Family>);

fn hours(text: &str) -> Result<f64, String> {
    let hours = text.parse::<f64>().ok().filter(|hours| (0.01..=100_000.0).contains(hours));
    hours.ok_or_else(|| "it is no number of hours".to_owned())
}

fn families(text: &str) -> Result<Families, String> {
    match text {
        "none" => Ok(Families(Vec::new())),
        "all" => Ok(Families(Family::ALL.to_vec())),
        text => text.split(',').map(family).collect::<Result<_, _>>().map(Families),
    }
}

fn family(name: &str) -> Result<Family, String> {
    Family::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Family::ALL.iter().map(|family| family.name()).collect();
        format!("no family of faults is named `{name}`: there are {}", names.join(", "))
    })
}

#[cfg(feature = "faults")]
fn defect(name: &str) -> Result<fleetfoot_faults::Defect, String> {
    fleetfoot_faults::Defect::from_name(name).ok_or_else(|| format!("no defect is named `{name}`"))
}

/// The last line for programs.
#[derive(Debug, Serialize)]
struct Summary {
    worlds: u64,
    jobs: u64,
    violations: u64,
    failing_seeds: Vec<u64>,
    worlds_per_second: f64,
    /// How often each family of faults and each hard case happened.
    happened: BTreeMap<&'static str, u64>,
    /// A signal ended it before the last world.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    interrupted: bool,
    /// What this process held, if a world had enough jobs to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
    /// What the first failing seed broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

/// Runs worlds; exit 1 when one of them broke a promise.
///
/// # Errors
/// When the configuration cannot be read, or standard output cannot be written.
pub async fn run(args: SimulateArgs) -> Result<ExitCode, CommandError> {
    let watch = Watch::default();
    let options = Options { hears: watch.hears(), ..options(&args)? };
    let stop = options.stop.clone();
    let failed = |error: tokio::task::JoinError| CommandError::from_error(Exit::Failure, &error);
    let mut signals = Signals::new()?;
    let mut ran = tokio::task::spawn_blocking(move || worlds(&args, &options, &watch));
    tokio::select! {
        ran = &mut ran => return ran.map_err(failed)?,
        () = signals.asked() => stop.ask(),
    }
    ran.await.map_err(failed)?
}

fn options(args: &SimulateArgs) -> Result<Options, CommandError> {
    let mut sizes = Vec::new();
    if let Some(path) = &args.config {
        let loaded = load(path, &LoadOptions::default())
            .map_err(|error| CommandError::from_error(Exit::Config, &error))?;
        sizes.extend(loaded.config.runners.iter().map(|runner| PoolSize {
            name: runner.name.clone(),
            max_runners: runner.max_runners,
            min_idle: runner.min_idle,
        }));
    }
    if let Some(max_runners) = args.runners {
        let pools = 0..args.pools.unwrap_or(RUNNERS_POOLS);
        sizes.extend(pools.map(|number| {
            let name = format!("pool{number}");
            PoolSize { name, max_runners, min_idle: 0 }
        }));
    }
    Ok(Options {
        pools: args.pools,
        jobs: args.jobs,
        hours: args.hours,
        faults: args.faults.clone().map(|families| families.0),
        sizes,
        trace: args.trace,
        stop: Stop::default(),
        hears: Hears::default(),
        #[cfg(feature = "faults")]
        defect: args.defect,
    })
}

/// Kept seeds that are none of those in turn.
fn kept(args: &SimulateArgs) -> Vec<u64> {
    let is_new = |seed: &u64| seed.wrapping_sub(args.seed) >= args.seeds;
    kept_seeds().filter(|seed| args.kept && is_new(seed)).collect()
}

fn total(args: &SimulateArgs) -> u64 {
    args.seeds.saturating_add(kept(args).len() as u64)
}

/// The seed of a world by its number: those in turn, then the kept ones.
fn seed(args: &SimulateArgs, kept: &[u64], number: u64) -> Option<u64> {
    match number.checked_sub(args.seeds) {
        None => Some(args.seed.wrapping_add(number)),
        Some(behind) => kept.get(usize::try_from(behind).ok()?).copied(),
    }
}

#[derive(Default)]
struct Tally {
    worlds: u64,
    jobs: u64,
    failing: BTreeSet<u64>,
    broken: Option<(u64, String)>,
    told: Option<Instant>,
    happened: BTreeMap<&'static str, u64>,
}

fn worlds(args: &SimulateArgs, options: &Options, watch: &Watch) -> Result<ExitCode, CommandError> {
    let began = Instant::now();
    let (next, stop) = (AtomicU64::new(0), &options.stop);
    let kept = kept(args);
    let tally = Mutex::new(Tally::default());
    let one_is_enough = {
        #[cfg(feature = "faults")]
        let planted = args.defect.is_some();
        #[cfg(not(feature = "faults"))]
        let planted = false;
        planted
    };
    let work = || {
        while !stop.is_asked() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(seed) = seed(args, &kept, number) else { return };
            let report = World::run(seed, options);
            if report.stopped && report.violation.is_none() {
                return;
            }
            let enough = one_is_enough && report.violation.is_some();
            let mut tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            count(&mut tally, &report, args, began);
            if enough {
                return;
            }
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        // With a defect the first failing seed is told: one after another.
        let threads = if one_is_enough { 1 } else { args.threads.unwrap_or(processors).max(1) };
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let tally = tally.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let per_second = tally.worlds as f64 / began.elapsed().as_secs_f64().max(0.001);
    let summary = Summary {
        worlds: tally.worlds,
        jobs: tally.jobs,
        violations: tally.failing.len() as u64,
        failing_seeds: tally.failing.iter().copied().collect(),
        worlds_per_second: (per_second * 10.0).round() / 10.0,
        happened: tally.happened,
        interrupted: stop.is_asked(),
        held: watch.held(),
        broken: tally.broken.map(|(_, text)| text),
    };
    tell(&summary, args)?;
    Ok(match (summary.violations, summary.interrupted) {
        (0, false) => ExitCode::SUCCESS,
        (0, true) => ExitCode::from(INTERRUPTED),
        (_, false | true) => Exit::Failure.into(),
    })
}

fn tell(summary: &Summary, args: &SimulateArgs) -> Result<(), CommandError> {
    let text = match args.output.output {
        Output::Json => return print_json(summary),
        Output::Text if summary.interrupted => {
            format!("interrupted after {} of {} worlds", summary.worlds, total(args))
        }
        Output::Text => {
            let happened = summary.happened.iter().map(|(what, times)| format!("{what} {times}"));
            say(&format!("happened: {}", happened.collect::<Vec<_>>().join(", ")));
            if let Some(held) = &summary.held {
                say(&held.text());
            }
            format!("{} worlds", summary.worlds)
        }
    };
    print(&format!(
        "{text}, {} jobs, {:.1} worlds a second, {} violations",
        summary.jobs, summary.worlds_per_second, summary.violations
    ))
}

fn count(tally: &mut Tally, report: &Report, args: &SimulateArgs, began: Instant) {
    tally.worlds += 1;
    tally.jobs += report.jobs;
    for (what, times) in &report.occurred {
        *tally.happened.entry(*what).or_default() += times;
    }
    if let Some(violation) = &report.violation {
        let line = format!("invariant {}: {}", violation.invariant, violation.text);
        if tally.broken.as_ref().is_none_or(|(seed, _)| report.seed < *seed) {
            tally.broken = Some((report.seed, line));
        }
        tally.failing.insert(report.seed);
    }
    if args.trace || (report.violation.is_some() && tally.failing.len() <= TRACES_MAX) {
        say(&told(report, args.trace));
    } else if let Some(violation) = &report.violation {
        say(&broken(report.seed, violation));
    }
    if tally.told.unwrap_or(began).elapsed() >= TELL_EVERY {
        tally.told = Some(Instant::now());
        let (done, bad) = (tally.worlds, tally.failing.len());
        say(&format!("{done} of {} worlds, {bad} violations", total(args)));
    }
}

/// What happened, the violation last, and how to see it again.
fn told(report: &Report, all: bool) -> String {
    let mut text = format!("seed {}\n", report.seed);
    let short = report.short();
    let lines = if all { &report.lines } else { &short };
    for line in lines {
        let _ = writeln!(text, "  {}", line.show());
    }
    let faults: Vec<&str> = report.families.iter().map(|family| family.name()).collect();
    let faults = if faults.is_empty() { "none".to_owned() } else { faults.join(",") };
    let hours = report.simulated.as_secs_f64() / 3600.0;
    let _ = writeln!(
        text,
        "{} jobs, {hours:.1} simulated hours, {} steps, faults: {faults}",
        report.jobs, report.steps
    );
    if let Some(violation) = &report.violation {
        text.push_str(&broken(report.seed, violation));
    }
    text
}

fn broken(seed: u64, violation: &Violation) -> String {
    let Violation { invariant, text, .. } = violation;
    format!(
        "seed {seed} broke invariant {invariant}: {text}\n\
         replay: fleetfoot simulate --seeds 1 --seed {seed} --trace"
    )
}
