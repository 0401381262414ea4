//! One life of the controller, from its start to its end or its death.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use fleetfoot_controller::{
    Clock, Controller, ControllerSettings, Gate, HostLimits, Pace, PoolSettings,
};
use fleetfoot_core::host::{Footprint, HostBudget};
use fleetfoot_core::{InstallationId, PoolName, PoolSpec, Timestamp};
use fleetfoot_github::{
    ConfigUrl, Connection, Credentials, Http, HttpSettings, TokenSource, Within,
};
use fleetfoot_provisioner::Provisioner;
use fleetfoot_provisioner::simulated::{SimulatedEngine, SimulatedProvisioner};
use fleetfoot_sim::{DEFAULT_TOKEN, GithubBox};
use fleetfoot_store::{
    Durability, Execution, Fate, Location, Membership, Options, Pools, Script, Scripted, Store,
    Ticks,
};

use crate::books::Books;
use crate::checks;
use crate::peers;
use crate::script::{CALM_SCOPE, CALM_TOKEN, PoolPlan};

/// A controller that polls more often than this in one world spins.
pub(crate) const POLLS_MAX: u64 = 3_000_000;

/// A running controller.
pub(crate) struct Incarnation {
    pub(crate) gate: Gate,
    pub(crate) controller: Controller,
    pub(crate) store: Store,
    wiring: Wiring,
}

/// What a start needs.
pub(crate) struct Ground<'a> {
    pub(crate) books: &'a Books,
    pub(crate) github: &'a Arc<GithubBox>,
    pub(crate) engines: &'a [SimulatedEngine],
    pub(crate) pools: &'a [PoolPlan],
    pub(crate) store: &'a Path,
    pub(crate) installation: &'a InstallationId,
    pub(crate) boot: u32,
    pub(crate) wall: Timestamp,
    pub(crate) step: &'a Arc<AtomicI64>,
    pub(crate) host_max: Option<u32>,
    /// Among several controllers on one store: its host, and what it is called. Alone when absent.
    pub(crate) member: Option<(&'a str, String)>,
    /// Another controller runs on the same store.
    pub(crate) has_peer: bool,
    /// What leases go by.
    pub(crate) ticks: &'a Ticks,
}

struct Commits {
    books: Books,
    github: Arc<GithubBox>,
    gate: Gate,
    /// What the controller is called among several.
    who: Option<String>,
}

impl Script for Commits {
    fn before(&self) -> Fate {
        let fate = self.books.fate();
        if matches!(fate, Fate::HaltBefore | Fate::HaltAfter) {
            self.gate.shut();
        }
        fate
    }

    fn committed(&self, present: &Arc<Pools>, touched: &[PoolName]) {
        peers::wrote(&self.books, self.who.as_deref(), touched);
        checks::committed(&self.books, &self.github, present, touched);
    }
}

impl Incarnation {
    /// Starts a controller on the store that is there; `None` if it died while starting.
    pub(crate) async fn start(ground: Ground<'_>) -> Result<Option<Self>, String> {
        let gate = Gate::new();
        gate.shut_after(POLLS_MAX);
        let commits = Commits {
            books: ground.books.clone(),
            github: ground.github.clone(),
            gate: gate.clone(),
            who: ground.member.as_ref().map(|(_, name)| name.clone()),
        };
        let member = ground.member.as_ref().map(|(host, name)| Membership {
            boot_id: format!("boot-{}", ground.boot),
            clock: ground.ticks.clone(),
            ..Membership::new(name, host, host)
        });
        let options = Options {
            durability: Durability::OneThread,
            execution: Execution::Inline,
            installation: Some(ground.installation.clone()),
            now: Some(ground.wall),
            member,
            file_clock: Some(ground.ticks.clone()),
            script: Scripted(Some(Arc::new(commits))),
            ..Options::default()
        };
        let location = Location::Sqlite(ground.store.to_owned());
        let store = Store::open(location, options).await.map_err(|error| error.to_string())?;
        take_in(&ground, &store);
        let settings = ControllerSettings {
            host: host(ground.host_max),
            session_owner: "world".to_owned(),
            boot_id: Some(format!("boot-{}", ground.boot)),
            careful: store.was_lost(),
            gate: gate.clone(),
            runner_refused: Arc::default(),
        };
        let mut wiring = Wiring::new(ground.github, ground.member.is_some())?;
        let (github, engines) = (ground.github, ground.engines);
        let all = wiring.pools(github, engines, ground.pools, ground.installation)?;
        let pools = with_removed(&store, all, &BTreeSet::new());
        let clock = Clock::with_wall(ground.wall, ground.step.clone());
        let pace = Pace::default();
        let starting = Controller::start_at(store.clone(), pools, settings, clock, pace);
        let controller = tokio::select! {
            biased;
            () = gate.is_shut() => None,
            // What supervises the daemon starts it again if it gave up.
            started = gate.hold(starting) => started.ok(),
        };
        if controller.is_none() {
            gate.end();
            if let Some((_, name)) = &ground.member {
                ground.books.lock().members.remove(name);
            }
        }
        Ok(controller.map(|controller| Self { gate, controller, store, wiring }))
    }
}

impl Incarnation {
    /// Applies another configuration while it runs; false if it has to be applied again.
    pub(crate) async fn apply(
        &mut self,
        github: &GithubBox,
        engines: &[SimulatedEngine],
        pools: &[PoolPlan],
        installation: &InstallationId,
        host_max: Option<u32>,
    ) -> Result<bool, String> {
        let all = self.wiring.pools(github, engines, pools, installation)?;
        let mut served: BTreeSet<PoolName> =
            self.controller.health().borrow().pools.keys().cloned().collect();
        if self.store.membership().is_some() {
            // What is not configured here any more may be another controller's.
            served.extend(pools.iter().map(|plan| plan.name.clone()));
        }
        let pools = with_removed(&self.store, all, &served);
        let applying = self.controller.apply(pools, host(host_max));
        Ok(tokio::select! {
            biased;
            () = self.gate.is_shut() => true,
            applied = self.gate.hold(applying) => applied.is_ok(),
        })
    }
}

fn host(max_instances: Option<u32>) -> HostLimits {
    let budget = HostBudget { max_instances, ..HostBudget::default() };
    HostLimits { budget, min_free_disk: None }
}

/// What the store holds at a start is what there is, unless another controller has shown it already.
fn take_in(ground: &Ground<'_>, store: &Store) {
    let mut inner = ground.books.lock();
    if let Some((_, name)) = &ground.member {
        inner.members.insert(name.clone(), store.clone());
        inner.manners.members.insert(name.clone(), tokio::time::Instant::now());
    }
    if ground.has_peer {
        return;
    }
    inner.present = store.pools();
    for book in inner.pools.values_mut() {
        book.opened = false;
    }
    let present = inner.present.clone();
    let epoch = inner.epoch;
    for (pool, state) in present.iter() {
        for name in state.instances.keys() {
            let book = inner.names.entry(name.clone()).or_default();
            (book.pool, book.has_row, book.epoch) = (Some(pool.clone()), true, epoch);
        }
    }
}

/// What the binary keeps from one configuration to the next: ways to GitHub and backends.
struct Wiring {
    http: Http,
    shared: bool,
    connections: BTreeMap<String, Connection>,
    provisioners: BTreeMap<PoolName, Arc<dyn Provisioner>>,
}

impl Wiring {
    fn new(github: &Arc<GithubBox>, shared: bool) -> Result<Self, String> {
        let github = github.clone();
        let within = Within::new(move |request| Box::pin(github.ask(request)));
        let settings = HttpSettings { within: Some(within), ..HttpSettings::default() };
        let http = Http::new(settings).map_err(|error| error.to_string())?;
        Ok(Self { http, shared, connections: BTreeMap::new(), provisioners: BTreeMap::new() })
    }

    fn connection(&mut self, github: &GithubBox, scope: &str) -> Result<Connection, String> {
        if let Some(connection) = self.connections.get(scope) {
            return Ok(connection.clone());
        }
        let url = ConfigUrl::parse(&github.config_url(scope)).map_err(|error| error.to_string())?;
        // What GitHub grants it grants to a credential: the pool that no fault touches has one of its own (seed 709).
        let calm = scope == CALM_SCOPE;
        let token =
            TokenSource::fixed("world", if calm { CALM_TOKEN } else { DEFAULT_TOKEN }.into());
        let made = Connection::new(&self.http, &url, &Credentials::Token(token))
            .map_err(|error| error.to_string())?;
        self.connections.insert(scope.to_owned(), made.clone());
        Ok(made)
    }

    fn provisioner(
        &mut self,
        plan: &PoolPlan,
        engine: &SimulatedEngine,
        installation: &InstallationId,
    ) -> Arc<dyn Provisioner> {
        let make = || {
            let made = SimulatedProvisioner::new(engine, installation.clone(), plan.binding);
            let made = if plan.listed { made } else { made.without_list() };
            Arc::new(if self.shared { made.shared() } else { made }) as Arc<dyn Provisioner>
        };
        self.provisioners.entry(plan.name.clone()).or_insert_with(make).clone()
    }

    fn pools<'a>(
        &mut self,
        github: &GithubBox,
        engines: &[SimulatedEngine],
        plans: &'a [PoolPlan],
        installation: &InstallationId,
    ) -> Result<Vec<(&'a PoolPlan, PoolSettings)>, String> {
        let mut settings = Vec::new();
        for plan in plans {
            let connection = self.connection(github, &plan.scope)?;
            let engine = engines.get(plan.engine).ok_or("no such engine")?;
            let pool = PoolSettings {
                name: plan.name.clone(),
                spec: plan.spec.clone(),
                scale_set_name: None,
                naming: fleetfoot_core::Naming::OfPool,
                session: fleetfoot_controller::SessionSettings::default(),
                label_kind: fleetfoot_github::LabelKind::User,
                labels: vec![plan.name.to_string()],
                runner_group: None,
                connection,
                credential_reference: "world".to_owned(),
                provisioner: self.provisioner(plan, engine, installation),
                backend_concurrency: 20,
                footprint: Footprint::default(),
                removed: false,
                scale_set_end: fleetfoot_controller::ScaleSetEnd::Stays,
                takeover: false,
                digest: String::new(),
                runner: None,
            };
            settings.push((plan, pool));
        }
        Ok(settings)
    }
}

/// As the binary's wiring: a pool that is not configured any more lives on with the backend and the
/// credential of one that is. Those that are `served` have their own (seed 20120).
fn with_removed(
    store: &Store,
    all: Vec<(&PoolPlan, PoolSettings)>,
    served: &BTreeSet<PoolName>,
) -> Vec<PoolSettings> {
    let reaches = |plan: &PoolPlan| {
        all.iter().any(|(other, _)| {
            other.configured && other.engine == plan.engine && other.listed == plan.listed
        }) && all.iter().any(|(other, _)| other.configured && other.scope == plan.scope)
    };
    let mut out = Vec::new();
    for (plan, settings) in &all {
        if plan.configured {
            out.push(settings.clone());
        } else if !served.contains(&plan.name)
            && store.pool(&plan.name).is_some_and(|state| !state.instances.is_empty())
            && reaches(plan)
        {
            let spec = PoolSpec { max_runners: 0, min_idle: 0, ..settings.spec.clone() };
            out.push(PoolSettings { spec, labels: Vec::new(), removed: true, ..settings.clone() });
        }
    }
    out
}
