//! The loop: look which release is the newest, fetch what is wanted and not there, tell each pool, clean up.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetfoot_core::{PoolName, RunnerRelease, Timestamp};
use fleetfoot_github::{Connection, RunnerArchive, RunnerPlatform};
use fleetfoot_ordered::watch;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::fetch::{FetchError, fetch};
use crate::shelf::{Shelf, Wanted};
use crate::version::is_older;

/// GitHub takes a runner for about this long after a newer one is out.
const ACCEPTED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Runners that are refused for their version bring no more than one look in this time.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);

/// The first wait after a failure; it doubles up to the usual period, at most an hour.
const RETRY: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(60 * 60);

/// What a pool uses, or wants.
#[derive(Debug, Clone)]
pub struct Order {
    /// The pool's way to GitHub.
    pub connection: Connection,
    /// The release that is kept for it; none if it brings its own.
    pub wanted: Option<Wanted>,
    /// The release it brings, if its name tells.
    pub brings: Option<String>,
}

impl Order {
    fn host(&self) -> &str {
        self.connection.url().host()
    }

    fn same(&self, other: &Self) -> bool {
        self.connection.is(&other.connection)
            && self.wanted == other.wanted
            && self.brings == other.brings
    }
}

#[derive(Debug)]
struct Served {
    order: Order,
    told: watch::Sender<RunnerRelease>,
}

/// Keeps releases for all pools of this host.
#[derive(Debug)]
pub struct Keeper {
    shelf: Shelf,
    /// Between looks; none looks only when something changes.
    period: Option<Duration>,
    served: Mutex<BTreeMap<PoolName, Served>>,
    changed: Notify,
    refused: Arc<Notify>,
    published: Mutex<BTreeMap<String, SystemTime>>,
}

impl Keeper {
    /// A keeper with this shelf, which looks for newer releases so often; with 0 not at all.
    #[must_use]
    pub fn new(shelf: Shelf, period: Duration) -> Self {
        Self {
            shelf,
            period: (!period.is_zero()).then_some(period),
            served: Mutex::default(),
            changed: Notify::new(),
            refused: Arc::default(),
            published: Mutex::default(),
        }
    }

    /// Where the pool finds the release that is kept for it.
    #[must_use]
    pub fn place(&self, order: &Order) -> Option<PathBuf> {
        order.wanted.as_ref().map(|wanted| self.shelf.place(wanted, order.host()))
    }

    /// Serves a pool from now on: what is on the shelf is told at once. The same pool has the same channel again.
    pub fn serve(&self, pool: &PoolName, order: Order) -> watch::Receiver<RunnerRelease> {
        let mut served = self.lock();
        if let Some(known) = served.get_mut(pool) {
            if !known.order.same(&order) {
                let first = self.at_first(&order);
                known.told.send_replace(first);
                known.order = order;
                self.changed.notify_one();
            }
            return known.told.subscribe();
        }
        let (told, receiver) = watch::channel(self.at_first(&order));
        served.insert(pool.clone(), Served { order, told });
        self.changed.notify_one();
        receiver
    }

    /// Forgets pools that are served no longer.
    pub fn keep(&self, pools: &BTreeSet<PoolName>) {
        let mut served = self.lock();
        let before = served.len();
        served.retain(|pool, _| pools.contains(pool));
        if served.len() < before {
            self.changed.notify_one();
        }
    }

    /// Told when GitHub refused a runner for its version (exit code 7): a newer one is out, so it looks at once.
    #[must_use]
    pub fn refused(&self) -> Arc<Notify> {
        Arc::clone(&self.refused)
    }

    fn at_first(&self, order: &Order) -> RunnerRelease {
        self.release(order, None, None)
    }

    /// Looks, fetches and tells, for ever. `oldest_instance` says when the oldest instance that lives was begun.
    pub async fn run(&self, oldest_instance: impl Fn() -> Option<SystemTime>) -> Infallible {
        let mut wait = RETRY;
        let mut refused_again = Instant::now();
        loop {
            // This look is for everything that was asked until now: it is not repeated for it.
            std::pin::pin!(self.changed.notified()).enable();
            let whole = self.pass().await;
            self.prune(oldest_instance());
            let pause = if whole {
                wait = RETRY;
                self.period
            } else {
                let pause = wait;
                let longest = self.period.map_or(RETRY_MAX, |period| period.min(RETRY_MAX));
                wait = (wait * 2).min(longest.max(RETRY));
                // Without a period what is there is used, and what is not is asked for again all the same.
                Some(pause.min(longest))
            };
            let tick = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            // Each start that fails so says it, and one look is enough for a while.
            let refused = async {
                self.refused.notified().await;
                tracing::info!("a runner was refused for its version, looking for a newer one");
                tokio::time::sleep_until(refused_again).await;
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = refused => refused_again = Instant::now() + REFUSED_AGAIN,
                () = tick => {}
            }
        }
    }

    /// One look at everything. Says whether nothing failed.
    async fn pass(&self) -> bool {
        let orders: Vec<(PoolName, Order)> =
            self.lock().iter().map(|(pool, one)| (pool.clone(), one.order.clone())).collect();
        let Some(platform) = RunnerPlatform::of_this_host() else { return true };
        let mut newest: Vec<(Connection, Result<Option<RunnerArchive>, String>)> = Vec::new();
        let mut whole = true;
        for (pool, order) in orders {
            let settled = |version: &Option<String>| version.is_some() && self.period.is_none();
            if settled(&self.version_of(&order)) {
                self.tell(&pool, &order, None, None);
                continue;
            }
            let known = newest.iter().find(|(connection, _)| connection.is(&order.connection));
            let offered = match known {
                Some((_, offered)) => offered.clone(),
                None => {
                    let asked = order.connection.newest_runner(platform).await;
                    let offered = asked.map_err(|error| error.chain());
                    newest.push((order.connection.clone(), offered.clone()));
                    offered
                }
            };
            let problem = self.provide(&order, &offered, platform).await.err();
            whole &= problem.is_none();
            let offered = offered.ok().flatten().map(|archive| archive.version);
            if let Some(version) = &offered {
                self.look_up_date(&order, version, platform).await;
            }
            self.tell(&pool, &order, offered, problem);
        }
        whole
    }

    /// Puts on the shelf what the pool wants and what is not there.
    async fn provide(
        &self,
        order: &Order,
        offered: &Result<Option<RunnerArchive>, String>,
        platform: RunnerPlatform,
    ) -> Result<(), String> {
        let Some(wanted) = &order.wanted else {
            return offered.as_ref().map(drop).map_err(Clone::clone);
        };
        let archive = match wanted {
            Wanted::Exact(version) if self.shelf.holds(version) => return Ok(()),
            Wanted::Latest => offered.clone()?.ok_or("GitHub offers no runner for this host")?,
            Wanted::Exact(version) => match offered {
                Ok(Some(archive)) if archive.version == *version => archive.clone(),
                Ok(_) | Err(_) => {
                    let notes = order.connection.runner_notes(version, platform).await;
                    let notes = notes.map_err(|error| error.chain())?;
                    let missing = || FetchError::NotOffered { version: version.clone() };
                    notes.archive.ok_or_else(|| missing().to_string())?
                }
            },
        };
        if !self.shelf.holds(&archive.version) {
            let fetched = fetch(&self.shelf, &order.connection, &archive).await;
            fetched.map_err(|error| error.to_string())?;
        }
        let place = self.shelf.place(wanted, order.host());
        if self.shelf.version_at(&place).as_ref() == Some(&archive.version) {
            return Ok(());
        }
        let version = &archive.version;
        let led = self.shelf.lead(&place, version);
        led.map_err(|error| format!("failed to lead {} to {version}: {error}", place.display()))
    }

    /// When a release was published, asked once; when that is not told, it is as old as its first sight.
    async fn look_up_date(&self, order: &Order, version: &str, platform: RunnerPlatform) {
        let needed = self.version_of(order).is_some_and(|own| is_older(&own, version));
        if !needed || self.published().contains_key(version) {
            return;
        }
        let notes = order.connection.runner_notes(version, platform).await.ok();
        let at = notes.and_then(|notes| notes.published).unwrap_or_else(SystemTime::now);
        self.published().insert(version.to_owned(), at);
    }

    fn version_of(&self, order: &Order) -> Option<String> {
        match &order.wanted {
            Some(wanted) => self.shelf.version_at(&self.shelf.place(wanted, order.host())),
            None => order.brings.clone(),
        }
    }

    fn release(
        &self,
        order: &Order,
        newest: Option<String>,
        problem: Option<&str>,
    ) -> RunnerRelease {
        let version = self.version_of(order);
        let is_behind = matches!((&version, &newest), (Some(own), Some(new)) if is_older(own, new));
        let published = newest.as_ref().and_then(|new| self.published().get(new).copied());
        let missing = (version.is_none() && order.wanted.is_some()).then(|| {
            let dir = self.shelf.dir().display();
            let why = problem.unwrap_or("it is being fetched");
            format!("no release of the runner is in {dir} yet: {why}")
        });
        RunnerRelease {
            accepted_until: published.filter(|_| is_behind).map(|at| timestamp(at + ACCEPTED)),
            version,
            newest,
            missing,
            problem: None,
        }
    }

    /// Tells the pool what is new, and the log.
    fn tell(
        &self,
        pool: &PoolName,
        order: &Order,
        newest: Option<String>,
        problem: Option<String>,
    ) {
        let served = self.lock();
        // What was changed in between is looked at anew.
        let Some(one) = served.get(pool).filter(|one| one.order.same(order)) else { return };
        let before = one.told.borrow().clone();
        // A look that failed says nothing new of what is the newest.
        let newest = newest.or_else(|| before.newest.clone().filter(|_| self.period.is_some()));
        let mut now = self.release(order, newest, problem.as_deref());
        now.problem = problem;
        if now == before {
            return;
        }
        let RunnerRelease { version, newest, .. } = &now;
        if *version != before.version {
            tracing::info!(%pool, version, "runner release in use");
        }
        if let Some(until) = now.accepted_until
            && (before.newest != *newest || before.version != *version)
        {
            let days = (until.0 - timestamp(SystemTime::now()).0) / 86_400_000;
            tracing::warn!(%pool, version, newest, days, "runner release is not the newest");
        }
        if let Some(problem) =
            now.problem.as_ref().filter(|it| before.problem.as_ref() != Some(*it))
        {
            if version.is_some() {
                tracing::warn!(%pool, version, error = problem, "runner releases not looked at");
            } else {
                tracing::error!(%pool, error = problem, "runner release is missing");
            }
        }
        one.told.send_replace(now);
    }

    fn prune(&self, oldest_instance: Option<SystemTime>) {
        let wanted: BTreeSet<String> = self
            .lock()
            .values()
            .filter(|one| one.order.wanted.is_some())
            .filter_map(|one| self.version_of(&one.order))
            .collect();
        // Nobody has one from here: what lies there is somebody else's, or comes back with the next change.
        if wanted.is_empty() {
            return;
        }
        match self.shelf.prune(&wanted, oldest_instance, SystemTime::now()) {
            Ok(removed) => {
                for version in removed {
                    tracing::info!(version, "runner release removed");
                }
            }
            Err(error) => {
                let dir = self.shelf.dir().display();
                tracing::warn!(%dir, %error, "runner releases not cleaned up");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PoolName, Served>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn published(&self) -> MutexGuard<'_, BTreeMap<String, SystemTime>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
