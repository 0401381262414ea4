//! One life of the controller, from its start to its end or its death.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use fleetfoot_controller::{
    Clock, Controller, ControllerSettings, Gate, HostLimits, Pace, PoolSettings,
};
use fleetfoot_core::host::{Footprint, HostBudget};
use fleetfoot_core::{InstallationId, PoolSpec, Timestamp};
use fleetfoot_github::{ConfigUrl, Connection, Credentials, Http, HttpSettings, TokenSource};
use fleetfoot_provisioner::simulated::{SimulatedEngine, SimulatedProvisioner};
use fleetfoot_sim::{DEFAULT_TOKEN, GithubBox};
use fleetfoot_store::{
    Durability, Execution, Fate, Location, Options, Pools, Script, Scripted, Store,
};

use crate::books::Books;
use crate::checks;
use crate::script::PoolPlan;

/// A controller that polls more often than this in one world spins.
pub(crate) const POLLS_MAX: u64 = 3_000_000;

/// A running controller.
pub(crate) struct Incarnation {
    pub(crate) gate: Gate,
    pub(crate) controller: Controller,
    pub(crate) store: Store,
}

/// What a start needs.
pub(crate) struct Ground<'a> {
    pub(crate) books: &'a Books,
    pub(crate) github: &'a Arc<GithubBox>,
    pub(crate) engines: &'a [SimulatedEngine],
    pub(crate) pools: &'a [PoolPlan],
    pub(crate) store: &'a Path,
    /// Where GitHub answers.
    pub(crate) socket: &'a Path,
    pub(crate) installation: &'a InstallationId,
    pub(crate) boot: u32,
    pub(crate) wall: Timestamp,
    pub(crate) step: &'a Arc<AtomicI64>,
    pub(crate) host_max: Option<u32>,
}

struct Commits {
    books: Books,
    github: Arc<GithubBox>,
    gate: Gate,
}

impl Script for Commits {
    fn before(&self) -> Fate {
        let fate = self.books.fate();
        if matches!(fate, Fate::HaltBefore | Fate::HaltAfter) {
            self.gate.shut();
        }
        fate
    }

    fn committed(&self, present: &Arc<Pools>) {
        checks::committed(&self.books, &self.github, present);
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
        };
        let options = Options {
            durability: Durability::Off,
            execution: Execution::Inline,
            installation: Some(ground.installation.clone()),
            now: Some(ground.wall),
            script: Scripted(Some(Arc::new(commits))),
            ..Options::default()
        };
        let location = Location::Sqlite(ground.store.to_owned());
        let store = Store::open(location, options).await.map_err(|error| error.to_string())?;
        {
            let mut inner = ground.books.lock();
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
        let settings = ControllerSettings {
            host: HostLimits {
                budget: HostBudget { max_instances: ground.host_max, ..HostBudget::default() },
                min_free_disk: None,
            },
            session_owner: "world".to_owned(),
            boot_id: Some(format!("boot-{}", ground.boot)),
            careful: store.was_lost(),
            gate: gate.clone(),
        };
        let pools = pool_settings(&ground, &store)?;
        let clock = Clock::with_wall(ground.wall, ground.step.clone());
        let pace = Pace::default();
        let starting = Controller::start_at(store.clone(), pools, settings, clock, pace);
        let controller = tokio::select! {
            biased;
            () = gate.is_shut() => {
                gate.end();
                return Ok(None);
            }
            started = gate.hold(starting) => started,
        };
        match controller {
            Ok(controller) => Ok(Some(Self { gate, controller, store })),
            // What supervises the daemon starts it again.
            Err(_) => {
                gate.end();
                Ok(None)
            }
        }
    }
}

fn pool_settings(ground: &Ground<'_>, store: &Store) -> Result<Vec<PoolSettings>, String> {
    let http = Http::new(HttpSettings {
        unix_socket: Some(ground.socket.to_owned()),
        ..HttpSettings::default()
    })
    .map_err(|error| error.to_string())?;
    let mut connections: BTreeMap<&str, Connection> = BTreeMap::new();
    let mut settings = Vec::new();
    for plan in ground.pools {
        let connection = match connections.get(plan.scope.as_str()) {
            Some(connection) => connection.clone(),
            None => {
                let url = ConfigUrl::parse(&ground.github.config_url(&plan.scope))
                    .map_err(|error| error.to_string())?;
                let token = TokenSource::fixed("world", DEFAULT_TOKEN.into());
                let made = Connection::new(&http, &url, &Credentials::Token(token))
                    .map_err(|error| error.to_string())?;
                connections.insert(&plan.scope, made.clone());
                made
            }
        };
        let engine = ground.engines.get(plan.engine).ok_or("no such engine")?;
        let installation = ground.installation.clone();
        let provisioner = SimulatedProvisioner::new(engine, installation, plan.binding);
        let provisioner = if plan.listed { provisioner } else { provisioner.without_list() };
        settings.push((
            plan,
            PoolSettings {
                name: plan.name.clone(),
                spec: plan.spec.clone(),
                labels: vec![plan.name.to_string()],
                runner_group: None,
                connection,
                credential_reference: "world".to_owned(),
                provisioner: Arc::new(provisioner),
                backend_concurrency: 20,
                footprint: Footprint::default(),
                removed: false,
                takeover: false,
                digest: String::new(),
            },
        ));
    }
    Ok(with_removed(store, settings))
}

/// As the binary's wiring: a pool that is not configured any more lives on with the backend and the
/// credential of one that is.
fn with_removed(store: &Store, all: Vec<(&PoolPlan, PoolSettings)>) -> Vec<PoolSettings> {
    let reaches = |plan: &PoolPlan| {
        all.iter().any(|(other, _)| {
            other.configured && other.engine == plan.engine && other.listed == plan.listed
        }) && all.iter().any(|(other, _)| other.configured && other.scope == plan.scope)
    };
    let mut out = Vec::new();
    for (plan, settings) in &all {
        if plan.configured {
            out.push(settings.clone());
        } else if store.pool(&plan.name).is_some_and(|state| !state.instances.is_empty())
            && reaches(plan)
        {
            let spec = PoolSpec { max_runners: 0, min_idle: 0, ..settings.spec.clone() };
            out.push(PoolSettings { spec, labels: Vec::new(), removed: true, ..settings.clone() });
        }
    }
    out
}
