//! What happened between two looks at the store, told to the recorder.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleetfoot_core::{Instance, InstanceName, Job, JobId, Phase, PoolName, PoolState};
use fleetfoot_store::FinishedJob;

use super::{Leg, Metrics};

/// Compares each look with the one before. The first look only remembers.
pub struct Watch {
    metrics: Metrics,
    seen: Option<BTreeMap<PoolName, Arc<PoolState>>>,
}

/// What is gone since the look before: the history says how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gone {
    /// Instances whose rows are closed.
    pub instances: Vec<(PoolName, InstanceName)>,
    /// Jobs that are over, and whether their start was recorded.
    pub jobs: Vec<(PoolName, JobId, bool)>,
}

impl Watch {
    /// A watch that has not looked yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, seen: None }
    }

    /// Looks at `pools`, records what is new, and returns what is gone.
    pub fn look(&mut self, pools: BTreeMap<PoolName, Arc<PoolState>>) -> Gone {
        let mut gone = Gone::default();
        let Some(seen) = self.seen.take() else {
            self.seen = Some(pools);
            return gone;
        };
        for (name, state) in &pools {
            let before = seen.get(name);
            if !before.is_some_and(|before| Arc::ptr_eq(before, state)) {
                self.compare(name, before.map(AsRef::as_ref), state, &mut gone);
            }
        }
        self.seen = Some(pools);
        gone
    }

    fn compare(
        &self,
        pool: &PoolName,
        before: Option<&PoolState>,
        after: &PoolState,
        gone: &mut Gone,
    ) {
        for instance in after.instances.values() {
            let old = before.and_then(|before| before.instances.get(&instance.name));
            self.instance(pool, old.map(AsRef::as_ref), instance);
        }
        for job in after.jobs.values() {
            let old = before.and_then(|before| before.jobs.get(&job.id));
            if job.started_at.is_some() && old.is_none_or(|old| old.started_at.is_none()) {
                self.started(pool, job);
            }
        }
        let Some(before) = before else { return };
        for name in before.instances.keys().filter(|name| !after.instances.contains_key(*name)) {
            gone.instances.push((pool.clone(), name.clone()));
        }
        for job in before.jobs.values().filter(|job| !after.jobs.contains_key(&job.id)) {
            gone.jobs.push((pool.clone(), job.id.clone(), job.started_at.is_some()));
        }
    }

    fn instance(&self, pool: &PoolName, before: Option<&Instance>, after: &Instance) {
        if before.is_none() {
            self.metrics.instance_created(pool);
        }
        let online = |instance: &Instance| matches!(instance.phase, Phase::Idle | Phase::Running);
        if online(after) && !before.is_some_and(|before| online(before) || before.had_job()) {
            self.metrics.booted(pool, after.created_at.age(after.phase_since));
        }
    }

    fn started(&self, pool: &PoolName, job: &Job) {
        let Some(started) = job.started_at else { return };
        self.metrics.job_started(pool);
        self.metrics.queue_to_start(pool, Leg::Start, job.seen_at.age(started));
        if let Some(queued) = job.queued_at {
            self.metrics.queue_to_start(pool, Leg::Delivery, queued.age(job.seen_at));
            self.metrics.queue_to_start(pool, Leg::Total, queued.age(started));
        }
    }

    /// A job is over. Its start may have come and gone between two looks.
    pub(crate) fn job_over(&self, pool: &PoolName, job: Option<&FinishedJob>, start_known: bool) {
        if let Some(job) = job.filter(|_| !start_known) {
            self.started(pool, &job.job);
        }
        self.metrics.job_finished(pool, job.and_then(|job| job.result.as_deref()));
    }

    /// An instance is closed, as the history has it.
    pub(crate) fn instance_closed(&self, pool: &PoolName, outcome: &'static str) {
        self.metrics.instance_closed(pool, outcome);
    }
}
