//! The life of one machine: disk and domain, boot, launch, end.
//!
//! ```text
//! record ─▶ overlay ─▶ domain ─▶ agent answers ─▶ Made ─▶ Launching ─▶ guest-exec ─▶ Launched ─▶ Ended
//!          └────── one task with the name's lock ──────┘   └─ another: what was sent is waited for ─┘
//! ```
//!
//! What was asked of libvirt lands whether or not somebody waits for it; the name stays locked until it has.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetfoot_provisioner::{BackendError, EnvironmentSpec, ErrorKind, InstanceName, JitConfig};
use tokio::time::Instant;
use uuid::Uuid;

use crate::agent::{self, AgentError};
use crate::domain::{Machine, domain_xml};
use crate::engine::{Lane, LibvirtEngine};
use crate::failure;
use crate::overlay;
use crate::pool::{LibvirtPool, WarmMode};
use crate::record::{Record, Stage};
use crate::remove;
use crate::rpc::{CallError, Connection};
use crate::snapshot;
use crate::still;
use crate::tasks;
use crate::template::{Template, Templates};
use crate::wire::Domain;

pub(crate) const CREATE: &str = "create domain";
const LAUNCH: &str = "launch runner";
/// Between two looks at an agent that is not there yet.
const PING_FIRST: Duration = Duration::from_millis(100);
const PING_AGAIN_MAX: Duration = Duration::from_millis(150);
const PING_SLOW_MAX: Duration = Duration::from_secs(1);

/// The domain of a record, as calls name it.
pub(crate) fn domain(record: &Record) -> Domain {
    Domain { name: record.name.clone(), uuid: record.uuid, id: -1 }
}

pub(crate) fn lost_task(
    operation: &'static str,
) -> impl Fn(tokio::task::JoinError) -> BackendError {
    move |error| BackendError::new(operation, ErrorKind::Unanswered, error.to_string())
}

/// Makes the machine and waits until its agent answers.
pub(crate) async fn create(
    engine: &Arc<LibvirtEngine>,
    pool: &Arc<LibvirtPool>,
    templates: &Arc<Templates>,
    spec: &EnvironmentSpec,
    accelerated: bool,
) -> Result<Uuid, BackendError> {
    let name = &spec.name;
    let guard = engine.locks.lock(name).await;
    let known = engine.records.read(name).map_err(failure::file(CREATE, name))?;
    let record = match known {
        Some(record) if record.stage != Stage::Making => return Ok(record.uuid),
        Some(record) => record,
        None => claim(engine, pool, spec).await?,
    };
    let template = templates.get(engine, pool, accelerated).await;
    let work = {
        let (engine, pool, record) = (Arc::clone(engine), Arc::clone(pool), record.clone());
        let templates = Arc::clone(templates);
        let pool_name = spec.pool.clone();
        let name = name.clone();
        tasks::start(async move {
            let made = async {
                let machine = Machine {
                    name: &name,
                    pool: &pool_name,
                    installation: engine.installation(),
                    uuid: record.uuid,
                    overlay: &record.overlay,
                    accelerated,
                };
                if let Some(template) = template
                    && from_memory(&engine, &pool, &machine, &record, &template, &templates).await?
                {
                    return Ok(true);
                }
                make(&engine, &pool, &machine).await.map(|()| false)
            };
            (made.await, guard)
        })
    };
    let (made, guard) = work.await.map_err(lost_task(CREATE))?;
    let booted = match made {
        Ok(true) => Ok(()),
        Ok(false) => boot(engine, pool, &record).await,
        Err(error) => Err(error),
    };
    if let Err(error) = booted {
        let error = error.about(name);
        // It never ran a job, and why it failed is in the error: it goes at once, unless it may still come.
        if error.kind != ErrorKind::Unanswered && error.kind != ErrorKind::Backend {
            remove::finish_removal(engine, record, guard).await;
        }
        return Err(error);
    }
    let uuid = record.uuid;
    // As it was written last: a clone's record names its template.
    let record = engine.records.read(name).map_err(failure::file(CREATE, name))?.unwrap_or(record);
    let record = Record { stage: Stage::Made, ..record };
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.made.before");
    engine.records.write(&record).map_err(failure::file(CREATE, name))?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.made.after");
    drop(guard);
    still::begin(engine, pool, record);
    Ok(uuid)
}

/// Makes it from the memory of a booted one. False if that did not do, and nothing of it is left: it is to boot.
async fn from_memory(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    machine: &Machine<'_>,
    record: &Record,
    template: &Template,
    templates: &Templates,
) -> Result<bool, BackendError> {
    let failed = failure::call(CREATE, false);
    let talk = engine.talk(Lane::Make).await.map_err(&failed)?;
    // An earlier call may have begun it, nobody knows how far.
    talk.destroy(&domain(record)).await.map_err(&failed)?;
    let noted = Record { template: Some(template.disk.clone()), ..record.clone() };
    let noting = failure::file(CREATE, machine.name);
    engine.records.write(&noted).map_err(&noting)?;
    let Err(error) = snapshot::clone(engine, pool, machine, record, template).await else {
        return Ok(true);
    };
    tracing::warn!(instance = %machine.name, %error, "machine could not be made from memory, booting it");
    templates.failed(template).await;
    talk.destroy(&domain(record)).await.map_err(failure::call(CREATE, true))?;
    remove::remove_file(machine.overlay).await.map_err(&noting)?;
    engine.records.write(record).map_err(&noting)?;
    Ok(false)
}

/// Writes the record of a name that nobody else has.
pub(crate) async fn claim(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    spec: &EnvironmentSpec,
) -> Result<Record, BackendError> {
    let name = &spec.name;
    let taken =
        |what: &str| BackendError::new(CREATE, ErrorKind::NameTaken, what.to_owned()).about(name);
    let talk = engine.talk(Lane::Make).await.map_err(failure::call(CREATE, false))?;
    let there = talk.domain_named(name.as_str()).await.map_err(failure::call(CREATE, false))?;
    if there.is_some() {
        return Err(taken("a domain of that name exists that is not ours"));
    }
    let overlay = overlay::path(&pool.overlay_dir, name);
    if overlay.symlink_metadata().is_ok() {
        return Err(taken(&format!("{} exists and is not ours", overlay.display())));
    }
    let record = Record {
        name: name.as_str().to_owned(),
        pool: spec.pool.as_str().to_owned(),
        uuid: Uuid::new_v4(),
        overlay,
        template: None,
        wrapped: agent::is_wrapped(pool),
        shares: !pool.mounts.is_empty() && !pool.is_windows(),
        suspends: pool.warm_mode == WarmMode::Suspended,
        stage: Stage::Making,
    };
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.record.before");
    engine.records.write(&record).map_err(failure::file(CREATE, name))?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.record.after");
    Ok(record)
}

/// Overlay and domain, unless an earlier call came so far.
pub(crate) async fn make(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    machine: &Machine<'_>,
) -> Result<(), BackendError> {
    let looked = failure::call(CREATE, false);
    let talk = engine.talk(Lane::Make).await.map_err(&looked)?;
    if talk.domain_of(machine.uuid).await.map_err(&looked)?.is_some() {
        return Ok(());
    }
    make_from(engine, &pool.image, machine, &domain_xml(pool, machine)).await
}

/// An overlay on `base`, and a domain that boots from it.
pub(crate) async fn make_from(
    engine: &LibvirtEngine,
    base: &Path,
    machine: &Machine<'_>,
    xml: &str,
) -> Result<(), BackendError> {
    let talk = engine.talk(Lane::Make).await.map_err(failure::call(CREATE, false))?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.overlay.before");
    make_overlay(base, machine.overlay).await?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.create.before");
    let made = talk.create(xml).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.create.after");
    made.map_err(failure::call(CREATE, true))?;
    Ok(())
}

pub(crate) async fn make_overlay(base: &Path, overlay: &Path) -> Result<(), BackendError> {
    overlay::create(base, overlay).await.map_err(|words| {
        let full = words.contains("No space left");
        let kind = if full { ErrorKind::NoRoom } else { ErrorKind::Instance };
        BackendError::new("create overlay", kind, words)
    })
}

/// Waits for the agent. A daemon that goes away meanwhile is waited for, too.
pub(crate) async fn boot(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    record: &Record,
) -> Result<(), BackendError> {
    let domain = domain(record);
    let end = Instant::now() + pool.agent_max;
    let mut pause = PING_FIRST;
    loop {
        let asked = Instant::now();
        match ping(engine, &domain).await {
            Ok(()) => return Ok(()),
            Err(AgentError::Call(CallError::Refused(refused))) => {
                let ended = format!("the machine ended before its guest agent answered: {refused}");
                return Err(BackendError::new(CREATE, ErrorKind::Instance, ended));
            }
            Err(error) if Instant::now() > end => {
                let after = fleetfoot_provisioner::original_duration(pool.agent_max);
                let words = format!("guest agent not ready: timeout after {after} ({error})");
                return Err(BackendError::new(CREATE, ErrorKind::Instance, words));
            }
            Err(error) => tracing::trace!(domain = domain.name, %error, "no agent yet"),
        }
        // A daemon that is slow to answer, for many boot at once, is asked less often.
        tokio::time::sleep(pause.max(asked.elapsed().min(PING_SLOW_MAX))).await;
        pause = (pause * 5 / 4).min(PING_AGAIN_MAX);
    }
}

async fn ping(engine: &LibvirtEngine, domain: &Domain) -> Result<(), AgentError> {
    let talk = engine.talk(Lane::Make).await?;
    agent::ping(&talk, domain).await
}

/// Starts the runner in a machine made before.
pub(crate) async fn launch(
    engine: &Arc<LibvirtEngine>,
    pool: &LibvirtPool,
    name: &InstanceName,
    jit: &JitConfig,
) -> Result<i64, BackendError> {
    let guard = engine.locks.lock(name).await;
    let refused = |message: &str| failure::instance(LAUNCH, name, message);
    let record = engine.records.read(name).map_err(failure::file(LAUNCH, name))?;
    let record = record.ok_or_else(|| refused("there is no such machine of ours"))?;
    match &record.stage {
        Stage::Made => {}
        // A crash cut its boot off, and a list told of it as it is. A clone may not be its own machine yet.
        Stage::Making if record.template.is_none() => boot(engine, pool, &record).await?,
        Stage::Making => return Err(refused("the machine is not finished")),
        Stage::Launching | Stage::Launched { .. } => {
            return Err(refused("its runner was launched before"));
        }
        Stage::Ending { .. } | Stage::Ended { .. } => {
            return Err(refused("the machine has ended"));
        }
    }
    let talk = engine.talk(Lane::Make).await.map_err(failure::call(LAUNCH, false))?;
    let is_suspended = record.suspends || pool.warm_mode == WarmMode::Suspended;
    let clock = if is_suspended { wake(engine, pool, &talk, &record).await? } else { None };
    let launching = Record { stage: Stage::Launching, ..record };
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.launching.before");
    engine.records.write(&launching).map_err(failure::file(LAUNCH, name))?;
    let command = agent::runner_command(pool, jit, clock);
    let (engine, name) = (Arc::clone(engine), name.clone());
    let work = tasks::start(async move {
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("libvirt.exec.before");
        let pid = agent::exec(&talk, &domain(&launching), &command).await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("libvirt.exec.after");
        match pid {
            Ok(pid) => {
                let launched = Record { stage: Stage::Launched { pid }, ..launching };
                engine.records.write(&launched).map_err(failure::file(LAUNCH, &name))?;
                #[cfg(feature = "faults")]
                fleetfoot_faults::point("libvirt.launched.after");
                drop(guard);
                Ok(pid)
            }
            Err(error) => {
                let words = format!("guest-exec: {error}");
                let mut failed = failure::agent(LAUNCH, true)(error).about(&name);
                if failed.kind != ErrorKind::Unanswered {
                    failed.message = words;
                    remove::finish_removal(&engine, launching, guard).await;
                }
                Err(failed)
            }
        }
    });
    work.await.map_err(lost_task(LAUNCH))?
}

/// Lets a suspended machine go on, if it does not yet. The time of now is for its runner's wrapper to set, where there
/// is one.
async fn wake(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    talk: &Connection,
    record: &Record,
) -> Result<Option<Duration>, BackendError> {
    let domain = domain(record);
    let is_awake = engine.awake().remove(&record.uuid);
    if !is_awake {
        talk.resume(&domain).await.map_err(failure::call("resume domain", false))?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    if agent::is_wrapped(pool) {
        return Ok(Some(now));
    }
    if let Err(error) = talk.set_time(&domain, now).await {
        tracing::warn!(instance = record.name, %error, "clock of a machine could not be set");
    }
    Ok(None)
}
