//! File descriptors: every pool holds connections open, so the limit is raised at the start, and pools
//! beyond it are refused by name instead of failing one by one later.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::RunnerConfig;

/// For the store, the sockets, the backends and some room.
const BASE: u64 = 128;

/// A poll, and its share of control calls at a start.
const PER_POOL: u64 = 2;

/// The hard limit is too low for so many pools.
#[derive(Debug, thiserror::Error)]
#[error(
    "{count} pools need {needed} file descriptors and the hard limit is {limit}: raise it (LimitNOFILE= in the unit, or ulimit -n) or take out pools from `{first_beyond}` on"
)]
pub struct TooFewDescriptors {
    count: usize,
    needed: u64,
    limit: u64,
    first_beyond: String,
}

/// Raises the soft limit to the hard one and checks that the pools fit.
pub(super) fn raise(pools: &[RunnerConfig]) -> Result<(), TooFewDescriptors> {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let reached = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => hard,
        Err(_) => limit.current.unwrap_or(u64::MAX),
    };
    let instances: u64 =
        pools.iter().map(|pool| u64::from(pool.max_runners.min(64))).sum::<u64>().min(1024);
    let needed =
        |count: usize| BASE + instances + PER_POOL * u64::try_from(count).unwrap_or(u64::MAX / 4);
    if needed(pools.len()) <= reached {
        return Ok(());
    }
    let fits = usize::try_from(reached.saturating_sub(BASE + instances) / PER_POOL).unwrap_or(0);
    Err(TooFewDescriptors {
        count: pools.len(),
        needed: needed(pools.len()),
        limit: reached,
        first_beyond: pools.get(fits).map(|pool| pool.name.clone()).unwrap_or_default(),
    })
}
