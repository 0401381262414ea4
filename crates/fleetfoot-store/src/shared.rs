//! The published present: what everyone reads, and who is told when it changes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fleetfoot_core::{PoolName, PoolState};
use fleetfoot_ordered::watch;

use crate::batch::Working;
use crate::behind::Behind;
use crate::fleet::Membership;
use crate::floor;
use crate::homes::Present;
use crate::lease::{self, Fence};
use crate::member::{Member, Owned};
use crate::runner_rows::AllRows;
use crate::schema::Identity;
use crate::sql::Sql;

/// The present of every pool, by name.
pub type Pools = BTreeMap<PoolName, Arc<PoolState>>;

/// How much the store has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Closures run.
    pub updates: u64,
    /// Transactions committed, for them and to prune the past.
    pub commits: u64,
    /// Rows written or removed in them.
    pub rows: u64,
}

/// What the writer and everyone else share: the published present.
pub(crate) struct Shared {
    pub(crate) place: Arc<str>,
    present: RwLock<Present>,
    all: watch::Sender<u64>,
    /// What is written into the original's tables besides, if it is there.
    pub(crate) runner_rows: Mutex<Option<Arc<AllRows>>>,
    /// Ticks with each change of a target.
    pub(crate) targets: watch::Sender<u64>,
    watchers: Mutex<BTreeMap<PoolName, watch::Sender<u64>>>,
    /// This controller's part among several; nothing if it is alone.
    pub(crate) member: Option<Member>,
    behind: Mutex<Option<Behind>>,
    /// Below it names may have been given that no row tells of.
    name_floor: AtomicI64,
    updates: AtomicU64,
    commits: AtomicU64,
    rows: AtomicU64,
}

/// Locks; a panic elsewhere leaves nothing half done under these locks.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        place: &str,
        pools: Pools,
        identity: &Identity,
        member: Option<Membership>,
    ) -> Self {
        Self {
            place: Arc::from(place),
            present: RwLock::new(Present::new(pools)),
            all: watch::Sender::new(0),
            runner_rows: Mutex::default(),
            targets: watch::Sender::new(0),
            watchers: Mutex::default(),
            member: member.map(Member::new),
            behind: Mutex::new(identity.behind),
            name_floor: AtomicI64::new(identity.name_floor),
            updates: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            rows: AtomicU64::new(0),
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Pools> {
        Arc::clone(&self.reading().pools)
    }

    /// The same, and where each instance is.
    pub(crate) fn present(&self) -> Present {
        self.reading().clone()
    }

    fn reading(&self) -> RwLockReadGuard<'_, Present> {
        self.present.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, Present> {
        self.present.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count_updates(&self, updates: usize) {
        self.updates.fetch_add(updates as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_commit(&self, rows: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn name_floor(&self) -> i64 {
        self.name_floor.load(Ordering::Acquire)
    }

    pub(crate) fn raise_name_floor(&self, below: i64) {
        self.name_floor.fetch_max(below, Ordering::AcqRel);
    }

    /// The pools that may be changed now; nothing is said if this controller is alone.
    pub(crate) fn writable(&self) -> Option<Arc<Owned>> {
        let member = self.member.as_ref();
        #[cfg(feature = "faults")]
        let member = member.filter(|_| !fleetfoot_faults::Defect::ActWithOldEpoch.is_planted());
        member.map(Member::writable)
    }

    /// What every commit of `working` is held against.
    pub(crate) fn fences(&self, sql: &Sql, working: &Working) -> Vec<Fence> {
        let (Some(member), Some(owned)) = (&self.member, &working.owned) else { return Vec::new() };
        lease::fences(sql, &member.me, owned, working.touched())
    }

    /// The database says that a pool is another one's.
    pub(crate) fn lost(&self, pool: &PoolName) {
        if let Some(member) = &self.member {
            member.lose(pool);
        }
    }

    /// The present of one pool.
    pub(crate) fn pool(&self, name: &PoolName) -> Option<Arc<PoolState>> {
        self.reading().pools.get(name).cloned()
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            updates: self.updates.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn behind(&self) -> Option<Behind> {
        *locked(&self.behind)
    }

    pub(crate) fn caught_up(&self) {
        *locked(&self.behind) = None;
    }

    pub(crate) fn watch(&self, name: &PoolName) -> watch::Receiver<u64> {
        let mut watchers = locked(&self.watchers);
        watchers.entry(name.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    pub(crate) fn watch_all(&self) -> watch::Receiver<u64> {
        self.all.subscribe()
    }

    /// Makes a committed batch visible and wakes who watches its pools.
    pub(crate) fn publish(&self, working: Working) {
        let Working { base, pools: touched, past: _, owned: _, present } = working;
        // Without this reference the map is changed in place, unless a reader holds a snapshot.
        drop((base, present));
        if touched.is_empty() {
            return;
        }
        let changed: Vec<PoolName> = touched.keys().cloned().collect();
        {
            let mut published = self.writing();
            for (name, state) in touched {
                // Its count went with it, too; the batch noted it (see `floor`).
                if let Some(old) = published.pools.get(&name).filter(|_| state.is_none()) {
                    self.raise_name_floor(floor::below(old));
                }
                // Its owner's row went with it.
                if let Some(member) = self.member.as_ref().filter(|_| state.is_none()) {
                    member.lose(&name);
                }
                published.put(&name, state);
            }
        }
        self.tick(&changed);
    }

    /// Puts another present in the place of the whole one, and wakes everyone.
    pub(crate) fn replace(&self, pools: Pools) {
        let mut names: Vec<PoolName> = pools.keys().cloned().collect();
        {
            let mut published = self.writing();
            names.extend(published.pools.keys().filter(|name| !pools.contains_key(name)).cloned());
            *published = Present::new(pools);
        }
        self.tick(&names);
    }

    /// Shows what others wrote of their pools; nothing of ours. A pool without a state has no row any more.
    pub(crate) fn show(&self, states: Vec<(PoolName, Option<Arc<PoolState>>)>) {
        let mut names = Vec::new();
        {
            let mut published = self.writing();
            let owned = self.member.as_ref().map(Member::owned).unwrap_or_default();
            for (name, state) in states {
                if owned.contains_key(&name) || published.pools.get(&name) == state.as_ref() {
                    continue;
                }
                published.put(&name, state);
                names.push(name);
            }
        }
        if !names.is_empty() {
            self.tick(&names);
        }
    }

    /// A pool is ours from now on, with these rows.
    pub(crate) fn gain(&self, pool: &PoolName, epoch: i64, state: Option<Arc<PoolState>>) {
        if let Some(member) = &self.member {
            member.gain(pool, epoch);
        }
        self.writing().put(pool, state);
        self.tick(std::slice::from_ref(pool));
    }

    fn tick(&self, names: &[PoolName]) {
        let mut watchers = locked(&self.watchers);
        for name in names {
            if let Some(watcher) = watchers.get(name) {
                if watcher.receiver_count() == 0 {
                    watchers.remove(name);
                } else {
                    watcher.send_modify(|tick| *tick += 1);
                }
            }
        }
        drop(watchers);
        self.all.send_modify(|tick| *tick += 1);
    }
}
