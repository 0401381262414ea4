//! What GitHub, a backend and the store disagree about at this moment, since when, and how often it was so.
//!
//! Each look ([`Look`]) replaces what it can see and leaves what the other one saw. A kind that lasts longer
//! than it should is logged once and shown as overdue until it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use fleetfoot_core::health::{Discrepancies, PRESENT_MAX, Present};
use fleetfoot_core::pool::PoolSpec;
use fleetfoot_core::{Discrepancy, InstanceName, PoolName, Timestamp};

use crate::clock::Clock;

/// Disagreements kept at most; what is beyond is not there until some are over.
const KEPT_MAX: usize = 10_000;

/// What disagrees, and whose it is.
pub(crate) type Key = (Discrepancy, Option<InstanceName>);

/// Who looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// At rows and machines.
    Backend,
    /// At rows and registrations.
    Github,
}

impl Look {
    fn sees(self, kind: Discrepancy) -> bool {
        kind.needs_github() == (self == Self::Github)
    }
}

/// The disagreements of one pool, or of what belongs to none at one backend.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    present: BTreeMap<Key, Entry>,
    seen: BTreeMap<Discrepancy, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// In unshifted time: a wall clock that steps makes nothing older.
    since: Timestamp,
    is_overdue: bool,
}

impl Ledger {
    /// Takes in what a look found, and says how things stand.
    pub(crate) fn take(
        &self,
        look: Look,
        found: BTreeSet<Key>,
        owner: &str,
        spec: &PoolSpec,
        clock: &Clock,
    ) -> Discrepancies {
        let now = clock.unshifted();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        inner.present.retain(|key, _| !look.sees(key.0) || found.contains(key));
        for key in found.into_iter().filter(|key| look.sees(key.0)) {
            if inner.present.len() < KEPT_MAX && !inner.present.contains_key(&key) {
                tracing::debug!(
                    pool = owner,
                    kind = key.0.as_str(),
                    instance = key.1.as_ref().map(tracing::field::display),
                    "sides disagree"
                );
                *inner.seen.entry(key.0).or_default() += 1;
                inner.present.insert(key, Entry { since: now, is_overdue: false });
            }
        }
        for ((kind, name), entry) in &mut inner.present {
            let age = entry.since.age(now);
            if !entry.is_overdue && age > kind.limit(spec) {
                entry.is_overdue = true;
                tracing::warn!(
                    pool = owner,
                    kind = kind.as_str(),
                    instance = name.as_ref().map(tracing::field::display),
                    age_ms = age.0,
                    "sides disagree for too long"
                );
            }
        }
        inner.told(clock)
    }

    /// Since when, in unshifted time, something is seen without a pause.
    pub(crate) fn since(&self, key: &Key) -> Option<Timestamp> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.present.get(key).map(|entry| entry.since)
    }
}

impl Inner {
    fn told(&self, clock: &Clock) -> Discrepancies {
        let mut told = Discrepancies { seen: self.seen.clone(), ..Discrepancies::default() };
        for ((kind, name), entry) in &self.present {
            *told.counts.entry(*kind).or_default() += 1;
            if told.present.len() < PRESENT_MAX {
                told.present.push(Present {
                    kind: *kind,
                    name: name.clone(),
                    since: clock.shifted(entry.since),
                    overdue: entry.is_overdue,
                });
            }
        }
        told
    }
}

/// What is seen at a pool that is served.
pub(crate) fn tell(shared: &crate::pool::Shared, pool: &PoolName, discrepancies: Discrepancies) {
    shared.tell(pool, |told| told.discrepancies = discrepancies);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_replaces_what_it_sees_and_what_lasts_is_overdue() {
        let clock = Clock::starting_at(Timestamp(1_000));
        let (ledger, spec) = (Ledger::default(), PoolSpec::default());
        let name = InstanceName::new("p-1").ok();
        let (vanished, gone) =
            ((Discrepancy::MachineVanished, name.clone()), (Discrepancy::RunnerGone, name));
        let take = |look, found: &[&Key]| {
            let found = found.iter().map(|key| (*key).clone()).collect();
            ledger.take(look, found, "p", &spec, &clock)
        };
        take(Look::Backend, &[&vanished, &gone]);
        assert_eq!(ledger.since(&gone), None, "a look at a backend does not see that");
        take(Look::Github, &[&gone]);
        let told = take(Look::Backend, &[&vanished]);
        assert_eq!(told.present.len(), 2);
        assert!(told.present.iter().all(|present| !present.overdue));
        let limit = Discrepancy::MachineVanished.limit(&spec);
        tokio::time::advance(limit.to_std() * 2).await;
        let told = take(Look::Backend, &[&vanished]);
        let overdue: Vec<_> = told.present.iter().filter(|it| it.overdue).collect();
        assert_eq!((overdue.len(), overdue[0].kind), (1, Discrepancy::MachineVanished));
        assert_eq!(overdue[0].since, Timestamp(1_000));
        let told = take(Look::Backend, &[]);
        assert_eq!(told.counts, BTreeMap::from([(Discrepancy::RunnerGone, 1)]));
        take(Look::Backend, &[&vanished]);
        let told = take(Look::Github, &[]);
        assert_eq!(told.seen[&Discrepancy::MachineVanished], 2);
        assert_eq!(ledger.since(&gone), None);
    }
}
