//! One reconciler per pool: look at everything, plan, commit, act. It takes no input.
//!
//! It wakes on the store's tick, on the end of an action, on the earliest deadline and on a period.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::host::Claim;
use fleetfoot_core::{
    Action, Cause, InstanceName, Intent, Plan, PoolState, Snapshot, Span, Timestamp, plan,
};
use tokio::time::Instant;

use crate::executor;
use crate::live::finish;
use crate::pool::PoolContext;
use crate::shift::UNSTEADY_PAUSE;

/// With instances it looks at least this often, without any not so often.
const PERIOD_BUSY: Duration = Duration::from_secs(30);
const PERIOD_IDLE: Duration = Duration::from_secs(300);

/// As long as what is there without a row is looked at first.
const PERIOD_CAREFUL: Duration = Duration::from_secs(1);

/// Before a plan is made anew that the store refused, where no end of an action asks for it sooner: a job waits for it.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Before it looks again whether there is a lease.
const NO_LEASE_PAUSE: Duration = Duration::from_millis(500);

/// Runs until the pool is served no longer: at a stop, or once a removed one has nothing left.
pub(crate) async fn run(pool: Arc<PoolContext>) {
    let mut changes = pool.shared.store.changes(pool.name());
    let mut course = pool.course.subscribe();
    let mut swept = pool.backend.swept.subscribe();
    loop {
        changes.mark_unchanged();
        course.mark_unchanged();
        if pool.stopping() {
            return;
        }
        // Without a lease nothing may be done; soon there is one, or the pool ends here.
        if !pool.has_lease() {
            tokio::time::sleep(NO_LEASE_PAUSE).await;
            continue;
        }
        // Before the store is read: what ends in between is left for the pass that its end asks for.
        let in_flight = pool.in_flight();
        let steady = pool.shared.clock.steady();
        let Some(state) = pool.state() else {
            pool.shared.host.leave(pool.name());
            return;
        };
        if state.pool.intent == Intent::Removed && state.instances.is_empty() && finish(&pool).await
        {
            return;
        }
        let now = pool.now();
        // Times of the rows and this time are of two clocks: nothing is decided on that.
        if steady.is_none_or(|steady| !pool.shared.clock.is_still(steady)) {
            tokio::time::sleep(UNSTEADY_PAUSE).await;
            continue;
        }
        let plan = pass(&pool, &state, &in_flight, now);
        tell(&pool, &plan);
        let busy = !state.instances.is_empty();
        let mut deadline = deadline(&pool, &plan, busy);
        if !executor::execute(&pool, plan.actions).await {
            deadline = deadline.min(Instant::now() + REFUSED_PAUSE);
        }
        tokio::select! {
            biased;
            _ = course.changed() => {}
            changed = changes.changed() => if changed.is_err() { return },
            () = pool.wake.notified() => {}
            Ok(()) = swept.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

fn deadline(pool: &PoolContext, plan: &Plan, busy: bool) -> Instant {
    let period = match (plan.causes.contains(&Cause::CarefulPass), busy) {
        (true, _) => PERIOD_CAREFUL,
        (false, true) => PERIOD_BUSY,
        (false, false) => PERIOD_IDLE,
    };
    let period = Instant::now() + period;
    plan.wake_at.map_or(period, |at| pool.shared.clock.instant(at).min(period))
}

/// One look: everything that is known goes in, a plan comes out.
fn pass(
    pool: &PoolContext,
    state: &PoolState,
    in_flight: &BTreeSet<InstanceName>,
    now: Timestamp,
) -> Plan {
    pool.shared.goes_on();
    let settings = pool.settings();
    let budget = settings.connection.budget();
    let jit_until = budget.resume_at.map(|at| {
        // Rounded up: at the very moment there are no permits yet, and nobody would wake us after it.
        let ahead = at.saturating_duration_since(Instant::now()).as_millis().saturating_add(1);
        now + Span(i64::try_from(ahead).unwrap_or(i64::MAX))
    });
    let identity = pool.backend.identity();
    let mut snapshot = Snapshot {
        late_binding: settings.provisioner.capabilities().late_binding,
        watched: settings.provisioner.capabilities().watch,
        listed: settings.provisioner.capabilities().list,
        backend: pool.backend_state(),
        backend_identity: identity.as_deref(),
        github: pool.github_state(),
        jit_permits: budget.remaining.unwrap_or(u32::MAX),
        jit_until,
        registered: state.pool.scale_set_id.is_some(),
        careful: !pool.is_adopted()
            || (pool.shared.settings.careful && !*pool.backend.swept.borrow()),
        ages_count_from: pool.shared.ages_count_from(),
        ..Snapshot::unhindered(state, &settings.spec, in_flight)
    };
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::CreateBeforeCarefulPass.is_planted() {
        snapshot.careful = false;
    }
    // Whose runner is still on its way claims no room that others could use.
    if let Some(detail) = settings.release().missing {
        snapshot.host_room = 0;
        snapshot.host_cause = Some(Cause::RunnerMissing { detail });
    }
    // What it would make if the host were its own: only that is claimed, so that a pool that may not
    // create for another reason holds no room that others wait for.
    let wish = plan(&snapshot, now);
    let created: u32 = wish.actions.iter().map(created).sum();
    let missing = created.min(wish.sizing.missing_for_jobs(&settings.spec));
    let claim = Claim {
        footprint: settings.footprint,
        occupying: wish.sizing.occupying,
        missing,
        spare: created - missing,
        surplus_idle: wish.sizing.surplus_idle,
        leaving: wish.sizing.leaving,
    };
    let storage = settings.provisioner.storage_directory();
    let grant = pool.shared.host.claim(pool.name(), claim, storage.as_deref(), now);
    if grant.room >= created && grant.release == 0 {
        return wish;
    }
    if grant.room < created {
        snapshot.host_room = grant.room;
        snapshot.host_cause = grant.cause;
    }
    snapshot.host_wants = grant.release;
    plan(&snapshot, now)
}

fn created(action: &Action) -> u32 {
    match action {
        Action::Create { count } => *count,
        Action::Begin { .. }
        | Action::Launch { .. }
        | Action::Retire { .. }
        | Action::Remove { .. }
        | Action::Close { .. }
        | Action::Verify { .. } => 0,
    }
}

fn tell(pool: &PoolContext, plan: &Plan) {
    let now = pool.now();
    // Read when somebody asks; nobody is woken for it.
    pool.shared.health.send_if_modified(|health| {
        health.last_pass_at = now;
        false
    });
    pool.shared.tell(pool.name(), |told| {
        told.sizing = plan.sizing;
        told.causes.clone_from(&plan.causes);
        told.max_runners = pool.settings().spec.max_runners;
        told.runner = pool.settings().release();
    });
}
