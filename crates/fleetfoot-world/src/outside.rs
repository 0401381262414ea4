//! What happens around the controller: jobs, and what goes wrong at GitHub, at the engines and on the host.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use fleetfoot_core::{Exit, InstallationId, InstanceName, PoolName};
use fleetfoot_provisioner::simulated::{Fault as EngineFault, Latency, Rule, SimulatedEngine};
use fleetfoot_provisioner::{EnvironmentState, ErrorKind};
use fleetfoot_sim::{Endpoint, ExpireRequest, Fault, FaultAction, GithubBox, QueueJobs};
use tokio::time::Instant;

use crate::books::{Books, Machine, NameBook, PoolBook};
use crate::happening::{AtEngine, Happening, Outside, Over, SettingsChange, changed};
use crate::runner::{Play, RunnerFate};
use crate::script::PoolPlan;
use crate::stage::{SECRETS, Stage};
use crate::tasks;
use crate::unseen::{unheard, unseen};
use crate::world::Agenda;

/// What answers for a while at another one's address.
pub(crate) const ANOTHER_ENGINE: &str = "another-engine";

pub(crate) fn book(plan: &PoolPlan) -> PoolBook {
    PoolBook {
        scope: plan.scope.clone(),
        limit: plan.spec.max_runners,
        min_idle: plan.spec.min_idle,
        warm: plan.spec.warm,
        calm: plan.calm,
        may_kill: plan.spec.max_job_duration.is_some(),
        boot_ms: u64::try_from(plan.spec.boot_timeout.0).unwrap_or(0),
        ..PoolBook::default()
    }
}

pub(crate) fn latency(rng: &mut Rng) -> Latency {
    let mut up_to = |most: u64| Duration::from_millis(rng.u64(5..=most));
    let (create, launch, delete, list) = (up_to(3000), up_to(500), up_to(2000), up_to(500));
    Latency { create, launch, delete, list }
}

/// An environment was launched: its runner begins.
pub(crate) fn launched(
    books: &Books,
    github: &Arc<GithubBox>,
    engine: &SimulatedEngine,
    name: &InstanceName,
    jit: &str,
    boot_ms: u64,
) {
    let mut inner = books.lock();
    if inner.secrets.len() == SECRETS.len() {
        // All JIT configs begin alike.
        inner.secrets.push(jit.chars().take(40).collect());
    }
    let Some(pool) = inner.names.get(name).and_then(|book| book.pool.clone()) else { return };
    let fate = inner.pools.get_mut(&pool).and_then(|book| book.fates.pop_front());
    let fate = fate.unwrap_or(RunnerFate::Well);
    if fate != RunnerFate::Well {
        inner.line(format!("{pool} {name}"), format!("{name}: its runner will be: {fate:?}"), true);
    }
    let play = Play {
        github: github.clone(),
        engine: engine.clone(),
        books: books.clone(),
        pool,
        name: name.clone(),
        jit: jit.to_owned(),
        fate,
        boot: Duration::from_millis(boot_ms),
    };
    let actor = tasks::start(play.run());
    inner.actors.insert(name.clone(), actor);
}

impl Stage {
    /// Things that look like ours and are not.
    pub(crate) fn strangers(&mut self) {
        let Ok(other) = InstallationId::new("somebody-else") else { return };
        for plan in self.pools.iter().filter(|plan| !plan.calm) {
            let name = InstanceName::of_pool(&plan.name, 0x0bad_cafe);
            self.github.register_runner(&plan.scope, name.as_str());
            self.engines[plan.engine].insert(&other, &plan.name, &name, EnvironmentState::Running);
            self.foreign.push((plan.engine, name));
            // A pool that nobody serves any more, by the label of ours and a name that begins like another's.
            let Ok(retired) = PoolName::new(&format!("{}-retired", plan.name)) else { continue };
            let left = InstanceName::of_pool(&retired, 0x0bad_cafe);
            let engine = &self.engines[plan.engine];
            engine.insert(&self.installation, &retired, &left, EnvironmentState::Running);
            self.books.lock().manners.left_alone.insert(left);
        }
    }

    fn of(&self, pool: &PoolName) -> Option<(String, usize)> {
        let plan = self.pools.iter().find(|plan| plan.name == *pool)?;
        Some((plan.scope.clone(), plan.engine))
    }

    pub(crate) fn jobs(&mut self, pool: &PoolName, count: usize, duration_ms: u64) {
        let Some((scope, _)) = self.of(pool) else { return };
        let jobs = QueueJobs::for_scale_set(scope, pool.as_str(), count, duration_ms);
        let ids = self.github.queue_jobs(&jobs);
        let (first, last) = (ids.first().copied().unwrap_or(0), ids.last().copied().unwrap_or(0));
        let about = ids.iter().fold(pool.to_string(), |text, id| format!("{text} job{id}."));
        let text = format!("{pool}: jobs {first} to {last} queued, {} s each", duration_ms / 1000);
        self.books.note(&about, &text);
    }

    /// The pool's jobs that are not over.
    fn open_jobs(&self, pool: &PoolName) -> Vec<u64> {
        let open = self.github.jobs_since(u64::MAX);
        let of_pool = open.iter().filter(|job| job.scale_set.as_deref() == Some(pool.as_str()));
        of_pool.map(|job| job.id).collect()
    }

    pub(crate) fn cancel(&mut self, pool: &PoolName, number: usize) {
        let open = self.open_jobs(pool);
        if open.is_empty() {
            return;
        }
        let id = open[number % open.len()];
        self.books.lock().cancelled.insert(id);
        self.books.matters(&format!("{pool} job{id}."), &format!("{pool}: job {id} cancelled"));
        self.github.cancel_job(id);
    }

    /// Something about GitHub or an engine.
    pub(crate) fn outside(&mut self, what: Outside, agenda: &mut Agenda, now: Instant) {
        let text = format!("fault: {what:?}");
        self.books.matters("", &text);
        match what {
            Outside::Github { pool, endpoint, action, skip, times } => {
                let Some((scope, _)) = self.of(&pool) else { return };
                let fault = Fault::once(endpoint, action).scope(scope).skip(skip).times(times);
                self.github.inject(fault);
            }
            Outside::Outage { pool, endpoint, action, lasts } => {
                let Some((scope, _)) = self.of(&pool) else { return };
                self.github.inject(Fault::always(endpoint, action).scope(scope));
                self.faults += 1;
                agenda.put(now + lasts, Happening::Over(Over::Github(self.faults)));
            }
            Outside::Refuse { pool, lasts } => {
                let Some((scope, _)) = self.of(&pool) else { return };
                let refused = FaultAction::status(403);
                let fault = Fault::always(Endpoint::GenerateJitConfig, refused).scope(scope);
                self.github.inject(fault.scale_set(pool.as_str()));
                self.faults += 1;
                agenda.put(now + lasts, Happening::Over(Over::Github(self.faults)));
            }
            Outside::CutConnections => {
                self.disturbed(Duration::from_secs(60));
                self.github.cut_connections();
            }
            Outside::Expire { pool, what } => {
                let Some((scope, _)) = self.of(&pool) else { return };
                let scale_set = Some(pool.to_string());
                self.github.expire(&ExpireRequest { what, scope: Some(scope), scale_set });
            }
            Outside::Vanish { pool } => {
                self.books.lock().occurs("7 scale set gone");
                let Some((scope, _)) = self.of(&pool) else { return };
                self.muddled(Duration::ZERO);
                if let Some(book) = self.books.lock().pools.get_mut(&pool) {
                    book.message = i64::MAX;
                }
                self.github.vanish(&scope, pool.as_str());
            }
            Outside::Muddle { pool, how } => {
                let Some((scope, _)) = self.of(&pool) else { return };
                self.muddled(Duration::ZERO);
                self.github.muddle(&scope, pool.as_str(), how);
            }
            Outside::Tell { pool, told, number } => {
                let open = self.open_jobs(&pool);
                self.muddled(Duration::ZERO);
                if !open.is_empty() {
                    self.books.lock().occurs("15 untrue message");
                    self.github.tell(open[number % open.len()], &told);
                }
            }
            Outside::Lie { pool, assigned, lasts } => {
                self.muddled(lasts);
                if let Some(book) = self.books.lock().pools.get_mut(&pool) {
                    (book.lies, book.lied) = (true, true);
                }
                self.github.change(|settings| {
                    settings.stated_assigned_jobs.insert(pool.to_string(), assigned);
                });
                agenda.put(now + lasts, Happening::Over(Over::Lie(pool)));
            }
            Outside::Runners { pool, fates } => {
                if let Some(book) = self.books.lock().pools.get_mut(&pool) {
                    book.fates = VecDeque::from(fates);
                }
            }
        }
    }

    pub(crate) fn at_engine(&mut self, what: AtEngine, agenda: &mut Agenda, now: Instant) {
        self.books.matters("", &format!("fault: {what:?}"));
        let engine_of = |pool: &PoolName| {
            let number = self.of(pool)?.1;
            Some((number, self.engines.get(number)?.clone()))
        };
        match what {
            AtEngine::Calls { pool, operation, fault, skip, times } => {
                let Some((_, engine)) = engine_of(&pool) else { return };
                engine.add_rule(Rule { skip, times: Some(times), ..Rule::all(operation, fault) });
            }
            AtEngine::Outage { pool, operations, lasts } => {
                let Some((number, engine)) = engine_of(&pool) else { return };
                for operation in operations {
                    let fault = EngineFault::Fail(ErrorKind::Backend, "unreachable".to_owned());
                    engine.add_rule(Rule::all(operation, fault));
                }
                agenda.put(now + lasts, Happening::Over(Over::EngineRules(number)));
            }
            AtEngine::Freeze { pool, lasts } => {
                let Some((number, engine)) = engine_of(&pool) else { return };
                engine.set_frozen(true);
                agenda.put(now + lasts, Happening::Over(Over::FreezeEngine(number)));
            }
            AtEngine::Other { pool, lasts } => {
                self.books.lock().occurs("2 another engine");
                let Some((number, engine)) = engine_of(&pool) else { return };
                engine.set_identity(ANOTHER_ENGINE);
                unheard(&mut self.books.lock(), &engine);
                agenda.put(now + lasts, Happening::Over(Over::OtherEngine(number)));
            }
            AtEngine::BreakWatch { pool } => {
                let Some((_, engine)) = engine_of(&pool) else { return };
                engine.break_watch();
            }
            AtEngine::DieWaiting { pool } => {
                let Some((_, engine)) = engine_of(&pool) else { return };
                let waits = |book: &NameBook| {
                    book.machine == Machine::Made && book.pool.as_ref() == Some(&pool)
                };
                let mut names = self.books.lock().names.clone().into_iter();
                let Some((name, _)) = names.find(|(_, book)| waits(book)) else { return };
                self.books.killed(&pool, &name, "dies while it waits for a job");
                engine.end(&name, Exit { code: Some(137), ..Exit::default() });
            }
            AtEngine::Latency { pool, millis } => {
                let Some((_, engine)) = engine_of(&pool) else { return };
                engine.set_latency(Latency::all(Duration::from_millis(millis)));
            }
        }
    }

    pub(crate) fn over(&mut self, over: &Over) {
        self.books.matters("", &format!("over: {over:?}"));
        match over {
            Over::Freeze => {
                self.frozen[0] = false;
                self.books.lock().unsteady();
                if let Some(gate) = self.runs().then(|| self.gate()) {
                    gate.thaw();
                    self.came_back();
                }
            }
            // The latest outage takes the older ones with it.
            Over::Github(number) if *number == self.faults => self.github.clear_faults(),
            Over::Github(_) => {}
            Over::Lie(pool) => {
                if let Some(book) = self.books.lock().pools.get_mut(pool) {
                    book.lies = false;
                }
                self.github.change(|settings| {
                    settings.stated_assigned_jobs.remove(pool.as_str());
                });
            }
            Over::EngineRules(number) => self.engines[*number].clear_rules(),
            Over::FreezeEngine(number) => self.engines[*number].set_frozen(false),
            Over::OtherEngine(number) => {
                self.engines[*number].set_identity(&format!("simulated-e{number}"));
                unseen(&mut self.books.lock(), &self.engines[*number]);
            }
        }
    }

    /// The configuration changes while the controller is away.
    pub(crate) fn change(&mut self, pool: &PoolName, change: &SettingsChange) {
        let Some(at) = self.pools.iter().position(|plan| plan.name == *pool) else { return };
        self.books.matters(pool.as_str(), &format!("{pool}: {change:?}"));
        changed(&mut self.pools[at], change);
        let (limit, min_idle) = (self.pools[at].spec.max_runners, self.pools[at].spec.min_idle);
        // Another controller goes on with the configuration that it was started with.
        let other = self.second.is_some();
        if let Some(book) = self.books.lock().pools.get_mut(pool) {
            let (limit_before, idle_before) =
                if other { (book.limit, book.min_idle) } else { (0, 0) };
            (book.limit, book.min_idle) = (limit.max(limit_before), min_idle.max(idle_before));
        }
        if let SettingsChange::PutBack { .. } = change {
            let of = |name: &PoolName| {
                let number = name.as_str().strip_prefix(pool.as_str())?.strip_prefix("-r")?;
                number.parse::<u32>().ok()
            };
            let copies = self.pools.iter_mut().filter(|plan| of(&plan.name).is_some());
            copies.for_each(|plan| plan.configured = false);
        }
        self.renamed += 1;
        let new = PoolName::new(&format!("{pool}-r{}", self.renamed));
        if let (SettingsChange::Rename, Ok(name)) = (change, new) {
            let plan = PoolPlan { name: name.clone(), configured: true, ..self.pools[at].clone() };
            self.books.lock().pools.insert(name, book(&plan));
            // Calm pools stay at the end.
            self.pools.push(plan);
        }
        self.note_unserved();
    }

    /// Which pools no credential is left for: as the binary, the world has one for each scope that is configured.
    pub(crate) fn note_unserved(&self) {
        let has_credential = |plan: &PoolPlan| {
            self.pools.iter().any(|other| other.configured && other.scope == plan.scope)
        };
        let unserved = self.pools.iter().filter(|plan| !plan.configured && !has_credential(plan));
        let unserved = unserved.map(|plan| plan.name.clone()).collect();
        self.books.lock().manners.unserved = unserved;
    }

    pub(crate) fn lose(&mut self, restore: bool) -> Result<(), String> {
        let store = self.directory.path().join("store.db");
        let copy = self.directory.path().join("copy.db");
        for end in ["", "-wal", "-shm"] {
            let file = self.directory.path().join(format!("store.db{end}"));
            let _ = std::fs::remove_file(file);
        }
        let restored = restore && self.saved;
        if restored {
            std::fs::copy(&copy, &store).map_err(|error| error.to_string())?;
        }
        let word = if restored { "restored from a copy" } else { "lost" };
        self.books.matters("", &format!("store {word}"));
        let blind = self.pools.iter().filter(|plan| !plan.listed).map(|plan| plan.name.clone());
        let blind: Vec<PoolName> = blind.collect();
        let mut inner = self.books.lock();
        inner.epoch += 1;
        inner.present = Arc::default();
        for book in inner.names.values_mut() {
            book.has_row = false;
            // Nobody can tell the successor of it where the backend cannot list.
            book.unknown |= blind.iter().any(|pool| book.pool.as_ref() == Some(pool));
        }
        for engine in &self.engines {
            unheard(&mut inner, engine);
        }
        Ok(())
    }

    pub(crate) fn reboot(&mut self) {
        self.boot += 1;
        self.books.lock().occurs("13 host rebooted");
        self.books.matters("", "host reboots");
        let mut victims = Vec::new();
        {
            let inner = self.books.lock();
            for (name, book) in inner.names.iter().filter(|(_, book)| book.machine.lives()) {
                if let Some(pool) = &book.pool {
                    victims.push((pool.clone(), name.clone()));
                }
            }
        }
        for (pool, name) in victims {
            let Some((_, engine)) = self.of(&pool) else { continue };
            self.books.killed(&pool, &name, "goes down with the host");
            self.engines[engine].end(&name, Exit::default());
        }
    }

    /// All faults stop.
    pub(crate) fn calm_down(&mut self) {
        self.books.matters("", "all faults stop");
        self.github.clear_faults();
        self.github.change(|settings| settings.stated_assigned_jobs.clear());
        for (number, engine) in self.engines.iter().enumerate() {
            engine.clear_rules();
            engine.set_frozen(false);
            engine.set_identity(&format!("simulated-e{number}"));
            engine.set_latency(Latency::all(Duration::from_millis(200)));
        }
        let mut inner = self.books.lock();
        inner.commits.clear();
        for book in inner.pools.values_mut() {
            book.fates.clear();
            book.lies = false;
        }
        inner.settled = true;
    }
}
