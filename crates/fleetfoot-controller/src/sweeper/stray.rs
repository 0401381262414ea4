//! Things that carry our evidence and have no row (11.4), and rows whose pool nobody serves any more (11.8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use fleetfoot_core::removal::{may_still_land, outcome, registration_open};
use fleetfoot_core::{
    Discrepancy, Environment, Instance, InstanceName, Observation, Outcome, Phase, PoolName,
    PoolState, Reason, Registration, Timestamp,
};
use fleetfoot_provisioner::{Deletion, EnvironmentInfo, EnvironmentState};

use crate::executor::chain;
use crate::record::observe;

use super::Sweep;
use super::disagreements::of_stray;

/// A careful pass is over after so many looks, whatever goes on to come.
const CAREFUL_LOOKS_MAX: u32 = 5;

/// Things without a row that the last list showed: only what is seen twice is taken up.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeSet<InstanceName>);

impl Seen {
    /// Of what a list shows now, what the one before showed, too.
    fn again<'a>(
        &mut self,
        shown: impl Iterator<Item = &'a InstanceName>,
    ) -> BTreeSet<InstanceName> {
        let before = std::mem::replace(&mut self.0, shown.cloned().collect());
        self.0.intersection(&before).cloned().collect()
    }

    /// It has a row from now on. Once that is closed it begins anew: a list that is on its way meanwhile shows what
    /// was there before.
    fn forget(&mut self, name: &InstanceName) {
        self.0.remove(name);
    }

    fn contains(&self, name: &InstanceName) -> bool {
        self.0.contains(name)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Sweep {
    /// Takes up what has no row and was seen twice. True when nothing is left to be looked at again.
    pub(super) async fn take_up(&mut self, strays: Vec<EnvironmentInfo>, identity: &str) -> bool {
        let twice = self.strays.again(strays.iter().map(|stray| &stray.name));
        let (mut rows, mut settled) = (Vec::new(), true);
        self.seen_once = 0;
        for stray in &strays {
            if !twice.contains(&stray.name) {
                settled = false;
                let is_served = stray.pool.as_ref().is_some_and(|it| self.pools.contains_key(it));
                self.seen_once += usize::from(is_served);
                continue;
            }
            let pool = stray.pool.clone().filter(|pool| self.pools.contains_key(pool));
            #[cfg(feature = "faults")]
            let pool = if fleetfoot_faults::Defect::SweepByPrefix.is_planted() {
                self.pools
                    .keys()
                    .find(|pool| stray.name.as_str().starts_with(pool.as_str()))
                    .cloned()
            } else {
                pool
            };
            let spec = pool.as_ref().and_then(|pool| self.spec(pool));
            let is_ours = of_stray(stray, spec.as_ref()) == Some(Discrepancy::MachineWithoutRow);
            let Some(pool) = pool.filter(|_| is_ours) else {
                self.foreign_pool(stray).await;
                continue;
            };
            tracing::warn!(%pool, instance = %stray.name, state = state_word(&stray.state), "stray found, taking it up");
            self.strays.forget(&stray.name);
            let (now, bound) = (self.shared.clock.now(), self.shared.pace.call_bound);
            rows.push(stray_row(stray, pool, identity, now, bound));
        }
        self.left_alone.retain(|name| self.strays.contains(name));
        let taken: BTreeSet<InstanceName> = rows.iter().map(|row| row.name.clone()).collect();
        self.refused = false;
        if !taken.is_empty() {
            // What was refused is seen for the first time once more (seed 1247).
            self.refused = !self.insert(rows).await;
            settled = false;
        }
        // Only now: until the row is there, what was seen once is held for that.
        self.note_unclaimed(&strays, |name| {
            !twice.contains(name) || (self.refused && taken.contains(name))
        });
        settled
    }

    /// Notes what `has_no_row` and is left to be looked at again, so that nothing is made in its room.
    fn note_unclaimed(
        &self,
        strays: &[EnvironmentInfo],
        has_no_row: impl Fn(&InstanceName) -> bool,
    ) {
        let (mut pools, mut counts) = (BTreeSet::new(), BTreeMap::new());
        for (stray, pool) in strays.iter().filter_map(|it| Some((it, it.pool.as_ref()?))) {
            let is_served = self.pools.contains_key(pool);
            if is_served && !has_no_row(&stray.name) {
                continue;
            }
            pools.insert(pool.clone());
            if is_served {
                *counts.entry(pool.clone()).or_insert(0) += 1;
            }
        }
        *self.backend.unclaimed.lock().unwrap_or_else(PoisonError::into_inner) = pools;
        self.shared.host.shows(self.pools.keys(), &counts);
    }

    /// After a lost store the first look is no pass: what it shows is looked at twice, and so is what lands meanwhile,
    /// or it would be counted by nobody (seed 323). What the store did not take is counted by nobody either: a look that
    /// ends so is none (seed 20688).
    pub(super) fn is_careful(&mut self) -> bool {
        let first = self.careful_looks == 0 && self.strays.len() > 0;
        let careful = self.careful_looks < CAREFUL_LOOKS_MAX
            && self.shared.settings.careful
            && (first || self.refused || self.seen_once > 0);
        if careful {
            self.careful_looks += u32::from(!self.refused);
        } else {
            self.careful_looks = CAREFUL_LOOKS_MAX;
        }
        careful
    }

    /// False if the store refused them.
    async fn insert(&self, rows: Vec<Instance>) -> bool {
        let pools: BTreeSet<PoolName> = rows.iter().map(|row| row.pool.clone()).collect();
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.stray.before");
        let taken = self
            .shared
            .store
            .update(move |txn| {
                for row in rows {
                    if let Err(error) = txn.take_up_instance(row) {
                        tracing::warn!(%error, "stray not taken up");
                    }
                }
            })
            .await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.stray.after");
        if let Err(error) = &taken {
            tracing::error!(error = %chain(error), "store refused a stray");
        }
        for pool in pools {
            let occupying = self.shared.store.pool(&pool).map_or(0, |state| state.occupying());
            self.shared.host.holds(&pool, occupying);
        }
        taken.is_ok()
    }

    /// A stray of a pool that nobody serves: its remains may go, a living one is left and told once.
    async fn foreign_pool(&mut self, stray: &EnvironmentInfo) {
        let EnvironmentState::Ended(_) = stray.state else {
            self.leave_alone(&stray.name);
            return;
        };
        self.delete(&stray.name).await;
    }

    fn leave_alone(&mut self, name: &InstanceName) {
        if self.left_alone.insert(name.clone()) {
            tracing::warn!(instance = %name, "a living environment of ours belongs to no configured pool, leaving it");
        }
    }

    /// True if what was there is gone.
    async fn delete(&self, name: &InstanceName) -> bool {
        let bound = self.shared.pace.call_bound.to_std();
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.backend.delete_stray.before");
        let deleted = tokio::time::timeout(bound, self.backend.provisioner.delete(name)).await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.backend.delete_stray.after");
        match deleted {
            // What was not there may be held by another backend: the next list tells.
            Ok(Ok(deletion)) => {
                deletion == Deletion::Removed || !self.backend.provisioner.capabilities().list
            }
            Ok(Err(error)) => {
                tracing::warn!(instance = %name, error = %chain(&error), "deletion failed");
                false
            }
            Err(_) => false,
        }
    }

    /// It belongs to a pool that has a row and that this sweep does not serve: one that has just begun, or that
    /// goes on elsewhere. Whoever serves it looks after it.
    pub(super) fn is_anothers(&self, info: &EnvironmentInfo) -> bool {
        let several = self.shared.store.membership().is_some();
        // Among several controllers only what a pool of ours made is ours.
        let Some(pool) = &info.pool else { return several };
        if several {
            return !self.pools.contains_key(pool) || !self.shared.store.owns(pool);
        }
        !self.pools.contains_key(pool)
            && self.shared.store.pool(pool).is_some()
            && !self.shared.roster.borrow().orphans.contains(pool)
    }

    /// Pools whose rows nobody serves, at this connection.
    pub(super) fn orphans(&self) -> Vec<(PoolName, std::sync::Arc<PoolState>)> {
        let connection = self.backend.provisioner.connection();
        let pools = self.shared.roster.borrow().orphans.clone();
        let states =
            pools.into_iter().filter_map(|name| self.shared.store.pool(&name).map(|it| (name, it)));
        states.filter(|(_, state)| state.pool.backend_connection == connection).collect()
    }

    /// Without a credential nobody can ask GitHub: what ended closes as `registration unverified` (11.8).
    pub(super) async fn close_orphans(&mut self) {
        for (pool, state) in self.orphans() {
            for row in state.instances.values() {
                if row.may_live() {
                    self.leave_alone(&row.name);
                } else if row.environment != Environment::Ended || self.delete(&row.name).await {
                    self.close_orphan(&pool, row).await;
                }
            }
        }
    }

    async fn close_orphan(&self, pool: &PoolName, row: &Instance) {
        if may_still_land(row) {
            return;
        }
        let outcome =
            if registration_open(row) { Outcome::RegistrationUnverified } else { outcome(row) };
        let (now, pool, name) = (self.shared.clock.now(), pool.clone(), row.name.clone());
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.orphan.before");
        let closed = self
            .shared
            .store
            .update(move |txn| {
                let reason = Reason::Drained;
                observe(txn, &pool, &name, &Observation::Removal { reason }, now);
                observe(txn, &pool, &name, &Observation::Closed { outcome }, now).taken().is_some()
            })
            .await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("controller.commit.orphan.after");
        match closed {
            Ok(true) => {
                tracing::warn!(pool = %row.pool, instance = %row.name, "instance of an unserved pool closed, its registration was not asked for")
            }
            Ok(false) => {}
            Err(error) => tracing::error!(error = %chain(&error), "store refused a sweep"),
        }
    }
}

fn state_word(state: &EnvironmentState) -> &'static str {
    match state {
        EnvironmentState::Created => "created",
        EnvironmentState::Running => "running",
        EnvironmentState::Ended(_) => "ended",
    }
}

/// The row of a stray: on its way out, through the gate. A busy one comes back as running.
fn stray_row(
    stray: &EnvironmentInfo,
    pool: PoolName,
    identity: &str,
    now: Timestamp,
    bound: fleetfoot_core::Span,
) -> Instance {
    let mut row = Instance::pending(stray.name.clone(), pool, now);
    row.phase = Phase::Stopping;
    row.registration = Registration::Requested;
    row.reason = Some(Reason::Stray);
    row.handle = Some(stray.handle.0.clone());
    row.backend_identity = Some(identity.to_owned());
    // Nothing is in flight for a stray: one look at GitHub is enough.
    row.verified_at = Some(now - fleetfoot_core::Span(bound.0.saturating_mul(2)));
    match &stray.state {
        EnvironmentState::Created => row.environment = Environment::Present,
        EnvironmentState::Running => row.environment = Environment::Launched,
        EnvironmentState::Ended(exit) => {
            row.environment = Environment::Ended;
            row.exit = Some(exit.clone());
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_a_row_meanwhile_is_seen_twice_before_it_is_taken_up_again() {
        let pool = PoolName::new("linux").unwrap();
        let [a, b] = [1, 2].map(|number| InstanceName::of_pool(&pool, number));
        let mut seen = Seen::default();
        assert!(seen.again([&a, &b].into_iter()).is_empty());
        assert_eq!(seen.again([&a].into_iter()), [a.clone()].into(), "b is gone");
        seen.forget(&a);
        // It was deleted and its row closed; this list began before that.
        assert!(seen.again([&a].into_iter()).is_empty());
        assert!(seen.again([].into_iter()).is_empty());
        assert!(seen.again([&a].into_iter()).is_empty());
        assert_eq!(seen.again([&a, &b].into_iter()), [a.clone()].into());
        assert_eq!((seen.len(), seen.contains(&b)), (2, true));
    }
}
