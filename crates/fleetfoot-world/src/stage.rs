//! The stage: box, engines and the controller of the moment, and how things happen on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use fleetfoot_controller::Gate;
use fleetfoot_core::{InstallationId, InstanceName, Timestamp};
use fleetfoot_provisioner::simulated::SimulatedEngine;
use fleetfoot_sim::{BoxConfig, DEFAULT_TOKEN, Flavor, GithubBox, Settings, Token};
use fleetfoot_store::Ticks;
use tokio::time::Instant;

use crate::books::Books;
use crate::checks;
use crate::directory;
use crate::happening::{Happening, Over};
use crate::incarnation::{Ground, Incarnation};
use crate::keeping::{HISTORY_MAX, Keeping, LONG_HOURS};
use crate::options::{Family, Stop};
use crate::outside::{book, latency, launched};
use crate::progress::Hears;
use crate::script::{CALM_TOKEN, PoolPlan, Script};
use crate::world::Agenda;

/// Who was polled less often than this since the last look does not spin.
pub(crate) const SPINS: u64 = 1_000_000;
/// Canaries: both tokens, and how those begin that the box hands out for its service and its queues.
pub(crate) const SECRETS: [&str; 4] = [DEFAULT_TOKEN, CALM_TOKEN, "admin_000000", "queue_000000"];
/// 2026-01-01 00:00:00 UTC: every world begins there.
pub(crate) const EPOCH_MS: i64 = 1_767_225_600_000;

pub(crate) struct Stage {
    pub(crate) books: Books,
    pub(crate) github: Arc<GithubBox>,
    pub(crate) engines: Vec<SimulatedEngine>,
    pub(crate) pools: Vec<PoolPlan>,
    pub(crate) foreign: Vec<(usize, InstanceName)>,
    pub(crate) rng: Rng,
    later: Rng,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) installation: InstallationId,
    pub(crate) incarnation: Option<Incarnation>,
    /// The second controller on the same store.
    pub(crate) second: Option<Incarnation>,
    /// Two controllers share the store.
    pub(crate) several: bool,
    /// The first controller and the second one are frozen.
    pub(crate) frozen: [bool; 2],
    /// Controllers so far: each has a name of its own.
    lives: u32,
    pub(crate) host_max: Option<u32>,
    /// The second controller was started with other settings than the first one has now.
    pub(crate) unlike: bool,
    pub(crate) began: Instant,
    pub(crate) step: Arc<AtomicI64>,
    pub(crate) boot: u32,
    pub(crate) saved: bool,
    /// How long the controller stays away after it dies.
    pub(crate) away: Duration,
    /// Its death was meant.
    doomed: bool,
    pub(crate) renamed: u32,
    pub(crate) faults: u64,
    /// A world of many hours.
    pub(crate) long: bool,
    pub(crate) keeping: Keeping,
    /// Nobody waits for its end any more.
    pub(crate) stop: Stop,
    pub(crate) hears: Hears,
}

impl Stage {
    pub(crate) fn new(
        books: Books,
        script: &Script,
        mut rng: Rng,
        later: Rng,
    ) -> Result<Self, String> {
        let mut settings = Settings {
            started_wakes_poll: rng.bool(),
            runner_lost_after_ms: rng.u64(60..=600) * 1000,
            control_latency_ms: rng.u64(1..=120),
            admin_token_ttl_ms: 30 * 24 * 3_600_000,
            tokens: [DEFAULT_TOKEN, CALM_TOKEN].map(Token::new).to_vec(),
            ..Settings::default()
        };
        let long = script.span.as_secs_f64() > LONG_HOURS * 3600.0;
        if long {
            settings.history_max = HISTORY_MAX;
        }
        settings.flavors = script.ghes.iter().map(|scope| (scope.clone(), Flavor::Ghes)).collect();
        let start_us = u64::try_from(EPOCH_MS).map(|ms| ms * 1000).ok();
        let directory = directory::in_memory().map_err(|error| error.to_string())?;
        let config = BoxConfig { start_us, ..BoxConfig::with_settings(settings) };
        let github = Arc::new(GithubBox::within(config));
        let installation = InstallationId::new("world").map_err(|error| error.to_string())?;
        let engines: Vec<SimulatedEngine> = (0..script.engines)
            .map(|number| SimulatedEngine::named(&format!("e{number}")))
            .collect();
        {
            let mut inner = books.lock();
            inner.github = Some(github.clone());
            inner.secrets = SECRETS.map(str::to_owned).to_vec();
            inner.manners.expect(&script.families);
            inner.host_max = script.host_max;
            for plan in &script.pools {
                inner.pools.insert(plan.name.clone(), book(plan));
                if let Some(engine) = engines.get(plan.engine).filter(|_| plan.listed) {
                    inner.manners.engines.insert(plan.name.clone(), engine.clone());
                }
            }
        }
        let (heard, box_heard) = (books.clone(), Arc::downgrade(&github));
        github.observe(move |seen| {
            if let Some(github) = box_heard.upgrade() {
                checks::github_saw(&heard, &github, seen);
            }
        });
        let mut stage = Self {
            books,
            github,
            engines,
            pools: script.pools.clone(),
            foreign: Vec::new(),
            rng,
            later,
            directory,
            installation,
            incarnation: None,
            second: None,
            several: script.families.contains(&Family::Peers),
            frozen: [false; 2],
            lives: 0,
            host_max: script.host_max,
            unlike: false,
            began: Instant::now(),
            step: Arc::default(),
            boot: 1,
            saved: false,
            away: Duration::ZERO,
            doomed: false,
            renamed: 0,
            faults: 0,
            long,
            keeping: Keeping::default(),
            stop: Stop::default(),
            hears: Hears::default(),
        };
        stage.equip();
        stage.strangers();
        Ok(stage)
    }

    /// Engines get their speed, their runners and their observer.
    fn equip(&mut self) {
        for (number, engine) in self.engines.iter().enumerate() {
            engine.set_latency(latency(&mut self.rng));
            let (books, github) = (self.books.clone(), self.github.clone());
            engine
                .observe(move |name, change| checks::engine_changed(&books, &github, name, change));
            let (books, github, of) = (self.books.clone(), self.github.clone(), engine.clone());
            let seed = self.rng.u64(..) ^ number as u64;
            let chance = std::sync::Mutex::new(Rng::with_seed(seed));
            engine.on_launch(move |name, jit| {
                let boot_ms = {
                    let mut chance =
                        chance.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    chance.u64(300..=15_000)
                };
                launched(&books, &github, &of, name, jit.expose(), boot_ms);
            });
        }
    }

    /// What the controller tells of itself.
    pub(crate) fn health<T>(&self, look: impl FnOnce(&fleetfoot_core::Health) -> T) -> Option<T> {
        self.incarnation.as_ref().map(|life| look(&life.controller.health().borrow()))
    }

    pub(crate) fn gate(&self) -> Gate {
        self.incarnation.as_ref().map_or_else(Gate::new, |life| life.gate.clone())
    }

    pub(crate) fn runs(&self) -> bool {
        self.incarnation.is_some()
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }

    /// The files of the store, for the search for secrets.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        ["store.db", "store.db-wal"].map(|name| self.directory.path().join(name)).to_vec()
    }

    pub(crate) fn wall(&self) -> Timestamp {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(EPOCH_MS + elapsed + self.step.load(Ordering::SeqCst))
    }

    pub(crate) async fn start(&mut self, agenda: &mut Agenda) -> Result<(), String> {
        if self.incarnation.is_some() {
            return Ok(());
        }
        self.books.matters("", "controller starts");
        self.books.lock().starts_anew();
        self.frozen[0] = false;
        match self.life("host-a").await? {
            Some(life) => {
                self.incarnation = Some(life);
                self.came_back();
            }
            None => {
                self.books.matters("", "controller dies while it starts");
                agenda.put(Instant::now() + Duration::from_secs(2), Happening::Start);
            }
        }
        Ok(())
    }

    /// Starts a controller on this host.
    pub(crate) async fn life(&mut self, host: &str) -> Result<Option<Incarnation>, String> {
        self.lives += 1;
        let began = self.began;
        let ticks = Ticks::new(move || {
            i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX).saturating_add(1_000_000)
        });
        Incarnation::start(Ground {
            books: &self.books,
            github: &self.github,
            engines: &self.engines,
            pools: &self.pools,
            store: &self.store(),
            installation: &self.installation,
            boot: self.boot,
            wall: self.wall(),
            step: &self.step,
            host_max: self.host_max,
            member: self.several.then(|| (host, format!("{host}-{}", self.lives))),
            has_peer: self.incarnation.is_some() || self.second.is_some(),
            ticks: &ticks,
        })
        .await
    }

    /// The controller is gone from one moment to the next.
    pub(crate) async fn died(&mut self, agenda: &mut Agenda) -> Result<(), String> {
        let polls = self.incarnation.as_ref().map_or(u64::MAX, |life| life.gate.polls());
        let halted = polls.saturating_sub(self.keeping.polls) < SPINS;
        self.keeping.polls = 0;
        if !self.doomed && !halted {
            return Err("the controller spins: too many polls in one life".to_owned());
        }
        self.doomed = false;
        self.kill().await;
        let away = self.away.max(Duration::from_millis(10));
        agenda.put(Instant::now() + away, Happening::Start);
        Ok(())
    }

    /// Its death is on the way.
    pub(crate) fn doomed(&self) -> bool {
        self.doomed
    }

    async fn kill(&mut self) {
        let Some(life) = self.incarnation.take() else { return };
        self.books.matters("", "controller is killed");
        self.went_away();
        self.end_life(life).await;
    }

    pub(crate) async fn stop(&mut self) {
        let Some(life) = self.incarnation.take() else { return };
        self.books.matters("", "controller stops");
        self.went_away();
        self.stop_life(life).await;
    }

    /// Does what is due.
    pub(crate) async fn happen(
        &mut self,
        what: Happening,
        agenda: &mut Agenda,
    ) -> Result<(), String> {
        let now = Instant::now();
        match what {
            Happening::Start => return self.start(agenda).await,
            Happening::Jobs { pool, count, duration_ms } => self.jobs(&pool, count, duration_ms),
            Happening::Cancel { pool, number } => self.cancel(&pool, number),
            Happening::Over(over) => self.over(&over),
            Happening::Peer(change) => self.peer(change, agenda).await?,
            Happening::Reload { change } => self.reload(change, agenda).await?,
            Happening::Fault { what, .. } => agenda.put(now, *what),
            Happening::Crash { polls, away } => {
                self.away = away;
                if let Some(life) = &self.incarnation {
                    self.doomed = true;
                    self.books.matters(
                        "",
                        &format!("crash after {polls} polls, away {} s", away.as_secs()),
                    );
                    life.gate.shut_after(polls);
                    life.gate.thaw();
                }
            }
            Happening::Restart { change, away } => {
                self.books.lock().occurs("14 stopped in order");
                self.stop().await;
                if let Some((pool, change)) = change {
                    self.change(&pool, &change);
                    self.unlike |= self.second.is_some();
                }
                agenda.put(now + away, Happening::Start);
            }
            Happening::Freeze { lasts } => {
                if let Some(life) = &self.incarnation {
                    self.books.matters("", &format!("controller frozen for {} s", lasts.as_secs()));
                    life.gate.freeze();
                    self.frozen[0] = true;
                    // When it wakes, what it was told is as old as its sleep.
                    self.muddled(lasts);
                    self.went_away();
                    agenda.put(now + lasts, Happening::Over(Over::Freeze));
                }
            }
            Happening::Commits { fates, skip, away } => {
                self.away = away;
                self.disturbed(Duration::from_secs(120));
                let mut inner = self.books.lock();
                inner.commits_skip = skip;
                inner.commits.extend(fates);
            }
            Happening::SaveStore => self.save().await?,
            Happening::LoseStore { restore, away } => {
                // Whoever puts a copy back stops it first.
                if self.later.bool() {
                    self.stop().await;
                } else {
                    self.kill().await;
                }
                self.lose(restore)?;
                agenda.put(now + away, Happening::Start);
            }
            Happening::Reboot { away } => {
                self.kill().await;
                self.reboot();
                agenda.put(now + away, Happening::Start);
            }
            Happening::StepClock { seconds } => {
                self.books.lock().occurs("11 clock steps");
                self.books.matters("", &format!("wall clock steps by {seconds} s"));
                self.step.fetch_add(seconds * 1000, Ordering::SeqCst);
            }
            Happening::Outside(what) => self.outside(what, agenda, now),
            Happening::Engine(what) => self.at_engine(what, agenda, now),
        }
        Ok(())
    }

    async fn save(&mut self) -> Result<(), String> {
        let Some(life) = &self.incarnation else { return Ok(()) };
        let copy = self.directory.path().join("copy.db");
        self.books.matters("", "store copied");
        tokio::select! {
            biased;
            () = life.gate.is_shut() => return Ok(()),
            copied = life.store.backup(&copy) => copied.map_err(|error| error.to_string())?,
        }
        self.saved = true;
        Ok(())
    }

    /// A controller with all pools again, for the end.
    pub(crate) async fn again(&mut self, agenda: &mut Agenda) -> Result<(), String> {
        self.stop().await;
        self.start(agenda).await
    }

    /// The gate of a crash that did not come is open again.
    pub(crate) fn reprieve(&mut self) {
        self.doomed = false;
        if let Some(life) = &self.incarnation {
            life.gate.shut_after(crate::incarnation::POLLS_MAX);
        }
    }
}
