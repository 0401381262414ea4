//! The host of one plugin program: which process answers the next call.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, mpsc};
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::calls::{self, CallError, Created, Package};
use crate::leftovers;
use crate::messages::{AddInstanceRequest, DeleteInstanceRequest};
use crate::output::PluginOutput;
use crate::process::{Plugin, StartError};

/// A healthy one says so within this.
const HEALTH_BOUND: Duration = Duration::from_secs(5);
/// How many calls one process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessModel {
    /// As many as come, until it is this old: some plugins hold credentials that expire.
    LongLived {
        /// A call begun later gets a new process.
        max_age: Duration,
    },
    /// One, as the original has it.
    PerCall,
}

/// How a plugin is run.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The program.
    pub program: PathBuf,
    /// How many calls one process answers.
    pub model: ProcessModel,
    /// A process that answered so recently is not asked how it is.
    pub fresh: Duration,
    /// How long it may take to its handshake.
    pub start_bound: Duration,
    /// How long it may take to end.
    pub exit_grace: Duration,
    /// Where its output goes.
    pub output: PluginOutput,
    /// TLS between us and it, each with a certificate for this one process (AutoMTLS). Shoes plugins are not asked
    /// for it by the original; others may want it.
    pub auto_mtls: bool,
    /// Variables besides those that it inherits.
    pub environment: Vec<(String, String)>,
}

impl HostSettings {
    /// The settings of the original, with one process for many calls.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            model: ProcessModel::LongLived { max_age: Duration::from_secs(10 * 60) },
            fresh: Duration::from_secs(5),
            start_bound: Duration::from_secs(60),
            exit_grace: Duration::from_secs(2),
            output: PluginOutput::Logged,
            auto_mtls: false,
            environment: Vec::new(),
        }
    }

    /// The name that lines of it carry.
    pub(crate) fn name(&self) -> String {
        let name = self.program.file_name().unwrap_or(self.program.as_os_str());
        name.to_string_lossy().into_owned()
    }
}

/// Where the one process is, or is being started by whoever came first.
type Slot = Arc<OnceCell<Arc<Running>>>;

/// Runs one plugin program for everybody who calls it.
#[derive(Debug)]
pub struct PluginHost {
    settings: HostSettings,
    slot: Mutex<Slot>,
    /// It does not know the new package: kept for as long as we run, it is a trait of the program.
    is_old: AtomicBool,
    running: Mutex<Option<mpsc::Sender<()>>>,
    all_ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

#[derive(Debug)]
struct Running {
    plugin: Plugin,
    answered: Mutex<Instant>,
    /// Held by who asks how it is, for everybody who calls meanwhile; false once it was not well.
    is_well: tokio::sync::Mutex<bool>,
}

impl Running {
    fn has_answered(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn has_answered_within(&self, fresh: Duration) -> bool {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.elapsed() < fresh
    }

    async fn is_well(&self, fresh: Duration) -> bool {
        if self.plugin.has_ended() {
            return false;
        }
        if self.has_answered_within(fresh) {
            return true;
        }
        let mut is_well = self.is_well.lock().await;
        // A hundred calls at once need one answer.
        if !*is_well || self.has_answered_within(fresh) {
            return *is_well;
        }
        let asked = calls::is_healthy(self.plugin.channel.clone());
        *is_well = timeout(HEALTH_BOUND, asked).await.unwrap_or(false);
        if *is_well {
            self.has_answered();
        }
        *is_well
    }
}

impl PluginHost {
    /// A host for the program. Nothing is started before the first call; what a daemon that was killed left is ended.
    #[must_use]
    pub fn new(settings: HostSettings) -> Arc<Self> {
        leftovers::end(&std::env::temp_dir());
        let (running, all_ended) = mpsc::channel(1);
        Arc::new(Self {
            settings,
            slot: Mutex::default(),
            is_old: AtomicBool::new(false),
            running: Mutex::new(Some(running)),
            all_ended: tokio::sync::Mutex::new(all_ended),
        })
    }

    /// The program's path.
    #[must_use]
    pub fn program(&self) -> &std::path::Path {
        &self.settings.program
    }

    /// Starts the plugin if it does not run, and asks how it is.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub async fn check(&self) -> Result<(), StartError> {
        self.running().await.map(drop)
    }

    pub(crate) async fn add(&self, request: AddInstanceRequest) -> Result<Created, CallError> {
        match self.add_once(request.clone()).await {
            // It ended a moment ago: another one is started.
            Err(CallError::NotReached(_)) => self.add_once(request).await,
            answer => answer,
        }
    }

    async fn add_once(&self, request: AddInstanceRequest) -> Result<Created, CallError> {
        let running = self.running().await?;
        let channel = || running.plugin.channel.clone();
        if !self.is_old.load(Ordering::Relaxed) {
            let answer = calls::add(channel(), Package::New, request.clone()).await;
            if !is_unimplemented(&answer) {
                return self.seen(&running, answer);
            }
        }
        let answer = calls::add(channel(), Package::Old, request).await;
        self.answered_to_the_old(&answer);
        self.seen(&running, answer)
    }

    pub(crate) async fn delete(&self, request: DeleteInstanceRequest) -> Result<(), CallError> {
        match self.delete_once(request.clone()).await {
            Err(CallError::NotReached(_)) => self.delete_once(request).await,
            answer => answer,
        }
    }

    async fn delete_once(&self, request: DeleteInstanceRequest) -> Result<(), CallError> {
        let running = self.running().await?;
        let channel = || running.plugin.channel.clone();
        if !self.is_old.load(Ordering::Relaxed) {
            let answer = calls::delete(channel(), Package::New, request.clone()).await;
            if !is_unimplemented(&answer) {
                return self.seen(&running, answer);
            }
        }
        let answer = calls::delete(channel(), Package::Old, request).await;
        self.answered_to_the_old(&answer);
        self.seen(&running, answer)
    }

    /// Stops what runs and waits for its end. Calls that are under way go on to theirs, so long as `bound` lets them: what
    /// runs then is killed with the runtime that it was started in.
    pub async fn end(&self, bound: Duration) {
        drop(self.running.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.forget(None);
        let mut all_ended = self.all_ended.lock().await;
        if timeout(bound, all_ended.recv()).await.is_err() {
            tracing::warn!(plugin = self.settings.name(), "plugin did not end in time");
        }
    }

    /// The process for the next call.
    async fn running(&self) -> Result<Arc<Running>, StartError> {
        let ProcessModel::LongLived { max_age } = self.settings.model else {
            return self.start().await;
        };
        loop {
            let slot = self.slot();
            let is_new = !slot.initialized();
            let running = slot.get_or_try_init(|| self.start()).await?.clone();
            let is_young = running.plugin.began.elapsed() < max_age;
            if is_new || (is_young && running.is_well(self.settings.fresh).await) {
                return Ok(running);
            }
            // Calls that are under way hold the old one until they end.
            self.forget(Some(&slot));
        }
    }

    async fn start(&self) -> Result<Arc<Running>, StartError> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // After the end nothing is started that nobody would wait for.
        let running = running.ok_or_else(|| StartError::Connect {
            program: self.settings.program.clone(),
            cause: "the daemon ends".to_owned(),
        })?;
        let plugin = Plugin::start(&self.settings, running).await?;
        let is_well = tokio::sync::Mutex::new(true);
        Ok(Arc::new(Running { plugin, answered: Mutex::new(Instant::now()), is_well }))
    }

    fn slot(&self) -> Slot {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next call gets a new process; with `only`, unless another one has seen to that.
    fn forget(&self, only: Option<&Slot>) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if only.is_none_or(|only| Arc::ptr_eq(only, &slot)) {
            *slot = Slot::default();
        }
    }

    /// Notes that it answered, or that it does not any more.
    fn seen<T>(
        &self,
        running: &Arc<Running>,
        answer: Result<T, CallError>,
    ) -> Result<T, CallError> {
        match &answer {
            Err(CallError::Lost(_) | CallError::NotReached(_) | CallError::Start(_)) => {
                let slot = self.slot();
                if slot.get().is_some_and(|current| Arc::ptr_eq(current, running)) {
                    self.forget(Some(&slot));
                }
            }
            Ok(_) | Err(CallError::Refused { .. }) => running.has_answered(),
        }
        answer
    }

    fn answered_to_the_old<T>(&self, answer: &Result<T, CallError>) {
        let is_answer = matches!(answer, Ok(_) | Err(CallError::Refused { .. }));
        if is_answer && !is_unimplemented(answer) {
            self.is_old.store(true, Ordering::Relaxed);
        }
    }
}

fn is_unimplemented<T>(answer: &Result<T, CallError>) -> bool {
    matches!(answer, Err(CallError::Refused { code: Code::Unimplemented, .. }))
}
