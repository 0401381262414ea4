//! What really happened: kept from what GitHub, the engines and the store did, never from what the
//! controller thinks. The hooks here are called in the moment of the effect; [`crate::checks`] judges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fleetfoot_core::{InstanceName, PoolName};
use fleetfoot_store::{Fate, Pools};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::log::{Line, Log};
use crate::runner::RunnerFate;
use crate::world::Violation;

/// Where the machine of a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Machine {
    #[default]
    None,
    Made,
    Running,
    Ended,
    Gone,
}

impl Machine {
    pub(crate) fn lives(self) -> bool {
        matches!(self, Self::Made | Self::Running)
    }
}

/// One name that was ever committed, or seen with our label.
#[derive(Debug, Clone, Default)]
pub(crate) struct NameBook {
    pub(crate) pool: Option<PoolName>,
    /// The store that its row was in: another one never heard of it.
    pub(crate) epoch: u32,
    pub(crate) has_row: bool,
    pub(crate) limit: u32,
    pub(crate) made: u32,
    pub(crate) machine: Machine,
    /// A fault took its machine.
    pub(crate) killed: bool,
    /// It landed after its row was lost with the store: no limit can know of it.
    pub(crate) unknown: bool,
    pub(crate) job: Option<u64>,
    /// When its JIT config was asked for.
    pub(crate) jit_asked: u64,
    pub(crate) asked: VecDeque<u64>,
}

/// A message that a pool was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) message: i64,
    /// The jobs of which it says that they are assigned.
    pub(crate) assigned: Vec<u64>,
    /// Those that waited for a runner when it was sent.
    pub(crate) waiting: u64,
}

/// One pool.
#[derive(Debug, Clone, Default)]
pub(crate) struct PoolBook {
    pub(crate) scope: String,
    pub(crate) limit: u32,
    pub(crate) min_idle: u32,
    pub(crate) warm: u32,
    pub(crate) calm: bool,
    pub(crate) may_kill: bool,
    pub(crate) fates: VecDeque<RunnerFate>,
    /// The highest message whose content was ever committed.
    pub(crate) message: i64,
    /// This controller opened a session for it.
    pub(crate) opened: bool,
    /// What GitHub stated when its session was opened last.
    pub(crate) stated: Option<u64>,
    pub(crate) boot_ms: u64,
    /// Jobs assigned and not taken, as they changed.
    pub(crate) waiting: VecDeque<(u64, u64)>,
    /// Jobs of that message that nobody had, when it acquired them last.
    pub(crate) left_offered: Option<usize>,
    /// The message it was sent last.
    pub(crate) told: Told,
    /// Jobs that waited for a runner when GitHub last said how many there are, as far as that was heard.
    pub(crate) said: u64,
    /// Jobs of which a message said so in vain, when it was committed.
    pub(crate) in_vain: VecDeque<(u64, u64)>,
    /// Machines of it that ended lately: GitHub may count their jobs for a while.
    pub(crate) ended: VecDeque<u64>,
    /// GitHub lies about its level. What is so may happen to be what it says, and a moment later it is not (seed 58382).
    pub(crate) lies: bool,
    /// GitHub lied about its level, and has not stated it anew since.
    pub(crate) lied: bool,
    /// When every slot of it was taken: from, until. A job that waits for one of them waits for its own pool.
    pub(crate) full: Vec<(u64, Option<u64>)>,
    /// What is told of it may be wrong until then.
    pub(crate) muddled_until: u64,
}

pub(crate) struct Inner {
    pub(crate) started: Instant,
    pub(crate) log: Log,
    pub(crate) pools: BTreeMap<PoolName, PoolBook>,
    pub(crate) names: BTreeMap<InstanceName, NameBook>,
    pub(crate) present: Arc<Pools>,
    pub(crate) epoch: u32,
    pub(crate) commits: VecDeque<Fate>,
    pub(crate) commits_skip: u32,
    pub(crate) violation: Option<Violation>,
    pub(crate) actors: BTreeMap<InstanceName, AbortHandle>,
    pub(crate) secrets: Vec<String>,
    /// When the controller as a whole was away: from, until.
    pub(crate) away: Vec<(u64, Option<u64>)>,
    /// Jobs that a user cancelled.
    pub(crate) cancelled: BTreeSet<u64>,
    pub(crate) github: Option<Arc<fleetfoot_sim::GithubBox>>,
    pub(crate) steps: u64,
    pub(crate) settled: bool,
    pub(crate) manners: crate::manners::Manners,
    /// The controllers that share one store, by what they are called.
    pub(crate) members: BTreeMap<String, fleetfoot_store::Store>,
    /// Instances at most on the one host there is.
    pub(crate) host_max: Option<u32>,
    /// How often a family of faults or a hard case happened.
    pub(crate) occurred: BTreeMap<&'static str, u64>,
    /// Since when nothing delays what the passing of time makes due.
    pub(crate) steady_since: u64,
    /// Rows in a phase, since when.
    pub(crate) phases: BTreeMap<InstanceName, (fleetfoot_core::Phase, u64)>,
    /// Names that are over and forgotten, as numbers.
    pub(crate) past: BTreeSet<u64>,
}

/// A handle of the books.
#[derive(Clone)]
pub(crate) struct Books {
    inner: Arc<Mutex<Inner>>,
    broken: Arc<Notify>,
}

impl Books {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            started: Instant::now(),
            log: Log::default(),
            pools: BTreeMap::new(),
            names: BTreeMap::new(),
            present: Arc::default(),
            epoch: 0,
            commits: VecDeque::new(),
            commits_skip: 0,
            violation: None,
            actors: BTreeMap::new(),
            secrets: Vec::new(),
            away: Vec::new(),
            cancelled: BTreeSet::new(),
            github: None,
            steps: 0,
            settled: false,
            manners: crate::manners::Manners::default(),
            members: BTreeMap::new(),
            host_max: None,
            occurred: BTreeMap::new(),
            steady_since: 0,
            phases: BTreeMap::new(),
            past: BTreeSet::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)), broken: Arc::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows whether anybody holds them still.
    #[cfg(test)]
    pub(crate) fn watched(&self) -> std::sync::Weak<Mutex<Inner>> {
        Arc::downgrade(&self.inner)
    }

    /// Waits until something is found broken.
    pub(crate) async fn broken(&self) {
        loop {
            if self.lock().violation.is_some() {
                return;
            }
            self.broken.notified().await;
        }
    }

    /// Notes that an invariant is broken; the first one counts.
    pub(crate) fn breaks(&self, invariant: u8, about: Vec<String>, text: String) {
        let mut inner = self.lock();
        inner.breaks(invariant, about, text);
        drop(inner);
        self.broken.notify_one();
    }

    pub(crate) fn note(&self, about: &str, text: &str) {
        self.lock().line(about.to_owned(), text.to_owned(), false);
    }

    /// A fault, a crash, a start.
    pub(crate) fn matters(&self, about: &str, text: &str) {
        self.lock().line(about.to_owned(), text.to_owned(), true);
    }

    pub(crate) fn say(&self, pool: &PoolName, name: &InstanceName, text: &str) {
        self.note(&format!("{pool} {name}"), &format!("{name}: {text}"));
    }

    pub(crate) fn killed(&self, pool: &PoolName, name: &InstanceName, how: &str) {
        let mut inner = self.lock();
        inner.names.entry(name.clone()).or_default().killed = true;
        inner.line(format!("{pool} {name}"), format!("{name}: machine {how}"), true);
    }

    pub(crate) fn job_started(&self, pool: &PoolName, name: &InstanceName, job: u64) {
        let mut inner = self.lock();
        inner.names.entry(name.clone()).or_default().job = Some(job);
        inner.line(format!("{pool} {name} job{job}."), format!("{name}: job {job} starts"), false);
    }

    pub(crate) fn job_ended(&self, pool: &PoolName, name: &InstanceName, job: u64, how: &str) {
        let mut inner = self.lock();
        inner.names.entry(name.clone()).or_default().job = None;
        let text = format!("{name}: job {job} ends, {how}");
        inner.line(format!("{pool} {name} job{job}."), text, false);
    }

    /// What happens to the next commit.
    pub(crate) fn fate(&self) -> Fate {
        let mut inner = self.lock();
        if inner.commits_skip > 0 {
            inner.commits_skip -= 1;
            return Fate::Commit;
        }
        let fate = inner.commits.pop_front().unwrap_or(Fate::Commit);
        if fate != Fate::Commit {
            inner.line(String::new(), format!("store: {fate:?}"), true);
        }
        fate
    }

    /// Checks that run after the lock is let go, for they ask the box.
    pub(crate) fn after(&self, found: Vec<Violation>) {
        if found.is_empty() {
            return;
        }
        let mut inner = self.lock();
        for violation in found {
            let Violation { invariant, about, text, .. } = violation;
            inner.breaks(invariant, about, text);
        }
        drop(inner);
        self.broken.notify_one();
    }
}

impl Inner {
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn line(&mut self, about: String, text: String, matters: bool) {
        let at_ms = self.now_ms();
        self.log.push(Line { at_ms, about, text, matters, said: false });
    }

    pub(crate) fn breaks(&mut self, invariant: u8, about: Vec<String>, text: String) {
        let at_ms = self.now_ms();
        self.line(about.join(" "), format!("BROKEN {invariant}: {text}"), true);
        self.violation.get_or_insert(Violation { invariant, about, text, at_ms });
    }

    /// The names of a pool whose machine lives, as far as a limit can know.
    pub(crate) fn living<'a>(&'a self, pool: &'a PoolName) -> impl Iterator<Item = &'a NameBook> {
        let of_pool = move |book: &&NameBook| book.pool.as_ref() == Some(pool);
        self.names.values().filter(of_pool).filter(|book| book.machine.lives() && !book.unknown)
    }

    /// A family of faults or a hard case happened.
    pub(crate) fn occurs(&mut self, what: &'static str) {
        *self.occurred.entry(what).or_default() += 1;
    }

    /// What is due by the passing of time may be late after this.
    pub(crate) fn unsteady(&mut self) {
        self.steady_since = self.now_ms();
    }

    /// How many slots of a pool its rows hold.
    pub(crate) fn occupied(&mut self, pool: &PoolName, occupying: u32) {
        let now = self.now_ms();
        let Some(book) = self.pools.get_mut(pool).filter(|book| book.calm) else { return };
        let is_full = occupying >= book.limit;
        match book.full.last_mut() {
            Some((_, until @ None)) if !is_full => *until = Some(now),
            None | Some((_, Some(_))) if is_full => book.full.push((now, None)),
            None | Some(_) => {}
        }
    }

    pub(crate) fn has_row(&self, name: &InstanceName) -> bool {
        self.present.values().any(|state| state.instances.contains_key(name))
    }
}
