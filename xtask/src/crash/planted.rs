//! Losses that are planted: a driver that does not see these would see no other.
//!
//! Each is a defect of `fleetfoot-faults` that the daemon makes while a scenario is played with a crash in
//! it; the audit has to name what was lost.

use anyhow::{Result, bail};

use super::bed::Ground;
use super::scenario::Scenario;
use super::{Backend, Case, Outcome, Verdict, case};

/// A defect, the scenario that it harms, and parts of what the audit may say.
struct Planted {
    defect: &'static str,
    scenario: Scenario,
    says: &'static [&'static str],
}

const ALL: [Planted; 2] = [
    // A removal that finds a job is carried out: the job dies with its machine.
    Planted { defect: "ignore-busy", scenario: Scenario::Load, says: &["is lost", "has ended as"] },
    // The answer to a JIT call is lost, and with it what it registered.
    Planted {
        defect: "lose-jit-registration",
        scenario: Scenario::LostAnswer,
        says: &["registered at GitHub still"],
    },
];

/// Every scenario comes by here, before what the defects harm.
const CRASH: &str = "controller.commit.session_opened.after";

/// Plays all of them, and fails if one is not seen.
pub(super) fn all_are_seen(ground: &Ground, jobs: usize, keep: bool) -> Result<()> {
    let seen = case::at_once(&ALL, jobs, |planted| {
        let ground = Ground { defect: Some(planted.defect.to_owned()), ..ground.clone() };
        let case = Case {
            backend: Backend::Process,
            scenario: planted.scenario,
            others: Vec::new(),
            point: CRASH.to_owned(),
            pass: 1,
        };
        let outcome = case::run(&ground, &case, keep);
        println!("planted {}: {}", planted.defect, told(&outcome));
        planted.is_seen(&outcome.verdict)
    });
    let missed: Vec<&str> =
        ALL.iter().zip(seen).filter(|(_, seen)| !seen).map(|(it, _)| it.defect).collect();
    if !missed.is_empty() {
        bail!("planted losses that the audit did not see: {}", missed.join(", "));
    }
    Ok(())
}

fn told(outcome: &Outcome) -> &str {
    match &outcome.verdict {
        Verdict::Lost(why) => why,
        Verdict::Survived | Verdict::NotReached => outcome.verdict.word(),
    }
}

impl Planted {
    fn is_seen(&self, verdict: &Verdict) -> bool {
        match verdict {
            Verdict::Lost(why) => self.says.iter().any(|words| why.contains(words)),
            Verdict::Survived | Verdict::NotReached => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loss_that_was_planted_counts() {
        let [busy, _] = &ALL;
        assert!(busy.is_seen(&Verdict::Lost("job 7 is lost".to_owned())));
        for other in [
            Verdict::Lost("the daemon ended by itself".to_owned()),
            Verdict::Survived,
            Verdict::NotReached,
        ] {
            assert!(!busy.is_seen(&other), "{other:?}");
        }
    }
}
