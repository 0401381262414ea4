//! Carries a plan out: what it commits goes into one transaction, what it calls goes into tasks.
//!
//! The reconciler waits for the commit only, never for a call: a slow backend delays nobody's plan.

use std::sync::Arc;
use std::time::Duration;

use fleetfoot_core::{
    Action, Instance, InstanceName, Observation, Outcome, Reason, ScaleSetId, naming, removal,
};
use fleetfoot_store::Txn;

use crate::pool::{Flight, PoolContext};
use crate::record::{Recorded, observe};
use crate::{removal as removing, start, verify};

/// How many new names one commit takes at most: a bound on the size of a transaction.
const CREATE_MAX: u32 = 500;

/// Before a store that refused is asked again.
const READ_PAUSE: Duration = Duration::from_millis(500);

/// What follows a commit.
enum FollowUp {
    /// Make the environment (and, single step, register before).
    Make(InstanceName),
    /// Register and launch.
    Launch(InstanceName),
    Retired(InstanceName, Reason),
    Closed(Box<Instance>),
}

/// Executes the actions: commits first, then spawns the calls. Whether the store took the plan.
pub(crate) async fn execute(pool: &Arc<PoolContext>, actions: Vec<Action>) -> bool {
    let mut commits = Vec::new();
    for action in actions {
        match action {
            Action::Remove { name, deregister, delete } => {
                if let Some(flight) = pool.take_off(&name) {
                    pool.tasks
                        .spawn("remove instance", removing::remove(flight, deregister, delete));
                }
            }
            Action::Verify { name } => {
                if let Some(flight) = pool.take_off(&name) {
                    pool.tasks.spawn("verify runner", verify::verify(flight));
                }
            }
            Action::Create { .. }
            | Action::Begin { .. }
            | Action::Launch { .. }
            | Action::Retire { .. }
            | Action::Close { .. } => commits.push(action),
        }
    }
    commits.is_empty() || commit(pool, commits).await
}

async fn commit(pool: &Arc<PoolContext>, actions: Vec<Action>) -> bool {
    // Names in flight before their row exists: no other pass may begin them.
    let mut flights: Vec<Flight> = Vec::new();
    let mut names = Vec::new();
    let mut last_name = None;
    for action in &actions {
        match action {
            Action::Create { count } => {
                for name in new_names(pool, (*count).min(CREATE_MAX), &mut last_name) {
                    if let Some(flight) = pool.take_off(&name) {
                        names.push(name);
                        flights.push(flight);
                    }
                }
            }
            Action::Begin { name } | Action::Launch { name } => flights.extend(pool.take_off(name)),
            Action::Retire { .. }
            | Action::Close { .. }
            | Action::Remove { .. }
            | Action::Verify { .. } => {}
        }
    }
    let settings = pool.settings();
    let writer = Writer {
        pool: pool.name().clone(),
        late_binding: settings.provisioner.capabilities().late_binding,
        max_runners: settings.spec.max_runners,
        recipe: settings.spec.recipe.clone(),
        boot_id: pool.shared.settings.boot_id.clone(),
        backend_identity: pool.backend.identity().map(|identity| identity.to_string()),
        last_name,
        now: pool.now(),
    };
    #[cfg(feature = "faults")]
    points_before(&actions);
    let committed = pool.shared.store.update(move |txn| writer.write(txn, actions, names)).await;
    let follow_ups = match committed {
        Ok(follow_ups) => follow_ups,
        Err(error) => {
            tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused a plan");
            // The flights fall and wake the reconciler: not at once again.
            read_anew(pool).await;
            return false;
        }
    };
    #[cfg(feature = "faults")]
    points_after(&follow_ups);
    for follow_up in follow_ups {
        match follow_up {
            FollowUp::Make(name) => {
                if let Some(flight) = take(&mut flights, &name) {
                    pool.tasks.spawn("start instance", start::make(flight));
                    others_first().await;
                }
            }
            FollowUp::Launch(name) => {
                if let Some(flight) = take(&mut flights, &name) {
                    pool.tasks.spawn("launch instance", start::launch(flight));
                    others_first().await;
                }
            }
            FollowUp::Retired(instance, reason) => {
                tracing::info!(pool = %pool.name(), %instance, reason = reason.as_str(), "instance stopping");
            }
            FollowUp::Closed(instance) => log_closed(&instance),
        }
    }
    true
}

/// What was begun before goes on first. A hundred starts that begin in one breath take each step together, and the first
/// of them is hardly sooner at its backend than the last one.
async fn others_first() {
    tokio::task::yield_now().await;
}

/// What became of a commit without an answer is read before anything is planned: on the rows from before it, as many
/// instances more would be wanted each time (seed 32643).
async fn read_anew(pool: &PoolContext) {
    loop {
        tokio::time::sleep(READ_PAUSE).await;
        let read = pool.shared.store.update(|_| ()).await;
        if read.is_ok() || pool.stopping() || !pool.has_lease() {
            return;
        }
    }
}

/// Before the commit of what a plan wants.
#[cfg(feature = "faults")]
fn points_before(actions: &[Action]) {
    for action in actions {
        match action {
            Action::Create { .. } | Action::Begin { .. } => {
                fleetfoot_faults::point("controller.commit.create.before");
            }
            Action::Launch { .. } => fleetfoot_faults::point("controller.commit.launch.before"),
            Action::Retire { .. } => fleetfoot_faults::point("controller.commit.retire.before"),
            Action::Close { .. } => fleetfoot_faults::point("controller.commit.close.before"),
            Action::Remove { .. } | Action::Verify { .. } => {}
        }
    }
}

/// After it, before any call.
#[cfg(feature = "faults")]
fn points_after(follow_ups: &[FollowUp]) {
    for follow_up in follow_ups {
        match follow_up {
            FollowUp::Make(_) => fleetfoot_faults::point("controller.commit.create.after"),
            FollowUp::Launch(_) => fleetfoot_faults::point("controller.commit.launch.after"),
            FollowUp::Retired(..) => fleetfoot_faults::point("controller.commit.retire.after"),
            FollowUp::Closed(_) => fleetfoot_faults::point("controller.commit.close.after"),
        }
    }
}

/// So many names that were never used. Only this pool's one reconciler asks, one commit after the other.
fn new_names(pool: &PoolContext, count: u32, last: &mut Option<i64>) -> Vec<InstanceName> {
    let (store, now) = (&pool.shared.store, pool.now());
    let naming = pool.settings().naming;
    let mut number =
        last.or_else(|| Some(store.pool(pool.name())?.pool.last_name)).unwrap_or_default();
    let mut names = Vec::new();
    for _ in 0..count {
        number = naming::next_number(number, store.name_floor(), now);
        names.push(naming::named(naming, store.installation(), pool.name(), number));
    }
    *last = Some(number);
    names
}

fn take(flights: &mut Vec<Flight>, name: &InstanceName) -> Option<Flight> {
    let at = flights.iter().position(|flight| flight.name == *name)?;
    Some(flights.swap_remove(at))
}

/// The body of the transaction: every decision is checked against the row as it is now.
struct Writer {
    pool: fleetfoot_core::PoolName,
    late_binding: bool,
    max_runners: u32,
    recipe: String,
    boot_id: Option<String>,
    /// A backend that never answered has no identity; then the first sweep notes it.
    backend_identity: Option<String>,
    /// The number of the last of the new names.
    last_name: Option<i64>,
    now: fleetfoot_core::Timestamp,
}

impl Writer {
    fn write(
        &self,
        txn: &mut Txn<'_>,
        actions: Vec<Action>,
        names: Vec<InstanceName>,
    ) -> Vec<FollowUp> {
        let mut follow_ups = Vec::new();
        let mut names = names.into_iter();
        if let (Some(last), Some(row)) = (self.last_name, txn.pool_mut(&self.pool)) {
            row.last_name = row.last_name.max(last);
        }
        for action in actions {
            match action {
                Action::Create { count } => {
                    let free = self.max_runners.saturating_sub(
                        txn.pool(&self.pool).map_or(u32::MAX, |state| state.occupying()),
                    );
                    for name in
                        names.by_ref().take(usize::try_from(count.min(free)).unwrap_or(usize::MAX))
                    {
                        let mut instance =
                            Instance::pending(name.clone(), self.pool.clone(), self.now);
                        instance.boot_id.clone_from(&self.boot_id);
                        instance.recipe = Some(self.recipe.clone()).filter(|it| !it.is_empty());
                        instance.backend_identity.clone_from(&self.backend_identity);
                        if txn.insert_instance(instance).is_ok() {
                            follow_ups.extend(self.begin(txn, name));
                        }
                    }
                }
                Action::Begin { name } => follow_ups.extend(self.begin(txn, name)),
                Action::Launch { name } => {
                    if self.start_begun(txn, &name) {
                        follow_ups.push(FollowUp::Launch(name));
                    }
                }
                Action::Retire { name, reason } => {
                    if let Recorded::Taken(_) =
                        observe(txn, &self.pool, &name, &Observation::Removal { reason }, self.now)
                    {
                        follow_ups.push(FollowUp::Retired(name, reason));
                    }
                }
                Action::Close { name, outcome } => {
                    follow_ups.extend(self.close(txn, &name, outcome))
                }
                Action::Remove { .. } | Action::Verify { .. } => {}
            }
        }
        follow_ups
    }

    fn begin(&self, txn: &mut Txn<'_>, name: InstanceName) -> Option<FollowUp> {
        let begun = if self.late_binding {
            matches!(
                observe(txn, &self.pool, &name, &Observation::CreateBegun, self.now),
                Recorded::Taken(_)
            )
        } else {
            self.start_begun(txn, &name)
        };
        begun.then_some(FollowUp::Make(name))
    }

    fn start_begun(&self, txn: &mut Txn<'_>, name: &InstanceName) -> bool {
        let Some(scale_set) = txn.pool(&self.pool).and_then(|state| state.pool.scale_set_id) else {
            return false;
        };
        let begun = Observation::StartBegun { scale_set: ScaleSetId(scale_set.0) };
        matches!(observe(txn, &self.pool, name, &begun, self.now), Recorded::Taken(_))
    }

    fn close(&self, txn: &mut Txn<'_>, name: &InstanceName, outcome: Outcome) -> Option<FollowUp> {
        let instance = txn.instance(name)?;
        if !removal::removal_steps(instance).close {
            return None;
        }
        let closed =
            observe(txn, &self.pool, name, &Observation::Closed { outcome }, self.now).taken()?;
        Some(FollowUp::Closed(Box::new(closed)))
    }
}

fn log_closed(instance: &Instance) {
    let (pool, name) = (&instance.pool, &instance.name);
    match &instance.outcome {
        Some(Outcome::Completed { result }) => {
            let result = result.as_deref().unwrap_or("unknown");
            // Somebody had sent it away before, and it was told of then.
            let retired = instance.reason.is_some().then_some(true);
            tracing::info!(%pool, instance = %name, result, retired, "instance closed");
        }
        Some(Outcome::Failed { kind, detail }) => {
            tracing::warn!(%pool, instance = %name, kind = kind.as_str(), detail, "instance closed after a failed start");
        }
        Some(Outcome::Lost { detail }) => {
            tracing::error!(%pool, instance = %name, job = instance.job.as_ref().map(tracing::field::display), detail, "instance lost in its job");
        }
        Some(Outcome::Removed(reason)) => {
            tracing::info!(%pool, instance = %name, reason = reason.as_str(), "instance closed");
        }
        Some(Outcome::HostRebooted) => {
            tracing::error!(%pool, instance = %name, job = instance.job.as_ref().map(tracing::field::display), "instance lost to a host reboot");
        }
        Some(Outcome::RegistrationUnverified) => {
            tracing::warn!(%pool, instance = %name, "instance closed without asking github");
        }
        None => {}
    }
}

/// An error with everything beneath it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let line = cause.to_string();
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        source = cause.source();
    }
    text
}
