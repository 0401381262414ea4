//! What may happen in a world; `families` chooses it.

use std::time::Duration;

use fleetfoot_core::{PoolName, Span};
use fleetfoot_provisioner::simulated::{Fault as EngineFault, Operation};
use fleetfoot_sim::{Endpoint, Expire, FaultAction, Muddle};
use fleetfoot_store::Fate;

use crate::options::Family;
use crate::runner::RunnerFate;
use crate::script::PoolPlan;

/// Something that happens at a time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Happening {
    Jobs {
        pool: PoolName,
        count: usize,
        duration_ms: u64,
    },
    /// A user cancels one of the pool's jobs that are not over.
    Cancel {
        pool: PoolName,
        number: usize,
    },
    /// SIGKILL after so many polls of its tasks; back after a while.
    Crash {
        polls: u64,
        away: Duration,
    },
    /// SIGTERM, and a start with other settings.
    Restart {
        change: Option<(PoolName, SettingsChange)>,
        away: Duration,
    },
    /// The configuration changes while the controller runs.
    Reload {
        change: Option<(PoolName, SettingsChange)>,
    },
    /// Something happens to the second controller.
    Peer(PeerChange),
    /// Something of a family of faults.
    Fault {
        family: Family,
        what: Box<Happening>,
    },
    Freeze {
        lasts: Duration,
    },
    Commits {
        fates: Vec<Fate>,
        skip: u32,
        away: Duration,
    },
    SaveStore,
    LoseStore {
        restore: bool,
        away: Duration,
    },
    /// Something goes wrong at GitHub.
    Outside(Outside),
    /// Something goes wrong at an engine.
    Engine(AtEngine),
    Reboot {
        away: Duration,
    },
    StepClock {
        seconds: i64,
    },
    /// A fault of a while is over.
    Over(Over),
    /// The controller comes back.
    Start,
}

/// What goes wrong at GitHub, and what becomes of runners.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outside {
    Github {
        pool: PoolName,
        endpoint: Endpoint,
        action: FaultAction,
        skip: u64,
        times: u64,
    },
    /// … for a while, every time.
    Outage {
        pool: PoolName,
        endpoint: Endpoint,
        action: FaultAction,
        lasts: Duration,
    },
    /// The registrations of one pool are refused for a while.
    Refuse {
        pool: PoolName,
        lasts: Duration,
    },
    CutConnections,
    Expire {
        pool: PoolName,
        what: Expire,
    },
    Vanish {
        pool: PoolName,
    },
    Muddle {
        pool: PoolName,
        how: Muddle,
    },
    /// A message that is not true.
    Tell {
        pool: PoolName,
        told: fleetfoot_sim::Told,
        number: usize,
    },
    Lie {
        pool: PoolName,
        assigned: u64,
        lasts: Duration,
    },
    /// What becomes of the next runners of the pool.
    Runners {
        pool: PoolName,
        fates: Vec<RunnerFate>,
    },
}

/// What goes wrong at an engine.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AtEngine {
    Calls {
        pool: PoolName,
        operation: Operation,
        fault: EngineFault,
        skip: u32,
        times: u32,
    },
    Outage {
        pool: PoolName,
        operations: Vec<Operation>,
        lasts: Duration,
    },
    Freeze {
        pool: PoolName,
        lasts: Duration,
    },
    Other {
        pool: PoolName,
        lasts: Duration,
    },
    BreakWatch {
        pool: PoolName,
    },
    /// A machine that is made and waits for a job dies.
    DieWaiting {
        pool: PoolName,
    },
    Latency {
        pool: PoolName,
        millis: u64,
    },
}

impl From<Outside> for Happening {
    fn from(what: Outside) -> Self {
        Self::Outside(what)
    }
}

impl From<AtEngine> for Happening {
    fn from(what: AtEngine) -> Self {
        Self::Engine(what)
    }
}

/// What happens to the second of two controllers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PeerChange {
    Start,
    /// SIGKILL.
    Kill {
        away: Duration,
    },
    /// SIGTERM.
    Stop {
        away: Duration,
    },
    Freeze {
        lasts: Duration,
    },
    Thaw,
}

/// What is over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Over {
    Freeze,
    Github(u64),
    Lie(PoolName),
    EngineRules(usize),
    FreezeEngine(usize),
    OtherEngine(usize),
}

/// How the configuration changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SettingsChange {
    Limit(u32),
    MinIdle(u32),
    Remove,
    Rename,
    Restore,
    /// All of it is as it was at first, and what it was called meanwhile goes.
    PutBack {
        max_runners: u32,
        min_idle: u32,
    },
}

/// A limit is changed within what a pool may have.
pub(crate) fn changed(plan: &mut PoolPlan, change: &SettingsChange) {
    match change {
        SettingsChange::Limit(limit) => plan.spec.max_runners = *limit,
        SettingsChange::MinIdle(min_idle) => plan.spec.min_idle = *min_idle,
        SettingsChange::Remove | SettingsChange::Rename => plan.configured = false,
        SettingsChange::Restore => plan.configured = true,
        SettingsChange::PutBack { max_runners, min_idle } => {
            (plan.spec.max_runners, plan.spec.min_idle) = (*max_runners, *min_idle);
            plan.configured = true;
        }
    }
    plan.spec.min_idle = plan.spec.min_idle.min(plan.spec.max_runners);
    plan.spec.start_timeout = Span::minutes(5);
}
