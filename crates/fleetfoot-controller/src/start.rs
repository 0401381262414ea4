//! The start of an instance, step by step; each step is committed before its call.
//!
//! Nothing of a life is kept here: a task that dies at any await leaves facts in its row, and the plan
//! and the sweep go on from those.

use std::time::Duration;

use fleetfoot_core::{
    FailureKind, Instance, InstanceName, Observation, Phase, RunnerId, ScaleSetId,
};
use fleetfoot_github::{ErrorKind as GithubKind, GithubError};
use fleetfoot_provisioner::{BackendError, ErrorKind, Handle, JitConfig};
use fleetfoot_store::UpdateError;
use tokio::sync::SemaphorePermit;

use crate::calls::{Failure, asked, bounded};
use crate::executor::chain;
use crate::pool::{Flight, PoolContext};
use crate::record::{Recorded, commit, commit_with};

/// What the store refused is done again, the call before it included: not at once, a full disk lasts.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What a call made is told to a store that refuses so often; then it is left to the sweep to find.
const TOLD_MAX: u32 = 10;

/// Makes the environment of a name that was begun; single step, registers it before.
pub(crate) async fn make(flight: Flight) {
    if flight.pool.settings().provisioner.capabilities().late_binding {
        make_late(&flight).await;
    } else if let Some(jit) = register(&flight).await {
        make_single(&flight, jit).await;
    }
}

async fn make_late(flight: &Flight) {
    let pool = &flight.pool;
    let Ok(permit) = pool.backend.calls.acquire().await else { return };
    if !pool.has_lease() {
        return;
    }
    let spec = pool.environment_spec(&flight.name);
    let settings = pool.settings();
    let bound = settings.spec.create_timeout.to_std();
    let began = tokio::time::Instant::now();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.backend.create.before");
    let made = bounded(bound, settings.provisioner.create(&spec, None)).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.backend.create.after");
    // The next call need not wait for the commit of this one.
    drop(permit);
    match made {
        Ok(handle) => {
            pool.backend.starts.answered();
            made_here(pool, &flight.name, Observation::Created { handle: handle.0 }).await;
            let duration_ms = began.elapsed().as_millis();
            tracing::debug!(pool = %pool.name(), instance = %flight.name, duration_ms, "environment created");
        }
        Err(failure) => backend_failed(pool, &flight.name, FailureKind::Create, failure).await,
    }
}

/// Registers the runner of an environment that waits, and launches it.
pub(crate) async fn launch(flight: Flight) {
    let Some(jit) = register(&flight).await else { return };
    let pool = &flight.pool;
    let Some(permit) = launch_begun(&flight, jit.runner).await else { return };
    let handle = pool.state().and_then(|state| state.instances.get(&flight.name)?.handle.clone());
    let spec = pool.environment_spec(&flight.name);
    let handle = Handle(handle.unwrap_or_default());
    let settings = pool.settings();
    let bound = settings.spec.create_timeout.to_std();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.backend.launch.before");
    let launch = settings.provisioner.launch(&spec, &handle, &jit.config);
    let answer = bounded(bound, launch).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.backend.launch.after");
    drop(permit);
    match answer {
        Ok(()) => launched(pool, &flight.name, None).await,
        Err(failure) => backend_failed(pool, &flight.name, FailureKind::Launch, failure).await,
    }
}

async fn make_single(flight: &Flight, jit: Registered) {
    let pool = &flight.pool;
    let Some(permit) = launch_begun(flight, jit.runner).await else { return };
    let spec = pool.environment_spec(&flight.name);
    let settings = pool.settings();
    let bound = settings.spec.create_timeout.to_std();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.backend.create_and_launch.before");
    let made = bounded(bound, settings.provisioner.create(&spec, Some(&jit.config))).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.backend.create_and_launch.after");
    drop(permit);
    match made {
        Ok(handle) => launched(pool, &flight.name, Some(handle)).await,
        Err(failure) => backend_failed(pool, &flight.name, FailureKind::Create, failure).await,
    }
}

async fn launched(pool: &PoolContext, name: &InstanceName, handle: Option<Handle>) {
    pool.backend.starts.answered();
    let handle = handle.map(|handle| handle.0);
    let is_made = handle.is_some();
    let launched = Observation::Launched { handle };
    let recorded = if is_made {
        made_here(pool, name, launched).await
    } else {
        observe(pool, name, vec![launched]).await
    };
    if let Some(Recorded::Taken(instance)) = recorded {
        let job_assigned = instance.phase == Phase::Running;
        tracing::info!(pool = %pool.name(), instance = %name, job_assigned, "instance launched");
    }
}

struct Registered {
    runner: RunnerId,
    config: JitConfig,
}

/// Asks for a JIT config. What it answers is committed together with the launch that follows.
async fn register(flight: &Flight) -> Option<Registered> {
    let pool = &flight.pool;
    let state = pool.state()?;
    let set = state.instances.get(&flight.name)?.scale_set_id?;
    if !pool.has_lease() {
        return None;
    }
    let settings = pool.settings();
    settings.provisioner.rouse(&flight.name);
    let call = settings.connection.jit_config(set.0, flight.name.as_str());
    match bounded(pool.call_bound(), call).await {
        Ok(jit) => {
            pool.github().starts.answered();
            pool.refused.answered();
            let runner = RunnerId(jit.runner_id);
            #[cfg(feature = "faults")]
            if fleetfoot_faults::Defect::LogJitConfig.is_planted() {
                tracing::debug!(
                    config = secrecy::ExposeSecret::expose_secret(&jit.config),
                    "runner registered"
                );
            }
            tracing::info!(pool = %pool.name(), instance = %flight.name, runner_id = jit.runner_id, "runner registered");
            Some(Registered { runner, config: JitConfig::new(jit.config) })
        }
        Err(failure) => {
            register_failed(pool, &flight.name, set, failure).await;
            None
        }
    }
}

/// Commits what was registered and that the launch begins, then holds a place at the backend. `None` if
/// the instance is to be removed instead.
async fn launch_begun<'a>(flight: &'a Flight, runner: RunnerId) -> Option<SemaphorePermit<'a>> {
    let pool = &flight.pool;
    let registered = Observation::Registered { runner };
    if pool.stopping() {
        // Not launched yet: give the registration back (11.14).
        observe(
            pool,
            &flight.name,
            vec![registered, Observation::Removal { reason: fleetfoot_core::Reason::Interrupted }],
        )
        .await;
        withdraw(pool, &flight.name, runner).await;
        return None;
    }
    let (permit, observations) = match pool.backend.calls.try_acquire() {
        Ok(permit) => (permit, vec![registered, Observation::LaunchBegun]),
        Err(_) => {
            observe(pool, &flight.name, vec![registered]).await;
            (pool.backend.calls.acquire().await.ok()?, vec![Observation::LaunchBegun])
        }
    };
    match observe(pool, &flight.name, observations).await? {
        // Its commit was fenced, so the lease was ours; the call needs some of it left.
        Recorded::Taken(_) if !pool.has_lease() => None,
        Recorded::Taken(_) => Some(permit),
        Recorded::Refused(_) | Recorded::Unknown => None,
    }
}

async fn withdraw(pool: &PoolContext, name: &InstanceName, runner: RunnerId) {
    let removed =
        bounded(Duration::from_secs(3), pool.settings().connection.remove_runner(runner.0)).await;
    if matches!(removed, Ok(fleetfoot_github::Removal::Gone)) {
        observe(pool, name, vec![Observation::Deregistered]).await;
    }
}

/// Commits observations; a store that refuses is logged, and the facts stay as they were.
pub(crate) async fn observe(
    pool: &PoolContext,
    name: &InstanceName,
    observations: Vec<Observation>,
) -> Option<Recorded> {
    let recorded = commit(&pool.shared.store, pool.name(), name, observations, pool.now()).await;
    taken_in(pool, name, recorded).await
}

/// Commits that a call made the environment. If another backend began to answer while it was on its way, either may
/// hold it: none is believed that it is gone, until one of them shows it (11.2, seed 22857).
async fn made_here(
    pool: &PoolContext,
    name: &InstanceName,
    observation: Observation,
) -> Option<Recorded> {
    let mut told = 0;
    loop {
        let backend = pool.backend.clone();
        let holder = move |row: &mut Instance| {
            if backend.is_elsewhere(row) {
                row.backend_identity = Some(Instance::HOLDER_UNCERTAIN.to_owned());
            }
        };
        let (store, now, made) = (&pool.shared.store, pool.now(), vec![observation.clone()]);
        let recorded = commit_with(store, pool.name(), name, made, now, Some(holder)).await;
        // The call is not made again, and where nobody lists nobody else would tell (seed 37776).
        told += 1;
        let again = recorded.as_ref().is_err_and(|error| error.not_ours().is_none());
        let taken = taken_in(pool, name, recorded).await;
        if !again || told >= TOLD_MAX || pool.stopping() || !pool.has_lease() {
            return taken;
        }
    }
}

async fn taken_in(
    pool: &PoolContext,
    name: &InstanceName,
    recorded: Result<Recorded, UpdateError>,
) -> Option<Recorded> {
    match recorded {
        Ok(recorded) => {
            if let Recorded::Refused(refused) = &recorded {
                tracing::debug!(pool = %pool.name(), instance = %name, %refused, "observation refused");
            }
            Some(recorded)
        }
        // Said once, by whoever keeps the leases.
        Err(error) if error.not_ours().is_some() => None,
        Err(error) => {
            tracing::error!(pool = %pool.name(), instance = %name, error = %chain(&error), "store refused an observation");
            tokio::time::sleep(STORE_PAUSE).await;
            None
        }
    }
}

async fn backend_failed(
    pool: &PoolContext,
    name: &InstanceName,
    whose: FailureKind,
    failure: Failure<BackendError>,
) {
    let (kind, detail, unanswered) = match failure {
        Failure::Unanswered => {
            (FailureKind::Backend, "the backend did not answer in time".to_owned(), true)
        }
        Failure::Failed(error) => {
            let detail = chain(&error);
            match error.kind {
                ErrorKind::Instance | ErrorKind::NameTaken => (whose, detail, false),
                ErrorKind::Backend | ErrorKind::NoRoom => (FailureKind::Backend, detail, false),
                ErrorKind::Unanswered => (FailureKind::Backend, detail, true),
            }
        }
    };
    if kind == FailureKind::Backend {
        pool.backend.starts.failed(&detail, None, pool.unshifted());
    }
    #[cfg(feature = "faults")]
    let unanswered = unanswered && !fleetfoot_faults::Defect::CloseBeforeLateLanding.is_planted();
    tracing::warn!(pool = %pool.name(), instance = %name, kind = kind.as_str(), error = detail, "instance start failed");
    let observation = if unanswered {
        Observation::Unanswered { kind, detail }
    } else {
        Observation::Failed { kind, detail }
    };
    observe(pool, name, vec![observation]).await;
    pool.backend.look.notify_one();
}

async fn register_failed(
    pool: &PoolContext,
    name: &InstanceName,
    set: ScaleSetId,
    failure: Failure<GithubError>,
) {
    let kind = FailureKind::Github;
    let (detail, landed) = match &failure {
        Failure::Unanswered => ("github did not answer in time".to_owned(), true),
        Failure::Failed(error) => {
            let taken = matches!(error.kind(), GithubKind::RunnerExists);
            (error.chain(), error.may_have_landed() || taken)
        }
    };
    #[cfg(feature = "faults")]
    let landed = landed && !fleetfoot_faults::Defect::LoseJitRegistration.is_planted();
    tracing::warn!(pool = %pool.name(), instance = %name, kind = kind.as_str(), error = detail, "instance start failed");
    let observations = if landed {
        // The registration stays `requested`: the gate looks it up by name.
        vec![Observation::Failed { kind, detail }]
    } else {
        vec![Observation::Failed { kind, detail }, Observation::Deregistered]
    };
    note_registration(pool, set, &failure).await;
    observe(pool, name, observations).await;
}

/// Whose failure it was: this pool's alone, or that of the way to GitHub for all pools of the credential.
async fn note_registration(pool: &PoolContext, set: ScaleSetId, failure: &Failure<GithubError>) {
    let Failure::Failed(error) = failure else {
        pool.github().starts.failed("github did not answer in time", None, pool.unshifted());
        return;
    };
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::BlameEveryPool.is_planted() {
        pool.github().starts.failed(&error.to_string(), asked(error), pool.now());
    }
    match error.kind() {
        // The budget has learned by itself how long to wait.
        GithubKind::RateLimited { .. } => {}
        GithubKind::ScaleSetGone => {
            pool.refused.failed(&error.to_string(), None, pool.unshifted());
            forget_scale_set(pool, set).await;
        }
        // The next name is another one, but where every name is taken that would go on for ever.
        GithubKind::RunnerExists
        | GithubKind::Forbidden { .. }
        | GithubKind::Rejected(_)
        | GithubKind::NotFound
        | GithubKind::Conflict
        | GithubKind::ScaleSetExists
        | GithubKind::RunnerBusy
        | GithubKind::SessionGone
        | GithubKind::Unusable => {
            pool.refused.failed(&error.to_string(), asked(error), pool.unshifted());
        }
        GithubKind::Unauthorized
        | GithubKind::Timeout
        | GithubKind::Unreachable
        | GithubKind::Certificate
        | GithubKind::Server(_)
        | GithubKind::Clock { .. }
        | GithubKind::Credentials
        | GithubKind::Settings => {
            pool.github().starts.failed(&error.to_string(), asked(error), pool.unshifted());
        }
    }
}

/// The scale set is gone (11.7): the listener looks it up anew.
async fn forget_scale_set(pool: &PoolContext, set: ScaleSetId) {
    let name = pool.name().clone();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.scale_set_refused.before");
    let forgotten = pool
        .shared
        .store
        .update(move |txn| {
            if let Some(row) = txn.pool_mut(&name).filter(|row| row.scale_set_id == Some(set)) {
                row.scale_set_id = None;
                row.demand.session_lost();
            }
        })
        .await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.scale_set_refused.after");
    if let Err(error) = forgotten {
        tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused a scale set");
    }
}

/// Notes a failed look-up or removal against the credential, not against any instance.
pub(crate) fn github_failed(pool: &PoolContext, failure: &Failure<GithubError>) {
    let now = pool.unshifted();
    match failure {
        Failure::Unanswered => {
            pool.github().reach.failed("github did not answer in time", None, now);
        }
        Failure::Failed(error) => {
            let own = matches!(
                error.kind(),
                GithubKind::ScaleSetGone | GithubKind::RunnerExists | GithubKind::NotFound
            );
            if !own {
                pool.github().reach.failed(&error.to_string(), asked(error), now);
            }
        }
    }
}
