//! A box, an engine whose environments run runners, a store in a directory, and controllers that come and go; all of
//! it in one runtime whose clock leaps to what is due next, so that nothing depends on how busy a machine is. Sockets
//! are of Unix: what is written there can be read at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetfoot_controller::{
    Clock, Controller, ControllerSettings, Gate, HostLimits, Pace, PoolSettings, ScaleSetEnd,
    SessionSettings, Stopped,
};
use fleetfoot_core::host::{Footprint, HostBudget};
use fleetfoot_core::pool::PoolSpec;
use fleetfoot_core::{
    Cause, Discrepancy, InstallationId, Instance, InstanceName, Outcome, Phase, PoolHealth,
    PoolName, PoolState, Span, Timestamp,
};
use fleetfoot_github::{ConfigUrl, Connection, Credentials, Http, HttpSettings, TokenSource};
use fleetfoot_provisioner::Provisioner;
use fleetfoot_provisioner::simulated::{Binding, SimulatedEngine, SimulatedProvisioner};
use fleetfoot_sim::{BoxConfig, BoxState, DEFAULT_TOKEN, GithubBox, QueueJobs, Settings};
use fleetfoot_store::{ClosedFilter, Durability, Execution, Location, Options, Store};
use tokio::time::Instant;

use crate::engine::{Engine, engine};

/// Longer than anything here takes on a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// 2026-01-01 00:00:00 UTC: every bed begins there.
const EPOCH_MS: i64 = 1_767_225_600_000;
/// GitHub's, in the bed's directory.
const SOCKET: &str = "github.sock";

/// A pool to be run.
#[derive(Clone)]
pub(crate) struct PoolPlan {
    pub(crate) name: &'static str,
    pub(crate) scope: &'static str,
    pub(crate) engine: usize,
    pub(crate) binding: Binding,
    pub(crate) listed: bool,
    pub(crate) spec: PoolSpec,
    pub(crate) removed: bool,
    pub(crate) scale_set_end: ScaleSetEnd,
    pub(crate) labels: Vec<&'static str>,
    pub(crate) session: SessionSettings,
    /// Another edition is another provisioner at the same engine: another image, as it were.
    pub(crate) edition: usize,
    /// Another token with the same rights.
    pub(crate) token: usize,
}

/// A pool of `max_runners`, single step.
pub(crate) fn pool(name: &'static str, max_runners: u32) -> PoolPlan {
    let spec = PoolSpec {
        max_runners,
        boot_timeout: Span::seconds(20),
        create_timeout: Span::seconds(20),
        idle_timeout: Span::seconds(2),
        ..PoolSpec::default()
    };
    PoolPlan {
        name,
        scope: "acme",
        engine: 0,
        binding: Binding::SingleStep,
        listed: true,
        spec,
        removed: false,
        scale_set_end: ScaleSetEnd::Stays,
        labels: vec![name],
        session: SessionSettings::default(),
        edition: 0,
        token: 0,
    }
}

impl PoolPlan {
    pub(crate) fn late(mut self) -> Self {
        self.binding = Binding::LateBinding;
        self
    }

    /// Its backend has no list, as a plugin has none.
    pub(crate) fn unlisted(mut self) -> Self {
        self.listed = false;
        self
    }

    pub(crate) fn on_engine(mut self, engine: usize) -> Self {
        self.engine = engine;
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut PoolSpec)) -> Self {
        change(&mut self.spec);
        self
    }
}

/// What pools of one controller share.
struct Parts {
    http: Http,
    connections: BTreeMap<(&'static str, usize), Connection>,
    provisioners: BTreeMap<(usize, bool, bool, usize), Arc<dyn Provisioner>>,
}

struct Running {
    parts: Parts,
    gate: Gate,
    controller: Controller,
    store: Store,
}

pub(crate) struct Bed {
    pub(crate) github: Arc<GithubBox>,
    engines: Vec<Engine>,
    directory: tempfile::TempDir,
    began: Instant,
    running: Option<Running>,
    /// What the next start is told.
    pub(crate) settings: ControllerSettings,
    pub(crate) pace: Pace,
    /// The next start's clock is off by this.
    pub(crate) clock_off: i64,
    /// What the wall clock was put forward by while a controller runs.
    pub(crate) wall_step: Arc<AtomicI64>,
    /// Who hears of hints that a launch is ahead.
    pub(crate) roused: Arc<Mutex<Option<Hear>>>,
    /// The store was lost once; its first one is new, but nothing was before it.
    lost: bool,
}

pub(crate) type Hear = Box<dyn Fn(&InstanceName) + Send>;

pub(crate) fn installation() -> InstallationId {
    InstallationId::new("bed").unwrap()
}

pub(crate) fn named(name: &str) -> PoolName {
    PoolName::new(name).unwrap()
}

impl Bed {
    /// A bed with one engine and a box that behaves as usual, only faster.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}, 1).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings), engines: usize) -> Self {
        let mut settings = Settings { runner_lost_after_ms: 3_000, ..Settings::default() };
        change(&mut settings);
        let directory = tempfile::tempdir().unwrap();
        let socket = Some(directory.path().join(SOCKET));
        let start_us = u64::try_from(EPOCH_MS * 1000).ok();
        let config = BoxConfig { socket, start_us, ..BoxConfig::with_settings(settings) };
        let github = Arc::new(GithubBox::start(config).await.unwrap());
        let engines = (0..engines).map(|n| engine(directory.path(), n, &github)).collect();
        let settings = ControllerSettings {
            session_owner: "bed".into(),
            boot_id: Some("boot".into()),
            ..ControllerSettings::default()
        };
        let pace = Pace {
            call_bound: Span::seconds(3),
            sweep: Duration::from_millis(300),
            sweep_urgent: Duration::from_millis(100),
            ages_grace: Span::ZERO,
            clock_check: Duration::from_millis(50),
            settle: Span(500),
            registrations: Duration::from_millis(500),
        };
        Self {
            github,
            engines,
            directory,
            began: Instant::now(),
            running: None,
            settings,
            pace,
            clock_off: 0,
            wall_step: Arc::default(),
            roused: Arc::default(),
            lost: false,
        }
    }

    pub(crate) fn host_budget(&mut self, max_instances: u32) {
        let budget = HostBudget { max_instances: Some(max_instances), ..HostBudget::default() };
        self.settings.host = HostLimits { budget, min_free_disk: None };
    }

    pub(crate) fn engine(&self) -> &SimulatedEngine {
        &self.engines[0].engine
    }

    pub(crate) fn engine_of(&self, number: usize) -> &SimulatedEngine {
        &self.engines[number].engine
    }

    /// Starts a controller with these pools, on the store that is there.
    pub(crate) async fn start(&mut self, pools: &[PoolPlan]) {
        assert!(self.running.is_none(), "one at a time");
        let mut parts = Parts {
            http: self.http(),
            connections: BTreeMap::new(),
            provisioners: BTreeMap::new(),
        };
        let pools: Vec<PoolSettings> =
            pools.iter().map(|plan| self.pool_settings(plan, &mut parts)).collect();
        let path = self.directory.path().join("store.db");
        let gate = Gate::new();
        let store = open(&path, self.time()).await;
        let careful = self.lost && store.was_lost();
        let settings = ControllerSettings { careful, gate: gate.clone(), ..self.settings.clone() };
        let clock = Clock::with_wall(self.time() + Span(self.clock_off), self.wall_step.clone());
        let starting = Controller::start_at(store.clone(), pools, settings, clock, self.pace);
        let controller = gate.hold(starting).await.unwrap();
        self.running = Some(Running { parts, gate, controller, store });
    }

    /// What a clock shows that nobody steps.
    pub(crate) fn time(&self) -> Timestamp {
        Timestamp(EPOCH_MS) + Span(i64::try_from(self.began.elapsed().as_millis()).unwrap())
    }

    fn http(&self) -> Http {
        let unix_socket = Some(self.directory.path().join(SOCKET));
        Http::new(HttpSettings { unix_socket, ..HttpSettings::default() }).unwrap()
    }

    /// A start whose sessions are open.
    pub(crate) async fn start_ready(&mut self, pools: &[PoolPlan]) {
        self.start(pools).await;
        let mut health = self.running().controller.health();
        tokio::time::timeout(SOON, health.wait_for(|health| health.ready)).await.unwrap().unwrap();
    }

    /// Other pools, or other settings, while it runs.
    pub(crate) async fn apply(&mut self, pools: &[PoolPlan]) {
        let pools = self.with_parts(|bed, parts| {
            pools.iter().map(|plan| bed.pool_settings(plan, parts)).collect::<Vec<_>>()
        });
        let host = self.settings.host.clone();
        self.running().controller.apply(pools, host).await.unwrap();
    }

    pub(crate) async fn start_pool(&mut self, plan: &PoolPlan) {
        let pool = self.with_parts(|bed, parts| bed.pool_settings(plan, parts));
        self.running().controller.start_pool(pool).await.unwrap();
    }

    pub(crate) async fn stop_pool(&self, name: &str) -> bool {
        self.running().controller.stop_pool(&named(name)).await
    }

    fn with_parts<T>(&mut self, make: impl FnOnce(&Self, &mut Parts) -> T) -> T {
        let mut running = self.running.take().expect("a controller runs");
        let made = make(self, &mut running.parts);
        self.running = Some(running);
        made
    }

    fn pool_settings(&self, plan: &PoolPlan, parts: &mut Parts) -> PoolSettings {
        let url = ConfigUrl::parse(&self.github.config_url(plan.scope)).unwrap();
        let connection = parts.connections.entry((plan.scope, plan.token)).or_insert_with(|| {
            let token = TokenSource::fixed("test", DEFAULT_TOKEN.into());
            Connection::new(&parts.http, &url, &Credentials::Token(token)).unwrap()
        });
        let late = matches!(plan.binding, Binding::LateBinding);
        let provisioner = parts
            .provisioners
            .entry((plan.engine, late, plan.listed, plan.edition))
            .or_insert_with(|| {
                let socket = &self.engines[plan.engine].socket;
                let made = SimulatedProvisioner::remote(socket, installation(), plan.binding);
                let heard = Arc::clone(&self.roused);
                let made = made.on_rouse(move |name| {
                    if let Some(hear) = &*heard.lock().unwrap() {
                        hear(name);
                    }
                });
                Arc::new(if plan.listed { made } else { made.without_list() })
            });
        PoolSettings {
            name: named(plan.name),
            spec: plan.spec.clone(),
            scale_set_name: None,
            naming: fleetfoot_core::Naming::OfPool,
            session: plan.session.clone(),
            label_kind: fleetfoot_github::LabelKind::User,
            labels: plan.labels.iter().map(|&label| label.to_owned()).collect(),
            runner_group: None,
            connection: connection.clone(),
            credential_reference: format!("test {}", plan.token),
            provisioner: provisioner.clone(),
            backend_concurrency: 200,
            footprint: Footprint::default(),
            removed: plan.removed,
            scale_set_end: plan.scale_set_end,
            takeover: false,
            digest: String::new(),
            runner: None,
        }
    }

    /// A way to GitHub beside the controller's.
    pub(crate) fn by_hand(&self) -> Connection {
        let url = ConfigUrl::parse(&self.github.config_url("acme")).unwrap();
        let token = TokenSource::fixed("by hand", DEFAULT_TOKEN.into());
        Connection::new(&self.http(), &url, &Credentials::Token(token)).unwrap()
    }

    pub(crate) fn silence(&self, name: &InstanceName) {
        self.engines[0].silence(name);
    }

    /// What belongs to no pool that is served.
    pub(crate) fn unserved(&self) -> BTreeSet<Discrepancy> {
        let health = self.running().controller.health();
        let health = health.borrow();
        health.unserved.values().flat_map(|told| told.seen.keys().copied()).collect()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("a controller runs")
    }

    pub(crate) fn store(&self) -> &Store {
        &self.running().store
    }

    /// The controller is gone from one moment to the next; everything else stays.
    pub(crate) fn crash(&mut self) {
        let Running { gate, controller, store, .. } =
            self.running.take().expect("a controller runs");
        gate.end();
        drop((controller, store));
    }

    /// The controller stops as after SIGTERM.
    pub(crate) async fn stop(&mut self) -> Stopped {
        let Running { gate, controller, store, .. } =
            self.running.take().expect("a controller runs");
        let stopped = controller.stop().await;
        store.close().await;
        gate.end();
        stopped
    }

    pub(crate) fn lose_store(&mut self) {
        self.lost = true;
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(self.directory.path().join(format!("store.db{end}")));
        }
    }

    pub(crate) fn queue(&self, pool: &str, count: usize, duration_ms: u64) -> Vec<u64> {
        self.github.queue_jobs(&QueueJobs::for_scale_set("acme", pool, count, duration_ms))
    }

    pub(crate) fn state(&self, pool: &str) -> Arc<PoolState> {
        self.store().pool(&named(pool)).expect("the pool has a row")
    }

    pub(crate) fn instances(&self, pool: &str) -> Vec<Instance> {
        self.state(pool).instances.values().map(|row| Instance::clone(row)).collect()
    }

    pub(crate) fn in_phase(&self, pool: &str, phase: Phase) -> Vec<Instance> {
        self.instances(pool).into_iter().filter(|row| row.phase == phase).collect()
    }

    pub(crate) fn health(&self, pool: &str) -> Arc<PoolHealth> {
        self.running().controller.health().borrow().pools[&named(pool)].clone()
    }

    pub(crate) fn is_served(&self, pool: &str) -> bool {
        self.running().controller.health().borrow().pools.contains_key(&named(pool))
    }

    pub(crate) fn waits_for(&self, pool: &str, code: &str) -> bool {
        self.health(pool).causes.iter().map(Cause::code).any(|cause| cause == code)
    }

    /// Waits for a level.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        self.until_within(what, SOON, wanted).await;
    }

    pub(crate) async fn until_within(
        &self,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&Self) -> bool,
    ) {
        let began = Instant::now();
        while !wanted(self) {
            assert!(began.elapsed() < bound, "waited in vain until {what}\n{}", self.picture());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What holds for a while, not only now: `bound` is how long it is looked at.
    pub(crate) async fn throughout(
        &self,
        what: &str,
        bound: Duration,
        wanted: impl Fn(&Self) -> bool,
    ) {
        let began = Instant::now();
        while began.elapsed() < bound {
            assert!(wanted(self), "not throughout: {what}\n{}", self.picture());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn picture(&self) -> String {
        let mut text = format!("{:?}\n", self.github.summary());
        for (name, it) in
            self.engines.iter().flat_map(|it| it.engine.environments()).map(|it| (it.0, it.1))
        {
            text.push_str(&format!("{name}: {} {:?}\n", it.name, it.state));
        }
        let Some(running) = &self.running else { return text };
        for state in running.store.pools().values() {
            text.push_str(&format!("{:?}\n", state.pool));
            for row in state.instances.values() {
                text.push_str(&format!("  {row:?}\n"));
            }
        }
        text + &format!("{:?}", running.controller.health().borrow().pools)
    }

    /// All of `jobs` done, none twice.
    pub(crate) async fn until_done(&self, jobs: u64) -> BoxState {
        self.until("all jobs are done", |bed| bed.github.summary().jobs_completed >= jobs).await;
        let state = self.github.state();
        assert_eq!(state.summary.jobs_completed, jobs);
        assert_eq!(state.summary.jobs_started_twice, 0);
        state
    }

    /// Nothing is left in the store, at GitHub and at the engines.
    pub(crate) async fn until_nothing_left(&self) {
        self.until("nothing is left", |bed| {
            bed.store().pools().values().all(|state| state.instances.is_empty())
                && bed.github.summary().runners == 0
                && bed.engines.iter().all(|it| it.ours().is_empty())
        })
        .await;
    }

    pub(crate) fn ours(&self) -> BTreeSet<InstanceName> {
        self.engines[0].ours()
    }

    pub(crate) async fn closed(&self, pool: &str) -> Vec<Instance> {
        let filter =
            ClosedFilter { pool: Some(named(pool)), limit: 10_000, ..ClosedFilter::default() };
        self.store().closed_instances(filter).await.unwrap()
    }

    pub(crate) async fn outcomes(&self, pool: &str) -> Vec<Outcome> {
        self.closed(pool).await.into_iter().filter_map(|row| row.outcome).collect()
    }
}

/// Held by nobody any more, the file can be opened; a controller that crashed lets go of it in a moment.
async fn open(path: &std::path::Path, now: Timestamp) -> Store {
    let options = || Options {
        durability: Durability::OneThread,
        execution: Execution::Inline,
        now: Some(now),
        installation: Some(installation()),
        ..Options::default()
    };
    let began = Instant::now();
    loop {
        match Store::open(Location::Sqlite(path.to_owned()), options()).await {
            Ok(store) => return store,
            Err(error) => assert!(began.elapsed() < SOON, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.gate.end();
        }
    }
}
