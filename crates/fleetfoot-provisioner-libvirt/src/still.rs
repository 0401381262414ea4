//! Machines that wait for their jobs: ready, and with `suspended` standing still.
//!
//! ```text
//! Made ─▶ rehearsed ─▶ boot over: its processors are quiet ─▶ suspended ─▶ its job told of: resumed ─▶ launch
//!   └──────────────── it can be launched at any time ────────────────┘
//! ```
//!
//! One that goes on and is not launched within a minute stands still again: its job was taken back.
//!
//! An agent answers while much of a guest still starts. A machine that is stopped there goes on with its boot when its
//! job comes, and the job waits for that; so it is let be until it is quiet.

use std::sync::Arc;
use std::time::Duration;

use fleetfoot_provisioner::InstanceName;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use crate::agent::{self, AgentError};
use crate::engine::{Lane, LibvirtEngine};
use crate::machine::domain;
use crate::pool::LibvirtPool;
use crate::record::{Record, Stage};
use crate::rpc::CallError;
use crate::tasks;
use crate::wire::Domain;

/// A machine that is made for a job that waits has it by then, and is left alone.
const WANTED_AT_ONCE: Duration = Duration::from_millis(500);
/// So often a machine that waits rehearses its launch.
const REHEARSALS: u32 = 2;
/// Between two looks at what a machine's processors did.
const LOOK_EACH: Duration = Duration::from_secs(1);
/// It is quiet if they did less than this part of one processor's work, so many looks in a row: little, for on a host
/// that is overloaded a machine that boots does not get much more.
const BUSY_PART: u32 = 40;
const LOOKS_QUIET: u32 = 2;
/// A machine that goes on for a job has it by then.
const ROUSED_MAX: Duration = Duration::from_secs(60);
/// A guest that is never quiet.
pub(crate) const RESTLESS_MAX: Duration = Duration::from_secs(120);

/// After it was made: what a machine does that has time.
pub(crate) fn begin(engine: &Arc<LibvirtEngine>, pool: &LibvirtPool, record: Record) {
    // A clone has started processes before: its template did, and its own reseeding.
    let rehearsed = agent::is_wrapped(pool) && record.template.is_none();
    let command = rehearsed.then(|| agent::rehearsal(pool));
    if command.is_some() || record.suspends {
        let engine = Arc::clone(engine);
        tasks::start(async move {
            tokio::time::sleep(WANTED_AT_ONCE).await;
            wait(&engine, &record, command).await;
        });
    }
}

/// The same for one that another process of ours made, or that was made before the daemon went away.
pub(crate) async fn go_on(engine: &LibvirtEngine, record: &Record) {
    wait(engine, record, None).await;
}

async fn wait(engine: &LibvirtEngine, record: &Record, rehearsal: Option<Value>) {
    let Some(name) = record.instance() else { return };
    let domain = domain(record);
    if let Some(command) = rehearsal
        && let Err(error) = rehearse(engine, record, &name, &command).await
    {
        tracing::debug!(instance = record.name, %error, "no rehearsal");
    }
    if !record.suspends || !waits(engine, &name, record.uuid) {
        return;
    }
    if let Err(error) = quiet(engine, &domain, RESTLESS_MAX).await {
        tracing::debug!(instance = record.name, %error, "no look at how busy a machine is");
    }
    let _guard = engine.locks.lock(&name).await;
    if waits(engine, &name, record.uuid) && !engine.awake().contains(&record.uuid) {
        suspend(engine, record).await;
    }
}

/// Who calls has the machine's lock.
async fn suspend(engine: &LibvirtEngine, record: &Record) {
    let domain = domain(record);
    let suspended = async { engine.talk(Lane::Make).await?.suspend(&domain).await };
    match suspended.await {
        Ok(()) => tracing::debug!(instance = record.name, "machine that waits is suspended"),
        Err(error) => {
            tracing::warn!(instance = record.name, %error, "machine that waits could not be suspended");
        }
    }
}

/// Whether it is there, and nobody has launched or removed it.
fn waits(engine: &LibvirtEngine, name: &InstanceName, uuid: Uuid) -> bool {
    let known = engine.records.read(name).ok().flatten();
    known.is_some_and(|record| record.uuid == uuid && record.stage == Stage::Made)
}

/// Runs what a launch runs, without a runner: the first process that an agent starts takes three times as long as
/// the next one, which takes a little longer than the third, and a machine that waits for its job has that time.
async fn rehearse(
    engine: &LibvirtEngine,
    record: &Record,
    name: &InstanceName,
    command: &Value,
) -> Result<(), AgentError> {
    let domain = domain(record);
    for _ in 0..REHEARSALS {
        // Its job may have come meanwhile, whose launch is not to wait for this.
        if !waits(engine, name, record.uuid) {
            return Ok(());
        }
        let talk = engine.talk(Lane::Make).await?;
        agent::run(&talk, &domain, command).await?;
    }
    Ok(())
}

/// Waits until a machine's processors have little to do: its boot is over.
pub(crate) async fn quiet(
    engine: &LibvirtEngine,
    domain: &Domain,
    wait_max: Duration,
) -> Result<(), CallError> {
    let look = async || {
        let talk = engine.talk(Lane::Make).await?;
        Ok::<_, CallError>((Instant::now(), talk.processor_time(domain).await?))
    };
    let mut last = look().await?;
    let (end, mut looks) = (last.0 + wait_max, 0);
    while looks < LOOKS_QUIET && last.0 < end {
        tokio::time::sleep(LOOK_EACH).await;
        let now = look().await?;
        let is_quiet = now.1.saturating_sub(last.1) * BUSY_PART < now.0 - last.0;
        looks = if is_quiet { looks + 1 } else { 0 };
        last = now;
    }
    Ok(())
}

/// Its job was told of, or its credential is being asked for: a machine that stands still goes on meanwhile.
pub(crate) fn rouse(engine: &Arc<LibvirtEngine>, name: &InstanceName) {
    let Ok(Some(record)) = engine.records.read(name) else { return };
    if !record.suspends || record.stage != Stage::Made || engine.awake().contains(&record.uuid) {
        return;
    }
    let (engine, name) = (Arc::clone(engine), name.clone());
    tasks::start(async move {
        // A suspension that has begun is over first; a launch that came before did this itself.
        let guard = engine.locks.lock(&name).await;
        let is_awake = engine.awake().contains(&record.uuid);
        if is_awake || !waits(&engine, &name, record.uuid) {
            return;
        }
        let resumed = async { engine.talk(Lane::Make).await?.resume(&domain(&record)).await };
        match resumed.await {
            Ok(()) => {
                engine.awake().insert(record.uuid);
            }
            // The launch tries it again, and says so.
            Err(error) => {
                tracing::debug!(instance = %name, %error, "machine that waits does not go on yet");
                return;
            }
        }
        drop(guard);
        let engine = {
            let later = Arc::downgrade(&engine);
            drop(engine);
            tokio::time::sleep(ROUSED_MAX).await;
            later.upgrade()
        };
        if let Some(engine) = engine {
            still_again(&engine, &record, &name).await;
        }
    });
}

/// The job that it was roused for was taken back, or another machine has it.
async fn still_again(engine: &LibvirtEngine, record: &Record, name: &InstanceName) {
    let _guard = engine.locks.lock(name).await;
    if waits(engine, name, record.uuid) && engine.awake().remove(&record.uuid) {
        suspend(engine, record).await;
    }
}
