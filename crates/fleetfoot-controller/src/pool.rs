//! What the tasks of one pool share: its settings, what is in flight, and whom to wake.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetfoot_core::host::Claim;
use fleetfoot_core::{
    Dependency, Exit, Health, InstallationId, InstanceName, PoolHealth, PoolName, PoolState, Span,
    Timestamp,
};
use fleetfoot_ordered::watch;
use fleetfoot_provisioner::EnvironmentSpec;
use fleetfoot_store::Store;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::backend::Backend;
use crate::clock::Clock;
use crate::dependency::DependencyCell;
use crate::host::HostDesk;
use crate::keeper::Candidates;
use crate::ledger::Ledger;
use crate::roster::Roster;
use crate::settings::{ControllerSettings, Pace, PoolSettings};
use crate::tasks::Tasks;
use crate::verify::RunnerList;

/// No call to the outside begins with less than this left of the lease (11.10).
const LEASE_MARGIN: Span = Span::seconds(3);

/// Somebody looks at the clock every few seconds ([`Pace::clock_check`](crate::settings::Pace)): who did not for so
/// long stood still.
const STOOD_STILL_MS: i64 = 30_000;

/// A backend that does not list for so long after the start of a pool keeps it no longer from making anything.
const LOOKED_WITHIN: Duration = Duration::from_secs(60);

/// What the whole controller shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) settings: ControllerSettings,
    pub(crate) pace: Pace,
    pub(crate) installation: InstallationId,
    pub(crate) host: HostDesk,
    pub(crate) health: tokio::sync::watch::Sender<Health>,
    pub(crate) tasks: Tasks,
    /// True once the controller is to stop.
    pub(crate) stop: watch::Sender<bool>,
    /// Since this time ages of running things count (11.11).
    pub(crate) ages_count_from: AtomicI64,
    /// When this process was seen to go on, last.
    pub(crate) seen_at: AtomicI64,
    /// Who is served at this moment.
    pub(crate) roster: watch::Sender<Roster>,
    /// One change of the roster at a time; held over the commit that belongs to it.
    pub(crate) changing: Semaphore,
    /// What this controller can serve, where several share a store; the keeper deals.
    pub(crate) candidates: watch::Sender<Candidates>,
    /// Pools of the start whose first poll is not open yet.
    pub(crate) unpolled: Mutex<BTreeSet<PoolName>>,
}

impl Shared {
    /// Notes that this process goes on. If it stood still (stopped, or starved), what happened meanwhile waits to be
    /// heard: no deadline that passed meanwhile is held against anybody, ages count from now.
    pub(crate) fn goes_on(&self) {
        let now = self.clock.now().0;
        let stood_ms = now.saturating_sub(self.seen_at.swap(now, Ordering::SeqCst));
        if stood_ms > STOOD_STILL_MS {
            self.ages_count_from.fetch_max(now, Ordering::SeqCst);
            tracing::warn!(stood_ms, "this process stood still, deadlines count from now");
        }
    }

    /// An environment ended so.
    pub(crate) fn saw(&self, exit: &Exit) {
        if exit.is_of_old_runner() {
            self.settings.runner_refused.notify_one();
        }
    }

    /// Since when ages of running things count.
    pub(crate) fn ages_count_from(&self) -> Timestamp {
        Timestamp(self.ages_count_from.load(Ordering::SeqCst))
    }

    /// What is said of a dependency is in unshifted time; the plan is not.
    fn shifted(&self, dependency: Dependency) -> Dependency {
        match dependency {
            Dependency::Up => Dependency::Up,
            Dependency::Down { until, detail } => {
                Dependency::Down { until: self.clock.shifted(until), detail }
            }
        }
    }

    /// Changes what is told about a pool that is served; watchers hear of it only if it did change.
    pub(crate) fn tell(&self, pool: &PoolName, change: impl FnOnce(&mut PoolHealth)) {
        self.health.send_if_modified(|health| {
            let Some(entry) = health.pools.get_mut(pool) else { return false };
            let mut told = PoolHealth::clone(entry);
            change(&mut told);
            let changed = told != **entry;
            if changed {
                *entry = Arc::new(told);
            }
            changed
        });
    }

    /// The pool's first poll is open. Logs `ready` once all are.
    pub(crate) fn polled(&self, pool: &PoolName) {
        self.tell(pool, |told| told.polled = true);
        self.awaits_no_longer(pool);
    }

    /// The start waits for the first polls of these pools; for none, it is ready now.
    pub(crate) fn awaits(&self, pools: impl IntoIterator<Item = PoolName>) {
        let mut unpolled = self.unpolled.lock().unwrap_or_else(PoisonError::into_inner);
        unpolled.extend(pools);
        let none = unpolled.is_empty();
        drop(unpolled);
        if none {
            self.health.send_modify(|health| health.ready = true);
            tracing::info!("ready");
        }
    }

    /// The start waits for this pool no longer: it is polled, or gone.
    pub(crate) fn awaits_no_longer(&self, pool: &PoolName) {
        let mut unpolled = self.unpolled.lock().unwrap_or_else(PoisonError::into_inner);
        let last = unpolled.remove(pool) && unpolled.is_empty();
        drop(unpolled);
        if last {
            self.health.send_modify(|health| health.ready = true);
            tracing::info!("ready");
        }
    }
}

/// One way to GitHub, shared by the pools of a credential.
#[derive(Debug, Default)]
pub(crate) struct Github {
    /// It answers look-ups and removals.
    pub(crate) reach: DependencyCell,
    /// It registers runners. A look-up that succeeds says nothing of that.
    pub(crate) starts: DependencyCell,
    pub(crate) runners: RunnerList,
}

/// What a pool's tasks follow; each change of it wakes them.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) settings: Arc<PoolSettings>,
    pub(crate) github: Arc<Github>,
    /// Its tasks are to end; rows and environments stay.
    pub(crate) stop: bool,
}

/// One pool.
#[derive(Debug)]
pub(crate) struct PoolContext {
    pub(crate) shared: Arc<Shared>,
    name: PoolName,
    pub(crate) backend: Arc<Backend>,
    pub(crate) course: watch::Sender<Course>,
    /// Everything that acts for it.
    pub(crate) tasks: Tasks,
    /// The sweep of its backend that adopts what it has from before; its session waits for that.
    pub(crate) adopted_by: u64,
    /// When it began to be served here.
    began: Instant,
    /// Its listener holds no session and left none behind.
    pub(crate) let_go: AtomicBool,
    /// GitHub refuses this pool's registrations; other pools need not notice.
    pub(crate) refused: DependencyCell,
    /// What GitHub, backend and store disagree about.
    pub(crate) ledger: Ledger,
    /// Wakes the reconciler.
    pub(crate) wake: Arc<Notify>,
    in_flight: Mutex<BTreeSet<InstanceName>>,
}

impl PoolContext {
    pub(crate) fn new(
        shared: Arc<Shared>,
        settings: PoolSettings,
        backend: Arc<Backend>,
        github: Arc<Github>,
    ) -> Self {
        let name = settings.name.clone();
        let wake = Arc::new(Notify::new());
        // What runs from before counts from the first moment.
        let state = shared.store.pool(&name);
        let occupying = state.as_ref().map_or(0, |state| state.occupying());
        let claim = Claim { footprint: settings.footprint, occupying, ..Claim::default() };
        shared.host.join(&name, wake.clone(), claim);
        let empty = state.is_none_or(|state| state.instances.is_empty());
        // What was left alone while nobody served the pool is taken up before it makes anything (seed 27303).
        let known = *backend.swept.borrow() && !backend.holds_unclaimed(&name);
        let adopted_by = if empty && known { 0 } else { backend.begun.load(Ordering::Relaxed) + 1 };
        let tasks = Tasks::within(&shared.tasks);
        let course =
            watch::Sender::new(Course { settings: Arc::new(settings), github, stop: false });
        Self {
            shared,
            name,
            backend,
            course,
            tasks,
            adopted_by,
            began: Instant::now(),
            let_go: AtomicBool::new(false),
            refused: DependencyCell::default(),
            wake,
            ledger: Ledger::default(),
            in_flight: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &PoolName {
        &self.name
    }

    /// Its backend was looked at for what it has from before, and shows nothing of it that no row names: nobody counts
    /// that, so nothing is made beside it (seeds 28136, 50028).
    pub(crate) fn is_adopted(&self) -> bool {
        let looked =
            *self.backend.done.borrow() >= self.adopted_by || self.began.elapsed() >= LOOKED_WITHIN;
        looked && !self.backend.holds_unclaimed(&self.name)
    }

    /// Its settings as they are now: whoever needs two of them that fit together asks once.
    pub(crate) fn settings(&self) -> Arc<PoolSettings> {
        self.course.borrow().settings.clone()
    }

    /// Its way to GitHub as it is now.
    pub(crate) fn github(&self) -> Arc<Github> {
        self.course.borrow().github.clone()
    }

    /// Its tasks are to end.
    pub(crate) fn stopping(&self) -> bool {
        self.course.borrow().stop
    }

    /// Ends its tasks; what it has outside stays.
    pub(crate) fn stop(&self) {
        self.course.send_modify(|course| course.stop = true);
    }

    /// A call to the outside may begin: the pool is ours, for longer than a heartbeat may be late.
    pub(crate) fn has_lease(&self) -> bool {
        self.shared.store.lease_left(&self.name).is_some_and(|left| left > LEASE_MARGIN)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Now, for waits that are held in memory.
    pub(crate) fn unshifted(&self) -> Timestamp {
        self.shared.clock.unshifted()
    }

    pub(crate) fn state(&self) -> Option<Arc<PoolState>> {
        self.shared.store.pool(self.name())
    }

    /// The backend, as far as this pool needs it.
    pub(crate) fn backend_state(&self) -> Dependency {
        let worst = DependencyCell::worst([&self.backend.reach, &self.backend.starts]);
        self.shared.shifted(worst)
    }

    pub(crate) fn backend_down_longer_than(&self, span: Span) -> bool {
        let now = self.shared.clock.unshifted();
        [&self.backend.reach, &self.backend.starts].iter().any(|it| it.down_longer_than(span, now))
    }

    /// GitHub, as far as this pool needs it.
    pub(crate) fn github_state(&self) -> Dependency {
        let github = self.github();
        let cells = [&github.reach, &github.starts, &self.refused];
        self.shared.shifted(DependencyCell::worst(cells))
    }

    /// The bound of a control call to GitHub.
    pub(crate) fn call_bound(&self) -> Duration {
        self.shared.pace.call_bound.to_std()
    }

    pub(crate) fn environment_spec(&self, name: &InstanceName) -> EnvironmentSpec {
        EnvironmentSpec {
            name: name.clone(),
            pool: self.name().clone(),
            installation: self.shared.installation.clone(),
        }
    }

    pub(crate) fn in_flight(&self) -> BTreeSet<InstanceName> {
        self.flight().clone()
    }

    pub(crate) fn is_in_flight(&self, name: &InstanceName) -> bool {
        self.flight().contains(name)
    }

    /// Marks an instance as being acted on, until the guard falls. `None` if it already is.
    pub(crate) fn take_off(self: &Arc<Self>, name: &InstanceName) -> Option<Flight> {
        self.flight()
            .insert(name.clone())
            .then(|| Flight { pool: self.clone(), name: name.clone() })
    }

    fn flight(&self) -> std::sync::MutexGuard<'_, BTreeSet<InstanceName>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An instance is being acted on. When this falls, however the task ended, the reconciler looks again.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) pool: Arc<PoolContext>,
    pub(crate) name: InstanceName,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.pool.flight().remove(&self.name);
        self.pool.wake.notify_one();
    }
}

/// Waits until it is true, or nobody is left to say so.
pub(crate) async fn told(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|told| *told).await.is_ok();
}

/// Waits until a pool's tasks are to end.
pub(crate) async fn stopped(course: &mut watch::Receiver<Course>) {
    let _ = course.wait_for(|course| course.stop).await.is_ok();
}
