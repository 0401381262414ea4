//! A wall clock that steps while we run: stored times step with it, and no age changes (design, 11.11).
//!
//! A host that was suspended looks the same: the wall went on, the monotonic clock did not.
//!
//! Everything happens in one transaction: behind it the clock shows the new time and every live row has
//! its times on it. Meanwhile nobody plans, and whoever compares times across it throws its work away
//! ([`Clock::steady`](crate::Clock)). A time that was read before and is committed after may be off; the
//! next checks let nothing lie ahead of the clock, and what lies behind is held by the grace.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetfoot_core::{
    Health, Instance, Job, ListenerState, PoolHealth, PoolName, PoolState, Timestamp,
};
use fleetfoot_store::{Event, Txn};

use crate::executor::chain;
use crate::pool::{Shared, told};

/// The wall clock may be off by as much before stored times are shifted.
const TOLERANCE_MS: u64 = 5_000;

/// So many checks after a shift look for what was read before it and committed after.
const CLAMPS: u32 = 30;

/// While stored times are being shifted nobody plans: this long until it looks again.
pub(crate) const UNSTEADY_PAUSE: Duration = Duration::from_millis(20);

/// Holds the wall clock against ours until the controller stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let mut clamps = 0;
    loop {
        tokio::select! {
            biased;
            () = told(&mut stop) => return,
            () = tokio::time::sleep(shared.pace.clock_check) => {}
        }
        shared.goes_on();
        if clamps > 0 {
            clamps -= 1;
            clamp(&shared).await;
        }
        let ahead_ms = shared.clock.wall_ahead_ms();
        if ahead_ms.unsigned_abs() > TOLERANCE_MS && shift(&shared, ahead_ms).await {
            clamps = CLAMPS;
        }
    }
}

/// The pools whose rows this controller writes.
fn served(shared: &Shared) -> BTreeSet<PoolName> {
    let roster = shared.roster.borrow();
    roster.pools.keys().chain(&roster.orphans).cloned().collect()
}

/// Shifts the clock and all stored times of live rows. False if the store did not take it.
async fn shift(shared: &Arc<Shared>, step_ms: i64) -> bool {
    let (pools, clock, pace) = (served(shared), shared.clock.clone(), shared.pace);
    let shifting = clock.begin_shift();
    let (within, stepped) = (shared.clone(), Arc::new(AtomicBool::new(false)));
    let ran = stepped.clone();
    let shifted = shared
        .store
        .update(move |txn| {
            // In here, so that what is written behind it is written on the new clock.
            within.clock.step(step_ms);
            ran.store(true, Ordering::SeqCst);
            let now = within.clock.now();
            within.seen_at.store(now.0, Ordering::SeqCst);
            within.ages_count_from.store((now + pace.ages_grace).0, Ordering::SeqCst);
            for pool in &pools {
                each_row(txn, pool, &Change::Shift(step_ms));
            }
            txn.event(Event::new(now, "clock shifted").field("shift_ms", step_ms));
        })
        .await;
    if let Err(error) = shifted {
        // Its commit failed, so it is taken back; at the next check it is tried again.
        if stepped.load(Ordering::SeqCst) {
            clock.step(-step_ms);
            shared.ages_count_from.store((clock.now() + pace.ages_grace).0, Ordering::SeqCst);
        }
        tracing::error!(shift_ms = step_ms, error = %chain(&error), "store refused to shift its times");
        return false;
    }
    shared.health.send_modify(|health| shift_health(health, step_ms));
    drop(shifting);
    tracing::warn!(
        shift_ms = step_ms,
        "wall clock stepped, or the host was suspended: stored times shifted, nothing that runs ends for its age for a while"
    );
    true
}

/// What was read from the clock before a step back and committed after it lies ahead: no longer.
async fn clamp(shared: &Shared) {
    let (mut pools, now) = (served(shared), shared.clock.now());
    pools.retain(|pool| shared.store.pool(pool).is_some_and(|state| lies_ahead(&state, now)));
    if pools.is_empty() {
        return;
    }
    let clamped = shared
        .store
        .update(move |txn| {
            for pool in &pools {
                each_row(txn, pool, &Change::Resume(now));
            }
        })
        .await;
    if let Err(error) = clamped {
        tracing::error!(error = %chain(&error), "store refused to shift its times");
    }
}

fn lies_ahead(state: &PoolState, now: Timestamp) -> bool {
    let mut row = (*state.pool).clone();
    row.resume(now);
    let of_instance = |instance: &Instance| {
        let mut resumed = instance.clone();
        resumed.resume(now);
        resumed != *instance
    };
    let of_job = |job: &Job| {
        let mut resumed = job.clone();
        resumed.resume(now);
        resumed != *job
    };
    row != *state.pool
        || state.instances.values().any(|it| of_instance(it))
        || state.jobs.values().any(|it| of_job(it))
}

enum Change {
    Shift(i64),
    Resume(Timestamp),
}

fn each_row(txn: &mut Txn<'_>, pool: &PoolName, change: &Change) {
    let Some(state) = txn.pool(pool) else { return };
    let (mut row, jobs) = ((*state.pool).clone(), state.jobs.clone());
    let instances: Vec<_> = state.instances.keys().cloned().collect();
    match change {
        Change::Shift(step_ms) => row.shift(*step_ms),
        Change::Resume(now) => row.resume(*now),
    }
    if txn.pool(pool).is_some_and(|state| *state.pool != row) {
        txn.put_pool(row);
    }
    for name in instances {
        txn.modify_instance(&name, |row| match change {
            Change::Shift(step_ms) => row.shift(*step_ms),
            Change::Resume(now) => row.resume(*now),
        });
    }
    for job in jobs.into_values() {
        let mut job = Job::clone(&job);
        match change {
            Change::Shift(step_ms) => job.shift(*step_ms),
            Change::Resume(now) => job.resume(*now),
        }
        txn.put_job(pool, job);
    }
}

fn shift_health(health: &mut Health, step_ms: i64) {
    health.started_at = health.started_at.shifted(step_ms);
    health.last_pass_at = health.last_pass_at.shifted(step_ms);
    for told in health.pools.values_mut() {
        let mut shifted = PoolHealth::clone(told);
        match &mut shifted.listener {
            ListenerState::Standby { since } => *since = since.shifted(step_ms),
            ListenerState::Backoff { until, .. } => *until = until.shifted(step_ms),
            ListenerState::Opening | ListenerState::Connected | ListenerState::Closed => {}
        }
        *told = Arc::new(shifted);
    }
}
