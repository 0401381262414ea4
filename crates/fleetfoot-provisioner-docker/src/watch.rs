//! Exits as they happen.
//!
//! ```text
//! wait (opened before start) ─┐
//! events stream: die ─────────┼──▶ look: inspect, last lines ──▶ Ended, once a container
//! list after each (re)connect ┘                                  Resynced after each break
//! ```
//!
//! Waits and events are hints; what `inspect` says is the truth. One stream a (engine, installation),
//! shared by its pools. Waits are bounded: beyond the bound, events and lists find the exits.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fleetfoot_provisioner::{BackendError, Event, EventStream, Exit, InstallationId, InstanceName};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::{broadcast, oneshot};
use tokio::task::JoinSet;

use crate::container::{LABEL_INSTALLATION, LABEL_INSTANCE};
use crate::engine::DockerEngine;
use crate::http::{Call, CallError, Messages, encoded};
use crate::look::{self, Life};
use crate::tasks::{self, Owned};

/// All of its memory is taken at once. Who falls further behind lists anew.
const EVENTS_MAX: usize = 1024;
const TOLD_MAX: usize = 20_000;
const OPEN_MAX: Duration = Duration::from_secs(10);
/// An engine that does not answer a `wait` at once does not hold up the start.
const WAIT_OPEN_MAX: Duration = Duration::from_millis(500);
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MAX: Duration = Duration::from_secs(5);
/// Podman tells of an end before its own books say so.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 20;
/// Whoever looks at a container that was removed has ended by then, also where an engine answers slowly.
const GONE_MAX: u32 = 600;

/// An end of which nothing more is known.
const UNKNOWN: Exit = Exit { code: None, out_of_memory: false, message: None };

/// The exits of one installation's containers at one engine.
pub(crate) struct Hub {
    inner: Arc<Inner>,
    follower: tokio::sync::Mutex<Option<Owned>>,
}

struct Inner {
    engine: Arc<DockerEngine>,
    installation: InstallationId,
    events: broadcast::Sender<Event>,
    watching: AtomicBool,
    /// Containers whose end is known, by id.
    told: Mutex<HashMap<String, Told>>,
    waits: Mutex<HashMap<String, Owned>>,
    /// Containers that were started, by id, until their end was told.
    started: Mutex<HashSet<String>>,
}

/// What became of the end of a container.
enum Told {
    /// Somebody looks; an event said so much meanwhile.
    Looking(Option<Exit>),
    Yes,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hub({:?}, {})", self.inner.engine, self.inner.installation)
    }
}

impl Hub {
    pub(crate) fn new(engine: Arc<DockerEngine>, installation: InstallationId) -> Self {
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let inner = Inner {
            engine,
            installation,
            events,
            watching: AtomicBool::new(false),
            told: Mutex::default(),
            waits: Mutex::default(),
            started: Mutex::default(),
        };
        Self { inner: Arc::new(inner), follower: tokio::sync::Mutex::new(None) }
    }

    pub(crate) async fn watch(self: &Arc<Self>) -> Result<EventStream, BackendError> {
        let mut follower = self.follower.lock().await;
        if follower.is_none() {
            let messages = self
                .inner
                .open()
                .await
                .map_err(|error| error.of("watch containers", None, false))?;
            self.inner.watching.store(true, Ordering::Release);
            *follower = Some(tasks::owned(follow(Arc::clone(&self.inner), messages)));
        }
        let start = (self.inner.events.subscribe(), Arc::clone(self));
        Ok(futures_util::stream::unfold(start, |(mut receiver, hub)| async move {
            match receiver.recv().await {
                Ok(event) => Some((event, (receiver, hub))),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Some((Event::Resynced, (receiver, hub)))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })
        .boxed())
    }

    /// Opens the `wait` for a container that is about to start, if somebody watches.
    pub(crate) async fn expect(&self, name: &InstanceName, id: &str) {
        if let Some(opened) = Inner::wait(&self.inner, name, id) {
            let _ = tokio::time::timeout(WAIT_OPEN_MAX, opened).await;
        }
    }

    /// The container was removed by us: nothing more will be told of it.
    pub(crate) fn removed(&self, id: &str) {
        self.inner.forget(id);
    }
}

impl Inner {
    async fn open(&self) -> Result<Messages, CallError> {
        let label = format!("{LABEL_INSTALLATION}={}", self.installation);
        let filters = serde_json::json!({ "type": ["container"], "label": [label] }).to_string();
        let call = Call::get(format!("/events?filters={}", encoded(&filters)));
        let opened = tokio::time::timeout(OPEN_MAX, self.engine.call(call)).await;
        let answer = opened.map_err(|_| CallError::Lost("no answer to `events`".to_owned()))??;
        Ok(Messages::new(answer))
    }

    /// Starts the task that waits for a container's end. `None` if it waits already or may not.
    fn wait(inner: &Arc<Self>, name: &InstanceName, id: &str) -> Option<oneshot::Receiver<()>> {
        if !inner.watching.load(Ordering::Acquire) {
            return None;
        }
        inner.started().insert(id.to_owned());
        let mut waits = inner.waits.lock().unwrap_or_else(PoisonError::into_inner);
        if waits.contains_key(id) {
            return None;
        }
        let permit = Arc::clone(&inner.engine.waits).try_acquire_owned().ok()?;
        let (opened_tx, opened_rx) = oneshot::channel();
        let (weak, engine) = (Arc::downgrade(inner), Arc::clone(&inner.engine));
        let (name, of) = (name.clone(), id.to_owned());
        let task = tasks::owned(async move {
            let ended = wait_for_end(&engine, &of, opened_tx).await;
            drop(permit);
            ended_of(&weak, &name, &of, ended).await;
        });
        waits.insert(id.to_owned(), task);
        Some(opened_rx)
    }

    /// Asks the engine about a container that may have ended, and tells it once. That it has ended is certain if an
    /// event said so (`hint`), whatever becomes of the look.
    async fn look(&self, name: &InstanceName, id: &str, hint: Option<Exit>, patient: bool) {
        if !self.begin_look(id, hint) {
            return;
        }
        let exit = self.exit(id, patient).await;
        let hint = match self.told().remove(id) {
            Some(Told::Looking(hint)) => hint,
            Some(Told::Yes) | None => None,
        };
        let exit = match exit {
            Ok(Some(exit)) => Some(exit),
            // Removed meanwhile: the event's own word is all there is.
            Ok(None) => hint.or(Some(UNKNOWN)),
            Err(error) => {
                tracing::debug!(instance = %name, %error, "container could not be looked at");
                hint
            }
        };
        if let Some(exit) = exit {
            self.tell(name, id, exit);
        }
    }

    /// False if somebody looks already, who gets the hint, or it was told.
    fn begin_look(&self, id: &str, hint: Option<Exit>) -> bool {
        let mut told = self.told();
        if told.len() > TOLD_MAX {
            told.clear();
        }
        match told.get_mut(id) {
            Some(Told::Looking(known)) => {
                *known = known.take().or(hint);
                false
            }
            Some(Told::Yes) => false,
            None => {
                told.insert(id.to_owned(), Told::Looking(hint));
                true
            }
        }
    }

    fn tell(&self, name: &InstanceName, id: &str, exit: Exit) {
        self.told().insert(id.to_owned(), Told::Yes);
        self.started().remove(id);
        let _ = self.events.send(Event::Ended { name: name.clone(), exit });
    }

    /// Somebody removed it: its end is told, if nobody who looks at it can tell of it.
    async fn gone(&self, name: &InstanceName, id: &str) {
        for _ in 0..GONE_MAX {
            if self.begin_look(id, Some(UNKNOWN)) {
                self.tell(name, id, UNKNOWN);
            }
            if matches!(self.told().get(id), Some(Told::Yes)) {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.forget(id);
    }

    /// It was started, or is being looked at, and its end was not told.
    fn expects(&self, id: &str) -> bool {
        match self.told().get(id) {
            Some(Told::Looking(_)) => true,
            Some(Told::Yes) => false,
            None => self.started().contains(id),
        }
    }

    fn told(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn started(&self) -> MutexGuard<'_, HashSet<String>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exit(&self, id: &str, patient: bool) -> Result<Option<Exit>, CallError> {
        let mut talk = self.engine.talk().await?;
        for _ in 0..if patient { LOOKS_MAX } else { 1 } {
            let Some(inspected) = look::inspect(&mut talk, id).await? else { return Ok(None) };
            if inspected.life() == Life::Ended {
                let exit = look::exit_of(&mut talk, &inspected).await;
                self.engine.remember_exit(id, &exit);
                return Ok(Some(exit));
            }
            if patient {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Err(CallError::Odd("it still runs".to_owned()))
    }

    fn forget(&self, id: &str) {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.told().remove(id);
        self.started().remove(id);
        self.engine.forget_exit(id);
    }

    /// Looks at everything: opens waits for what runs, tells of what ended.
    async fn scan(inner: &Arc<Self>) -> Result<(), CallError> {
        let label = format!("{LABEL_INSTALLATION}={}", inner.installation);
        let mut talk = inner.engine.talk().await?;
        for listed in look::list(&mut talk, &[label]).await? {
            let Some(name) = listed.instance_of(&inner.installation) else { continue };
            match listed.life() {
                Life::Created => {}
                Life::Running => {
                    let _ = Self::wait(inner, &name, &listed.id);
                }
                Life::Ended => inner.look(&name, &listed.id, None, false).await,
            }
        }
        Ok(())
    }
}

async fn wait_for_end(engine: &DockerEngine, id: &str, opened: oneshot::Sender<()>) -> bool {
    let call = Call::post(format!("/containers/{id}/wait?condition=next-exit"));
    match engine.call(call).await {
        Ok(answer) => {
            let _ = opened.send(());
            // The body comes when the container ends, and breaks when somebody removes it: either is worth a look.
            let _ = answer.bytes().await;
            true
        }
        Err(error) => {
            tracing::debug!(id, %error, "no wait for the container");
            false
        }
    }
}

async fn ended_of(weak: &Weak<Inner>, name: &InstanceName, id: &str, ended: bool) {
    let Some(inner) = weak.upgrade() else { return };
    if ended {
        inner.look(name, id, None, true).await;
    }
    // Last of all: it drops the owner of this very task.
    inner.waits.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
}

#[derive(Deserialize)]
struct Message {
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor", default)]
    actor: Actor,
}

#[derive(Deserialize, Default)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: HashMap<String, String>,
}

impl Message {
    fn exit(&self) -> Option<Exit> {
        let attributes = &self.actor.attributes;
        let code = attributes.get("exitCode").or_else(|| attributes.get("containerExitCode"))?;
        Some(Exit { code: code.parse().ok(), out_of_memory: false, message: None })
    }
}

async fn follow(inner: Arc<Inner>, mut messages: Messages) {
    let mut looks = JoinSet::new();
    let scanned = Arc::clone(&inner);
    looks.spawn(async move {
        let _ = Inner::scan(&scanned).await;
    });
    loop {
        tokio::select! {
            biased;
            Some(_) = looks.join_next() => {}
            message = messages.next::<Message>() => match message {
                Ok(Some(message)) => heed(&inner, message, &mut looks),
                Ok(None) | Err(_) => messages = reconnect(&inner).await,
            },
        }
    }
}

fn heed(inner: &Arc<Inner>, message: Message, looks: &mut JoinSet<()>) {
    match message.action.as_str() {
        "die" | "died" => {
            let Some(name) = message.actor.attributes.get(LABEL_INSTANCE) else { return };
            let Ok(name) = InstanceName::new(name) else { return };
            let (inner, hint) = (Arc::clone(inner), message.exit());
            looks.spawn(async move { inner.look(&name, &message.actor.id, hint, true).await });
        }
        "destroy" | "remove" => {
            let id = message.actor.id;
            let name = message.actor.attributes.get(LABEL_INSTANCE);
            let name = name.and_then(|name| InstanceName::new(name).ok());
            match name.filter(|_| inner.expects(&id)) {
                // Somebody else's removal, in the middle of a look perhaps, which fails then.
                Some(name) => {
                    let inner = Arc::clone(inner);
                    looks.spawn(async move { inner.gone(&name, &id).await });
                }
                None => inner.forget(&id),
            }
        }
        _ => {}
    }
}

/// Opens the stream again, for as long as that takes, and looks at what happened meanwhile.
async fn reconnect(inner: &Arc<Inner>) -> Messages {
    tracing::warn!(host = inner.engine.address(), "docker event stream broke");
    inner.waits.lock().unwrap_or_else(PoisonError::into_inner).clear();
    // The scan below finds those that still run; of the others a list tells.
    inner.started().clear();
    let mut pause = RECONNECT_FIRST;
    loop {
        inner.engine.forget_version();
        match inner.open().await {
            Ok(messages) => {
                tracing::info!(host = inner.engine.address(), "docker event stream is back");
                let _ = inner.events.send(Event::Resynced);
                if let Err(error) = Inner::scan(inner).await {
                    tracing::debug!(%error, "containers could not be listed after a break");
                }
                return messages;
            }
            Err(error) => tracing::debug!(%error, "docker event stream cannot be opened"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT_MAX);
    }
}
