//! Stored times after a restart and after a step of the wall clock (design, 11.11).
//!
//! Ages are what counts, not times. After a restart no stored time lies ahead of the clock; when the wall
//! clock steps while we run, every stored time steps with it, so that no age changes.

use std::sync::Arc;

use crate::demand::{ASSIGNED_ITEMS_HOLD, Demand, Job};
use crate::instance::Instance;
use crate::pool::Pool;
use crate::time::Timestamp;

impl Instance {
    /// Takes the row up after a restart: stored times only serve to resume, so none lies ahead of the clock,
    /// whatever the wall clock did meanwhile.
    pub fn resume(&mut self, now: Timestamp) {
        self.each_time(|at| *at = (*at).min(now));
        // A wait that was asked for is kept, none is longer than any wait of ours.
        let latest = now + crate::backoff::Backoff::BUSY.longest;
        self.retry_at = self.retry_at.map(|at| at.min(latest));
    }

    /// The wall clock was put forward by `step_ms`: every age stays what it was.
    pub fn shift(&mut self, step_ms: i64) {
        self.each_time(|at| *at = at.shifted(step_ms));
        self.retry_at = self.retry_at.map(|at| at.shifted(step_ms));
    }

    /// Every time that lies behind.
    fn each_time(&mut self, change: impl Fn(&mut Timestamp)) {
        change(&mut self.created_at);
        change(&mut self.phase_since);
        for at in [
            &mut self.job_started_at,
            &mut self.job_completed_at,
            &mut self.unanswered_since,
            &mut self.last_clear_list_at,
            &mut self.last_call_at,
            &mut self.verified_at,
        ] {
            at.iter_mut().for_each(&change);
        }
    }
}

impl Pool {
    /// Takes the row up after a restart: no stored time lies further ahead than any wait of ours.
    pub fn resume(&mut self, now: Timestamp) {
        self.created_at = self.created_at.min(now);
        let latest = now + crate::circuit::LONGEST_WAIT;
        self.circuit.open_until = self.circuit.open_until.map(|at| at.min(latest));
        self.demand.each_time(|at| *at = (*at).min(now));
    }

    /// The wall clock was put forward by `step_ms`: every age stays what it was.
    pub fn shift(&mut self, step_ms: i64) {
        self.created_at = self.created_at.shifted(step_ms);
        self.circuit.open_until = self.circuit.open_until.map(|at| at.shifted(step_ms));
        self.demand.each_time(|at| *at = at.shifted(step_ms));
    }
}

impl Demand {
    fn each_time(&mut self, change: impl Fn(&mut Timestamp)) {
        change(&mut self.stated_at);
        change(&mut self.opened_at);
        let finished = Arc::make_mut(&mut self.finished);
        self.spent.values_mut().chain(finished.values_mut()).for_each(change);
    }
}

impl Job {
    /// No time of ours lies ahead of the clock. Nobody knows how old a job is that lies far ahead: it raises GitHub's
    /// level no more.
    pub fn resume(&mut self, now: Timestamp) {
        let far = self.seen_at > now + ASSIGNED_ITEMS_HOLD;
        self.seen_at = if far { now - ASSIGNED_ITEMS_HOLD } else { self.seen_at.min(now) };
        self.started_at = self.started_at.map(|at| at.min(now));
    }

    /// The wall clock was put forward by `step_ms`. When GitHub queued it, GitHub's own clock said.
    pub fn shift(&mut self, step_ms: i64) {
        self.seen_at = self.seen_at.shifted(step_ms);
        self.started_at = self.started_at.map(|at| at.shifted(step_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{InstanceName, PoolName};

    #[test]
    fn a_shift_there_and_back_changes_nothing_and_no_age() {
        let pool = PoolName::new("p").unwrap();
        let mut row =
            Instance::pending(InstanceName::of_pool(&pool, 1), pool.clone(), Timestamp(5));
        row.retry_at = Some(Timestamp(90_000));
        row.verified_at = Some(Timestamp(40_000));
        row.last_call_at = Some(Timestamp(30_000));
        let mut owner = Pool::new(pool, Timestamp(5));
        owner.demand.stated_at = Timestamp(50_000);
        owner.demand.spent.insert(row.name.clone(), Timestamp(40_000));
        owner.circuit.open_until = Some(Timestamp(100_000));
        for step in [3_600_000, -3_600_000] {
            let (mut shifted, mut pool) = (row.clone(), owner.clone());
            shifted.shift(step);
            pool.shift(step);
            assert_eq!(shifted.phase_since, Timestamp(5 + step));
            assert_eq!(shifted.retry_at, Some(Timestamp(90_000 + step)));
            assert_eq!(pool.circuit.open_until, Some(Timestamp(100_000 + step)));
            // Nothing lies ahead on the shifted clock that did not before.
            let (before, unshifted) = (shifted.clone(), pool.clone());
            shifted.resume(Timestamp(60_000 + step));
            pool.resume(Timestamp(60_000 + step));
            assert_eq!((&shifted, &pool), (&before, &unshifted));
            shifted.shift(-step);
            pool.shift(-step);
            assert_eq!((&shifted, &pool), (&row, &owner));
        }
    }
}
