//! What to do next for one pool: a pure function of everything known of it.
//!
//! The plan is level-triggered: it reads facts, never events. A plan repeated on its own result is
//! empty, so it may run as often as anyone likes. Its actions carry no choice; the executor only acts.

use std::collections::BTreeSet;

use crate::cause::{Cause, Reason};
use crate::instance::{Environment, Instance, Outcome, Registration};
use crate::names::InstanceName;
use crate::phase::Phase;
use crate::pool::{Intent, PoolSpec, PoolState};
use crate::removal::{outcome, removal_steps};
use crate::sizing::Sizing;
use crate::time::{Span, Timestamp};

/// A completed job's environment may take this long to end by itself.
pub const JOB_DONE_GRACE: Span = Span::seconds(15);

/// After GitHub called a runner busy, it is asked again not before this time.
pub const BUSY_RECHECK: Span = Span::minutes(1);

/// A running or idle runner is looked up at GitHub this often.
pub const VERIFY_PERIOD: Span = Span::minutes(10);

/// A runner past half of its `boot_timeout` is looked up this often.
pub const BOOT_VERIFY_PERIOD: Span = Span::seconds(15);

/// The state of something all pools depend on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Dependency {
    /// Answers.
    #[default]
    Up,
    /// Does not answer; asked again at the given time.
    Down {
        /// When it is tried again.
        until: Timestamp,
        /// What is wrong, one line.
        detail: String,
    },
}

impl Dependency {
    fn blocks(&self, now: Timestamp) -> Option<(Timestamp, &str)> {
        match self {
            Self::Down { until, detail } if now < *until => Some((*until, detail)),
            Self::Down { .. } | Self::Up => None,
        }
    }
}

/// Everything a plan depends on.
#[derive(Debug, Clone)]
pub struct Snapshot<'a> {
    /// The pool as the store has it.
    pub state: &'a PoolState,
    /// Its sizing and limits.
    pub spec: &'a PoolSpec,
    /// The backend makes environments first and launches runners later.
    pub late_binding: bool,
    /// Instances an action is being executed for: they are left alone.
    pub in_flight: &'a BTreeSet<InstanceName>,
    /// The backend.
    pub backend: Dependency,
    /// GitHub, as this pool's credential reaches it.
    pub github: Dependency,
    /// JIT configs that may be asked for now, and when more will be.
    pub jit_permits: u32,
    /// When GitHub's budget is asked again, if it has run out.
    pub jit_until: Option<Timestamp>,
    /// Instances the host still grants this pool.
    pub host_room: u32,
    /// Why the host grants no more, if it does not.
    pub host_cause: Option<Cause>,
    /// The scale set is known and registered.
    pub registered: bool,
    /// Nothing may be created until one full careful pass is over (11.4).
    pub careful: bool,
    /// Nothing running ends for age before this time (11.11).
    pub ages_count_from: Timestamp,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Commit this many new names and begin to make them.
    Create {
        /// How many.
        count: u32,
    },
    /// Go on with a name that was committed and not begun.
    Begin {
        /// Its name.
        name: InstanceName,
    },
    /// Ask for a JIT config for an environment that waits, and launch its runner.
    Launch {
        /// Its name.
        name: InstanceName,
    },
    /// Commit that it is to be removed.
    Retire {
        /// Its name.
        name: InstanceName,
        /// Why.
        reason: Reason,
    },
    /// Take the next steps of its removal.
    Remove {
        /// Its name.
        name: InstanceName,
        /// Ask GitHub to remove the runner.
        deregister: bool,
        /// Ask the backend to delete the environment.
        delete: bool,
    },
    /// Close its row.
    Close {
        /// Its name.
        name: InstanceName,
        /// How its life ended.
        outcome: Outcome,
    },
    /// Look its runner up at GitHub.
    Verify {
        /// Its name.
        name: InstanceName,
    },
}

/// What to do, why not more, and when to look again at the latest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order; independent of each other.
    pub actions: Vec<Action>,
    /// Why demand is not served at once.
    pub causes: Vec<Cause>,
    /// The earliest deadline.
    pub wake_at: Option<Timestamp>,
    /// The head count it was made from.
    pub sizing: Sizing,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn retire(&mut self, instance: &Instance, reason: Reason) {
        self.actions.push(Action::Retire { name: instance.name.clone(), reason });
    }

    /// Retires at the deadline, or wakes for it.
    fn retire_at(
        &mut self,
        instance: &Instance,
        deadline: Timestamp,
        reason: Reason,
        now: Timestamp,
    ) -> bool {
        let due = deadline <= now;
        if due {
            self.retire(instance, reason);
        } else {
            self.wake(deadline);
        }
        due
    }
}

/// Decides over one pool.
#[must_use]
pub fn plan(snapshot: &Snapshot<'_>, now: Timestamp) -> Plan {
    let mut plan =
        Plan { sizing: Sizing::of(snapshot.state, snapshot.spec, now), ..Plan::default() };
    for instance in snapshot.state.instances.values() {
        if !snapshot.in_flight.contains(&instance.name) {
            step(&mut plan, snapshot, instance, now);
        }
    }
    match snapshot.state.pool.intent {
        Intent::Active => size(&mut plan, snapshot, now),
        Intent::Draining => drain(&mut plan, snapshot, Cause::Draining),
        Intent::Removed => drain(&mut plan, snapshot, Cause::PoolRemoved),
    }
    plan
}

/// What one instance needs by itself, whatever the demand.
fn step(plan: &mut Plan, snapshot: &Snapshot<'_>, instance: &Instance, now: Timestamp) {
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
        Phase::Stopping => stopping(plan, instance, now),
        Phase::Closed => {}
    }
}

fn may_begin(snapshot: &Snapshot<'_>, now: Timestamp) -> bool {
    snapshot.registered
        && snapshot.backend.blocks(now).is_none()
        && snapshot.github.blocks(now).is_none()
        && snapshot.jit_permits > 0
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
    if lost_jit {
        plan.retire(instance, Reason::Interrupted);
        return;
    }
    let since = instance.phase_since.max(snapshot.ages_count_from);
    let boot = snapshot.spec.boot_timeout;
    if !plan.retire_at(instance, since + boot, Reason::BootTimeout, now) {
        let half = instance.phase_since + boot.half();
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
    let due = instance.verified_at.unwrap_or(since).max(since) + period;
    let retry = instance.retry_at.map_or(due, |retry| retry.max(due));
    if retry <= now && snapshot.github.blocks(now).is_none() {
        plan.actions.push(Action::Verify { name: instance.name.clone() });
    } else {
        plan.wake(retry.max(now + Span::seconds(1)));
    }
}

fn running(plan: &mut Plan, snapshot: &Snapshot<'_>, instance: &Instance, now: Timestamp) {
    if let (Some(limit), Some(started)) = (snapshot.spec.max_job_duration, instance.job_started_at)
    {
        let since = started.max(snapshot.ages_count_from);
        let deadline = if started < snapshot.ages_count_from { since } else { started + limit };
        if plan.retire_at(instance, deadline.max(started + limit), Reason::MaxJobDuration, now) {
            return;
        }
    }
    if let Some(completed) = instance.job_completed_at {
        let asked = instance.verified_at.map_or(completed + JOB_DONE_GRACE, |asked| {
            (asked + BUSY_RECHECK).max(completed + JOB_DONE_GRACE)
        });
        // A look-up before the completion is no answer to it.
        let due = if instance.verified_at.is_some_and(|asked| asked < completed) {
            completed + JOB_DONE_GRACE
        } else {
            asked
        };
        plan.retire_at(instance, due, Reason::JobDone, now);
        return;
    }
    verify(plan, snapshot, instance, VERIFY_PERIOD, instance.phase_since, now);
}

fn stopping(plan: &mut Plan, instance: &Instance, now: Timestamp) {
    let steps = removal_steps(instance);
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

/// Brings the number of instances to what demand wants.
fn size(plan: &mut Plan, snapshot: &Snapshot<'_>, now: Timestamp) {
    if !snapshot.state.pool.demand.known {
        plan.causes.push(Cause::DemandUnknown);
        return;
    }
    let sizing = plan.sizing;
    if sizing.surplus() > 0 {
        withdraw(plan, snapshot, sizing.surplus(), now);
    }
    let launched = launch_warm(plan, snapshot, now);
    let unserved = sizing.wanted.saturating_sub(sizing.serving);
    let starting = starting_count(snapshot.state);
    if starting > 0 && sizing.open_jobs > 0 {
        plan.causes.push(Cause::Starting { count: starting });
    }
    if sizing.open_jobs.saturating_add(snapshot.spec.min_idle) > sizing.wanted {
        plan.causes.push(Cause::PoolLimit { limit: snapshot.spec.max_runners });
    }
    if unserved == 0 {
        return;
    }
    let room = room(plan, snapshot, now);
    let count =
        sizing.missing(snapshot.spec).min(room).min(snapshot.jit_permits.saturating_sub(launched));
    if sizing.missing(snapshot.spec) == 0 && sizing.occupying >= snapshot.spec.max_runners {
        plan.causes.push(Cause::PoolLimit { limit: snapshot.spec.max_runners });
    }
    if count > 0 {
        plan.actions.push(Action::Create { count });
    }
}

/// Environments that wait unregistered are launched when jobs are open.
fn launch_warm(plan: &mut Plan, snapshot: &Snapshot<'_>, now: Timestamp) -> u32 {
    if !may_begin(snapshot, now) {
        return 0;
    }
    let retired: BTreeSet<InstanceName> = plan
        .actions
        .iter()
        .filter_map(|action| {
            if let Action::Retire { name, .. } = action { Some(name.clone()) } else { None }
        })
        .collect();
    let mut launched = 0;
    for instance in snapshot.state.instances.values() {
        let waits = instance.phase == Phase::Warm
            && !snapshot.in_flight.contains(&instance.name)
            && !retired.contains(&instance.name);
        if waits && launched < snapshot.jit_permits {
            plan.actions.push(Action::Launch { name: instance.name.clone() });
            launched += 1;
        }
    }
    launched
}

fn starting_count(state: &PoolState) -> u32 {
    let begun =
        |phase| matches!(phase, Phase::Pending | Phase::Creating | Phase::Warm | Phase::Starting);
    crate::demand::count(state.instances.values().filter(|instance| begun(instance.phase)).count())
}

/// How many instances may be created, and why not more.
fn room(plan: &mut Plan, snapshot: &Snapshot<'_>, now: Timestamp) -> u32 {
    let mut room = snapshot.host_room;
    if let Some(cause) =
        snapshot.host_cause.clone().filter(|_| room < plan.sizing.missing(snapshot.spec))
    {
        plan.causes.push(cause);
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
    if let Some((until, detail)) = snapshot.backend.blocks(now) {
        close(plan, Cause::BackendUnavailable { detail: detail.to_owned() });
        plan.wake(until);
    }
    if let Some((until, detail)) = snapshot.github.blocks(now) {
        close(plan, Cause::GithubUnavailable { detail: detail.to_owned() });
        plan.wake(until);
    }
    if let Some(until) =
        snapshot.jit_until.filter(|until| now < *until && snapshot.jit_permits == 0)
    {
        close(plan, Cause::JitBudget { until });
        plan.wake(until);
    }
    if !snapshot.registered {
        room = 0;
    }
    if let Some(allowance) = snapshot.state.pool.circuit.allows(now) {
        let unproven = starting_count(snapshot.state);
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
fn withdraw(plan: &mut Plan, snapshot: &Snapshot<'_>, mut surplus: u32, now: Timestamp) {
    let stated_at = snapshot.state.pool.demand.stated_at;
    let already: BTreeSet<InstanceName> = plan
        .actions
        .iter()
        .filter_map(|action| {
            if let Action::Retire { name, .. } = action { Some(name.clone()) } else { None }
        })
        .collect();
    surplus = surplus.saturating_sub(crate::demand::count(
        already
            .iter()
            .filter(|name| {
                snapshot.state.instances.get(*name).is_some_and(|instance| instance.serves())
            })
            .count(),
    ));
    let free = |instance: &Instance| {
        !snapshot.in_flight.contains(&instance.name)
            && !already.contains(&instance.name)
            && instance.serves()
    };
    for phase in [Phase::Pending, Phase::Warm, Phase::Creating] {
        for instance in snapshot.state.instances.values() {
            if surplus > 0
                && instance.phase == phase
                && free(instance)
                && instance.created_at < stated_at
            {
                plan.actions.retain(
                    |action| !matches!(action, Action::Begin { name } if *name == instance.name),
                );
                plan.retire(instance, Reason::Withdrawn);
                surplus -= 1;
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
    for instance in idle.into_iter().take(usize::try_from(surplus).unwrap_or(usize::MAX)) {
        let since = instance.phase_since.max(snapshot.ages_count_from);
        plan.retire_at(instance, since + snapshot.spec.idle_timeout, Reason::Surplus, now);
    }
}

/// Takes no more jobs: everything that has none goes, through the gate.
fn drain(plan: &mut Plan, snapshot: &Snapshot<'_>, cause: Cause) {
    plan.causes.push(cause);
    plan.actions.retain(|action| !matches!(action, Action::Begin { .. } | Action::Verify { .. }));
    let retired: BTreeSet<InstanceName> = plan
        .actions
        .iter()
        .filter_map(|action| {
            if let Action::Retire { name, .. } = action { Some(name.clone()) } else { None }
        })
        .collect();
    for instance in snapshot.state.instances.values() {
        let goes =
            matches!(instance.phase, Phase::Pending | Phase::Creating | Phase::Warm | Phase::Idle);
        if goes && !snapshot.in_flight.contains(&instance.name) && !retired.contains(&instance.name)
        {
            plan.retire(instance, Reason::Drained);
        }
    }
}
