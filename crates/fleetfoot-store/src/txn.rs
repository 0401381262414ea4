//! What a closure of [`Store::update`](crate::Store::update) sees and may do.
//!
//! A closure changes a working copy. Phases change only through [`Txn::observe`], which is the core's
//! own judgement; an instance that closes leaves the present by itself and enters the history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleetfoot_core::{
    Instance, InstanceName, Job, JobId, JobState, Observation, Phase, Pool, PoolName, PoolState,
    Timestamp,
};

use crate::batch::{Amendment, Past, Working};
use crate::error::{InsertError, ObserveError, RemovePoolError};
use crate::event::Event;
use crate::history::FinishedJob;
use crate::homes;
use crate::names::Names;
use crate::told::observed;

/// The working copy, as one closure sees it.
pub struct Txn<'a> {
    under: &'a Working,
    names: &'a Names,
    pools: BTreeMap<PoolName, Option<Arc<PoolState>>>,
    past: Past,
    discarded: bool,
    /// A pool it changed that is not this controller's.
    foreign: Option<PoolName>,
}

/// What a closure did, to be laid over the working copy.
#[derive(Clone)]
pub(crate) struct Done {
    pools: BTreeMap<PoolName, Option<Arc<PoolState>>>,
    past: Past,
}

impl Done {
    pub(crate) fn merge(self, working: &mut Working) {
        working.pools.extend(self.pools);
        working.past.append(self.past);
    }

    /// The pools it changes or tells of.
    pub(crate) fn touched(&self) -> BTreeSet<PoolName> {
        self.pools.keys().chain(self.past.pools()).cloned().collect()
    }
}

impl<'a> Txn<'a> {
    pub(crate) fn new(under: &'a Working, names: &'a Names) -> Self {
        Self {
            under,
            names,
            pools: BTreeMap::new(),
            past: Past::default(),
            discarded: false,
            foreign: None,
        }
    }

    pub(crate) fn done(self) -> Option<Done> {
        (!self.discarded).then_some(Done { pools: self.pools, past: self.past })
    }

    /// The pool that it may not change and did; nothing of it counts then.
    pub(crate) fn foreign(&self) -> Option<&PoolName> {
        self.foreign.as_ref().filter(|_| !self.discarded)
    }

    fn touch(&mut self, pool: &PoolName) {
        if self.foreign.is_none() && !self.under.may_change(pool) {
            self.foreign = Some(pool.clone());
        }
    }

    /// Drops everything this closure did and does; its answer is still delivered.
    pub fn discard(&mut self) {
        self.discarded = true;
    }

    /// The state of a pool.
    #[must_use]
    pub fn pool(&self, name: &PoolName) -> Option<&PoolState> {
        self.shared(name).map(|state| &**state)
    }

    /// The names of all pools.
    #[must_use]
    pub fn pool_names(&self) -> Vec<PoolName> {
        let mut names: Vec<PoolName> = self
            .under
            .base
            .keys()
            .chain(self.under.pools.keys())
            .chain(self.pools.keys())
            .filter(|name| self.shared(name).is_some())
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }

    fn shared(&self, name: &PoolName) -> Option<&Arc<PoolState>> {
        match self.pools.get(name) {
            Some(own) => own.as_ref(),
            None => self.under.get(name),
        }
    }

    fn state_mut(&mut self, name: &PoolName) -> Option<&mut PoolState> {
        if !self.pools.contains_key(name) {
            let state = Arc::clone(self.under.get(name)?);
            self.touch(name);
            self.pools.insert(name.clone(), Some(state));
        }
        self.pools.get_mut(name)?.as_mut().map(Arc::make_mut)
    }

    /// A pool's row, to be changed.
    pub fn pool_mut(&mut self, name: &PoolName) -> Option<&mut Pool> {
        self.state_mut(name).map(|state| Arc::make_mut(&mut state.pool))
    }

    /// Puts a pool's row; its instances and jobs stay as they are.
    pub fn put_pool(&mut self, pool: Pool) {
        match self.state_mut(&pool.name) {
            Some(state) => state.pool = Arc::new(pool),
            None => {
                self.touch(&pool.name);
                self.pools.insert(pool.name.clone(), Some(Arc::new(PoolState::new(pool))));
            }
        }
    }

    /// Removes a pool's row and its unfinished jobs.
    ///
    /// # Errors
    /// When there is none, or an instance of it is not closed.
    pub fn remove_pool(&mut self, name: &PoolName) -> Result<(), RemovePoolError> {
        let state = self.pool(name).ok_or_else(|| RemovePoolError::Unknown(name.clone()))?;
        if !state.instances.is_empty() {
            let instances = state.instances.len();
            return Err(RemovePoolError::NotEmpty { pool: name.clone(), instances });
        }
        self.touch(name);
        self.pools.insert(name.clone(), None);
        Ok(())
    }

    /// The pool that a live instance belongs to. Most names say it; of the others, those of pools that were
    /// changed since are looked for there.
    fn pool_of(&self, name: &InstanceName) -> Option<PoolName> {
        let has = |pool: &PoolName| {
            self.pool(pool).is_some_and(|state| state.instances.contains_key(name))
        };
        let home = || self.under.present.home(name).filter(|pool| has(pool));
        let changed = || self.pools.keys().chain(self.under.pools.keys()).find(|pool| has(pool));
        homes::said(name).filter(has).or_else(|| home().or_else(changed).cloned())
    }

    /// A live instance.
    #[must_use]
    pub fn instance(&self, name: &InstanceName) -> Option<&Instance> {
        let pool = self.pool_of(name)?;
        self.pool(&pool)?.instances.get(name).map(|instance| &**instance)
    }

    /// An instance of this name was closed, within the bounds of retention.
    #[must_use]
    pub fn is_closed(&self, name: &InstanceName) -> bool {
        self.past.closed.contains_key(name)
            || self.under.past.closed.contains_key(name)
            || self.names.contains(name.as_str())
    }

    /// Takes in a new instance, in whatever phase it is.
    ///
    /// # Errors
    /// When its name was ever used, or its pool has no row; nothing changes.
    pub fn insert_instance(&mut self, instance: Instance) -> Result<(), InsertError> {
        if self.is_closed(&instance.name) {
            return Err(InsertError::NameTaken(instance.name));
        }
        self.put_instance(instance, "instance committed")
    }

    /// Takes up something found outside that carries our evidence under a name without a live row:
    /// its row may be closed already, or lost with an older store (design, 11.4).
    ///
    /// # Errors
    /// When a live instance has the name, or its pool has no row; nothing changes.
    pub fn take_up_instance(&mut self, instance: Instance) -> Result<(), InsertError> {
        self.put_instance(instance, "stray taken up")
    }

    fn put_instance(
        &mut self,
        instance: Instance,
        phrase: &'static str,
    ) -> Result<(), InsertError> {
        if self.pool_of(&instance.name).is_some() {
            return Err(InsertError::NameTaken(instance.name));
        }
        let Some(state) = self.state_mut(&instance.pool) else {
            return Err(InsertError::NoPool(instance.pool));
        };
        let event = Event::new(instance.created_at, phrase)
            .pool(&instance.pool)
            .instance(&instance.name)
            .field("phase", instance.phase.as_str());
        let (pool, name) = (instance.pool.clone(), instance.name.clone());
        state.instances.insert(name.clone(), Arc::new(instance));
        self.past.tell(event);
        self.settle(&pool, &name);
        Ok(())
    }

    /// Takes an observation into a live instance and what it means into its pool, by the core's
    /// judgement; an event tells of what changed. A closed instance enters the history.
    ///
    /// # Errors
    /// When no live instance has the name, or the core refuses; nothing changes.
    pub fn observe(
        &mut self,
        name: &InstanceName,
        observation: &Observation,
        now: Timestamp,
    ) -> Result<&Instance, ObserveError> {
        let unknown = || ObserveError::Unknown(name.clone());
        let pool = self.pool_of(name).ok_or_else(unknown)?;
        let state = self.state_mut(&pool).ok_or_else(unknown)?;
        let entry = state.instances.get_mut(name).ok_or_else(unknown)?;
        let before = Arc::clone(entry);
        // Both are judged on copies: a refusal changes nothing, an unchanged row costs nothing.
        let mut row = (*state.pool).clone();
        let mut instance = (*before).clone();
        fleetfoot_core::pool::observe(&mut row, &mut instance, observation, now)
            .map_err(ObserveError::Refused)?;
        if row != *state.pool {
            state.pool = Arc::new(row);
        }
        let event = observed(&before, &instance, observation, now);
        if instance != *before {
            *entry = Arc::new(instance);
        }
        if let Some(event) = event {
            self.past.tell(event);
        }
        self.settle(&pool, name).ok_or_else(unknown)
    }

    /// Changes a live instance beside its phase: attempts, deadlines, what was last tried.
    /// Name, pool and phase stay, whatever `change` does to them.
    pub fn modify_instance<R>(
        &mut self,
        name: &InstanceName,
        change: impl FnOnce(&mut Instance) -> R,
    ) -> Option<R> {
        let pool = self.pool_of(name)?;
        let entry = self.state_mut(&pool)?.instances.get_mut(name)?;
        let instance = Arc::make_mut(entry);
        let (phase, since) = (instance.phase, instance.phase_since);
        let result = change(instance);
        instance.name = name.clone();
        instance.pool = pool;
        if instance.phase != phase {
            instance.phase = phase;
            instance.phase_since = since;
        }
        Some(result)
    }

    /// Takes back what a pool's rows are sure of: the store may be behind what is true outside.
    pub fn distrust_pool(&mut self, pool: &PoolName, now: Timestamp) {
        if let Some(state) = self.state_mut(pool) {
            fleetfoot_core::doubt::distrust_pool(state, now);
        }
    }

    /// Moves a closed instance into the history; the instance, wherever it is now.
    fn settle(&mut self, pool: &PoolName, name: &InstanceName) -> Option<&Instance> {
        let state = self.state_mut(pool)?;
        if state.instances.get(name)?.phase == Phase::Closed {
            let closed = Arc::unwrap_or_clone(state.instances.remove(name)?);
            return Some(self.past.closed.entry(name.clone()).or_insert(closed));
        }
        self.pool(pool)?.instances.get(name).map(|instance| &**instance)
    }

    /// A late word of GitHub about a closed instance: fills in what its history does not know yet.
    pub fn amend_closed(
        &mut self,
        name: &InstanceName,
        job: Option<&JobId>,
        result: Option<&str>,
        at: Timestamp,
    ) {
        self.past.amendments.push(Amendment {
            name: name.clone(),
            job: job.cloned(),
            result: result.map(str::to_owned),
            at,
        });
    }

    /// An unfinished job of a pool.
    #[must_use]
    pub fn job(&self, pool: &PoolName, job: &JobId) -> Option<&Job> {
        self.pool(pool)?.jobs.get(job).map(|job| &**job)
    }

    /// Puts an unfinished job; `false` if the pool has no row.
    pub fn put_job(&mut self, pool: &PoolName, job: Job) -> bool {
        let Some(state) = self.state_mut(pool) else { return false };
        let job = Arc::new(job);
        let before = state.jobs.insert(job.id.clone(), Arc::clone(&job));
        if before.is_none() {
            let event = Event::new(job.seen_at, "job assigned").pool(pool).job(&job.id);
            self.past.tell(event.field("repository", &job.repository));
        }
        true
    }

    /// Moves an unfinished job into the history with its result; the job, if there was one.
    pub fn remove_job(
        &mut self,
        pool: &PoolName,
        job: &JobId,
        result: Option<&str>,
        now: Timestamp,
    ) -> Option<Job> {
        self.job(pool, job)?;
        let job = Arc::unwrap_or_clone(self.state_mut(pool)?.jobs.remove(job)?);
        let instance = match &job.state {
            JobState::Assigned => None,
            JobState::Started { instance } => instance.clone(),
        };
        self.finish(FinishedJob {
            pool: pool.clone(),
            job: job.clone(),
            instance,
            result: result.map(str::to_owned),
            finished_at: now,
        });
        Some(job)
    }

    /// Writes a finished job into the history, whether or not it was ever unfinished here.
    pub fn finish(&mut self, finished: FinishedJob) {
        self.touch(&finished.pool);
        let mut event = Event::new(finished.finished_at, "job finished")
            .pool(&finished.pool)
            .job(&finished.job.id);
        event.instance.clone_from(&finished.instance);
        if let Some(result) = &finished.result {
            event = event.field("result", result);
        }
        self.past.tell(event);
        self.past.finished.push(finished);
    }

    /// Writes an event into the history.
    pub fn event(&mut self, event: Event) {
        if let Some(pool) = &event.pool {
            self.touch(pool);
        }
        self.past.tell(event);
    }
}
