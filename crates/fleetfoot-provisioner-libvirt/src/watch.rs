//! Exits as they happen.
//!
//! ```text
//! guest-exec-status, each s ───▶ end: Ending into the record, output kept, power off ─┐
//! lifecycle event: stopped ──┬─▶ settle_gone: it is off ─────────────────────────────┴▶ Ended, once a machine
//! records after a (re)connect┘                                                          Resynced after each break
//! ```
//!
//! One follower a daemon, for as long as somebody holds the hub. The agent tells an exit status once, so it is
//! written down before anything else is done; the end is told when the machine is off (`ending`).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use fleetfoot_provisioner::{Event, EventStream, InstanceName};
use futures_util::StreamExt as _;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::agent::{self, AgentError, ProcessStatus};
use crate::ending;
use crate::engine::{Lane, LibvirtEngine};
use crate::locks::Guard;
use crate::machine::domain;
use crate::record::{Record, Stage};
use crate::rpc::CallError;
use crate::seed;
use crate::still;
use crate::tasks::{self, Owned};

/// All of its memory is taken at once. Who falls further behind lists anew.
const EVENTS_MAX: usize = 1024;
const POLL_EACH: Duration = Duration::from_secs(1);
/// Agents asked at one time: one that hangs takes its five seconds.
const POLLS_MAX: usize = 4;
/// An order to an agent has landed or failed by then.
const LAUNCH_LANDS: Duration = agent::EXEC_MAX.saturating_add(Duration::from_secs(5));
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(5);
const GONE: &str = "the machine is gone";

/// The exits of one installation's machines at one daemon.
pub(crate) struct Hub {
    inner: Arc<Inner>,
    follower: OnceLock<Owned>,
}

struct Inner {
    engine: Arc<LibvirtEngine>,
    events: broadcast::Sender<Event>,
    /// Whether the daemon was asked to tell, and the connection is there.
    listening: watch::Sender<bool>,
    /// Machines whose launch was begun by a process that is gone, and that have no runner: since when.
    not_started: Mutex<HashMap<Uuid, Instant>>,
}

impl Inner {
    /// Whether a launch whose answer nobody waits for any more can be given up: what was sent has landed by now.
    fn never_started(&self, record: &Record, name: &InstanceName) -> bool {
        if self.engine.locks.is_held(name) {
            return false;
        }
        let mut all = self.not_started.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *all.entry(record.uuid).or_insert_with(Instant::now);
        let is_over = since.elapsed() > LAUNCH_LANDS;
        if is_over {
            all.remove(&record.uuid);
        }
        is_over
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hub({:?})", self.inner.engine)
    }
}

impl Hub {
    pub(crate) fn new(engine: Arc<LibvirtEngine>) -> Arc<Self> {
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let listening = watch::channel(false).0;
        let inner = Inner { engine, events, listening, not_started: Mutex::default() };
        Arc::new(Self { inner: Arc::new(inner), follower: OnceLock::new() })
    }

    /// Begins to follow, if nobody does yet. Needs a runtime.
    pub(crate) fn follow(&self) {
        self.follower.get_or_init(|| tasks::owned(follow(Arc::clone(&self.inner))));
    }

    /// From now on; waits until the daemon tells.
    pub(crate) async fn watch(self: &Arc<Self>) -> EventStream {
        let start = (self.inner.events.subscribe(), Arc::clone(self));
        self.follow();
        let _ = self.inner.listening.subscribe().wait_for(|listening| *listening).await;
        futures_util::stream::unfold(start, |(mut receiver, hub)| async move {
            match receiver.recv().await {
                Ok(event) => Some((event, (receiver, hub))),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Some((Event::Resynced, (receiver, hub)))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
        .boxed()
    }
}

/// Follows for ever; a connection that breaks is made again.
async fn follow(inner: Arc<Inner>) {
    let mut pause = RECONNECT_FIRST;
    let mut broke = false;
    loop {
        let ended = session(&inner, broke).await;
        inner.listening.send_replace(false);
        match ended {
            Ok(()) => {
                let address = inner.engine.address();
                tracing::warn!(%address, "connection to libvirt broke");
                pause = RECONNECT_FIRST;
                broke = true;
            }
            Err(error) => tracing::debug!(%error, "libvirt cannot be watched"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT_MAX);
    }
}

/// Until the connection breaks. An error: it could not even begin.
async fn session(inner: &Arc<Inner>, again: bool) -> Result<(), CallError> {
    let talk = inner.engine.talk(Lane::Calls).await?;
    let mut events = talk.events();
    talk.listen().await?;
    inner.listening.send_replace(true);
    if again {
        tracing::info!(address = %inner.engine.address(), "connection to libvirt is back");
        let _ = inner.events.send(Event::Resynced);
    }
    let mut work = JoinSet::new();
    scan(inner, &mut work);
    let mut polls = JoinSet::new();
    let mut tick = tokio::time::interval(POLL_EACH);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = talk.broken() => return Ok(()),
            Some(_) = work.join_next() => {}
            Some(_) = polls.join_next() => {}
            event = events.recv() => match event {
                Ok(event) => if let (Some(words), Ok(name)) =
                    (event.ending(), InstanceName::new(&event.domain.name))
                {
                    let (inner, uuid) = (Arc::clone(inner), event.domain.uuid);
                    work.spawn(async move {
                        let known = inner.engine.records.read(&name);
                        if matches!(known, Ok(Some(record)) if record.uuid == uuid) {
                            settle_gone(&inner, &name, words).await;
                        }
                    });
                },
                Err(broadcast::error::RecvError::Lagged(_)) => scan(inner, &mut work),
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            _ = tick.tick() => if polls.is_empty() {
                let inner = Arc::clone(inner);
                polls.spawn(async move { poll(&inner).await });
            },
        }
    }
}

/// Looks at all machines whose end nobody has seen.
fn scan(inner: &Arc<Inner>, work: &mut JoinSet<()>) {
    let inner = Arc::clone(inner);
    work.spawn(async move {
        let mut waiting = Vec::new();
        for record in living(&inner) {
            let Some(name) = record.instance() else { continue };
            settle_gone(&inner, &name, GONE).await;
            if record.suspends && record.stage == Stage::Made {
                waiting.push(record);
            }
        }
        let all = waiting.iter().map(|record| still::go_on(&inner.engine, record));
        futures_util::future::join_all(all).await;
    });
}

fn living(inner: &Inner) -> Vec<Record> {
    match inner.engine.records.all() {
        Ok(records) => records
            .into_iter()
            .filter(|record| match record.stage {
                Stage::Made | Stage::Launching | Stage::Launched { .. } | Stage::Ending { .. } => {
                    true
                }
                Stage::Making | Stage::Ended { .. } => false,
            })
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "records of machines cannot be read");
            Vec::new()
        }
    }
}

/// Asks every agent once whether its runner still runs.
async fn poll(inner: &Arc<Inner>) {
    let launched = living(inner).into_iter().filter(|record| record.stage != Stage::Made);
    futures_util::stream::iter(launched)
        .for_each_concurrent(POLLS_MAX, |record| async move {
            match ask(inner, &record).await {
                Ok(()) => {}
                Err(AgentError::Call(error)) if error.is_no_domain() => {
                    if let Some(name) = record.instance() {
                        settle_gone(inner, &name, GONE).await;
                    }
                }
                Err(error) => {
                    tracing::trace!(instance = record.name, %error, "runner could not be asked for");
                }
            }
        })
        .await;
}

async fn ask(inner: &Arc<Inner>, record: &Record) -> Result<(), AgentError> {
    let Some(name) = record.instance().filter(|_| !seed::is_seeded(record)) else { return Ok(()) };
    if matches!(record.stage, Stage::Ending { .. }) {
        end_again(inner, &name);
        return Ok(());
    }
    let talk = inner.engine.talk(Lane::Poll).await?;
    let domain = domain(record);
    let status = match record.stage {
        Stage::Launched { pid } => match agent::status(&talk, &domain, pid).await? {
            // Asked before by a daemon that did not live to write it down, or another agent: the guest knows.
            ProcessStatus::Unknown if record.wrapped => agent::look(&talk, &domain).await?,
            known @ (ProcessStatus::Running
            | ProcessStatus::Exited { .. }
            | ProcessStatus::Unknown) => known,
        },
        // The answer to the launch was lost: the wrapper's files tell.
        Stage::Launching if record.wrapped => match agent::look(&talk, &domain).await? {
            // It may still be on its way to the guest.
            ProcessStatus::Unknown if !inner.never_started(record, &name) => ProcessStatus::Running,
            known @ (ProcessStatus::Running
            | ProcessStatus::Exited { .. }
            | ProcessStatus::Unknown) => known,
        },
        Stage::Launching
        | Stage::Making
        | Stage::Made
        | Stage::Ending { .. }
        | Stage::Ended { .. } => return Ok(()),
    };
    match status {
        ProcessStatus::Running => {}
        ProcessStatus::Exited { code, .. } => end(inner, &name, Some(code), None).await,
        ProcessStatus::Unknown if record.wrapped => {
            end(inner, &name, None, Some("the runner's process is gone".to_owned())).await;
        }
        // Without the wrapper nobody knows. A runner that may still have its job is left alone; GitHub tells.
        ProcessStatus::Unknown => {}
    }
    Ok(())
}

/// Writes down how the runner ended, and ends its machine.
async fn end(inner: &Arc<Inner>, name: &InstanceName, code: Option<i32>, message: Option<String>) {
    let guard = inner.engine.locks.lock(name).await;
    let Ok(Some(record)) = inner.engine.records.read(name) else { return };
    match record.stage {
        Stage::Making | Stage::Ending { .. } | Stage::Ended { .. } => return,
        Stage::Made | Stage::Launching | Stage::Launched { .. } => {}
    }
    let ending = Record { stage: Stage::Ending { code, message }, ..record };
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.ending.before");
    if let Err(error) = inner.engine.records.write(&ending) {
        tracing::warn!(instance = %name, %error, "end of a runner could not be written down");
        return;
    }
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.ending.after");
    begin_end(inner, ending, guard);
}

/// Ends a machine whose end was begun, by a program that is gone or with a daemon that refused.
fn end_again(inner: &Arc<Inner>, name: &InstanceName) {
    let Some(guard) = inner.engine.locks.try_lock(name) else { return };
    let Ok(Some(record)) = inner.engine.records.read(name) else { return };
    if matches!(record.stage, Stage::Ending { .. }) {
        begin_end(inner, record, guard);
    }
}

/// In a task of its own: what hangs in one guest is not to keep others from being asked.
fn begin_end(inner: &Arc<Inner>, record: Record, guard: Guard) {
    let inner = Arc::clone(inner);
    tasks::start(async move {
        match ending::power_off(&inner.engine, &record).await {
            Ok(()) => tell(&inner, record),
            // It is tried again with the next look.
            Err(error) => {
                tracing::debug!(instance = record.name, %error, "machine of an ended runner is not off yet");
            }
        }
        drop(guard);
    });
}

/// The machine is said to be gone: if it is, that is how it ended, unless its runner ended before.
async fn settle_gone(inner: &Inner, name: &InstanceName, words: &'static str) {
    let _guard = inner.engine.locks.lock(name).await;
    let Ok(Some(record)) = inner.engine.records.read(name) else { return };
    let stage = match record.stage {
        Stage::Making | Stage::Ended { .. } => return,
        Stage::Ending { .. } => record.stage.clone(),
        Stage::Made | Stage::Launching | Stage::Launched { .. } => {
            Stage::Ending { code: None, message: Some(words.to_owned()) }
        }
    };
    let there = async { inner.engine.talk(Lane::Calls).await?.domain_of(record.uuid).await };
    match there.await {
        Ok(Some(domain)) if domain.is_active() => {}
        Ok(_) => tell(inner, Record { stage, ..record }),
        Err(error) => tracing::debug!(instance = %name, %error, "no look at a machine"),
    }
}

/// It is off: writes that down and tells it, once. The caller holds the name's lock.
fn tell(inner: &Inner, record: Record) {
    let (Some(name), Some(mut exit)) = (record.instance(), record.exit()) else { return };
    if exit.message.is_none() && exit.code != Some(0) {
        let output = inner.engine.records.kept_output(&name).ok().flatten();
        exit.message = output.as_deref().and_then(ending::last_words);
    }
    let stage = Stage::Ended { code: exit.code, message: exit.message.clone() };
    if let Err(error) = inner.engine.records.write(&Record { stage, ..record }) {
        tracing::warn!(instance = %name, %error, "end of a machine could not be written down");
    }
    let _ = inner.events.send(Event::Ended { name, exit });
}

/// The names of all records, for what libvirt lists beside them.
pub(crate) fn names(records: &[Record]) -> BTreeSet<&str> {
    records.iter().map(|record| record.name.as_str()).collect()
}
