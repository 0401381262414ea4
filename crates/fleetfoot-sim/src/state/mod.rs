//! Everything the box remembers, behind one short lock. Nothing here waits or does I/O.
//!
//! `jobs` and `assign` hold the life of a job, `runners` that of a runner, `sets`, `sessions` and
//! `messages` the scale set service, `tokens` the credentials, `timers` what happens by itself.

mod assign;
mod jobs;
mod messages;
mod runners;
mod sessions;
mod sets;
mod timers;
mod tokens;
mod view;
mod work;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetfoot_ordered::watch;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::{Flavor, Settings};
use crate::faults::{Endpoint, Faults};
use crate::model::{JitCall, Session as SessionRecord, Summary};
use crate::observe::Watching;

pub(crate) use jobs::Job;
pub(crate) use messages::Polled;
pub(crate) use runners::{Connect, Register, RegisterError, Removal};
pub(crate) use sessions::{Dead, SessionOpened};
pub(crate) use sets::{ScaleSet, SetChange};
pub(crate) use timers::{Timers, run as timers_run};
pub(crate) use tokens::{Principal, RestDenied, Tokens};
pub(crate) use work::{JobFor, Offer};

/// Scopes that are remembered before the empty ones are let go.
const TENANTS_MAX: usize = 10_000;
/// Jobs that have not ended; what is queued beyond is refused.
pub(crate) const OPEN_JOBS_MAX: u64 = 1_000_000;

/// An organization, repository or enterprise that something registered at.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// `org`, `owner/repo` or `enterprises/name`, as first spelled.
    pub(crate) scope: String,
    /// Jobs that no scale set can take yet.
    pub(crate) homeless: VecDeque<u64>,
    /// Idle runners without a scale set.
    pub(crate) loose: VecDeque<i64>,
    pub(crate) sets: Vec<i64>,
}

/// The box's memory.
pub(crate) struct State {
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) tenants: BTreeMap<i64, Tenant>,
    tenant_ids: HashMap<String, i64>,
    pub(crate) sets: BTreeMap<i64, ScaleSet>,
    set_names: HashMap<(i64, String), Vec<i64>>,
    pub(crate) runners: BTreeMap<i64, runners::Runner>,
    runner_names: HashMap<(i64, String), i64>,
    runner_tokens: HashMap<String, i64>,
    jit_credentials: HashMap<String, i64>,
    pub(crate) jobs: BTreeMap<u64, Job>,
    completed: VecDeque<u64>,
    pub(crate) tokens: Tokens,
    pub(crate) timers: Timers,
    pub(crate) faults: Faults,
    pub(crate) totals: Summary,
    pub(crate) requests: BTreeMap<Endpoint, u64>,
    pub(crate) jit_calls: VecDeque<JitCall>,
    jit_calls_dropped: u64,
    /// JIT configs that may be made now, in millionths, and when that was counted.
    jit_budget: Option<(u64, u64)>,
    pub(crate) sessions: BTreeMap<u64, SessionRecord>,
    next_id: i64,
    next_job: u64,
    next_secret: u64,
    changed: watch::Sender<u64>,
}

impl State {
    pub(crate) fn new(settings: Settings, timer_wake: Arc<Notify>) -> Self {
        Self {
            clock: Clock::start(),
            settings,
            tenants: BTreeMap::new(),
            tenant_ids: HashMap::new(),
            sets: BTreeMap::new(),
            set_names: HashMap::new(),
            runners: BTreeMap::new(),
            runner_names: HashMap::new(),
            runner_tokens: HashMap::new(),
            jit_credentials: HashMap::new(),
            jobs: BTreeMap::new(),
            completed: VecDeque::new(),
            tokens: Tokens::default(),
            timers: Timers::new(timer_wake),
            faults: Faults::default(),
            totals: Summary::default(),
            requests: BTreeMap::new(),
            jit_calls: VecDeque::new(),
            jit_calls_dropped: 0,
            jit_budget: None,
            sessions: BTreeMap::new(),
            next_id: 1,
            next_job: 1,
            next_secret: 1,
            changed: watch::Sender::new(0),
        }
    }

    /// Forgets everything but the settings and the clock. Waiting polls end as dead.
    pub(crate) fn reset(&mut self) {
        for set in self.sets.values() {
            set.wake.notify_waiters();
        }
        for runner in self.runners.values() {
            runner.wake.notify_waiters();
        }
        let mut fresh = Self::new(self.settings.clone(), self.timers.wake());
        fresh.clock = self.clock;
        // Numbers go on, so that whoever survived the reset is a stranger afterwards.
        fresh.next_id = self.next_id;
        fresh.next_secret = self.next_secret;
        std::mem::swap(&mut fresh.changed, &mut self.changed);
        *self = fresh;
        self.touch();
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    pub(crate) fn touch(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn flavor(&self, scope: &str) -> Flavor {
        self.settings
            .flavors
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(scope))
            .map_or(self.settings.flavor, |(_, flavor)| *flavor)
    }

    /// The tenant of a scope, made when it is new: every organization exists.
    pub(crate) fn tenant(&mut self, scope: &str) -> i64 {
        let key = scope.to_ascii_lowercase();
        if let Some(id) = self.tenant_ids.get(&key) {
            return *id;
        }
        self.forget_tenants();
        let id = self.take_id();
        self.tenant_ids.insert(key, id);
        self.tenants.insert(
            id,
            Tenant {
                scope: scope.to_owned(),
                homeless: VecDeque::new(),
                loose: VecDeque::new(),
                sets: Vec::new(),
            },
        );
        id
    }

    /// Lets go of scopes that nothing belongs to, once there are many.
    fn forget_tenants(&mut self) {
        if self.tenants.len() < TENANTS_MAX {
            return;
        }
        let mut used: HashSet<i64> = self.runners.values().map(|runner| runner.tenant).collect();
        used.extend(self.jobs.values().map(|job| job.tenant));
        self.tenants.retain(|id, tenant| !tenant.sets.is_empty() || used.contains(id));
        self.tenant_ids.retain(|_, id| self.tenants.contains_key(id));
    }

    pub(crate) fn scope_of(&self, tenant: i64) -> &str {
        self.tenants.get(&tenant).map_or("", |tenant| tenant.scope.as_str())
    }

    pub(crate) fn take_id(&mut self) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// A text nobody can guess by accident; a box guards nothing real.
    pub(crate) fn secret(&mut self, kind: &str) -> String {
        let number = self.next_secret;
        self.next_secret += 1;
        format!("{kind}_{number:08x}{:016x}", fastrand::u64(..))
    }

    pub(crate) fn uuid(&mut self) -> String {
        let number = self.next_secret;
        self.next_secret += 1;
        let chance = fastrand::u64(..);
        format!("{:08x}-0000-4000-8000-{:012x}", chance >> 32, number)
    }

    pub(crate) fn count_request(&mut self, endpoint: Endpoint) {
        *self.requests.entry(endpoint).or_default() += 1;
    }

    /// Records a JIT call; the number finds it again in [`Self::answered_jit_call`].
    pub(crate) fn record_jit_call(
        &mut self,
        name: String,
        scale_set_id: Option<i64>,
        arrived_us: u64,
    ) -> u64 {
        self.jit_calls.push_back(JitCall {
            name,
            scale_set_id,
            arrived_us,
            answered_us: None,
            status: None,
        });
        while self.jit_calls.len() > self.settings.history_max {
            self.jit_calls.pop_front();
            self.jit_calls_dropped += 1;
        }
        self.jit_calls_dropped + self.jit_calls.len() as u64 - 1
    }

    /// Takes one JIT config from the budget, or says in how many seconds there is one.
    pub(crate) fn take_jit_permit(&mut self) -> Result<(), u64> {
        const ONE: u64 = 1_000_000;
        let Some(per_minute) = self.settings.jit_per_minute.map(u64::from) else { return Ok(()) };
        let now = self.now_us();
        let full = per_minute * ONE;
        let (left, counted) = self.jit_budget.unwrap_or((full, now));
        // A minute has 60 million microseconds: each brings `per_minute / 60` millionths.
        let left = full.min(left + (now - counted) * per_minute / 60);
        let granted = left >= ONE;
        self.jit_budget = Some((if granted { left - ONE } else { left }, now));
        if granted {
            Ok(())
        } else {
            Err(((ONE - left) * 60 / per_minute.max(1)).div_ceil(ONE).max(1))
        }
    }

    pub(crate) fn answered_jit_call(&mut self, number: u64, status: u16) {
        let now = self.now_us();
        let index =
            number.checked_sub(self.jit_calls_dropped).and_then(|at| usize::try_from(at).ok());
        if let Some(call) = index.and_then(|index| self.jit_calls.get_mut(index)) {
            call.answered_us = Some(now);
            call.status = Some(status);
        }
    }
}

/// The state and what is needed to share it.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) timer_wake: Arc<Notify>,
    /// Each change ends the connections that are open.
    pub(crate) closing: watch::Sender<u64>,
    pub(crate) watching: Watching,
}

impl Shared {
    pub(crate) fn new(settings: Settings, start_us: Option<u64>) -> Self {
        let timer_wake = Arc::new(Notify::new());
        let mut state = State::new(settings, Arc::clone(&timer_wake));
        if let Some(start_us) = start_us {
            state.clock = Clock::start_at(start_us);
        }
        let watching = Watching::default();
        Self { state: Mutex::new(state), timer_wake, closing: watch::Sender::new(0), watching }
    }

    /// Ends every open connection, waiting polls included, except those of the control API.
    pub(crate) fn cut_connections(&self) {
        self.closing.send_modify(|times| *times += 1);
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in a handler is reported by that handler; the state has no half steps that
        // would be worse than stopping the whole box.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
