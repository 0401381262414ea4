//! What each instance needs by itself: deadlines, look-ups, the steps of its removal.

use crate::cause::Reason;
use crate::instance::{Environment, Instance, Registration};
use crate::phase::Phase;
use crate::pool::Intent;
use crate::removal::{UNDECIDED_HOLD, is_undecided, outcome, removal_steps};
use crate::time::{Span, Timestamp};

use super::{
    Action, BOOT_UNSEEN_MAX, BOOT_VERIFY_PERIOD, JOB_DONE_GRACE, JOB_DONE_GRACE_UNWATCHED, Plan,
    Snapshot, VERIFY_PERIOD, may_begin,
};

/// What one instance needs by itself, whatever the demand.
pub(super) fn step(plan: &mut Plan, snapshot: &Snapshot<'_>, instance: &Instance, now: Timestamp) {
    let spec = snapshot.spec;
    match instance.phase {
        Phase::Pending => {
            let deadline = instance.phase_since + spec.start_timeout;
            if !plan.retire_at(instance, deadline, Reason::StartTimeout, now)
                && may_begin(snapshot, now)
            {
                plan.actions.push(Action::Begin { name: instance.name.clone() });
            }
        }
        // Its create call was cut off: the sweep tells whether it landed.
        Phase::Creating => {
            plan.retire_at(
                instance,
                instance.phase_since + spec.create_timeout,
                Reason::CreateTimeout,
                now,
            );
        }
        Phase::Warm if is_outdated(instance, &spec.recipe) => {
            plan.retire(instance, Reason::Outdated);
        }
        Phase::Warm => {
            plan.retire_at(
                instance,
                instance.phase_since + spec.warm_ttl,
                Reason::WarmExpired,
                now,
            );
        }
        Phase::Starting => starting(plan, snapshot, instance, now),
        Phase::Idle => verify(plan, snapshot, instance, VERIFY_PERIOD, instance.phase_since, now),
        Phase::Running => running(plan, snapshot, instance, now),
        Phase::Stopping => stopping(plan, snapshot, instance, now),
        Phase::Closed => {}
    }
}

/// It was made from something else than the pool's environments are made from now.
fn is_outdated(instance: &Instance, recipe: &str) -> bool {
    !recipe.is_empty() && instance.recipe.as_deref().is_some_and(|own| own != recipe)
}

fn starting(plan: &mut Plan, snapshot: &Snapshot<'_>, instance: &Instance, now: Timestamp) {
    let lost_jit = match (instance.registration, instance.environment) {
        // Nobody holds the answer any more.
        (Registration::None | Registration::Requested, _)
        | (_, Environment::None | Environment::Present) => true,
        (
            Registration::Registered(_) | Registration::Gone,
            Environment::Requested | Environment::Launched | Environment::Ended | Environment::Gone,
        ) => false,
    };
    // Of a single step nobody holds the answer either, and no list tells what became of it: the gate (7.1).
    let unknown = !snapshot.listed && instance.environment == Environment::Requested;
    if lost_jit || unknown {
        plan.retire(instance, Reason::Interrupted);
        return;
    }
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::NoWayOut.is_planted() {
        return;
    }
    let since = instance.phase_since.max(snapshot.ages_count_from);
    let boot = snapshot.spec.boot_timeout;
    // Without a session no message comes either: GitHub is asked early.
    let listening = snapshot.state.pool.intent == Intent::Active;
    let half = instance.phase_since
        + if listening { boot.half() } else { BOOT_VERIFY_PERIOD.min(boot.half()) };
    // It may be online all the while, if nobody could ask: that is GitHub's failure (11.6, seed 1583).
    let unseen = matches!(instance.registration, Registration::Registered(_))
        && instance.verified_at.is_none_or(|at| at < half);
    let deadline = since + boot + if unseen { BOOT_UNSEEN_MAX } else { Span::ZERO };
    if !plan.retire_at(instance, deadline, Reason::BootTimeout, now) {
        if now < half {
            plan.wake(half);
        } else {
            verify(plan, snapshot, instance, BOOT_VERIFY_PERIOD, half - BOOT_VERIFY_PERIOD, now);
        }
    }
}

fn verify(
    plan: &mut Plan,
    snapshot: &Snapshot<'_>,
    instance: &Instance,
    period: Span,
    since: Timestamp,
    now: Timestamp,
) {
    if snapshot.state.pool.scale_set_id.is_some()
        && instance.phase == Phase::Idle
        && instance.scale_set_id != snapshot.state.pool.scale_set_id
    {
        plan.retire(instance, Reason::ScaleSetGone);
        return;
    }
    if !matches!(instance.registration, Registration::Registered(_))
        && instance.phase != Phase::Running
    {
        // There is no number to ask for: what its backend sees decides. What runs is asked for by its name.
        return;
    }
    let due = instance.verified_at.unwrap_or(since).max(since) + period;
    let retry = instance.retry_at.map_or(due, |retry| retry.max(due));
    if retry <= now && snapshot.github.blocks(now).is_none() {
        plan.actions.push(Action::Verify { name: instance.name.clone() });
    } else {
        plan.wake(retry.max(now + Span::seconds(1)));
    }
}

fn running(plan: &mut Plan, snapshot: &Snapshot<'_>, instance: &Instance, now: Timestamp) {
    if let Some(limit) = snapshot.spec.max_job_duration {
        let started = instance.job_started_at.unwrap_or(instance.phase_since);
        let deadline = (started + limit).max(if started < snapshot.ages_count_from {
            snapshot.ages_count_from
        } else {
            started
        });
        if plan.retire_at(instance, deadline, Reason::MaxJobDuration, now) {
            return;
        }
    }
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::KillOnMessage.is_planted() && instance.job_completed_at.is_some() {
        return plan.retire(instance, Reason::OperatorForce);
    }
    if let Some(completed) = instance.job_completed_at {
        let grace = if snapshot.watched { JOB_DONE_GRACE } else { JOB_DONE_GRACE_UNWATCHED };
        plan.retire_at(instance, completed + grace, Reason::JobDone, now);
        return;
    }
    // Neither a message nor its backend would tell of its end.
    let is_unheard = !snapshot.watched && snapshot.state.pool.intent != Intent::Active;
    let period = if is_unheard { BOOT_VERIFY_PERIOD } else { VERIFY_PERIOD };
    verify(plan, snapshot, instance, period, instance.phase_since, now);
}

fn stopping(plan: &mut Plan, snapshot: &Snapshot<'_>, instance: &Instance, now: Timestamp) {
    let mut steps = removal_steps(instance);
    if snapshot.is_elsewhere(instance) && !instance.forced {
        steps.delete = false;
    }
    if is_undecided(instance, &snapshot.state.pool.demand, now) {
        plan.wake(instance.phase_since + UNDECIDED_HOLD);
    }
    if steps.close {
        plan.actions
            .push(Action::Close { name: instance.name.clone(), outcome: outcome(instance) });
        return;
    }
    if !steps.deregister && !steps.delete {
        // Only the sweep can rule out a late landing.
        return;
    }
    match instance.retry_at {
        Some(retry) if now < retry => plan.wake(retry),
        Some(_) | None => plan.actions.push(Action::Remove {
            name: instance.name.clone(),
            deregister: steps.deregister,
            delete: steps.delete,
        }),
    }
}
