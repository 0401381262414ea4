//! The engine: environments in memory, and the knobs that make it slow or wrong.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use fleetfoot_core::{Exit, InstallationId, InstanceName, PoolName};
use fleetfoot_ordered::watch;
use futures_util::StreamExt as _;
use tokio::sync::{broadcast, oneshot};
use tokio::time::Instant;

use super::faults::{Fault, Latency, Rule};
use super::request::{Answer, Request};
use super::state::{Call, Change, Environment, State};
use crate::error::{BackendError, ErrorKind};
use crate::provisioner::{
    Deletion, EnvironmentInfo, EnvironmentState, Event, EventStream, JitConfig, Listing,
};
use crate::tasks;

const CALLS_MAX: usize = 200_000;
const LINES_MAX: usize = 1000;
const EVENTS_MAX: usize = 1024;

static SERIAL: AtomicU64 = AtomicU64::new(1);

struct Shared {
    name: String,
    state: Mutex<State>,
    events: broadcast::Sender<(Option<InstallationId>, Event)>,
    frozen: watch::Sender<bool>,
}

/// Environments in memory. Clones are handles of the same engine.
#[derive(Clone)]
pub struct SimulatedEngine(Arc<Shared>);

impl fmt::Debug for SimulatedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedEngine({})", self.0.name)
    }
}

impl Default for SimulatedEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl SimulatedEngine {
    /// An empty engine that answers at once.
    #[must_use]
    pub fn new() -> Self {
        Self::named(&format!("{}", SERIAL.fetch_add(1, Ordering::Relaxed)))
    }

    /// The same with a name of its own, by which its connection and identity are known.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let state = State {
            identity: format!("simulated-{name}"),
            environments: BTreeMap::new(),
            next_handle: 1,
            latency: Latency::default(),
            rules: Vec::new(),
            hook: None,
            observer: None,
            listed: None,
            calls: VecDeque::new(),
            peaks: BTreeMap::new(),
        };
        let (events, frozen) = (broadcast::Sender::new(EVENTS_MAX), watch::Sender::new(false));
        Self(Arc::new(Shared { name: name.to_owned(), state: Mutex::new(state), events, frozen }))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how long calls take.
    pub fn set_latency(&self, latency: Latency) {
        self.state().latency = latency;
    }

    /// Adds a rule; the first one that speaks of a call decides.
    pub fn add_rule(&self, rule: Rule) {
        self.state().rules.push(rule);
    }

    /// Everything goes well again, as far as rules are concerned.
    pub fn clear_rules(&self) {
        self.state().rules.clear();
    }

    /// Frozen: no call acts or answers; thawed, those in flight land, whether or not their callers still wait.
    pub fn set_frozen(&self, frozen: bool) {
        self.0.frozen.send_replace(frozen);
    }

    /// Another engine answers at the same address from now on, or the first one again.
    pub fn set_identity(&self, identity: &str) {
        identity.clone_into(&mut self.state().identity);
    }

    /// Who plays the runner: called after each launch, outside the engine's lock.
    pub fn on_launch(&self, hook: impl Fn(&InstanceName, &JitConfig) + Send + Sync + 'static) {
        self.state().hook = Some(Arc::new(hook));
    }

    /// Who hears of every change, in the moment it happens, outside the engine's lock.
    pub fn observe(&self, observer: impl Fn(&InstanceName, &Change) + Send + Sync + 'static) {
        self.state().observer = Some(Arc::new(observer));
    }

    fn tell(&self, name: &InstanceName, change: &Change) {
        let observer = self.state().observer.clone();
        if let Some(observer) = observer {
            observer(name, change);
        }
    }

    /// When it last made a list.
    #[must_use]
    pub fn listed_at(&self) -> Option<Instant> {
        self.state().listed
    }

    /// Event streams break and begin again.
    pub fn break_watch(&self) {
        let _ = self.0.events.send((None, Event::Resynced));
    }

    /// The runner of `name` ends. False if nothing lives there.
    pub fn end(&self, name: &InstanceName, exit: Exit) -> bool {
        let mut state = self.state();
        let Some(environment) = state.environments.get_mut(name) else { return false };
        if environment.state != EnvironmentState::Running {
            return false;
        }
        environment.state = EnvironmentState::Ended(exit.clone());
        let (installation, holder) = (environment.installation.clone(), environment.engine.clone());
        let answers = holder == state.identity;
        drop(state);
        self.tell(name, &Change::Ended(exit.clone()));
        // Whoever answers now knows nothing of what another engine holds.
        if answers {
            let ended = Event::Ended { name: name.clone(), exit };
            let _ = self.0.events.send((Some(installation), ended));
        }
        true
    }

    /// The runner of `name` prints a line.
    pub fn log(&self, name: &InstanceName, line: &str) {
        if let Some(environment) = self.state().environments.get_mut(name) {
            if environment.lines.len() == LINES_MAX {
                environment.lines.pop_front();
            }
            environment.lines.push_back(line.to_owned());
        }
    }

    /// Puts an environment there by other hands: a stray of ours, or something of another installation.
    pub fn insert(
        &self,
        installation: &InstallationId,
        pool: &PoolName,
        name: &InstanceName,
        environment_state: EnvironmentState,
    ) {
        self.state().insert(installation, pool, name, environment_state, None);
    }

    /// Takes an environment away by other hands. False if it was not there.
    pub fn remove(&self, name: &InstanceName) -> bool {
        self.state().environments.remove(name).is_some()
    }

    /// Everything there, of every installation.
    #[must_use]
    pub fn environments(&self) -> Vec<(InstallationId, EnvironmentInfo)> {
        let state = self.state();
        let all = state.environments.iter();
        all.map(|(name, it)| (it.installation.clone(), it.info(name))).collect()
    }

    /// Another engine holds `name` than the one that answers now.
    #[must_use]
    pub fn is_elsewhere(&self, name: &InstanceName) -> bool {
        let state = self.state();
        state.environments.get(name).is_some_and(|it| it.engine != state.identity)
    }

    /// It exists, whoever answers.
    #[must_use]
    pub fn holds(&self, name: &InstanceName) -> bool {
        self.state().environments.contains_key(name)
    }

    /// What exists of any other installation.
    pub(super) fn others(&self, installation: &InstallationId) -> Vec<EnvironmentInfo> {
        let all = self.environments().into_iter();
        all.filter(|(of, _)| of != installation).map(|(_, info)| info).collect()
    }

    /// The JIT config that `name` was launched with.
    #[must_use]
    pub fn jit(&self, name: &InstanceName) -> Option<JitConfig> {
        self.state().environments.get(name).and_then(|it| it.jit.clone())
    }

    /// The exits of one installation's environments.
    pub(super) fn events(&self, installation: &InstallationId) -> EventStream {
        let start = (self.0.events.subscribe(), installation.clone());
        futures_util::stream::unfold(start, |(mut receiver, installation)| async move {
            loop {
                match receiver.recv().await {
                    Ok((of, event)) if of.as_ref().is_none_or(|of| *of == installation) => {
                        return Some((event, (receiver, installation)));
                    }
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        return Some((Event::Resynced, (receiver, installation)));
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }

    /// One call. Once received it goes on without its caller, as in an engine that is a process of its own.
    pub(super) async fn call(&self, request: Request) -> Result<Answer, BackendError> {
        let (fault, latency) = self.receive(&request);
        if let Some(name) = request.name() {
            self.tell(name, &Change::Asked(request.operation()));
        }
        if fault == Some(Fault::Hang) {
            return std::future::pending().await;
        }
        if fault.is_none() && latency.is_zero() && !*self.0.frozen.borrow() {
            self.state().answers(matches!(request, Request::List { .. }));
            return self.act(request);
        }
        let lost = request.error(ErrorKind::Unanswered, "the engine is gone");
        let (mut answer_tx, answer_rx) = oneshot::channel();
        let received = tokio::time::Instant::now();
        let engine = self.clone();
        tasks::start(async move {
            let _ = engine.0.frozen.subscribe().wait_for(|frozen| !frozen).await;
            // A list is as old as its beginning: what lands while it is on its way is not in it.
            let lists = fault.is_none() && matches!(request, Request::List { .. });
            let seen = lists.then(|| engine.act(request.clone()));
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            let answer = match fault {
                None => seen.unwrap_or_else(|| engine.act(request)),
                Some(Fault::Fail(kind, message)) => Err(request.error(kind, message)),
                Some(Fault::LostAnswer) => {
                    let lost = request.error(ErrorKind::Unanswered, "the answer was lost");
                    engine.act(request).and(Err(lost))
                }
                Some(Fault::LateAnswer(after)) => {
                    let answer = engine.act(request);
                    tokio::time::sleep(after).await;
                    answer
                }
                Some(Fault::LandLate(after)) => {
                    // From its receipt: a freeze in between does not put it off any further.
                    tokio::time::sleep_until(received + after).await;
                    let _ = engine.act(request);
                    // The channel stays open until the caller gives up: no answer at all.
                    answer_tx.closed().await;
                    return;
                }
                Some(Fault::Hang) => return,
            };
            engine.state().answers(lists);
            let _ = answer_tx.send(answer);
        });
        answer_rx.await.unwrap_or(Err(lost))
    }

    fn receive(&self, request: &Request) -> (Option<Fault>, std::time::Duration) {
        let (operation, name) = (request.operation(), request.name());
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let call = Call {
            operation,
            name: name.cloned(),
            received: Instant::now(),
            received_unix_us: u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX),
        };
        let mut state = self.state();
        if state.calls.len() == CALLS_MAX {
            state.calls.pop_front();
        }
        state.calls.push_back(call);
        let pool = match request {
            Request::Create { pool, .. } => Some(pool.clone()),
            Request::Launch { name, .. }
            | Request::Delete { name, .. }
            | Request::Logs { name, .. } => state.environments.get(name).map(|it| it.pool.clone()),
            Request::List { .. } => None,
        };
        let fault =
            state.rules.iter_mut().find_map(|rule| rule.matches(operation, pool.as_ref(), name));
        (fault, state.latency.of(operation))
    }

    fn act(&self, request: Request) -> Result<Answer, BackendError> {
        let mut state = self.state();
        match &request {
            Request::Create { installation, pool, name, jit } => {
                let known = state.environments.contains_key(name);
                let Some((handle, launched)) = state.create(installation, pool, name, jit.as_ref())
                else {
                    let message = "the name belongs to something else";
                    return Err(request.error(ErrorKind::NameTaken, message));
                };
                if !known {
                    drop(state);
                    self.tell(name, &Change::Made(pool.clone()));
                    state = self.state();
                }
                self.play(state, launched, name);
                Ok(Answer::Handle(handle))
            }
            Request::Launch { installation, name, jit } => {
                let here = state.identity.clone();
                let ours = state
                    .environments
                    .get_mut(name)
                    .filter(|it| it.installation == *installation && it.engine == here);
                let Some(it) = ours else {
                    return Err(request.error(ErrorKind::Instance, "no such environment"));
                };
                if !it.launch(jit) {
                    return Err(request.error(ErrorKind::Instance, "it was launched before"));
                }
                self.play(state, true, name);
                Ok(Answer::Done)
            }
            Request::Delete { installation, name } => {
                let here = |it: &&Environment| {
                    it.installation == *installation && it.engine == state.identity
                };
                let Some(it) = state.environments.get(name).filter(here) else {
                    return Ok(Answer::Deleted(Deletion::WasAbsent));
                };
                let lived = it.state == EnvironmentState::Running;
                drop(state);
                self.tell(name, &Change::Deleted { lived });
                self.end(name, Exit { code: Some(143), out_of_memory: false, message: None });
                self.remove(name);
                Ok(Answer::Deleted(Deletion::Removed))
            }
            Request::List { installation } => {
                let ours = state.environments.iter().filter(|(_, it)| {
                    it.installation == *installation && it.engine == state.identity
                });
                let environments = ours.map(|(name, it)| it.info(name)).collect();
                Ok(Answer::Listing(Listing { identity: state.identity.clone(), environments }))
            }
            Request::Logs { installation, name, lines } => {
                let known = state.environments.get(name);
                let Some(it) = known.filter(|it| it.installation == *installation) else {
                    return Err(request.error(ErrorKind::Instance, "no such environment"));
                };
                let skipped = it.lines.len().saturating_sub(*lines);
                let tail: Vec<&str> = it.lines.iter().skip(skipped).map(String::as_str).collect();
                Ok(Answer::Logs(tail.join("\n")))
            }
        }
    }

    /// Lets the runner begin, outside the lock.
    fn play(&self, state: MutexGuard<'_, State>, launched: bool, name: &InstanceName) {
        let hook = state.hook.clone().filter(|_| launched);
        let jit = state.environments.get(name).and_then(|it| it.jit.clone());
        drop(state);
        if launched {
            self.tell(name, &Change::Launched);
        }
        if let (Some(hook), Some(jit)) = (hook, jit) {
            hook(name, &jit);
        }
    }
}
