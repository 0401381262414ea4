//! How many instances there should be: create, withdraw, drain, and say why not more.

use std::collections::BTreeSet;

use crate::cause::{Cause, Reason};
use crate::instance::Instance;
use crate::names::InstanceName;
use crate::phase::Phase;
use crate::pool::PoolState;
use crate::sizing::Sizing;
use crate::time::{Span, Timestamp};

use super::{Action, Plan, Snapshot, may_begin};

/// A disk that was full is looked at again after this time.
const DISK_RECHECK: Span = Span::seconds(10);

/// A release of the runner that is on its way may be there after this time.
const RUNNER_RECHECK: Span = Span::seconds(2);

/// What only waits for a job is made after those that a job waits for were launched: making it would take their
/// processor. A launch that takes longer than this is not waited for.
const LAUNCH_FIRST: Span = Span::seconds(1);

/// Brings the number of instances to what demand wants.
pub(super) fn reach(plan: &mut Plan, snapshot: &Snapshot<'_>, now: Timestamp) {
    let known = snapshot.state.pool.demand.known;
    #[cfg(feature = "faults")]
    let known = known || fleetfoot_faults::Defect::CreateOnUnknownDemand.is_planted();
    if !known {
        plan.causes.push(Cause::DemandUnknown);
        return;
    }
    let sizing = plan.sizing;
    withdraw(plan, snapshot, now);
    let launched = launch_warm(plan, snapshot, now);
    let starting = starting_count(snapshot.state, &sizing);
    if starting > 0 && sizing.open_jobs > 0 {
        plan.causes.push(Cause::Starting { count: starting });
    }
    // GitHub keeps what is beyond the advertised capacity to itself: a demand as high as the limit is as
    // much as is ever seen of a longer queue.
    let level = sizing.open_jobs.saturating_add(snapshot.spec.min_idle);
    if level > sizing.wanted || (sizing.open_jobs > 0 && level >= snapshot.spec.max_runners) {
        plan.causes.push(Cause::PoolLimit { limit: snapshot.spec.max_runners });
    }
    let missing = sizing.missing(snapshot.spec);
    let unserved = sizing.needed() > sizing.unbound;
    if !unserved && missing == 0 {
        return;
    }
    let room = room(plan, snapshot, now);
    let for_jobs = sizing.missing_for_jobs(snapshot.spec);
    let permitted = for_jobs.min(snapshot.jit_permits.saturating_sub(launched));
    // What only waits needs no permit.
    let waiting = missing.saturating_sub(for_jobs);
    let held = waiting > 0 && (launched > 0 || is_launching(plan, snapshot, now));
    let count = permitted.saturating_add(if held { 0 } else { waiting }).min(room);
    if unserved && missing == 0 && sizing.occupying >= snapshot.spec.max_runners {
        plan.causes.push(Cause::PoolLimit { limit: snapshot.spec.max_runners });
    }
    if count > 0 {
        plan.actions.push(Action::Create { count });
    }
}

/// Of the environments that wait unregistered, as many are launched as runners are wanted: those that wait longest.
fn launch_warm(plan: &mut Plan, snapshot: &Snapshot<'_>, now: Timestamp) -> u32 {
    if !may_begin(snapshot, now) {
        return 0;
    }
    let retired = retired(plan);
    let mut waiting = waiting(snapshot.state, snapshot.in_flight);
    waiting.retain(|instance| !retired.contains(&instance.name));
    let most = plan.sizing.needed().min(snapshot.jit_permits);
    waiting.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    let launched = crate::demand::count(waiting.len());
    plan.actions
        .extend(waiting.into_iter().map(|instance| Action::Launch { name: instance.name.clone() }));
    launched
}

/// The environments that wait unregistered, in the order in which they are launched.
fn waiting<'a>(state: &'a PoolState, in_flight: &BTreeSet<InstanceName>) -> Vec<&'a Instance> {
    let waits =
        |instance: &&Instance| instance.phase == Phase::Warm && !in_flight.contains(&instance.name);
    let mut waiting: Vec<&Instance> =
        state.instances.values().map(AsRef::as_ref).filter(waits).collect();
    waiting.sort_by_key(|instance| instance.phase_since);
    waiting
}

/// The environments that most likely take the next `jobs` jobs, as far as some wait: whoever knows of such jobs may
/// make them ready before a plan says so.
#[must_use]
pub fn next_launched(
    state: &PoolState,
    in_flight: &BTreeSet<InstanceName>,
    jobs: usize,
) -> Vec<InstanceName> {
    waiting(state, in_flight).into_iter().take(jobs).map(|it| it.name.clone()).collect()
}

/// An environment that waited is being launched right now.
fn is_launching(plan: &mut Plan, snapshot: &Snapshot<'_>, now: Timestamp) -> bool {
    let rows = snapshot.in_flight.iter().filter_map(|name| snapshot.state.instances.get(name));
    let until =
        rows.filter(|row| row.phase == Phase::Starting).map(|row| row.phase_since + LAUNCH_FIRST);
    let until = until.filter(|until| now < *until).max();
    if let Some(until) = until {
        plan.wake(until);
    }
    until.is_some()
}

/// What the plan retires already.
fn retired(plan: &Plan) -> BTreeSet<InstanceName> {
    let of = |action: &Action| {
        if let Action::Retire { name, .. } = action { Some(name.clone()) } else { None }
    };
    plan.actions.iter().filter_map(of).collect()
}

/// Instances between their name's commit and their first success; what is made and waits for no job yet has had its
/// own.
fn starting_count(state: &PoolState, sizing: &Sizing) -> u32 {
    let begun = |phase| matches!(phase, Phase::Pending | Phase::Creating | Phase::Starting);
    let begun = state.instances.values().filter(|instance| begun(instance.phase)).count();
    crate::demand::count(begun).saturating_add(sizing.warm.min(sizing.needed()))
}

/// Why nothing may be made while another backend answers than the one that holds the pool's instances.
fn elsewhere(snapshot: &Snapshot<'_>) -> Option<String> {
    let held = snapshot.state.instances.values().filter(|instance| snapshot.is_elsewhere(instance));
    let own = held.filter_map(|instance| instance.backend_identity.as_deref()).next()?;
    let answers = snapshot.backend_identity?;
    Some(if own == Instance::HOLDER_UNCERTAIN {
        format!(
            "another backend may hold one of our instances than the one that answers ({answers})"
        )
    } else {
        format!(
            "another backend answers than the one that holds our instances ({answers} instead of {own})"
        )
    })
}

/// A start is being tried right now.
fn is_trying(snapshot: &Snapshot<'_>) -> bool {
    snapshot.in_flight.iter().filter_map(|name| snapshot.state.instances.get(name)).any(
        |instance| matches!(instance.phase, Phase::Pending | Phase::Creating | Phase::Starting),
    )
}

/// How many instances may be created, and why not more.
fn room(plan: &mut Plan, snapshot: &Snapshot<'_>, now: Timestamp) -> u32 {
    let mut room = snapshot.host_room;
    if let Some(cause) =
        snapshot.host_cause.clone().filter(|_| room < plan.sizing.missing(snapshot.spec))
    {
        plan.causes.push(cause);
    }
    match snapshot.host_cause {
        Some(Cause::DiskFull) => plan.wake(now + DISK_RECHECK),
        Some(Cause::RunnerMissing { .. }) => plan.wake(now + RUNNER_RECHECK),
        Some(_) | None => {}
    }
    let mut close = |plan: &mut Plan, cause: Cause| {
        plan.causes.push(cause);
        room = 0;
    };
    if snapshot.careful {
        close(plan, Cause::CarefulPass);
    }
    if plan.sizing.remains >= snapshot.spec.remains_max {
        close(plan, Cause::RemainsFull { remains: plan.sizing.remains });
    }
    if let Some((_, detail)) = snapshot.backend.blocks(now) {
        close(plan, Cause::BackendUnavailable { detail: detail.to_owned() });
    } else if let Some(detail) = elsewhere(snapshot) {
        close(plan, Cause::BackendUnavailable { detail });
    }
    if let Some((_, detail)) = snapshot.github.blocks(now) {
        close(plan, Cause::GithubUnavailable { detail: detail.to_owned() });
    }
    if let Some(until) = snapshot.jit_until.filter(|_| snapshot.jit_permits == 0) {
        // Without permits there is a cause and a time to look again, even if that is now.
        plan.wake(until.max(now + Span(1)));
        close(plan, Cause::JitBudget { until });
    }
    if snapshot.backend.is_half_open(now) || snapshot.github.is_half_open(now) {
        room = room.min(u32::from(!is_trying(snapshot)));
    }
    if !snapshot.registered {
        room = 0;
    }
    if let Some(allowance) = snapshot.state.pool.circuit.allows(now) {
        let unproven = starting_count(snapshot.state, &plan.sizing);
        let allowed = allowance.saturating_sub(unproven);
        if allowed < room.min(plan.sizing.missing(snapshot.spec)) {
            let circuit = &snapshot.state.pool.circuit;
            let until = circuit.open_until.unwrap_or(now);
            let last = circuit.last_failure.clone();
            plan.causes.push(Cause::CircuitOpen { until, failures: circuit.failures, last });
            if now < until {
                plan.wake(until);
            }
        }
        room = room.min(allowed);
    }
    room
}

/// Takes back what demand no longer wants, in the order of what it costs.
fn withdraw(plan: &mut Plan, snapshot: &Snapshot<'_>, now: Timestamp) {
    let already = retired(plan);
    let gone = |unbound: bool| {
        let goes = |instance: &&Instance| instance.serves() && is_unbound(instance) == unbound;
        let going = already.iter().filter_map(|name| snapshot.state.instances.get(name));
        crate::demand::count(going.map(AsRef::as_ref).filter(goes).count())
    };
    let mut surplus = plan.sizing.surplus_unbound().saturating_sub(gone(true));
    let surplus_idle = plan.sizing.surplus_bound().saturating_sub(gone(false));
    let mut wanted = snapshot.host_wants;
    let mut spare = plan.sizing.spare().saturating_sub(gone(true));
    let free = |instance: &Instance| {
        !snapshot.in_flight.contains(&instance.name)
            && !already.contains(&instance.name)
            && instance.serves()
    };
    for phase in [Phase::Pending, Phase::Warm, Phase::Creating] {
        let of_phase = snapshot.state.instances.values().filter(|it| it.phase == phase);
        for instance in of_phase.filter(|instance| free(instance)) {
            // What is made and waits for no job is given up first where another pool's job waits for its room.
            let released = phase == Phase::Warm && wanted > 0 && spare > 0;
            if released || (surplus > 0 && is_surplus(plan, snapshot, instance, now)) {
                plan.actions.retain(
                    |action| !matches!(action, Action::Begin { name } if *name == instance.name),
                );
                plan.retire(instance, Reason::Withdrawn);
                surplus = surplus.saturating_sub(1);
                spare = spare.saturating_sub(1);
                wanted = wanted.saturating_sub(u32::from(phase == Phase::Warm));
            }
        }
    }
    let mut idle: Vec<&Instance> = snapshot
        .state
        .instances
        .values()
        .map(AsRef::as_ref)
        .filter(|instance| instance.phase == Phase::Idle && free(instance))
        .collect();
    idle.sort_by_key(|instance| instance.phase_since);
    for instance in idle.into_iter().take(usize::try_from(surplus_idle).unwrap_or(usize::MAX)) {
        // Not held back after a start as running ones are: it passes the gate, and a new session's
        // statistics say that it is not wanted.
        let since = instance.phase_since;
        let patience = if wanted > 0 { Span::ZERO } else { snapshot.spec.idle_timeout };
        wanted = wanted.saturating_sub(1);
        if plan.retire_at(instance, since + patience, Reason::Surplus, now) {
            // What goes needs no look.
            plan.actions.retain(
                |action| !matches!(action, Action::Verify { name } if *name == instance.name),
            );
        }
    }
}

fn is_unbound(instance: &Instance) -> bool {
    matches!(instance.phase, Phase::Pending | Phase::Creating | Phase::Warm)
}

/// GitHub said since it was made that nobody wants it; or there are too many, or it waited in vain as long as an idle
/// runner may.
fn is_surplus(
    plan: &mut Plan,
    snapshot: &Snapshot<'_>,
    instance: &Instance,
    now: Timestamp,
) -> bool {
    if instance.created_at < snapshot.state.pool.demand.stated_at
        || plan.sizing.occupying > snapshot.spec.max_runners
    {
        return true;
    }
    let until = instance.phase_since + snapshot.spec.idle_timeout;
    let waits = instance.phase == Phase::Warm && now < until;
    if waits {
        plan.wake(until);
    }
    instance.phase == Phase::Warm && !waits
}

/// Takes no more jobs: everything that has none goes, through the gate.
pub(super) fn drain(plan: &mut Plan, snapshot: &Snapshot<'_>, cause: Cause) {
    plan.causes.push(cause);
    plan.actions.retain(|action| match action {
        Action::Begin { .. } => false,
        // What goes anyway needs no look; the rest has no other source of news than this.
        Action::Verify { name } => {
            snapshot.state.instances.get(name).is_some_and(|instance| instance.phase != Phase::Idle)
        }
        Action::Create { .. }
        | Action::Launch { .. }
        | Action::Retire { .. }
        | Action::Remove { .. }
        | Action::Close { .. } => true,
    });
    let retired = retired(plan);
    for instance in snapshot.state.instances.values() {
        let goes =
            matches!(instance.phase, Phase::Pending | Phase::Creating | Phase::Warm | Phase::Idle);
        if goes && !snapshot.in_flight.contains(&instance.name) && !retired.contains(&instance.name)
        {
            plan.retire(instance, Reason::Drained);
        }
    }
}
