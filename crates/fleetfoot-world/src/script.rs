//! What a world is made of, chosen by its seed before it begins: pools, jobs, and what goes wrong when.

use std::time::Duration;

use fastrand::Rng;
use fleetfoot_core::{PoolName, PoolSpec, Span};
use fleetfoot_provisioner::simulated::Binding;
use fleetfoot_sim::{Endpoint, FaultAction};

use crate::bursts::burst;
use crate::families::of_family;
use crate::happening::{AtEngine, Happening, Outside};
use crate::keeping::LONG_HOURS;
use crate::lasting;
use crate::options::{Family, Options};

/// One pool, as its configuration has it.
#[derive(Debug, Clone)]
pub(crate) struct PoolPlan {
    pub(crate) name: PoolName,
    pub(crate) scope: String,
    pub(crate) engine: usize,
    pub(crate) binding: Binding,
    pub(crate) listed: bool,
    pub(crate) spec: PoolSpec,
    /// In the configuration.
    pub(crate) configured: bool,
    /// No fault may touch it (invariant 8).
    pub(crate) calm: bool,
}

/// Where the pool that no fault touches is, unless it shares the way to GitHub with the first one.
pub(crate) const CALM_SCOPE: &str = "calmorg";
/// Its credential then.
pub(crate) const CALM_TOKEN: &str = "ghp_fleetfootcalm";
/// Four hundred days.
const SPAN_MAX_S: f64 = 400.0 * 24.0 * 3600.0;
/// Instances of the pool that no fault touches, at least.
const CALM_LIMIT: u32 = 8;
/// How long one of its jobs has a machine on an average, with its start and its end.
const CALM_JOB_S: f64 = 180.0;

/// A whole world.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) pools: Vec<PoolPlan>,
    pub(crate) engines: usize,
    pub(crate) families: Vec<Family>,
    pub(crate) span: Duration,
    pub(crate) ghes: Vec<String>,
    /// Instances at most on the host.
    pub(crate) host_max: Option<u32>,
    /// In order of time.
    pub(crate) happenings: Vec<(Duration, Happening)>,
}

impl Script {
    /// `later` and `latest` choose what worlds did not have at first: the others are as they were.
    pub(crate) fn new(rng: &mut Rng, later: &mut Rng, latest: &mut Rng, options: &Options) -> Self {
        let mut families = families(rng, options);
        let private = !families.is_empty() && families.iter().all(|family| family.is_private());
        if options.faults.is_none() && private && rng.bool() {
            families.push(Family::Refusals);
        }
        let hours = options.hours.unwrap_or_else(|| [0.3, 0.5, 0.8, 1.2, 2.0][rng.usize(..5)]);
        let span = Duration::from_secs_f64((hours * 3600.0).clamp(60.0, SPAN_MAX_S));
        let count = options.pools.unwrap_or_else(|| rng.usize(1..=4)).clamp(1, 50);
        if options.faults.is_none() && later.u8(..7) == 0 {
            families.push(Family::Peers);
        }
        if families.contains(&Family::Peers) {
            // What two controllers share is not lost, nor do they share a host.
            families.retain(|it| !matches!(it, Family::Store | Family::Reboot));
        }
        let (mut pools, engines) = pools(rng, options, count, &families, span);
        let host_max = host_max(later, &pools, &families);
        warm(latest, &mut pools);
        let scopes = pools.iter().map(|pool| pool.scope.clone());
        let ghes = scopes.filter(|_| rng.u8(..5) == 0).collect();
        let mut happenings = jobs(rng, options, &pools, span);
        let often = if hours > LONG_HOURS { (hours / 2.0).ceil() as usize } else { 1 };
        for family in &families {
            for _ in 0..rng.usize(1..=3) * often {
                let at = span.mul_f64(rng.f64() * 0.9);
                let target = pools.iter().filter(|pool| !pool.calm).count().max(1);
                // The first pool shares its way to GitHub with the calm one.
                let refused = *family == Family::Refusals;
                let chosen = rng.usize(..target);
                let pool = &pools[if refused { 0 } else { chosen }];
                if *family == Family::Store && rng.bool() {
                    // What was lost is looked for, and the engine takes its time over it.
                    let millis = rng.u64(11_000..=25_000);
                    let slow = AtEngine::Latency { pool: pool.name.clone(), millis };
                    happenings.push((at.saturating_sub(Duration::from_secs(1)), slow.into()));
                }
                let what = of_family(*family, rng, pool);
                happenings.extend(witnesses(&what, &pools, at));
                let what = Box::new(live(what, later));
                happenings.push((at, Happening::Fault { family: *family, what }));
            }
        }
        happenings.extend(deaths_while_waiting(latest, &pools, &families, span));
        happenings.extend(steps_within_calls(latest, &pools, &families, span));
        happenings.extend(acknowledged_in_vain(latest, &pools, &families, span));
        happenings.extend(burst(latest, options, &mut pools, host_max, span));
        if hours > LONG_HOURS {
            happenings.extend(lasting::ends(&happenings, &pools));
        }
        happenings.sort_by_key(|(at, _)| *at);
        Self { pools, engines, families, span, ghes, happenings, host_max }
    }
}

/// Some pools that make environments before they launch them keep a few made.
fn warm(rng: &mut Rng, pools: &mut [PoolPlan]) {
    for pool in pools.iter_mut().filter(|pool| pool.binding == Binding::LateBinding) {
        if rng.u8(..3) == 0 {
            pool.spec.warm = rng.u32(1..=3);
            pool.spec.warm_ttl = Span::minutes(i64::from([5_u8, 20, 60][rng.usize(..3)]));
        }
    }
}

/// Where machines die, those that wait for a job die, too.
fn deaths_while_waiting(
    rng: &mut Rng,
    pools: &[PoolPlan],
    families: &[Family],
    span: Duration,
) -> Vec<(Duration, Happening)> {
    let family = Family::Deaths;
    if !families.contains(&family) {
        return Vec::new();
    }
    let warm = pools.iter().filter(|pool| pool.spec.warm > 0 && !pool.calm);
    warm.map(|pool| {
        let what = Box::new(AtEngine::DieWaiting { pool: pool.name.clone() }.into());
        (span.mul_f64(rng.f64() * 0.9), Happening::Fault { family, what })
    })
    .collect()
}

/// The clock steps back while calls are on their way: what began before ends before it began.
fn steps_within_calls(
    rng: &mut Rng,
    pools: &[PoolPlan],
    families: &[Family],
    span: Duration,
) -> Vec<(Duration, Happening)> {
    const ASKED: [Endpoint; 4] = [
        Endpoint::RestGetRunners,
        Endpoint::GetRunner,
        Endpoint::GenerateJitConfig,
        Endpoint::RemoveRunner,
    ];
    let family = Family::Clock;
    let mut hit = pools.iter().filter(|pool| !pool.calm);
    let Some(pool) = hit.next_back().filter(|_| families.contains(&family) && rng.bool()) else {
        return Vec::new();
    };
    let (at, name) = (span.mul_f64(rng.f64() * 0.9), || pool.name.clone());
    let slow = AtEngine::Latency { pool: name(), millis: rng.u64(8_000..=25_000) };
    let late = Outside::Outage {
        pool: name(),
        endpoint: ASKED[rng.usize(..ASKED.len())],
        action: FaultAction::Delay { ms: rng.u64(5_000..=25_000) },
        lasts: Duration::from_secs(40),
    };
    let step = Happening::StepClock { seconds: -rng.i64(6..=900) };
    let well = AtEngine::Latency { pool: name(), millis: 300 };
    let mut happenings = vec![(at, slow.into()), (at, late.into())];
    happenings.push((at + Duration::from_secs(90), well.into()));
    let fault = Happening::Fault { family, what: Box::new(step) };
    happenings.push((at + Duration::from_millis(rng.u64(1_000..30_000)), fault));
    happenings
}

/// GitHub takes acknowledgements for a while and forgets them: the same message comes again and again.
fn acknowledged_in_vain(
    rng: &mut Rng,
    pools: &[PoolPlan],
    families: &[Family],
    span: Duration,
) -> Vec<(Duration, Happening)> {
    let family = Family::Polls;
    let hit: Vec<&PoolPlan> = pools.iter().filter(|pool| !pool.calm).collect();
    if !families.contains(&family) || hit.is_empty() || rng.bool() {
        return Vec::new();
    }
    let forgets = Outside::Outage {
        pool: hit[rng.usize(..hit.len())].name.clone(),
        endpoint: Endpoint::DeleteMessage,
        action: FaultAction::status(204),
        lasts: Duration::from_secs(rng.u64(20..=300)),
    };
    let what = Box::new(forgets.into());
    vec![(span.mul_f64(rng.f64() * 0.9), Happening::Fault { family, what })]
}

/// While GitHub refuses one pool, it has jobs and so has the calm one that shares its way to GitHub: that one
/// must not notice.
fn witnesses(what: &Happening, pools: &[PoolPlan], at: Duration) -> Vec<(Duration, Happening)> {
    let Happening::Outside(Outside::Refuse { pool, .. }) = what else { return Vec::new() };
    let refused = pools.iter().find(|plan| plan.name == *pool);
    let calm = pools.iter().find(|plan| plan.calm);
    let (Some(refused), Some(calm)) = (refused, calm) else { return Vec::new() };
    if calm.scope != refused.scope {
        return Vec::new();
    }
    let job = |pool: &PoolName, after_s: u64, count: usize| {
        let jobs = Happening::Jobs { pool: pool.clone(), count, duration_ms: 2_000 };
        (at + Duration::from_secs(after_s), jobs)
    };
    let asked = [31, 34, 76, 79, 100, 103].map(|after| job(&calm.name, after, 1));
    std::iter::once(job(&refused.name, 2, 2)).chain(asked).collect()
}

/// Half of all changes of the configuration are applied while the controller runs.
fn live(what: Happening, later: &mut Rng) -> Happening {
    if matches!(what, Happening::Restart { .. })
        && later.bool()
        && let Happening::Restart { change, .. } = what
    {
        return Happening::Reload { change };
    }
    what
}

/// A host that is too small for all pools at once, where nobody but them waits for it.
fn host_max(rng: &mut Rng, pools: &[PoolPlan], families: &[Family]) -> Option<u32> {
    let free = pools.iter().all(|pool| !pool.calm)
        && !families.iter().any(|it| matches!(it, Family::Peers | Family::Settings));
    let idle: u32 = pools.iter().map(|pool| pool.spec.min_idle).sum();
    let most: u32 = pools.iter().map(|pool| pool.spec.max_runners).sum();
    let tight = free && pools.len() > 1 && rng.bool() && idle + 1 < most;
    tight.then(|| rng.u32(idle + 1..most))
}

fn families(rng: &mut Rng, options: &Options) -> Vec<Family> {
    if let Some(fixed) = &options.faults {
        return fixed.clone();
    }
    let count = match rng.u8(..20) {
        0 => 0,
        1..=7 => 1,
        8..=12 => 2,
        13..=16 => 4,
        17..=18 => 8,
        _ => Family::ALL.len() - 1,
    };
    let mut all = Family::ALL.to_vec();
    all.retain(|family| *family != Family::Peers);
    rng.shuffle(&mut all);
    all.truncate(count);
    all.sort();
    all
}

fn pools(
    rng: &mut Rng,
    options: &Options,
    count: usize,
    families: &[Family],
    span: Duration,
) -> (Vec<PoolPlan>, usize) {
    let count = if options.sizes.is_empty() { count } else { options.sizes.len() };
    let mut engines = 0;
    let mut pools: Vec<PoolPlan> = Vec::new();
    for number in 0..count {
        // A plugin has an engine of its own.
        if pools.last().is_none_or(|last| !last.listed) || rng.bool() {
            engines += 1;
        }
        let size = options.sizes.get(number);
        let max_runners = size.map_or_else(|| rng.u32(1..=6), |size| size.max_runners.min(1000));
        let min_idle = size.map_or_else(
            || if rng.u8(..3) == 0 { rng.u32(1..=2).min(max_runners) } else { 0 },
            |size| size.min_idle,
        );
        let listed = rng.u8(..6) > 0;
        if !listed && pools.last().is_some_and(|last| last.engine + 1 == engines) {
            engines += 1;
        }
        let late = listed && rng.bool();
        let name = size.map_or_else(|| format!("pool{number}"), |size| size.name.clone());
        let Ok(name) = PoolName::new(&name) else { continue };
        pools.push(PoolPlan {
            name,
            scope: if rng.u8(..3) == 0 { format!("org{number}") } else { "acme".to_owned() },
            engine: engines - 1,
            binding: if late { Binding::LateBinding } else { Binding::SingleStep },
            listed,
            spec: spec(rng, max_runners, min_idle),
            configured: true,
            calm: false,
        });
    }
    if !families.is_empty() && options.sizes.is_empty() && rng.u8(..3) > 0 {
        let limit = calm_limit(options, pools.len() + 1, span);
        let spec = PoolSpec { boot_timeout: Span::minutes(5), ..spec(rng, limit, 0) };
        if let Ok(name) = PoolName::new("calm") {
            // With faults of single pools only it shares their way to GitHub.
            let shares = families.iter().all(|family| family.is_private());
            let of_first = pools.first().map(|pool| pool.scope.clone()).filter(|_| shares);
            pools.push(PoolPlan {
                name,
                scope: of_first.unwrap_or_else(|| CALM_SCOPE.to_owned()),
                engine: engines,
                binding: if rng.bool() { Binding::LateBinding } else { Binding::SingleStep },
                listed: true,
                spec: PoolSpec { max_job_duration: None, ..spec },
                configured: true,
                calm: true,
            });
            engines += 1;
        }
    }
    (pools, engines)
}

/// The pool that no fault touches has room for its share of the jobs that were asked for, or it waits for itself.
fn calm_limit(options: &Options, pools: usize, span: Duration) -> u32 {
    let Some(jobs) = options.jobs else { return CALM_LIMIT };
    let share = jobs as f64 / pools as f64;
    let at_once = share * CALM_JOB_S / span.as_secs_f64();
    // Three times what it has on an average besides: bursts, and machines that are on their way in or out.
    (CALM_LIMIT + (at_once * 3.0).ceil() as u32).min(1000)
}

fn spec(rng: &mut Rng, max_runners: u32, min_idle: u32) -> PoolSpec {
    PoolSpec {
        max_runners,
        min_idle,
        idle_timeout: Span::seconds(i64::from([5_u8, 60, 240][rng.usize(..3)])),
        create_timeout: Span::minutes(i64::from([1_u8, 3, 10][rng.usize(..3)])),
        boot_timeout: Span::minutes(i64::from([1_u8, 2, 5][rng.usize(..3)])),
        max_job_duration: (rng.u8(..12) == 0).then(|| Span::minutes(30)),
        ..PoolSpec::default()
    }
}

/// Jobs in bursts and alone, from a second to hours.
fn jobs(
    rng: &mut Rng,
    options: &Options,
    pools: &[PoolPlan],
    span: Duration,
) -> Vec<(Duration, Happening)> {
    let mut left = options.jobs.unwrap_or_else(|| rng.usize(40..=60));
    let mut happenings = Vec::new();
    let shorter = lasting::shorter(left, pools, span);
    while left > 0 {
        let pool = &pools[rng.usize(..pools.len())];
        let count = match rng.u8(..8) {
            0..=3 => 1,
            4..=5 => rng.usize(2..=4),
            6 => rng.usize(4..=10),
            _ => rng.usize(10..=20),
        };
        let count = count.min(left).min(if pool.calm { 2 } else { count });
        let seconds = match rng.u8(..20) {
            0..=7 => rng.u64(1..=5),
            8..=14 => rng.u64(10..=120),
            15..=18 => rng.u64(120..=1200),
            _ if pool.calm => 30,
            _ => rng.u64(1200..=7200),
        };
        let at = span.mul_f64(rng.f64());
        let seconds = (seconds as f64 * shorter) as u64;
        let duration_ms = seconds * 1000 + rng.u64(..1000);
        happenings.push((at, Happening::Jobs { pool: pool.name.clone(), count, duration_ms }));
        left -= count;
    }
    happenings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calm_pool_has_room_for_the_jobs_that_were_asked_for() {
        let limit = |jobs, hours: u64| {
            let options = Options { jobs, ..Options::default() };
            calm_limit(&options, 3, Duration::from_secs(hours * 3600))
        };
        // What the seed chooses is as it was: seeds are kept for ever.
        assert_eq!(limit(None, 1), 8);
        assert_eq!(limit(Some(60), 6), 9);
        // 500 jobs of three minutes in an hour are 25 at once.
        assert_eq!(limit(Some(1500), 1), 83);
        assert_eq!(limit(Some(1_000_000), 1), 1000);
    }
}
