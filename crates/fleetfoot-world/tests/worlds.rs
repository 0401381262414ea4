//! Worlds: equal seeds are equal, a few dozen of them keep every promise, and seeds that once failed do so
//! no more.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use fleetfoot_world::{Family, Options, Report, World, kept_seeds};

fn run(seed: u64) -> Report {
    World::run(seed, &Options::default())
}

fn well(report: &Report) {
    let trace: String = report.short().iter().map(|line| line.show() + "\n").collect();
    assert!(report.violation.is_none(), "{trace}seed {}: {:?}", report.seed, report.violation);
}

#[test]
fn equal_seeds_are_equal_worlds() {
    // 95 was not, while several tasks that wait on one channel woke in an order by chance.
    for (seed, times) in [(3, 1), (95, 2)] {
        let one = run(seed);
        assert!(one.steps > 100, "seed {seed} did next to nothing: {} steps", one.steps);
        for _ in 0..times {
            let other = run(seed);
            assert_eq!((one.steps, one.jobs), (other.steps, other.jobs), "seed {seed}");
            assert_eq!(one.digest, other.digest, "seed {seed}");
        }
    }
}

#[test]
fn a_long_world_forgets_what_is_over_and_is_well() {
    let options = Options {
        hours: Some(8.0),
        jobs: Some(60),
        pools: Some(1),
        faults: Some(vec![Family::Create, Family::Deaths]),
        ..Options::default()
    };
    let (one, other) = (World::run(5, &options), World::run(5, &options));
    well(&one);
    assert!(one.jobs >= 60, "{} jobs", one.jobs);
    assert!(one.simulated > std::time::Duration::from_secs(8 * 3600));
    assert_eq!(one.digest, other.digest);
}

#[test]
fn every_family_of_faults_happens() {
    let mut missing: Vec<Family> = Family::ALL.to_vec();
    // Short worlds with few jobs are enough to see that it happens.
    let options =
        Options { hours: Some(0.05), jobs: Some(6), pools: Some(1), ..Options::default() };
    for seed in 2000..2200 {
        let report = World::run(seed, &options);
        missing.retain(|family| !report.occurred.contains_key(family.name()));
        if missing.is_empty() {
            return;
        }
    }
    panic!("never happened: {missing:?}");
}

#[test]
fn a_dozen_worlds_keep_every_promise() {
    for seed in 1000..1012 {
        well(&run(seed));
    }
}

#[test]
fn a_burst_is_told_in_more_than_one_message() {
    let report = run(161);
    well(&report);
    assert!(report.jobs > 90, "{} jobs", report.jobs);
    assert!(report.occurred.contains_key("message cut at fifty jobs"), "{:?}", report.occurred);
}

/// The gate tries a part of them here, and all of them as a release (`simulate --kept`).
#[test]
fn seeds_that_once_failed_are_well() {
    let share = std::env::var("FLEETFOOT_TEST_SHARE").unwrap_or_else(|_| "0/1".to_owned());
    let (part, of) = share.split_once('/').expect("FLEETFOOT_TEST_SHARE is PART/OF");
    let (part, of): (usize, usize) = (part.parse().unwrap(), of.parse().unwrap());
    let seeds: Vec<u64> = kept_seeds().collect();
    let kept = include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(seeds.len(), kept, "a line without a seed");
    for seed in seeds.into_iter().skip(part).step_by(of) {
        well(&run(seed));
    }
}
