//! One case: a scenario with a crash at one pass of one point; and many of them at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::is_interrupted;

use super::audit::audit;
use super::bed::{Bed, Ground};
use super::scenario::Scenario;
use super::{Backend, Case, Outcome, Verdict};

/// Which points a scenario passed, and how often.
pub(super) type Survey = (Scenario, BTreeMap<String, u64>);

/// Passed so often without a crash, a point is passed again.
const FOR_SURE: u64 = 3;

/// How often a case that did not come to its point is run: which pass it is depends on the moment.
const TRIES: usize = 3;

/// Points of a shim, a process of its own that passes each of them once.
pub(super) const SHIMS: &str = "process.shim.";

/// The parent of a runner that runs: nobody may take over from it.
const KILLS_MACHINE: &str = "process.shim.runner.after";

/// Tells the cases of one run apart.
static NUMBER: AtomicUsize = AtomicUsize::new(1);

/// Runs the scenario without a crash: which points it passed, and how often.
pub(super) fn survey(
    ground: &Ground,
    scenario: Scenario,
    keep: bool,
) -> Result<BTreeMap<String, u64>> {
    let mut bed = Bed::new(ground, NUMBER.fetch_add(1, Ordering::Relaxed), scenario)?;
    let played = scenario.play(&mut bed, None).and_then(|cancelled| audit(&bed, &cancelled, false));
    bed.keep = keep && played.is_err();
    if let Err(error) = played {
        return Err(at(error, &bed));
    }
    let mut passes = BTreeMap::new();
    for point in bed.passed() {
        *passes.entry(point).or_default() += 1;
    }
    Ok(passes)
}

fn at(error: anyhow::Error, bed: &Bed) -> anyhow::Error {
    if bed.keep { error.context(kept(bed.dir()).display().to_string()) } else { error }
}

/// Runs one case to its verdict.
pub(super) fn run(ground: &Ground, case: &Case, keep: bool) -> Outcome {
    let begun = Instant::now();
    let mut case = case.clone();
    let mut verdict = Verdict::NotReached;
    for scenario in tries(&case) {
        case.scenario = scenario;
        verdict = once(ground, &case, keep);
        if verdict != Verdict::NotReached {
            break;
        }
    }
    Outcome { case, verdict, took: begun.elapsed() }
}

/// What a case is tried with: its own scenario, then each other that passed the point once, in turn.
fn tries(case: &Case) -> Vec<Scenario> {
    let once_each: Vec<Scenario> =
        std::iter::once(case.scenario).chain(case.others.iter().copied()).collect();
    let rounds = if once_each.len() == 1 { TRIES } else { 2 };
    let all = once_each.len() * rounds;
    once_each.into_iter().cycle().take(all).collect()
}

fn once(ground: &Ground, case: &Case, keep: bool) -> Verdict {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut bed = match Bed::new(ground, number, case.scenario) {
        Ok(bed) => bed,
        Err(error) => return Verdict::Lost(format!("{error:#}")),
    };
    let crash = format!("{}#{}", case.point, case.pass);
    let played = case.scenario.play(&mut bed, Some(crash));
    let result = played.and_then(|cancelled| {
        // Then our crash was that of its machine: GitHub fails the job (design.md 1).
        audit(&bed, &cancelled, case.point == KILLS_MACHINE)
    });
    bed.keep = keep && result.is_err();
    match result {
        Err(error) => Verdict::Lost(format!("{:#}", at(error, &bed))),
        Ok(()) if bed.crashed => Verdict::Survived,
        Ok(()) => Verdict::NotReached,
    }
}

/// Where a failed case can be looked at.
pub(super) fn kept(dir: &Path) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    format!("/tmp/fleetfoot-crash-{}-{name}", std::process::id()).into()
}

/// Does `work` for each item, `jobs` at once, until we are asked to end; results in the order of the items.
pub(super) fn at_once<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    if is_interrupted() {
                        return;
                    }
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The cases of these points on one backend, by what its surveys passed.
pub(super) fn plan(
    backend: Backend,
    points: &[String],
    surveys: &[Survey],
    passes: super::Pass,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for point in points {
        let Some((scenario, count)) = best(point, surveys) else { continue };
        let passed = |pass| {
            surveys.iter().filter(move |(_, seen)| seen.get(point).is_some_and(|it| *it >= pass))
        };
        let case = |pass| Case {
            backend,
            scenario,
            others: passed(pass).map(|it| it.0).filter(|other| *other != scenario).collect(),
            point: point.clone(),
            pass,
        };
        if passes != super::Pass::Two {
            cases.push(case(1));
        }
        // A later pass, if there are more of them than chance may take away.
        let later = if count >= 5 { 3 } else { 2 };
        if passes != super::Pass::One && count >= 2 && !point.starts_with(SHIMS) {
            cases.push(case(later));
        }
    }
    cases
}

/// The first scenario that passes the point for sure, or the one that passes it the most.
fn best(point: &str, surveys: &[Survey]) -> Option<(Scenario, u64)> {
    let mut seen =
        surveys.iter().filter_map(|(scenario, seen)| Some((*scenario, *seen.get(point)?)));
    let most = seen.clone().map(|(_, count)| count).max()?;
    seen.find(|(_, count)| *count >= most.min(FOR_SURE))
}

/// Seconds with one digit.
pub(super) fn seconds(took: Duration) -> String {
    format!("{:.1}", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_once_for_each_and_in_order() {
        let items: Vec<u32> = (0..50).collect();
        assert_eq!(at_once(&items, 4, |item| item * 2), (0..100).step_by(2).collect::<Vec<_>>());
    }

    #[test]
    fn a_point_takes_the_first_scenario_that_surely_passes_it() {
        let passed = |pairs: &[(&str, u64)]| {
            pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let surveys = [
            (Scenario::Load, passed(&[("a", 1), ("b", 9), ("c", 1)])),
            (Scenario::App, passed(&[("b", 20), ("c", 2)])),
        ];
        let points = ["a", "b", "c", "d"].map(str::to_owned);
        let cases = plan(Backend::Process, &points, &surveys, super::super::Pass::Both);
        let told: Vec<_> =
            cases.iter().map(|it| (it.point.as_str(), it.scenario, it.pass)).collect();
        let (load, app) = (Scenario::Load, Scenario::App);
        assert_eq!(
            told,
            [("a", load, 1), ("b", load, 1), ("b", load, 3), ("c", app, 1), ("c", app, 2)]
        );
        let tried: Vec<_> = cases.iter().map(tries).collect();
        let both = vec![load, app, load, app];
        let other = vec![app, load, app, load];
        assert_eq!(tried, [vec![load; 3], both.clone(), both, other, vec![app; 3]]);
    }
}
