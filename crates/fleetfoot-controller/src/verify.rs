//! Looking runners up at GitHub: one batched listing per credential, shared by everybody who asks
//! within a few seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetfoot_core::{Instance, Observation, Registration, RunnerId};
use fleetfoot_github::{Connection, ErrorKind, GithubError};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::calls::{Failure, bounded};
use crate::executor::chain;
use crate::pool::{Flight, PoolContext};
use crate::start::{github_failed, observe};

/// A listing serves everybody who asks within this time.
const FRESH: Duration = Duration::from_secs(5);

/// The whole listing, all its pages, ends within this.
const LIST_BOUND: Duration = Duration::from_secs(60);

/// Runners by their number.
pub(crate) type Runners = Arc<BTreeMap<i64, Status>>;

/// The runners of one scope as GitHub last listed them.
#[derive(Debug)]
pub(crate) struct RunnerList {
    one_at_a_time: Semaphore,
    last: Mutex<Option<Listed>>,
}

/// What became of a listing.
#[derive(Debug, Clone)]
enum Listed {
    /// It began then.
    At(Instant, Runners),
    /// It failed then; without an error it was not answered.
    Failed(Instant, Option<GithubError>),
}

impl Default for RunnerList {
    fn default() -> Self {
        Self { one_at_a_time: Semaphore::new(1), last: Mutex::default() }
    }
}

/// What GitHub says of a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) name: Box<str>,
    pub(crate) online: bool,
    pub(crate) busy: bool,
}

impl RunnerList {
    async fn get(&self, connection: &Connection, id: i64) -> Result<Runners, Failure<GithubError>> {
        let asked = Instant::now();
        let _turn = self.one_at_a_time.acquire().await;
        // A listing that began after we asked speaks of our runner; a young one only if it saw it at work:
        // it may have come since.
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some(Listed::At(began, list)) => {
                let saw = list.get(&id).is_some_and(|status| status.online || status.busy);
                if began >= asked || (saw && began.elapsed() < FRESH) {
                    return Ok(list);
                }
            }
            // Who waited for it while it failed need not wait as long once more, each for itself.
            Some(Listed::Failed(at, error)) if at >= asked => {
                return Err(error.map_or(Failure::Unanswered, Failure::Failed));
            }
            Some(Listed::Failed(..)) | None => {}
        }
        self.list(connection).await.map(|(_, list)| list)
    }

    /// All runners, from a listing that is not older than `fresh`, and when that began.
    pub(crate) async fn all(
        &self,
        connection: &Connection,
        fresh: Duration,
    ) -> Result<(Instant, Runners), Failure<GithubError>> {
        let _turn = self.one_at_a_time.acquire().await;
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some(Listed::At(began, list)) if began.elapsed() < fresh => Ok((began, list)),
            Some(Listed::At(..) | Listed::Failed(..)) | None => self.list(connection).await,
        }
    }

    async fn list(
        &self,
        connection: &Connection,
    ) -> Result<(Instant, Runners), Failure<GithubError>> {
        let began = Instant::now();
        let runners = match bounded(LIST_BOUND, connection.list_runners()).await {
            Ok(runners) => runners,
            Err(failure) => {
                let error = match &failure {
                    Failure::Failed(error) => Some(error.clone()),
                    Failure::Unanswered => None,
                };
                self.note(Listed::Failed(Instant::now(), error));
                return Err(failure);
            }
        };
        let list: BTreeMap<i64, Status> = runners
            .into_iter()
            .map(|runner| {
                let name = runner.name.into_boxed_str();
                (runner.id, Status { name, online: runner.online, busy: runner.busy })
            })
            .collect();
        let list = Arc::new(list);
        self.note(Listed::At(began, list.clone()));
        Ok((began, list))
    }

    fn note(&self, listed: Listed) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(listed);
    }
}

/// Asks GitHub about one runner and takes in what it says.
pub(crate) async fn verify(flight: Flight) {
    let pool = &flight.pool;
    let state = pool.state();
    let Some(instance) = state.as_ref().and_then(|state| state.instances.get(&flight.name)) else {
        return;
    };
    let Registration::Registered(id) = instance.registration else {
        by_name(pool, instance).await;
        return;
    };
    let (settings, github) = (pool.settings(), pool.github());
    let observation = match github.runners.get(&settings.connection, id.0).await {
        Ok(list) => match list.get(&id.0) {
            Some(Status { busy: true, .. }) => Observation::Busy,
            Some(Status { online: true, .. }) => Observation::Online,
            Some(Status { .. }) => Observation::Jobless,
            // The listing may be of another scope than the scale set's: ask by number before believing it.
            None => match by_id(pool, instance, id.0).await {
                Some(observation) => observation,
                None => return,
            },
        },
        Err(failure) => {
            let may_not = matches!(&failure, Failure::Failed(error)
                if matches!(error.kind(), ErrorKind::Forbidden { .. } | ErrorKind::NotFound));
            if !may_not {
                give_up(pool, instance, &failure).await;
                return;
            }
            match by_id(pool, instance, id.0).await {
                Some(observation) => observation,
                None => return,
            }
        }
    };
    github.reach.answered();
    if observation == Observation::Online && instance.phase == fleetfoot_core::Phase::Starting {
        tracing::info!(pool = %pool.name(), instance = %flight.name, "instance idle");
    }
    observe(pool, &flight.name, vec![observation]).await;
}

/// It has a job, and its number was never heard of: an answer was lost.
async fn by_name(pool: &PoolContext, instance: &Instance) {
    let name = instance.name.as_str();
    let asked = bounded(pool.call_bound(), pool.settings().connection.runner_by_name(name)).await;
    let observation = match asked {
        Ok(Some(runner)) => Observation::Registered { runner: RunnerId(runner.id) },
        Ok(None) => Observation::RunnerGone,
        Err(failure) => return give_up(pool, instance, &failure).await,
    };
    pool.github().reach.answered();
    observe(pool, &instance.name, vec![observation]).await;
}

async fn by_id(pool: &PoolContext, instance: &Instance, id: i64) -> Option<Observation> {
    match bounded(pool.call_bound(), pool.settings().connection.runner_by_id(id)).await {
        Ok(Some(_)) => Some(Observation::StillRegistered),
        Ok(None) => Some(Observation::RunnerGone),
        Err(failure) => {
            give_up(pool, instance, &failure).await;
            None
        }
    }
}

/// Asked in vain: not again before a while.
async fn give_up(pool: &PoolContext, instance: &Instance, failure: &Failure<GithubError>) {
    github_failed(pool, failure);
    let detail = match failure {
        Failure::Unanswered => "github did not answer in time".to_owned(),
        Failure::Failed(error) => chain(error),
    };
    tracing::warn!(pool = %pool.name(), instance = %instance.name, error = detail, "runner look-up failed");
    let retry_at = pool.now() + fleetfoot_core::Span::seconds(20 + fastrand::i64(0..20));
    let name = instance.name.clone();
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.look_up_retry.before");
    let changed = pool
        .shared
        .store
        .update(move |txn| txn.modify_instance(&name, move |row| row.retry_at = Some(retry_at)))
        .await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.look_up_retry.after");
    if let Err(error) = changed {
        tracing::error!(pool = %pool.name(), error = %chain(&error), "store refused a retry");
    }
}
