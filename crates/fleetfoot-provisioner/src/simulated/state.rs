//! What an engine holds: environments, rules, and what it was asked.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use fleetfoot_core::{Exit, InstallationId, InstanceName, PoolName};
use tokio::time::Instant;

use super::SimulatedEngine;
use super::faults::{Latency, Operation, Rule};
use crate::provisioner::{EnvironmentInfo, EnvironmentState, Handle, JitConfig};

/// Pools whose peak is remembered.
const POOLS_MAX: usize = 100_000;

/// A call that the engine received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub operation: Operation,
    /// About which instance.
    pub name: Option<InstanceName>,
    /// When it was received.
    pub received: Instant,
    /// The same as microseconds since 1970, to compare with other processes.
    pub received_unix_us: u64,
}

pub(super) struct Environment {
    pub(super) installation: InstallationId,
    pub(super) pool: PoolName,
    pub(super) handle: Handle,
    pub(super) state: EnvironmentState,
    pub(super) jit: Option<JitConfig>,
    pub(super) lines: VecDeque<String>,
    /// The engine it is at: another one at the same address does not see it.
    pub(super) engine: String,
}

/// Something that happened to an environment, told in the moment it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A call was received.
    Asked(Operation),
    /// It was made.
    Made(PoolName),
    /// Its runner was launched.
    Launched,
    /// Its runner ended, by itself or with what it ran in.
    Ended(Exit),
    /// It was removed by a call.
    Deleted {
        /// Its runner lived until then.
        lived: bool,
    },
}

pub(super) type Observer = Arc<dyn Fn(&InstanceName, &Change) + Send + Sync>;
pub(super) type Hook = Arc<dyn Fn(&InstanceName, &JitConfig) + Send + Sync>;

pub(super) struct State {
    pub(super) identity: String,
    pub(super) environments: BTreeMap<InstanceName, Environment>,
    pub(super) next_handle: u64,
    pub(super) latency: Latency,
    pub(super) rules: Vec<Rule>,
    pub(super) hook: Option<Hook>,
    pub(super) observer: Option<Observer>,
    pub(super) listed: Option<Instant>,
    pub(super) calls: VecDeque<Call>,
    pub(super) peaks: BTreeMap<PoolName, usize>,
}

impl State {
    /// Notes when a list was answered.
    pub(super) fn answers(&mut self, list: bool) {
        self.listed = list.then(Instant::now).or(self.listed);
    }

    /// Makes an environment, or finds the one of that name; says whether a runner was launched in it.
    /// `None` if the name belongs to another installation.
    pub(super) fn create(
        &mut self,
        installation: &InstallationId,
        pool: &PoolName,
        name: &InstanceName,
        jit: Option<&JitConfig>,
    ) -> Option<(Handle, bool)> {
        if !self.environments.contains_key(name) {
            self.insert(installation, pool, name, EnvironmentState::Created, None);
        }
        let environment =
            self.environments.get_mut(name).filter(|it| it.installation == *installation)?;
        let handle = environment.handle.clone();
        Some((handle, jit.is_some_and(|jit| environment.launch(jit))))
    }

    pub(super) fn insert(
        &mut self,
        installation: &InstallationId,
        pool: &PoolName,
        name: &InstanceName,
        state: EnvironmentState,
        jit: Option<JitConfig>,
    ) {
        let handle = Handle(format!("simulated-{:08}", self.next_handle));
        self.next_handle += 1;
        let (installation, of_pool) = (installation.clone(), pool.clone());
        let (lines, engine) = (VecDeque::new(), self.identity.clone());
        let environment =
            Environment { installation, pool: of_pool, handle, state, jit, lines, engine };
        self.environments.insert(name.clone(), environment);
        let live = self.environments.values().filter(|it| it.pool == *pool && it.lives()).count();
        if self.peaks.len() < POOLS_MAX || self.peaks.contains_key(pool) {
            let peak = self.peaks.entry(pool.clone()).or_default();
            *peak = live.max(*peak);
        }
    }
}

impl Environment {
    pub(super) fn lives(&self) -> bool {
        match self.state {
            EnvironmentState::Created | EnvironmentState::Running => true,
            EnvironmentState::Ended(_) => false,
        }
    }

    pub(super) fn launch(&mut self, jit: &JitConfig) -> bool {
        if self.state != EnvironmentState::Created {
            return false;
        }
        self.state = EnvironmentState::Running;
        self.jit = Some(jit.clone());
        true
    }

    pub(super) fn info(&self, name: &InstanceName) -> EnvironmentInfo {
        EnvironmentInfo {
            name: name.clone(),
            pool: Some(self.pool.clone()),
            handle: self.handle.clone(),
            state: self.state.clone(),
        }
    }
}

impl SimulatedEngine {
    /// Nobody plays runners or hears of changes any more, and what they held is let go.
    pub fn forget_observers(&self) {
        let mut state = self.state();
        let let_go = (state.hook.take(), state.observer.take());
        drop(state);
        drop(let_go);
    }

    /// The most environments of `pool` that lived (made or running) at one time.
    #[must_use]
    pub fn peak(&self, pool: &PoolName) -> usize {
        self.state().peaks.get(pool).copied().unwrap_or(0)
    }

    /// The calls received, oldest first (the last 200,000).
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.state().calls.iter().cloned().collect()
    }

    /// When the first `create` of `name` was received.
    #[must_use]
    pub fn create_received(&self, name: &InstanceName) -> Option<Call> {
        let state = self.state();
        let mut calls = state.calls.iter();
        calls
            .find(|call| call.operation == Operation::Create && call.name.as_ref() == Some(name))
            .cloned()
    }

    /// Forgets the calls so far: a long simulation has no use for them.
    pub fn forget_calls(&self) {
        self.state().calls = VecDeque::new();
    }
}
