//! How a family of faults chooses what happens.

use std::time::Duration;

use fastrand::Rng;
use fleetfoot_core::PoolName;
use fleetfoot_provisioner::ErrorKind;
use fleetfoot_provisioner::simulated::{Fault as EngineFault, Operation};
use fleetfoot_sim::{Endpoint, Expire, FaultAction, Muddle};
use fleetfoot_store::Fate;

use crate::happening::{AtEngine, Happening, Outside, PeerChange, SettingsChange};
use crate::options::Family;
use crate::runner::RunnerFate;
use crate::script::PoolPlan;

/// How long a call may take to land at an engine that answers all the while: the call bound, beyond which nobody could
/// tell an absence from a landing to come.
const LATEST_LANDING: Duration = Duration::from_secs(30);

fn seconds(rng: &mut Rng, range: std::ops::RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rng.u64(range) * 1000 + rng.u64(..1000))
}

/// Seconds mostly, hours now and then.
fn away(rng: &mut Rng) -> Duration {
    match rng.u8(..10) {
        0..=5 => seconds(rng, 0..=10),
        6..=8 => seconds(rng, 10..=300),
        _ => seconds(rng, 600..=7200),
    }
}

fn any_endpoint(rng: &mut Rng) -> Endpoint {
    const ALL: &[Endpoint] = &[
        Endpoint::RegistrationToken,
        Endpoint::AdminConnection,
        Endpoint::GetScaleSet,
        Endpoint::CreateSession,
        Endpoint::RefreshSession,
        Endpoint::DeleteSession,
        Endpoint::GetMessage,
        Endpoint::DeleteMessage,
        Endpoint::AcquireJobs,
        Endpoint::GenerateJitConfig,
        Endpoint::GetRunner,
        Endpoint::RemoveRunner,
        Endpoint::RestGetRunners,
        Endpoint::Any,
    ];
    ALL[rng.usize(..ALL.len())]
}

fn github(rng: &mut Rng, pool: &PoolName, endpoint: Endpoint, action: FaultAction) -> Outside {
    if rng.u8(..4) == 0 && endpoint != Endpoint::Any {
        return Outside::Outage {
            pool: pool.clone(),
            endpoint,
            action,
            lasts: seconds(rng, 20..=600),
        };
    }
    let (skip, times) = (rng.u64(..4), rng.u64(1..=4));
    Outside::Github { pool: pool.clone(), endpoint, action, skip, times }
}

/// One happening of a family, about `pool` where it is about one.
pub(crate) fn of_family(family: Family, rng: &mut Rng, plan: &PoolPlan) -> Happening {
    let pool = plan.name.clone();
    match family {
        Family::Crash => Happening::Crash { polls: rng.u64(..400), away: away(rng) },
        Family::Commit => {
            let all = [Fate::Busy, Fate::Full, Fate::Doubt, Fate::HaltBefore, Fate::HaltAfter];
            let fate = all[rng.usize(..5)];
            let halts = matches!(fate, Fate::HaltBefore | Fate::HaltAfter);
            let count = if halts { 1 } else { rng.usize(1..=6) };
            Happening::Commits { fates: vec![fate; count], skip: rng.u32(..40), away: away(rng) }
        }
        Family::Store => match rng.u8(..3) {
            0 => Happening::SaveStore,
            _ => Happening::LoseStore { restore: rng.bool(), away: away(rng) },
        },
        Family::Peers => peers(rng),
        Family::Freeze => Happening::Freeze { lasts: seconds(rng, 1..=600) },
        Family::Polls => polls(rng, &pool).into(),
        Family::Messages => messages(rng, pool).into(),
        Family::Statistics => {
            let lasts = seconds(rng, 20..=900);
            Outside::Lie { pool, assigned: rng.u64(..12), lasts }.into()
        }
        Family::Expiry => match rng.u8(..6) {
            0 => Outside::Vanish { pool }.into(),
            1 => Outside::Expire { pool, what: Expire::AdminTokens }.into(),
            2 => Outside::Expire { pool, what: Expire::QueueTokens }.into(),
            _ => Outside::Expire { pool, what: Expire::Sessions }.into(),
        },
        Family::Errors => {
            let endpoint = any_endpoint(rng);
            let action = errors(rng, endpoint);
            github(rng, &pool, endpoint, action).into()
        }
        Family::Limits => {
            let endpoint = if rng.bool() { Endpoint::GenerateJitConfig } else { any_endpoint(rng) };
            let action = match rng.u8(..3) {
                0 => FaultAction::status(429),
                1 => FaultAction::rate_limited(429, rng.u64(1..=120)),
                _ => FaultAction::rate_limited(403, rng.u64(1..=120)),
            };
            github(rng, &pool, endpoint, action).into()
        }
        Family::Jit => {
            let action = match rng.u8(..6) {
                0 | 1 => FaultAction::LoseAnswer,
                2 => FaultAction::Delay { ms: rng.u64(20_000..=90_000) },
                3 => FaultAction::Hang,
                4 => FaultAction::EmptyBody,
                _ => FaultAction::exception(409, "AgentExistsException"),
            };
            github(rng, &pool, Endpoint::GenerateJitConfig, action).into()
        }
        Family::Removals => removals(rng, &pool).into(),
        Family::Create => create(rng, plan).into(),
        Family::Lists => match rng.u8(..3) {
            // Who cannot list cannot tell which engine answers.
            0 if !plan.listed => AtEngine::BreakWatch { pool }.into(),
            0 => AtEngine::Other { pool, lasts: seconds(rng, 10..=600) }.into(),
            1 => AtEngine::BreakWatch { pool }.into(),
            _ => {
                let fault = EngineFault::Fail(ErrorKind::Backend, "the list was cut".to_owned());
                let operation = Operation::List;
                AtEngine::Calls {
                    pool,
                    operation,
                    fault,
                    skip: rng.u32(..3),
                    times: rng.u32(1..=5),
                }
                .into()
            }
        },
        Family::Deletes => {
            let lasts = seconds(rng, 60..=3600);
            AtEngine::Outage { pool, operations: vec![Operation::Delete], lasts }.into()
        }
        Family::Backend => match rng.u8(..3) {
            0 => AtEngine::Freeze { pool, lasts: seconds(rng, 5..=600) }.into(),
            1 => AtEngine::Latency { pool, millis: rng.u64(1_000..=40_000) }.into(),
            _ => {
                use Operation::{Create, Delete, Launch, List};
                let operations = vec![Create, Launch, Delete, List];
                AtEngine::Outage { pool, operations, lasts: seconds(rng, 20..=600) }.into()
            }
        },
        Family::Deaths => {
            let fates = (0..rng.usize(1..=4)).map(|_| RunnerFate::any(rng)).collect();
            Outside::Runners { pool, fates }.into()
        }
        Family::Reboot => Happening::Reboot { away: seconds(rng, 20..=600) },
        Family::Clock => {
            let far = if rng.bool() { rng.i64(5..=120) } else { rng.i64(1000..=100_000) };
            Happening::StepClock { seconds: if rng.bool() { far } else { -far } }
        }
        Family::Settings => {
            let change = match rng.u8(..6) {
                0 | 1 => SettingsChange::Limit(rng.u32(1..=6)),
                2 => SettingsChange::MinIdle(rng.u32(..=2)),
                3 => SettingsChange::Remove,
                4 => SettingsChange::Rename,
                _ => SettingsChange::Restore,
            };
            Happening::Restart { change: Some((pool, change)), away: seconds(rng, 0..=20) }
        }
        Family::Cancels => Happening::Cancel { pool, number: rng.usize(..8) },
        Family::Refusals => Outside::Refuse { pool, lasts: seconds(rng, 120..=1200) }.into(),
    }
}

fn peers(rng: &mut Rng) -> Happening {
    // A lease lapses after ten seconds.
    match rng.u8(..8) {
        0..=2 => Happening::Freeze { lasts: seconds(rng, 12..=180) },
        3..=4 => Happening::Peer(PeerChange::Freeze { lasts: seconds(rng, 2..=180) }),
        5 => Happening::Peer(PeerChange::Kill { away: away(rng) }),
        6 => Happening::Peer(PeerChange::Stop { away: away(rng) }),
        _ => Happening::Crash { polls: rng.u64(..400), away: away(rng) },
    }
}

fn errors(rng: &mut Rng, endpoint: Endpoint) -> FaultAction {
    match rng.u8(..9) {
        0 => FaultAction::status(401),
        1 => FaultAction::status(403),
        2 if matches!(endpoint, Endpoint::CreateSession | Endpoint::GetMessage) => {
            FaultAction::exception(409, "RunnerScaleSetSessionConflictException")
        }
        3 => FaultAction::Body { status: 200, body: "<html>".to_owned() },
        4 => FaultAction::Cut,
        _ => FaultAction::status([500, 502, 503, 504][rng.usize(..4)]),
    }
}

fn polls(rng: &mut Rng, pool: &PoolName) -> Outside {
    let action = match rng.u8(..6) {
        0 => return Outside::CutConnections,
        1 => FaultAction::Hang,
        2 => FaultAction::Delay { ms: rng.u64(1_000..=120_000) },
        // Nobody got it, so it comes again.
        3 => FaultAction::LoseAnswer,
        4 => FaultAction::EmptyBody,
        _ => {
            // It was taken in, and comes again all the same.
            let (endpoint, action) = (Endpoint::DeleteMessage, FaultAction::status(503));
            return github(rng, pool, endpoint, action);
        }
    };
    github(rng, pool, Endpoint::GetMessage, action)
}

fn messages(rng: &mut Rng, pool: PoolName) -> Outside {
    use fleetfoot_sim::Told;
    let number = rng.usize(..8);
    match rng.u8(..6) {
        0 => Outside::Muddle { pool, how: Muddle::Lose },
        1 => Outside::Muddle { pool, how: Muddle::Reverse },
        2 => Outside::Muddle { pool, how: Muddle::Repeat },
        3 => Outside::Tell { pool, told: Told::Assigned, number },
        4 => Outside::Tell { pool, told: Told::Started, number },
        _ => Outside::Tell { pool, told: Told::Completed { result: "canceled".into() }, number },
    }
}

fn removals(rng: &mut Rng, pool: &PoolName) -> Outside {
    let action = match rng.u8(..6) {
        0..=2 => FaultAction::OfferJob { duration_ms: rng.u64(1_000..=300_000) },
        3 => FaultAction::exception(400, "JobStillRunningException"),
        4 => FaultAction::status(422),
        _ => FaultAction::LoseAnswer,
    };
    github(rng, pool, Endpoint::RemoveRunner, action)
}

fn create(rng: &mut Rng, plan: &PoolPlan) -> AtEngine {
    use fleetfoot_provisioner::simulated::Binding;
    let late = plan.binding == Binding::LateBinding;
    let operation = if late && rng.bool() { Operation::Launch } else { Operation::Create };
    let fault = match rng.u8(..6) {
        0 => EngineFault::Fail(ErrorKind::Instance, "no such image".to_owned()),
        1 => EngineFault::Fail(ErrorKind::NoRoom, "no room".to_owned()),
        2 => EngineFault::Hang,
        3 => EngineFault::LostAnswer,
        // A frozen engine lands it later, once it wakes (design, 11.1).
        _ => EngineFault::LandLate(seconds(rng, 1..=40).min(LATEST_LANDING)),
    };
    let (skip, times) = (rng.u32(..3), rng.u32(1..=5));
    AtEngine::Calls { pool: plan.name.clone(), operation, fault, skip, times }
}
