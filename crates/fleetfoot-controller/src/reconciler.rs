//! One reconciler per pool: look at everything, plan, commit, act. It takes no input.
//!
//! It wakes on the store's tick, on the end of an action, on the earliest deadline and on a period.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::host::Claim;
use fleetfoot_core::{Plan, PoolState, Snapshot, Span, Timestamp, plan, sizing::Sizing};
use tokio::time::Instant;

use crate::executor;
use crate::pool::PoolContext;

/// With instances it looks at least this often, without any not so often.
const PERIOD_BUSY: Duration = Duration::from_secs(30);
const PERIOD_IDLE: Duration = Duration::from_secs(300);

/// Runs until the controller stops, or until a removed pool has nothing left.
pub(crate) async fn run(pool: Arc<PoolContext>) {
    let mut changes = pool.shared.store.changes(pool.name());
    let mut stop = pool.shared.stop.clone();
    let mut swept = pool.backend.swept.subscribe();
    loop {
        changes.mark_unchanged();
        if pool.shared.stopping() {
            return;
        }
        let Some(state) = pool.state() else { return };
        let now = pool.now();
        let plan = pass(&pool, &state, now);
        tell(&pool, &plan);
        let busy = !state.instances.is_empty();
        let deadline = deadline(&pool, &plan, busy);
        executor::execute(&pool, plan.actions).await;
        tokio::select! {
            biased;
            _ = stop.changed() => {}
            changed = changes.changed() => if changed.is_err() { return },
            () = pool.wake.notified() => {}
            Ok(()) = swept.changed() => {}
            () = tokio::time::sleep_until(deadline) => {}
        }
    }
}

fn deadline(pool: &PoolContext, plan: &Plan, busy: bool) -> Instant {
    let period = Instant::now() + if busy { PERIOD_BUSY } else { PERIOD_IDLE };
    plan.wake_at.map_or(period, |at| pool.shared.clock.instant(at).min(period))
}

/// One look: everything that is known goes in, a plan comes out.
fn pass(pool: &PoolContext, state: &PoolState, now: Timestamp) -> Plan {
    let settings = &pool.settings;
    // What is in flight is read after the store: an action that ended between is simply left for the next pass.
    let in_flight: BTreeSet<_> = pool.in_flight();
    let sizing = Sizing::of(state, &settings.spec, now);
    let demand_known = state.pool.demand.known;
    let claim = Claim {
        footprint: settings.footprint,
        occupying: sizing.occupying,
        missing: if demand_known { sizing.missing(&settings.spec) } else { 0 },
    };
    let storage = settings.provisioner.storage_directory();
    let grant = pool.shared.host.claim(pool.name(), claim, storage.as_deref(), now);
    let budget = settings.connection.budget();
    let jit_until = budget.resume_at.map(|at| {
        let ahead = at.saturating_duration_since(Instant::now()).as_millis();
        now + Span(i64::try_from(ahead).unwrap_or(i64::MAX))
    });
    let snapshot = Snapshot {
        state,
        spec: &settings.spec,
        late_binding: settings.provisioner.capabilities().late_binding,
        in_flight: &in_flight,
        backend: pool.backend.dependency.get(),
        github: pool.github.dependency.get(),
        jit_permits: budget.remaining.unwrap_or(u32::MAX),
        jit_until,
        host_room: grant.room,
        host_cause: grant.cause,
        registered: state.pool.scale_set_id.is_some(),
        careful: pool.shared.settings.careful && !*pool.backend.swept.borrow(),
        ages_count_from: pool.shared.ages_count_from,
    };
    plan(&snapshot, now)
}

fn tell(pool: &PoolContext, plan: &Plan) {
    pool.shared.tell(pool.name(), |told| {
        told.sizing = plan.sizing;
        told.causes.clone_from(&plan.causes);
        told.max_runners = pool.settings.spec.max_runners;
    });
}
