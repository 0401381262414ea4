//! Deletions that are tried again, by runner: how often, and how long each waited for its turn. A row says only what it
//! waits for now, so what came before is kept here for as long as the runner has a row.

use std::collections::{BTreeMap, BTreeSet};

use fleetfoot_core::{Instance, InstanceName, Phase, PoolName, Timestamp};
use fleetfoot_store::Pools;

/// Upper ends of the buckets of waits, in seconds, as the original has them.
pub const WAITS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// What is known of all runners.
#[derive(Debug, Clone, Default)]
pub struct Retries {
    runners: BTreeMap<InstanceName, Retried>,
}

/// One runner's.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Retried {
    /// Failures at its present step when it was looked at last.
    failures: u32,
    /// How long it waits for the next attempt, in seconds, and until when.
    waiting: Option<(f64, Timestamp)>,
    /// Attempts that began after a wait, by how long that was; each bucket alone, and one above them all.
    pub(super) buckets: [u64; WAITS.len() + 1],
    /// All waits together, in seconds.
    pub(super) sum: f64,
}

impl Retried {
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn look(&mut self, row: &Instance, now: Timestamp) {
        if row.attempts != self.failures {
            self.began();
            self.failures = row.attempts;
            let until = row.retry_at.filter(|until| *until > now);
            self.waiting = until.map(|until| (now.age(until).to_std().as_secs_f64(), until));
        }
        if self.waiting.is_some_and(|(_, until)| until <= now) {
            self.began();
        }
    }

    /// The attempt that was waited for began.
    fn began(&mut self) {
        let Some((seconds, _)) = self.waiting.take() else { return };
        let at = WAITS.iter().position(|end| seconds <= *end).unwrap_or(WAITS.len());
        self.buckets[at] += 1;
        self.sum += seconds;
    }
}

impl Retries {
    /// Looks at these pools. The shortest wait is half a second: whoever looks more often misses none.
    pub fn look(&mut self, pools: &Pools, targets: &BTreeSet<PoolName>, now: Timestamp) {
        let rows = || {
            let of_targets = targets.iter().filter_map(|name| pools.get(name));
            of_targets.flat_map(|state| state.instances.values())
        };
        self.runners.retain(|name, _| pools.values().any(|it| it.instances.contains_key(name)));
        for row in rows().filter(|row| row.phase == Phase::Stopping) {
            if row.attempts > 0 || self.runners.contains_key(&row.name) {
                self.runners.entry(row.name.clone()).or_default().look(row, now);
            }
        }
    }

    pub(super) fn of(&self, name: &InstanceName) -> Option<&Retried> {
        self.runners.get(name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleetfoot_core::{Pool, PoolState};

    use super::*;

    #[test]
    fn waits_are_counted_when_their_attempts_begin() {
        let pool = PoolName::new("myshoes-acme").unwrap();
        let name = InstanceName::of_uuid(1);
        let targets = [pool.clone()].into();
        let mut retries = Retries::default();
        let mut look = |failures: u32, retry_at: Option<i64>, now: i64| {
            let mut state = PoolState::new(Pool::new(pool.clone(), Timestamp(0)));
            let mut row = Instance::pending(name.clone(), pool.clone(), Timestamp(0));
            row.phase = Phase::Stopping;
            (row.attempts, row.retry_at) = (failures, retry_at.map(Timestamp));
            state.instances.insert(name.clone(), Arc::new(row));
            let pools = [(pool.clone(), Arc::new(state))].into();
            retries.look(&pools, &targets, Timestamp(now));
            retries.of(&name).map(|it| (it.count(), it.sum))
        };
        assert_eq!(look(0, None, 0), None, "nothing failed");
        assert_eq!(look(1, Some(1_500), 500), Some((0, 0.0)), "it waits");
        assert_eq!(look(1, Some(1_500), 1_600), Some((1, 1.0)), "it is tried again");
        assert_eq!(look(1, Some(1_500), 1_700), Some((1, 1.0)), "once");
        // It failed again, and the next one began and failed between two looks.
        assert_eq!(look(2, Some(5_000), 2_000), Some((1, 1.0)));
        assert_eq!(look(3, Some(9_000), 5_000), Some((2, 4.0)));
        // Another step of its removal begins anew: what it waited for had its turn.
        assert_eq!(look(0, None, 9_000), Some((3, 8.0)));
        let one = retries.of(&name).unwrap();
        assert_eq!((one.buckets[0], one.buckets[2]), (1, 2));
        retries.look(&Pools::new(), &targets, Timestamp(10_000));
        assert_eq!(retries.of(&name), None, "gone with its row");
    }
}
