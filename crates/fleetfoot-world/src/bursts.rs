//! More jobs at once than GitHub tells of in one message: it tells of fifty, and of the rest in the next one.

use std::time::Duration;

use fastrand::Rng;

use crate::happening::Happening;
use crate::options::Options;
use crate::script::PoolPlan;

/// One world in so many has a burst.
const ONE_IN: u8 = 40;
/// Which of them: none whose seed was kept for what it broke before there were bursts.
const CHOSEN: u8 = 3;

/// In some worlds one pool is as large as a burst of more than fifty jobs, which all come in one moment.
pub(crate) fn burst(
    rng: &mut Rng,
    options: &Options,
    pools: &mut [PoolPlan],
    host_max: Option<u32>,
    span: Duration,
) -> Option<(Duration, Happening)> {
    let fixed = options.jobs.is_some() || !options.sizes.is_empty();
    if fixed || host_max.is_some() || rng.u8(..ONE_IN) != CHOSEN {
        return None;
    }
    let pool = pools.iter_mut().find(|pool| !pool.calm)?;
    // Fewer slots than jobs on github.com: it assigns what was advertised, and the others as slots become free.
    let count = rng.usize(60..=90);
    pool.spec.max_runners = rng.u32(55..=70);
    let at = span.mul_f64(rng.f64() * 0.9);
    let duration_ms = rng.u64(1_000..20_000);
    Some((at, Happening::Jobs { pool: pool.name.clone(), count, duration_ms }))
}

#[cfg(test)]
mod tests {
    use crate::kept_seeds;
    use crate::options::Options;
    use crate::world::script;

    use super::*;

    fn has_burst(seed: u64) -> bool {
        let happenings = script(seed, &Options::default()).0.happenings;
        happenings.iter().any(|(_, what)| matches!(what, Happening::Jobs { count: 51.., .. }))
    }

    #[test]
    fn some_worlds_have_a_burst_and_those_that_are_kept_are_as_they_were() {
        let bursts: Vec<u64> = (1..=600).filter(|seed| has_burst(*seed)).collect();
        assert!((5..=30).contains(&bursts.len()), "{bursts:?}");
        // Later seeds were kept for what they broke with their burst.
        let mut older = kept_seeds().filter(|seed| *seed < 20_000);
        assert!(!older.any(has_burst), "its own seed would not find again what it found");
    }
}
