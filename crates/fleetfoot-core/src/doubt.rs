//! Rows of a store that is behind what is true outside: restored from a backup, put back by hand, or
//! without its last commits (design, 11.4).

use std::sync::Arc;

use crate::cause::Reason;
use crate::demand::ASSIGNED_ITEMS_HOLD;
use crate::instance::{Environment, Instance, Registration};
use crate::phase::{Observation, Phase};
use crate::pool::PoolState;
use crate::time::Timestamp;

/// Takes back what a pool's rows are sure of. What its jobs and its runners were about to
/// do is over by now or not: GitHub's next level says it, and nothing of the past is added or taken off.
pub fn distrust_pool(state: &mut PoolState, now: Timestamp) {
    for instance in state.instances.values_mut() {
        distrust(Arc::make_mut(instance), now);
    }
    let old = now - ASSIGNED_ITEMS_HOLD;
    for job in state.jobs.values_mut() {
        let job = Arc::make_mut(job);
        job.seen_at = job.seen_at.min(old);
    }
    if !state.pool.demand.spent.is_empty() {
        Arc::make_mut(&mut state.pool).demand.spent.clear();
    }
}

/// Takes back what the row is sure of: since it was written, anything that was about to be done with the
/// instance may have been done.
///
/// What was never registered may be registered by now, so nothing of it goes but through the gate; what was
/// only begun is not gone on with, because its name may have been used up.
pub(crate) fn distrust(row: &mut Instance, now: Timestamp) {
    if row.registration == Registration::None {
        row.registration = Registration::Requested;
    }
    let begun = match row.phase {
        Phase::Pending | Phase::Creating | Phase::Warm => true,
        Phase::Starting => row.registration == Registration::Requested,
        Phase::Idle | Phase::Running | Phase::Stopping | Phase::Closed => false,
    };
    let unseen = matches!(row.environment, Environment::None | Environment::Requested);
    if unseen && row.phase != Phase::Closed {
        row.environment = Environment::Requested;
        row.unanswered_since = Some(now);
        row.clear_lists = 0;
        row.last_clear_list_at = None;
    }
    // What waited may have been launched: GitHub alone knows whether it has a job (seed 39764).
    if row.environment == Environment::Present {
        row.environment = Environment::Launched;
    }
    if begun {
        // Every phase takes in that it is to be removed.
        let _ = row.observe(&Observation::Removal { reason: Reason::Interrupted }, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{InstanceName, PoolName, RunnerId};
    use crate::removal::{may_still_land, removal_steps};

    const ENVIRONMENTS: [Environment; 6] = [
        Environment::None,
        Environment::Requested,
        Environment::Present,
        Environment::Launched,
        Environment::Ended,
        Environment::Gone,
    ];

    fn row(phase: Phase, registration: Registration, environment: Environment) -> Instance {
        let pool = PoolName::new("p").unwrap();
        let mut row = Instance::pending(InstanceName::of_pool(&pool, 1), pool, Timestamp(0));
        (row.phase, row.registration, row.environment) = (phase, registration, environment);
        row
    }

    #[test]
    fn nothing_that_may_run_goes_but_through_the_gate() {
        let registrations =
            [Registration::None, Registration::Requested, Registration::Registered(RunnerId(7))];
        for phase in [
            Phase::Pending,
            Phase::Creating,
            Phase::Warm,
            Phase::Starting,
            Phase::Idle,
            Phase::Running,
            Phase::Stopping,
        ] {
            for registration in registrations {
                for environment in ENVIRONMENTS {
                    let mut row = row(phase, registration, environment);
                    distrust(&mut row, Timestamp(9));
                    let steps = removal_steps(&row);
                    let what = format!("{phase:?} {registration:?} {environment:?}");
                    assert!(steps.deregister && !steps.close, "{what}");
                    let deletes = steps.delete && environment != Environment::Ended;
                    assert!(!deletes, "{what}: deleted before github was asked");
                }
            }
        }
    }

    #[test]
    fn what_was_only_begun_is_not_gone_on_with() {
        let mut row = row(Phase::Pending, Registration::None, Environment::None);
        distrust(&mut row, Timestamp(9));
        assert_eq!((row.phase, row.reason), (Phase::Stopping, Some(Reason::Interrupted)));
        assert!(may_still_land(&row), "absence is proven twice");
        let again = row.clone();
        distrust(&mut row, Timestamp(9));
        assert_eq!(row, again);
    }

    /// Since the copy was made it was launched and took a job, which is in GitHub's level (seed 39764).
    #[test]
    fn what_waited_may_run() {
        let mut row = row(Phase::Warm, Registration::None, Environment::Present);
        distrust(&mut row, Timestamp(9));
        assert_eq!((row.phase, row.is_asked_about()), (Phase::Stopping, true));
        row.observe(&Observation::Busy, Timestamp(10)).unwrap();
        assert!(row.phase == Phase::Running && row.serves());
    }

    #[test]
    fn what_runs_runs() {
        for phase in [Phase::Idle, Phase::Running] {
            let registration = Registration::Registered(RunnerId(7));
            let mut row = row(phase, registration, Environment::Launched);
            let before = row.clone();
            distrust(&mut row, Timestamp(9));
            assert_eq!(row, before);
        }
    }
}
