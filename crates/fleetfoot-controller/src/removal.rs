//! The removal gate, carried out (design, 11.3): deregister, and only then delete.

use fleetfoot_core::{
    Backoff, Environment, FailureKind, Instance, InstanceName, Observation, Reason, Registration,
    RunnerId, Span,
};
use fleetfoot_github::Removal;
use fleetfoot_provisioner::{BackendError, Deletion, Handle};

use crate::calls::{Failure, asked, bounded};
use crate::clock::Steady;
use crate::executor::chain;
use crate::pool::{Flight, PoolContext};
use crate::start::{github_failed, observe};

/// The second look-up of a registration comes this much after the first one's call bound.
const ABSENT_MARGIN: Span = Span(200);

/// Takes the steps of a removal that the plan allows.
pub(crate) async fn remove(flight: Flight, deregister: bool, delete: bool) {
    let steady = flight.pool.shared.clock.steady();
    let Some(instance) = row(&flight) else { return };
    if !flight.pool.has_lease() {
        return;
    }
    let deregistered = async {
        if deregister { deregister_runner(&flight, &instance, steady).await } else { true }
    };
    let deleted =
        async { if delete { delete_environment(&flight, &instance).await } else { true } };
    let (deregistered, deleted) = tokio::join!(deregistered, deleted);
    if deregistered && deleted && deregister && !delete {
        // The gate is passed: go on at once, without another look.
        if let Some(instance) = row(&flight)
            && fleetfoot_core::removal::removal_steps(&instance).delete
            && (instance.forced || !flight.pool.backend.is_elsewhere(&instance))
        {
            delete_environment(&flight, &instance).await;
        }
    }
}

fn row(flight: &Flight) -> Option<Instance> {
    let state = flight.pool.state()?;
    state.instances.get(&flight.name).map(|instance| Instance::clone(instance))
}

/// True when GitHub holds nothing under the name any more.
async fn deregister_runner(flight: &Flight, instance: &Instance, steady: Option<Steady>) -> bool {
    let pool = &flight.pool;
    let ended = !instance.may_live();
    let found = match instance.registration {
        Registration::Registered(id) if !ended || instance.job_completed_at.is_some() => Some(id),
        Registration::Registered(id) => match lookup(pool, instance, Some(id)).await {
            Ok(found) => {
                if found.is_none() {
                    // GitHub removed it by itself: its one job ran (11.5).
                    observe(pool, &flight.name, vec![Observation::RunnerGone]).await;
                    return true;
                }
                found
            }
            Err(()) => return false,
        },
        Registration::Requested => match lookup(pool, instance, None).await {
            Ok(Some(id)) => {
                // Under its number it can be looked up from now on, should it turn out to be busy.
                observe(pool, &flight.name, vec![Observation::Registered { runner: id }]).await;
                Some(id)
            }
            Ok(None) => return absent(pool, instance, steady).await,
            Err(()) => return false,
        },
        Registration::None | Registration::Gone => return true,
    };
    let Some(id) = found else { return true };
    match bounded(pool.call_bound(), pool.settings().connection.remove_runner(id.0)).await {
        Ok(Removal::Gone) => {
            pool.github().reach.answered();
            let mut observations = vec![Observation::Deregistered];
            if ended && !instance.had_job() && instance.reason.is_none() {
                let detail = early_exit(instance);
                observations
                    .insert(0, Observation::Failed { kind: FailureKind::EarlyExit, detail });
            }
            observe(pool, &flight.name, observations).await;
            tracing::debug!(pool = %pool.name(), instance = %flight.name, runner_id = id.0, "runner deregistered");
            true
        }
        #[cfg(feature = "faults")]
        Ok(Removal::Busy) if fleetfoot_faults::Defect::IgnoreBusy.is_planted() => {
            observe(pool, &flight.name, vec![Observation::Deregistered]).await;
            true
        }
        Ok(Removal::Busy) => busy(pool, instance, ended).await,
        Err(failure) => {
            failed(pool, instance, "deregistration failed", &failure).await;
            false
        }
    }
}

/// Busy with a living environment: it runs. Busy with an ended one: ask again, for hours.
async fn busy(pool: &PoolContext, instance: &Instance, ended: bool) -> bool {
    pool.github().reach.answered();
    if ended || !instance.may_run() {
        observe(pool, &instance.name, vec![Observation::Busy]).await;
        retry(pool, instance, "github still calls its runner busy", Backoff::BUSY).await;
        return false;
    }
    if instance.forced {
        retry(
            pool,
            instance,
            "github calls its runner busy, removing it by force",
            Backoff::REMOVAL,
        )
        .await;
        return true;
    }
    tracing::info!(pool = %pool.name(), instance = %instance.name, "instance is busy and stays");
    observe(pool, &instance.name, vec![Observation::Busy]).await;
    false
}

/// A JIT call whose answer was lost left nothing, so far. It counts only when seen twice, further apart
/// than the call could still land.
async fn absent(pool: &PoolContext, instance: &Instance, steady: Option<Steady>) -> bool {
    let (now, bound) = (pool.now(), pool.shared.pace.call_bound);
    // Of two clocks, the first look says nothing of how long ago it was.
    let is_still = steady.is_some_and(|steady| pool.shared.clock.is_still(steady));
    if is_still && instance.verified_at.is_some_and(|first| first.age(now) > bound) {
        observe(pool, &instance.name, vec![Observation::Deregistered]).await;
        return true;
    }
    let name = instance.name.clone();
    change(pool, instance, move |row| {
        row.verified_at = row.verified_at.or(Some(now));
        row.retry_at = Some(now + Span(bound.0.saturating_add(ABSENT_MARGIN.0)));
        row.last_error = None;
        tracing::debug!(instance = %name, "no registration found, looking again later");
    })
    .await;
    false
}

async fn lookup(
    pool: &PoolContext,
    instance: &Instance,
    id: Option<RunnerId>,
) -> Result<Option<RunnerId>, ()> {
    let settings = pool.settings();
    let connection = &settings.connection;
    let found = match id {
        Some(id) => bounded(pool.call_bound(), connection.runner_by_id(id.0)).await,
        None => bounded(pool.call_bound(), connection.runner_by_name(instance.name.as_str())).await,
    };
    match found {
        Ok(found) => {
            pool.github().reach.answered();
            Ok(found.map(|runner| RunnerId(runner.id)))
        }
        Err(failure) => {
            failed(pool, instance, "runner look-up failed", &failure).await;
            Err(())
        }
    }
}

fn early_exit(instance: &Instance) -> String {
    match fleetfoot_core::removal::outcome(instance) {
        fleetfoot_core::Outcome::Failed { detail, .. }
        | fleetfoot_core::Outcome::Lost { detail } => {
            format!("ended without a job: {detail}")
        }
        fleetfoot_core::Outcome::Completed { .. }
        | fleetfoot_core::Outcome::Removed(_)
        | fleetfoot_core::Outcome::HostRebooted
        | fleetfoot_core::Outcome::RegistrationUnverified => "ended without a job".to_owned(),
    }
}

/// Deletes what is ours of that name, and what the original program left under it.
async fn delete_all(
    pool: &PoolContext,
    name: &InstanceName,
    handle: Option<&str>,
) -> Result<Deletion, BackendError> {
    let settings = pool.settings();
    let deletion = match handle.map(|handle| Handle(handle.to_owned())) {
        Some(handle) => settings.provisioner.delete_by_handle(name, &handle).await?,
        None => settings.provisioner.delete(name).await?,
    };
    if deletion == Deletion::WasAbsent && settings.takeover {
        return settings.provisioner.delete_legacy(name).await;
    }
    Ok(deletion)
}

async fn delete_environment(flight: &Flight, instance: &Instance) -> bool {
    let pool = &flight.pool;
    // Nothing can be there under a name no call was ever made for.
    if instance.environment == Environment::None {
        return true;
    }
    let Ok(_permit) = pool.backend.calls.acquire().await else { return false };
    if !pool.has_lease() {
        return false;
    }
    let (began, bound) = (pool.now(), pool.settings().spec.stop_timeout.to_std());
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.backend.delete.before");
    let deleted = bounded(bound, delete_all(pool, &flight.name, instance.handle.as_deref())).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.backend.delete.after");
    match deleted {
        Ok(deletion) => {
            pool.backend.reach.answered();
            let lists = pool.backend.provisioner.capabilities().list;
            // A limit opens the gate, too, and says nothing of a backend that is not there.
            let insists = instance.forced && instance.reason != Some(Reason::MaxJobDuration);
            if deletion == Deletion::WasAbsent && insists && gone_for_good(pool, instance).await {
                return true;
            }
            if (instance.unanswered_since.is_some() || instance.is_cut_off()) && !lists {
                return deleted_unseen(pool, instance, began).await;
            }
            if instance.unanswered_since.is_some() {
                // A late create may still land: only the sweep proves absence (11.1).
                return listed_first(pool, instance, "a create call may still land").await;
            }
            if deletion == Deletion::WasAbsent && lists {
                // Another backend may answer at the address (11.2).
                return listed_first(pool, instance, "not there to delete, a list must show so")
                    .await;
            }
            if instance.handle.is_none() && !lists {
                tell_unseen(pool, instance);
            }
            observe(pool, &flight.name, vec![Observation::EnvironmentGone]).await;
            true
        }
        #[cfg(feature = "faults")]
        Err(_) if fleetfoot_faults::Defect::ForgetFailedDelete.is_planted() => {
            observe(pool, &flight.name, vec![Observation::EnvironmentGone]).await;
            true
        }
        Err(failure) => {
            let detail = match &failure {
                Failure::Unanswered => "the backend did not answer in time".to_owned(),
                Failure::Failed(error) => chain(error),
            };
            let attempts = instance.attempts + 1;
            tracing::warn!(pool = %pool.name(), instance = %flight.name, attempts, error = detail, "deletion failed");
            retry(pool, instance, &detail, Backoff::REMOVAL).await;
            false
        }
    }
}

/// The backend that held it does not answer, another one does, and an operator's force says that it never will again.
async fn gone_for_good(pool: &PoolContext, instance: &Instance) -> bool {
    let elsewhere = pool.backend.is_elsewhere(instance);
    if elsewhere {
        tracing::warn!(pool = %pool.name(), instance = %instance.name, identity = instance.backend_identity, "another backend answers, taking its environment for gone as an operator said");
        if !change(pool, instance, |row| row.clear_lists = row.clear_lists.max(2)).await {
            return false;
        }
        observe(pool, &instance.name, vec![Observation::EnvironmentGone]).await;
    }
    elsewhere
}

/// A delete that went well proves nothing here: the sweep does, by complete lists of the backend that holds the instance.
async fn listed_first(pool: &PoolContext, instance: &Instance, detail: &str) -> bool {
    retry(pool, instance, detail, Backoff::REMOVAL).await;
    pool.backend.look.notify_one();
    false
}

/// A backend that cannot list proves by deletes what others prove by lists (11.1): two that went well, the second
/// further from the first than the unanswered call could still land.
async fn deleted_unseen(
    pool: &PoolContext,
    instance: &Instance,
    began: fleetfoot_core::Timestamp,
) -> bool {
    // One that a backend kept waiting was done at some moment until now.
    let (bound, ended) = (pool.shared.pace.call_bound, pool.now());
    let counts = instance.last_clear_list_at.is_none_or(|first| first.age(began) > bound);
    if counts {
        let noted = change(pool, instance, move |row| {
            row.unanswered_since = row.unanswered_since.or(Some(began));
            row.clear_lists = row.clear_lists.saturating_add(1);
            row.last_clear_list_at = Some(ended);
        })
        .await;
        // What the store refused is proven by another one: a row that is gone without proof would never close
        // (seed 41207).
        if noted && instance.clear_lists > 0 {
            tell_unseen(pool, instance);
            observe(pool, &instance.name, vec![Observation::EnvironmentGone]).await;
            return true;
        }
    }
    let least = Span(bound.0.saturating_add(ABSENT_MARGIN.0));
    let detail = "a create call may still land";
    retry_after(pool, instance, detail, Backoff::REMOVAL, least).await;
    false
}

fn tell_unseen(pool: &PoolContext, instance: &Instance) {
    tracing::warn!(pool = %pool.name(), instance = %instance.name, "a creation was not answered and no list tells what it made: it was deleted by its name, look whether its machine is left");
}

async fn failed(
    pool: &PoolContext,
    instance: &Instance,
    phrase: &'static str,
    failure: &Failure<fleetfoot_github::GithubError>,
) {
    github_failed(pool, failure);
    let detail = match failure {
        Failure::Unanswered => "github did not answer in time".to_owned(),
        Failure::Failed(error) => error.chain(),
    };
    let attempts = instance.attempts + 1;
    tracing::warn!(pool = %pool.name(), instance = %instance.name, attempts, error = detail, "{phrase}");
    let asked = match failure {
        Failure::Unanswered => None,
        Failure::Failed(error) => asked(error),
    };
    let least = asked.unwrap_or(Span::ZERO);
    retry_after(pool, instance, &detail, Backoff::REMOVAL, least).await;
}

async fn retry(pool: &PoolContext, instance: &Instance, detail: &str, backoff: Backoff) {
    retry_after(pool, instance, detail, backoff, Span::ZERO).await;
}

/// Another attempt after a growing wait, spread by chance, and not before `least`; visible meanwhile.
async fn retry_after(
    pool: &PoolContext,
    instance: &Instance,
    detail: &str,
    backoff: Backoff,
    least: Span,
) {
    let wait = backoff.wait(instance.attempts + 1);
    #[cfg(feature = "faults")]
    let wait =
        if fleetfoot_faults::Defect::RetryWithoutBackoff.is_planted() { Span(10) } else { wait };
    let spread = Span(wait.0 / 2 + fastrand::i64(0..=wait.0 / 2));
    let at = pool.now() + spread.max(least);
    let detail = detail.to_owned();
    change(pool, instance, move |row| {
        row.attempts = row.attempts.saturating_add(1);
        row.retry_at = Some(row.retry_at.map_or(at, |other| other.max(at)));
        row.last_error = Some(detail);
    })
    .await;
}

/// False if the store refused it.
async fn change(
    pool: &PoolContext,
    instance: &Instance,
    body: impl FnOnce(&mut Instance) + Send + 'static,
) -> bool {
    let name = instance.name.clone();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.removal_retry.before");
    let changed = pool.shared.store.update(move |txn| txn.modify_instance(&name, body)).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.removal_retry.after");
    if let Err(error) = &changed {
        tracing::error!(pool = %pool.name(), instance = %instance.name, error = %chain(error), "store refused a retry");
    }
    changed.is_ok()
}
