//! The box in this process.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Response};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};

use crate::config::{BoxConfig, Settings};
use crate::control::ControlClient;
use crate::faults::Fault;
use crate::http::{self, Bound};
use crate::model::{BoxState, Summary};
use crate::observe::Seen;
use crate::request::{ExpireRequest, Muddle, QueueJobs, Told};
use crate::state::{Shared, timers_run};
use crate::tasks::Task;

/// The address that is told where a socket is served, or nothing but this process; nothing listens there.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Why a box could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address is not to be had.
    #[error("failed to bind {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

/// A wait that did not see what it waited for. Carries the last summary.
#[derive(Debug, Error)]
#[error("waited {waited:?} in vain, last seen {summary:?}")]
pub struct WaitedInVain {
    /// How long.
    pub waited: Duration,
    /// What was there at the end.
    pub summary: Summary,
}

/// A running box. Dropping it ends it, and every connection with it.
pub struct GithubBox {
    pub(crate) shared: Arc<Shared>,
    address: SocketAddr,
    _tasks: [Option<Task>; 2],
}

impl std::fmt::Debug for GithubBox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GithubBox").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for GithubBox {
    fn drop(&mut self) {
        self.shared.closing.send_replace(http::CLOSE_ALL);
    }
}

impl GithubBox {
    /// Binds, and serves in tasks of the current runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(config: BoxConfig) -> Result<Self, StartError> {
        let address = config.address;
        let bind = |source| StartError::Bind { address, source };
        let (bound, address) = match &config.socket {
            Some(path) => {
                let listener = UnixListener::bind(path).map_err(bind)?;
                (Bound::Unix(listener), NOWHERE)
            }
            None => {
                let listener = TcpListener::bind(address).await.map_err(bind)?;
                let address = listener.local_addr().map_err(bind)?;
                (Bound::Tcp(listener), address)
            }
        };
        let shared = Arc::new(Shared::new(config.settings, config.start_us));
        let server = Task::start(http::serve(Arc::clone(&shared), bound, address));
        Ok(Self::of(shared, address, Some(server)))
    }

    /// Starts a box that is nowhere but in this process: only [`Self::ask`] asks it.
    #[must_use]
    pub fn within(config: BoxConfig) -> Self {
        let shared = Arc::new(Shared::new(config.settings, config.start_us));
        Self::of(shared, NOWHERE, None)
    }

    fn of(shared: Arc<Shared>, address: SocketAddr, server: Option<Task>) -> Self {
        let timers = Task::start(timers_run(Arc::clone(&shared)));
        Self { shared, address, _tasks: [Some(timers), server] }
    }

    /// Answers a request as it would one that came over a connection; nothing, if a fault cut that. What is dropped
    /// on its way was hung up on.
    pub fn ask(
        &self,
        request: Request<Vec<u8>>,
    ) -> impl Future<Output = Option<Response<Vec<u8>>>> + Send + use<> {
        http::ask(Arc::clone(&self.shared), self.address, request)
    }

    /// The address that is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address`, from this machine.
    #[must_use]
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        format!("http://{address}")
    }

    /// The configuration URL of a scope (`org`, `owner/repo`, `enterprises/name`).
    #[must_use]
    pub fn config_url(&self, scope: &str) -> String {
        format!("{}/{scope}", self.url())
    }

    /// A client of the control API, as another process would use.
    #[must_use]
    pub fn control(&self) -> ControlClient {
        ControlClient::new(&self.url())
    }

    /// Everything, at this instant.
    #[must_use]
    pub fn state(&self) -> BoxState {
        self.shared.lock().view()
    }

    /// The runners that are registered now.
    #[must_use]
    pub fn runners(&self) -> Vec<crate::model::Runner> {
        let state = self.shared.lock();
        state.runners.values().map(|runner| state.view_runner(runner)).collect()
    }

    /// The counts, at this instant.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.shared.lock().summary()
    }

    /// Queues jobs; their numbers.
    pub fn queue_jobs(&self, jobs: &QueueJobs) -> Vec<u64> {
        self.shared.lock().queue_jobs(jobs)
    }

    /// Cancels a job; false if it is unknown or has ended.
    pub fn cancel_job(&self, id: u64) -> bool {
        self.shared.lock().cancel_job(id)
    }

    /// Sends a job message that need not be true; false if the job has no scale set.
    pub fn tell(&self, job: u64, told: &Told) -> bool {
        self.shared.lock().tell_anyway(job, told)
    }

    /// Who hears of every request, in the moment it is done.
    pub fn observe(&self, observer: impl Fn(&Seen) + Send + Sync + 'static) {
        self.shared.watching.set(Arc::new(observer));
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Brings the unsent messages of a scale set into disorder; false if it is not there.
    pub fn muddle(&self, scope: &str, scale_set: &str, how: Muddle) -> bool {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        match state.find_set(tenant, None, scale_set) {
            Some(id) => state.muddle(id, how),
            None => false,
        }
    }

    /// Puts a runner there by other hands, as somebody else's program does; its JIT config is nobody's.
    pub fn register_runner(&self, scope: &str, name: &str) -> bool {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        state.register_foreign(tenant, name)
    }

    /// A registered runner and the job it has, by name.
    #[must_use]
    pub fn runner(&self, scope: &str, name: &str) -> Option<Option<u64>> {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        let id = state.runner_by_name(tenant, name)?;
        state.runners.get(&id).map(|runner| runner.job)
    }

    /// The job with this number, as it is now.
    #[must_use]
    pub fn job(&self, id: u64) -> Option<crate::model::Job> {
        let state = self.shared.lock();
        state.jobs.get(&id).map(|job| state.view_job(job))
    }

    /// How many of the jobs that this unacknowledged message offers nobody acquired yet.
    #[must_use]
    pub fn unacquired(&self, scope: &str, scale_set: &str, message: i64) -> usize {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        let set = state.find_set(tenant, None, scale_set).and_then(|id| state.sets.get(&id));
        let sent = set.and_then(|set| Some((set, set.unacknowledged.as_ref()?)));
        sent.filter(|(_, sent)| sent.id == message).map_or(0, |(set, sent)| {
            sent.offers.iter().filter(|job| set.available.contains(job)).count()
        })
    }

    /// A scale set, as it is now.
    #[must_use]
    pub fn scale_set(&self, scope: &str, name: &str) -> Option<crate::model::ScaleSet> {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        let id = state.find_set(tenant, None, name)?;
        state.sets.get(&id).map(|set| state.view_set(set))
    }

    /// A scale set's statistics as they are.
    #[must_use]
    pub fn level(&self, scope: &str, name: &str) -> Option<crate::model::Statistics> {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        let id = state.find_set(tenant, None, name)?;
        state.sets.get(&id).map(crate::state::ScaleSet::statistics)
    }

    /// A scale set's statistics as the service states them, lies included.
    #[must_use]
    pub fn stated(&self, scope: &str, name: &str) -> Option<crate::model::Statistics> {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        let id = state.find_set(tenant, None, name)?;
        state.sets.get(&id).map(|set| set.stated(&state.settings))
    }

    /// Makes a scale set vanish; false if it is not there.
    pub fn vanish(&self, scope: &str, scale_set: &str) -> bool {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        match state.find_set(tenant, None, scale_set) {
            Some(id) => state.remove_set(id, "vanished"),
            None => false,
        }
    }

    /// Expires tokens or sessions; false if the scale set is not there.
    pub fn expire(&self, request: &ExpireRequest) -> bool {
        self.shared.lock().expire(request)
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        self.shared.lock().faults.add(fault);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Connects a registered runner as the box's own: it takes one job, lasts as long as that says, and is
    /// gone. For figures about many jobs, where a program for each would be what is measured.
    pub fn play_runner(&self, scope: &str, name: &str) -> bool {
        let mut state = self.shared.lock();
        let tenant = state.tenant(scope);
        let Some(id) = state.runner_by_name(tenant, name) else { return false };
        state.play(id);
        true
    }

    /// Waits until no runner of this scope and name is registered (any more).
    pub async fn runner_gone(&self, scope: &str, name: &str) {
        loop {
            let woken = {
                let mut state = self.shared.lock();
                let tenant = state.tenant(scope);
                let id = state.runner_by_name(tenant, name);
                let Some(wake) = id.and_then(|id| state.runners.get(&id)).map(|it| it.wake.clone())
                else {
                    return;
                };
                // Enabled under the lock: what happens after it is not missed.
                let mut woken = Box::pin(wake.notified_owned());
                woken.as_mut().enable();
                woken
            };
            woken.await;
        }
    }

    /// How the box behaves now.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.shared.lock().settings.clone()
    }

    /// Changes how the box behaves.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.shared.lock().settings);
    }

    /// Ends every open connection at once, waiting polls included, as a broken network does.
    pub fn cut_connections(&self) {
        self.shared.cut_connections();
    }

    /// Forgets everything but the settings.
    pub fn reset(&self) {
        self.shared.lock().reset();
    }

    /// Waits until the state is as wanted, looking after each change.
    ///
    /// # Errors
    /// When the time is over first.
    pub async fn wait_until(
        &self,
        timeout: Duration,
        mut wanted: impl FnMut(&BoxState) -> bool,
    ) -> Result<BoxState, WaitedInVain> {
        let look = || Some(self.state()).filter(|state| wanted(state));
        self.wait_for(timeout, look).await
    }

    /// Waits until the counts are as wanted. [`Self::wait_until`] copies the whole state for each look, which, with
    /// thousands of jobs, is more work than what is to be measured beside it.
    ///
    /// # Errors
    /// When the time is over first.
    pub async fn wait_counts(
        &self,
        timeout: Duration,
        mut wanted: impl FnMut(&Summary) -> bool,
    ) -> Result<Summary, WaitedInVain> {
        let look = || Some(self.summary()).filter(|summary| wanted(summary));
        self.wait_for(timeout, look).await
    }

    async fn wait_for<T>(
        &self,
        timeout: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Result<T, WaitedInVain> {
        let mut changes = self.shared.lock().subscribe();
        let looked = tokio::time::timeout(timeout, async {
            loop {
                changes.borrow_and_update();
                if let Some(found) = look() {
                    return found;
                }
                // Time passes too: a lapse or an expiry need not be a change.
                let _ = tokio::time::timeout(Duration::from_millis(50), changes.changed()).await;
            }
        })
        .await;
        looked.map_err(|_| WaitedInVain { waited: timeout, summary: self.summary() })
    }
}
