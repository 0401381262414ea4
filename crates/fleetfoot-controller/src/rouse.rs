//! Machines that wait for a job go on when it is told of, beside the commits that lead to their launch.
//!
//! A hint and no more: nothing is committed for it, and the plan decides as if it had not been given.

use std::sync::Arc;

use fleetfoot_core::plan::next_launched;
use fleetfoot_core::{Intent, JobId, PoolState};
use fleetfoot_github::Message;

use crate::pool::PoolContext;

/// The machines that the message's new jobs most likely run in.
pub(crate) fn for_jobs_of(pool: &Arc<PoolContext>, message: &Message) {
    let settings = pool.settings();
    if !settings.provisioner.capabilities().late_binding || !pool.has_lease() {
        return;
    }
    let Some(state) = pool.state() else { return };
    let jobs = new_jobs(&state, message);
    if jobs == 0 || state.pool.intent != Intent::Active {
        return;
    }
    for name in next_launched(&state, &pool.in_flight(), jobs) {
        settings.provisioner.rouse(&name);
    }
}

/// How many of the message's jobs nobody knows yet.
fn new_jobs(state: &PoolState, message: &Message) -> usize {
    let is_new = |id: &str| {
        let id = JobId::new(id);
        !state.jobs.contains_key(&id) && !state.pool.demand.finished.contains_key(&id)
    };
    message.assigned.iter().filter(|job| is_new(&job.job_id)).count()
}
