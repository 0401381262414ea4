//! What is different in a long world: its pools keep up with its jobs. Jobs are as short as that needs, settings that
//! were changed are put back, and an engine that was slow is quick again. A world of an hour is over soon; in one of a
//! day every pool would soon be left with a handful of instances, or with an engine that is slower than the bound of
//! a call, and what grows would be its backlog.

use std::time::Duration;

use crate::happening::{AtEngine, Happening, SettingsChange};
use crate::keeping::LONG_HOURS;
use crate::script::PoolPlan;

/// How long a job takes on an average.
const JOB_S: f64 = 366.0;
/// An operator sees what the change did.
const SETTINGS_LAST: Duration = Duration::from_secs(20 * 60);
const SLOW_LASTS: Duration = Duration::from_secs(10 * 60);
/// An engine that answers within this is quick.
const QUICK_MS: u64 = 300;

/// Jobs of a long world are as short as its pools need to keep up with them.
pub(crate) fn shorter(jobs: usize, pools: &[PoolPlan], span: Duration) -> f64 {
    if span.as_secs_f64() <= LONG_HOURS * 3600.0 {
        return 1.0;
    }
    let least = pools.iter().map(|pool| pool.spec.max_runners).min().unwrap_or(1);
    let room = f64::from(least) * pools.len() as f64 / 2.0;
    (room * span.as_secs_f64() / (jobs as f64 * JOB_S)).min(1.0)
}

/// The ends of what happens.
pub(crate) fn ends(
    happenings: &[(Duration, Happening)],
    pools: &[PoolPlan],
) -> Vec<(Duration, Happening)> {
    let ends = happenings.iter().filter_map(|(at, what)| {
        let (lasts, end) = end(what, pools)?;
        Some((*at + lasts, end))
    });
    ends.collect()
}

fn end(what: &Happening, pools: &[PoolPlan]) -> Option<(Duration, Happening)> {
    match what {
        Happening::Fault { what, .. } => end(what, pools),
        Happening::Restart { change, .. } | Happening::Reload { change } => {
            let (name, _) = change.as_ref()?;
            let plan = pools.iter().find(|plan| plan.name == *name)?;
            let (max_runners, min_idle) = (plan.spec.max_runners, plan.spec.min_idle);
            let back = SettingsChange::PutBack { max_runners, min_idle };
            Some((SETTINGS_LAST, Happening::Reload { change: Some((name.clone(), back)) }))
        }
        Happening::Engine(AtEngine::Latency { pool, millis }) if *millis > QUICK_MS => {
            let quick = AtEngine::Latency { pool: pool.clone(), millis: QUICK_MS };
            Some((SLOW_LASTS, quick.into()))
        }
        Happening::Jobs { .. }
        | Happening::Cancel { .. }
        | Happening::Crash { .. }
        | Happening::Peer(_)
        | Happening::Freeze { .. }
        | Happening::Commits { .. }
        | Happening::SaveStore
        | Happening::LoseStore { .. }
        | Happening::Outside(_)
        | Happening::Engine(_)
        | Happening::Reboot { .. }
        | Happening::StepClock { .. }
        | Happening::Over(_)
        | Happening::Start => None,
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::happening::changed;
    use crate::options::{Family, Options};
    use crate::script::Script;

    fn script(hours: f64, seed: u64) -> Script {
        let faults = Some(vec![Family::Settings, Family::Backend]);
        let options = Options { jobs: Some(20), hours: Some(hours), faults, ..Options::default() };
        let [mut rng, mut later, mut latest] = [seed, 8, 9].map(Rng::with_seed);
        Script::new(&mut rng, &mut later, &mut latest, &options)
    }

    /// How every pool is set when all has happened.
    fn left(script: &Script) -> Vec<PoolPlan> {
        let mut pools = script.pools.clone();
        for (_, what) in &script.happenings {
            let what = if let Happening::Fault { what, .. } = what { &**what } else { what };
            if let Happening::Restart { change: Some((name, change)), .. }
            | Happening::Reload { change: Some((name, change)) } = what
            {
                let plan = pools.iter_mut().find(|plan| plan.name == *name).unwrap();
                changed(plan, change);
            }
        }
        pools
    }

    #[test]
    fn a_long_world_is_left_as_it_began_and_a_short_one_as_it_happens() {
        let unlike = |script: &Script| {
            let pools = script.pools.iter().zip(left(script));
            let changed = pools.filter(|(was, is)| {
                (was.spec.max_runners, was.spec.min_idle, was.configured)
                    != (is.spec.max_runners, is.spec.min_idle, is.configured)
            });
            changed.count()
        };
        assert!((1..20).all(|seed| unlike(&script(100.0, seed)) == 0));
        assert!((1..20).any(|seed| unlike(&script(1.0, seed)) > 0));
        let slow = |script: &Script| {
            let mut last = None;
            for (_, what) in &script.happenings {
                let what = if let Happening::Fault { what, .. } = what { &**what } else { what };
                if let Happening::Engine(AtEngine::Latency { millis, .. }) = what {
                    last = Some(*millis);
                }
            }
            last
        };
        assert_eq!(slow(&script(100.0, 1)), Some(QUICK_MS));
    }
}
