//! The host desk: one place where the pools of this host claim its room, so that none takes what another
//! was granted in the same moment.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fleetfoot_core::host::{Claim, HostBudget};
use fleetfoot_core::{Cause, PoolName, Span, Timestamp};
use tokio::sync::Notify;

/// The host's limits as the operator set them.
#[derive(Debug, Clone, Default)]
pub struct HostLimits {
    /// Instances, processors, memory.
    pub budget: HostBudget,
    /// Nothing is created while a file system that instances live on has less than this free.
    pub min_free_disk: Option<DiskFloor>,
}

/// How much of a file system must stay free.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DiskFloor {
    /// A share of the file system, in percent.
    Percent(f64),
    /// Bytes.
    Bytes(u64),
}

const DISK_CHECK_PERIOD: Span = Span::seconds(5);

/// Grants host room to pools.
#[derive(Debug, Default)]
pub(crate) struct HostDesk {
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    limits: HostLimits,
    claims: BTreeMap<PoolName, Claim>,
    /// What the last lists showed of pools and no row names: it takes room that no claim tells of.
    unclaimed: BTreeMap<PoolName, u32>,
    wakers: BTreeMap<PoolName, Arc<Notify>>,
    last_served: Option<PoolName>,
    /// The store was lost: until every backend was looked at, nobody knows what this host carries (11.4).
    uncounted: bool,
    disks: BTreeMap<PathBuf, (Timestamp, bool)>,
}

impl Desk {
    fn is_full(&mut self, path: &Path, now: Timestamp) -> bool {
        let Some(floor) = self.limits.min_free_disk else { return false };
        if let Some((at, full)) = self.disks.get(path)
            && *at <= now
            && at.age(now) < DISK_CHECK_PERIOD
        {
            return *full;
        }
        let full = free_space(path).is_some_and(|(free, total)| match floor {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a share of a disk needs no exact bytes"
            )]
            DiskFloor::Percent(percent) => (free as f64) < (total as f64) * percent / 100.0,
            DiskFloor::Bytes(bytes) => free < bytes,
        });
        self.disks.insert(path.to_owned(), (now, full));
        full
    }

    /// What each pool holds, with or without a row, and wants.
    fn held(&self) -> Cow<'_, BTreeMap<PoolName, Claim>> {
        let mut held = Cow::Borrowed(&self.claims);
        for (pool, count) in &self.unclaimed {
            if let Some(claim) = held.to_mut().get_mut(pool) {
                claim.occupying = claim.occupying.saturating_add(*count);
            }
        }
        held
    }

    fn wake<'a>(&self, pools: impl Iterator<Item = &'a PoolName>) {
        for waker in pools.filter_map(|name| self.wakers.get(name)) {
            waker.notify_one();
        }
    }

    fn wake_others(&self, pool: &PoolName) {
        for (name, waker) in &self.wakers {
            let waits = self.claims.get(name).is_some_and(|claim| wants(claim) > 0);
            if waits && name != pool {
                waker.notify_one();
            }
        }
    }
}

/// Everything that a pool would make, for jobs or only to wait.
fn wants(claim: &Claim) -> u32 {
    claim.missing.saturating_add(claim.spare)
}

/// What the desk answers to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Instances the pool may create now.
    pub(crate) room: u32,
    /// Why it is not more.
    pub(crate) cause: Option<Cause>,
    /// Surplus idle runners of the pool whose room others wait for.
    pub(crate) release: u32,
}

impl HostDesk {
    /// A desk with these limits.
    #[must_use]
    pub(crate) fn new(limits: HostLimits) -> Self {
        Self { desk: Mutex::new(Desk { limits, ..Desk::default() }) }
    }

    /// Grants nothing under a budget until [`Self::counted`]: what a lost store knew of takes room, too.
    pub(crate) fn count_first(&self) {
        self.lock().uncounted = true;
    }

    /// Every backend was looked at: what this host carries is known.
    pub(crate) fn counted(&self) {
        let mut desk = self.lock();
        desk.uncounted = false;
        desk.wake(desk.wakers.keys());
    }

    /// Things that had no row were taken up: they take room before the pool's next claim says so.
    pub(crate) fn holds(&self, pool: &PoolName, occupying: u32) {
        if let Some(claim) = self.lock().claims.get_mut(pool) {
            claim.occupying = claim.occupying.max(occupying);
        }
    }

    /// What a list showed of `pools` that no row names: it takes room until it is taken up or gone (seed 42194).
    pub(crate) fn shows<'a>(
        &self,
        pools: impl Iterator<Item = &'a PoolName>,
        unclaimed: &BTreeMap<PoolName, u32>,
    ) {
        let mut desk = self.lock();
        let mut is_less = false;
        for pool in pools {
            let before = match unclaimed.get(pool) {
                Some(count) => desk.unclaimed.insert(pool.clone(), *count),
                None => desk.unclaimed.remove(pool),
            };
            is_less |= before > unclaimed.get(pool).copied();
        }
        if is_less {
            desk.wake(desk.wakers.keys());
        }
    }

    /// Other limits from now on; whoever waits for room looks again.
    pub(crate) fn limit(&self, limits: HostLimits) {
        let mut desk = self.lock();
        desk.limits = limits;
        for waker in desk.wakers.values() {
            waker.notify_one();
        }
    }

    /// Tells whom to wake when room becomes free, and what the pool occupies already.
    pub(crate) fn join(&self, pool: &PoolName, wake: Arc<Notify>, claim: Claim) {
        let mut desk = self.lock();
        desk.wakers.insert(pool.clone(), wake);
        desk.claims.insert(pool.clone(), claim);
    }

    /// States what `pool` occupies and misses, and takes its share of the free room. The share stays
    /// reserved until the pool's next claim.
    pub(crate) fn claim(
        &self,
        pool: &PoolName,
        claim: Claim,
        storage: Option<&Path>,
        now: Timestamp,
    ) -> Grant {
        let mut desk = self.lock();
        if wants(&claim) > 0 && storage.is_some_and(|path| desk.is_full(path, now)) {
            desk.claims.insert(pool.clone(), claim);
            return Grant { room: 0, cause: Some(Cause::DiskFull), release: 0 };
        }
        if desk.limits.budget.is_unlimited() {
            desk.claims.insert(pool.clone(), claim);
            return Grant { room: u32::MAX, cause: None, release: 0 };
        }
        if desk.uncounted {
            desk.claims.insert(pool.clone(), claim);
            return Grant { room: 0, cause: Some(Cause::CarefulPass), release: 0 };
        }
        let before = desk.claims.insert(pool.clone(), claim);
        let room = if wants(&claim) == 0 {
            0
        } else {
            let grants = desk.limits.budget.deal(&desk.held(), desk.last_served.as_ref());
            grants.get(pool).copied().unwrap_or(0)
        };
        if room > 0 {
            desk.last_served = Some(pool.clone());
            let reserved = Claim {
                occupying: claim.occupying.saturating_add(room),
                missing: claim.missing.saturating_sub(room),
                spare: claim.spare.saturating_sub(room.saturating_sub(claim.missing)),
                ..claim
            };
            desk.claims.insert(pool.clone(), reserved);
        }
        if before.is_some_and(|before| claim.occupying.saturating_add(room) < before.occupying) {
            desk.wake_others(pool);
        }
        let releases = desk.limits.budget.releases(&desk.held());
        if room < claim.missing {
            desk.wake(releases.keys().filter(|name| *name != pool));
        }
        Grant {
            room,
            cause: (room < wants(&claim)).then_some(Cause::HostBudget),
            release: releases.get(pool).copied().unwrap_or(0),
        }
    }

    /// Instances of `pool`'s footprint the host could still take beside the `occupying` ones of it, what
    /// was granted to it and not used yet included, and what others hold idle beyond what they want.
    pub(crate) fn free_room(&self, pool: &PoolName, occupying: u32) -> u32 {
        let desk = self.lock();
        if desk.limits.budget.is_unlimited() {
            return u32::MAX;
        }
        let own = desk.claims.get(pool).copied().unwrap_or_default();
        let room = desk.limits.budget.room_with_surplus(&desk.held(), pool);
        room.saturating_add(own.occupying.saturating_sub(occupying))
    }

    /// The pool is gone: what it held is free.
    pub(crate) fn leave(&self, pool: &PoolName) {
        let mut desk = self.lock();
        desk.claims.remove(pool);
        desk.unclaimed.remove(pool);
        desk.wakers.remove(pool);
        desk.wake_others(pool);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Free and total bytes of the file system that holds `path`.
fn free_space(path: &Path) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_reserved_until_the_next_claim() {
        let budget = HostBudget { max_instances: Some(4), ..HostBudget::default() };
        let desk = HostDesk::new(HostLimits { budget, min_free_disk: None });
        let (a, b) = (PoolName::new("a").unwrap(), PoolName::new("b").unwrap());
        let wants = |occupying, missing| Claim { occupying, missing, ..Claim::default() };
        assert_eq!(desk.claim(&a, wants(0, 3), None, Timestamp(0)).room, 3);
        let grant = desk.claim(&b, wants(0, 3), None, Timestamp(0));
        assert_eq!(grant, Grant { room: 1, cause: Some(Cause::HostBudget), release: 0 });
        // What was granted and is not used yet is still a's own.
        assert_eq!(desk.free_room(&a, 0), 3);
        assert_eq!(desk.free_room(&a, 3), 0);
        desk.claim(&a, wants(1, 0), None, Timestamp(0));
        assert_eq!(desk.claim(&b, wants(1, 2), None, Timestamp(0)).room, 2);
    }

    #[test]
    fn what_no_row_names_takes_room_until_it_is_gone() {
        let budget = HostBudget { max_instances: Some(4), ..HostBudget::default() };
        let desk = HostDesk::new(HostLimits { budget, min_free_disk: None });
        let (a, b) = (PoolName::new("a").unwrap(), PoolName::new("b").unwrap());
        let wake = Arc::new(Notify::new());
        desk.join(&a, wake.clone(), Claim::default());
        desk.join(&b, Arc::default(), Claim { occupying: 1, ..Claim::default() });
        let wants = Claim { missing: 4, ..Claim::default() };
        let room = || desk.claim(&a, wants, None, Timestamp(0)).room;
        let shows = |count| desk.shows([&b].into_iter(), &BTreeMap::from([(b.clone(), count)]));
        let is_woken = || futures_util::FutureExt::now_or_never(wake.notified()).is_some();
        shows(2);
        assert!(!is_woken());
        assert_eq!((room(), desk.free_room(&a, 0)), (1, 1), "b has one and shows two");
        // Another backend has nothing to say of that.
        desk.shows([&a].into_iter(), &BTreeMap::new());
        assert_eq!(room(), 1);
        desk.shows([&a, &b].into_iter(), &BTreeMap::new());
        assert!(is_woken(), "there is room now");
        assert_eq!(room(), 3);
        shows(3);
        desk.leave(&b);
        assert_eq!(room(), 4);
    }

    #[test]
    fn nothing_is_granted_before_what_a_lost_store_left_is_counted() {
        let budget = HostBudget { max_instances: Some(4), ..HostBudget::default() };
        let desk = HostDesk::new(HostLimits { budget, min_free_disk: None });
        let (a, b) = (PoolName::new("a").unwrap(), PoolName::new("b").unwrap());
        let wake = Arc::new(Notify::new());
        desk.join(&a, wake.clone(), Claim::default());
        desk.join(&b, Arc::default(), Claim::default());
        desk.count_first();
        let wants = Claim { missing: 3, ..Claim::default() };
        let grant = desk.claim(&a, wants, None, Timestamp(0));
        assert_eq!(grant, Grant { room: 0, cause: Some(Cause::CarefulPass), release: 0 });
        desk.holds(&b, 2);
        assert!(futures_util::FutureExt::now_or_never(wake.notified()).is_none());
        desk.counted();
        assert!(futures_util::FutureExt::now_or_never(wake.notified()).is_some());
        assert_eq!(desk.claim(&a, wants, None, Timestamp(0)).room, 2, "b holds two");
        // Without a budget nobody waits for what others hold.
        desk.limit(HostLimits::default());
        desk.count_first();
        assert_eq!(desk.claim(&a, wants, None, Timestamp(0)).room, u32::MAX);
    }

    #[test]
    fn what_ran_before_counts_from_the_first_moment_and_a_pool_that_leaves_wakes_the_others() {
        let budget = HostBudget { max_instances: Some(4), ..HostBudget::default() };
        let desk = HostDesk::new(HostLimits { budget, min_free_disk: None });
        let (a, b) = (PoolName::new("a").unwrap(), PoolName::new("b").unwrap());
        let wakes = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        desk.join(&a, wakes[0].clone(), Claim::default());
        desk.join(&b, wakes[1].clone(), Claim { occupying: 4, ..Claim::default() });
        let wants = Claim { missing: 2, ..Claim::default() };
        assert_eq!(desk.claim(&a, wants, None, Timestamp(0)).room, 0);
        desk.leave(&b);
        assert!(futures_util::FutureExt::now_or_never(wakes[0].notified()).is_some());
        assert_eq!(desk.claim(&a, wants, None, Timestamp(0)).room, 2);
    }
}
