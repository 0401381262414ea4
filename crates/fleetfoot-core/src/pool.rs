//! A pool: one scale set with its sizing and its backend.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::circuit::Circuit;
use crate::demand::{ASSIGNED_ITEMS_HOLD, Demand, Job, JobState, SPENT_HOLD, count};
use crate::instance::Instance;
use crate::names::{InstanceName, JobId, PoolName, ScaleSetId};
use crate::removal::is_undecided;
use crate::time::{Span, Timestamp};

/// What an operator wants of the pool beside its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Intent {
    /// Serve jobs.
    #[default]
    Active,
    /// Take no more jobs, let the running ones finish.
    Draining,
    /// Not in the configuration any more: drained until its last instance closes.
    Removed,
}

impl Intent {
    /// The word in the store and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Removed => "removed",
        }
    }
}

/// The sizing and the time limits of a pool, from its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSpec {
    /// Instances at most.
    pub max_runners: u32,
    /// Runners to hold ready on top of demand.
    pub min_idle: u32,
    /// A surplus runner is removed after being idle this long.
    pub idle_timeout: Span,
    /// A committed name must be started within this time.
    pub start_timeout: Span,
    /// An environment must be made within this time.
    pub create_timeout: Span,
    /// A launched runner must be online within this time.
    pub boot_timeout: Span,
    /// The bound of one delete call.
    pub stop_timeout: Span,
    /// A job may run this long; nothing when it may run as long as it likes.
    pub max_job_duration: Option<Span>,
    /// Environments to hold made and unregistered on top of what jobs want, where the backend can.
    pub warm: u32,
    /// An unregistered environment may wait this long.
    pub warm_ttl: Span,
    /// A digest of what environments are made from: one that waits and was made from something else is of no use.
    /// Empty where nobody says.
    pub recipe: String,
    /// Remains (ended, not yet deleted) at most, before nothing more is created.
    pub remains_max: u32,
    /// Advertise exactly `max_runners` (under the name `outrunner`).
    pub advertise_limit: bool,
}

impl Default for PoolSpec {
    fn default() -> Self {
        Self {
            max_runners: 2,
            min_idle: 0,
            idle_timeout: Span::minutes(5),
            start_timeout: Span::minutes(5),
            create_timeout: Span::minutes(10),
            boot_timeout: Span::minutes(5),
            stop_timeout: Span::minutes(2),
            max_job_duration: None,
            warm: 0,
            warm_ttl: Span::minutes(60),
            recipe: String::new(),
            remains_max: 100,
            advertise_limit: false,
        }
    }
}

/// The pool's own row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// What an operator wants of it.
    pub intent: Intent,
    /// The GitHub scope it is registered at.
    pub config_url: String,
    /// The runner group's name; empty for the default group.
    pub runner_group: String,
    /// GitHub's number of its scale set, once known.
    pub scale_set_id: Option<ScaleSetId>,
    /// The scale set was made by us; one that was there before is never deleted.
    pub scale_set_is_ours: bool,
    /// The message session that is or was open (11.9). No secret.
    pub session_id: Option<String>,
    /// Where its credential comes from: a reference, never the credential.
    pub credential_reference: String,
    /// The backend connection its environments live at.
    pub backend_connection: String,
    /// What GitHub wants.
    pub demand: Demand,
    /// Its failures to start.
    pub circuit: Circuit,
    /// The number of the last name that was made for it ([`naming`](crate::naming)).
    pub last_name: i64,
    /// When the row was made.
    pub created_at: Timestamp,
}

impl Pool {
    /// A new row for `name`.
    #[must_use]
    pub fn new(name: PoolName, now: Timestamp) -> Self {
        Self {
            name,
            intent: Intent::Active,
            config_url: String::new(),
            runner_group: String::new(),
            scale_set_id: None,
            scale_set_is_ours: false,
            session_id: None,
            credential_reference: String::new(),
            backend_connection: String::new(),
            demand: Demand::default(),
            circuit: Circuit::default(),
            last_name: 0,
            created_at: now,
        }
    }
}

/// Everything the store holds of one pool's present: what `plan` reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolState {
    /// The pool's row.
    pub pool: Arc<Pool>,
    /// Its instances that are not closed.
    pub instances: BTreeMap<InstanceName, Arc<Instance>>,
    /// Its unfinished jobs.
    pub jobs: BTreeMap<JobId, Arc<Job>>,
}

impl PoolState {
    /// The state of a pool that has only its row.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool: Arc::new(pool), instances: BTreeMap::new(), jobs: BTreeMap::new() }
    }

    /// Jobs that want a runner: GitHub's level, raised by young `JobAssigned` items that are unfinished.
    /// From both are taken the jobs known to be over that GitHub did not yet say so of.
    #[must_use]
    pub fn open_jobs(&self, now: Timestamp) -> u32 {
        let demand = &self.pool.demand;
        // Off the level they are taken until GitHub is heard again, off young items no longer than those hold.
        let spent = |name: &InstanceName| {
            demand.spent.get(name).is_some_and(|since| since.age(now) < SPENT_HOLD)
        };
        let serves = |name: &InstanceName| {
            self.instances.get(name).is_some_and(|instance| instance.serves())
        };
        let undecided = |instance: &&Arc<Instance>| is_undecided(instance, demand, now);
        // Its runner is being taken away with the job that it has: nobody else will run that job.
        let taken = |row: &&Arc<Instance>| {
            row.phase == crate::Phase::Stopping
                // Of a stray nobody knows which job; that it has one, its runner being busy told.
                && (row.job.is_some() || row.reason == Some(crate::Reason::MaxJobDuration))
                && row.job_completed_at.is_none()
                && row.occupies()
        };
        // As long as GitHub calls its runner busy it counts the job, however long ago that was asked (seed 40210).
        let in_vain = |row: &&Arc<Instance>| {
            row.is_counted_in_vain() && !demand.spent.contains_key(&row.name)
        };
        let over = demand.spent.len()
            + self.instances.values().filter(in_vain).count()
            + self.instances.values().filter(undecided).count()
            + self.instances.values().filter(taken).count();
        let level = demand.statistics.assigned.saturating_sub(count(over));
        let mut over_by_name = BTreeSet::new();
        let mut young: u32 = 0;
        for job in self.jobs.values().filter(|job| job.seen_at.age(now) < ASSIGNED_ITEMS_HOLD) {
            match &job.state {
                JobState::Started { instance: Some(name) } if spent(name) => {
                    over_by_name.insert(name);
                }
                // Its runner is gone, if perhaps before this session: nobody else will ever run that job.
                JobState::Started { instance: Some(name) } if !serves(name) => {}
                JobState::Assigned | JobState::Started { .. } => young += 1,
            }
        }
        // Ended instances took a job each whose name is not known yet; so did those that are not asked about yet.
        let nameless =
            demand.spent.keys().filter(|name| spent(name) && !over_by_name.contains(name)).count();
        let unasked = self.instances.values().filter(|instance| instance.is_unasked()).count();
        level.max(young.saturating_sub(count(nameless + unasked)))
    }

    /// Instances that take a slot.
    #[must_use]
    pub fn occupying(&self) -> u32 {
        count(self.instances.values().filter(|instance| instance.occupies()).count())
    }

    /// Instances that serve demand.
    #[must_use]
    pub fn serving(&self) -> u32 {
        count(self.instances.values().filter(|instance| instance.serves()).count())
    }
}

/// Takes an observation into an instance and what it means into its pool: the circuit counts instance
/// failures and successes, and jobs known to be over are taken off GitHub's level.
///
/// # Errors
/// [`Refused`](crate::Refused) when the observation cannot be true of the instance; nothing changes.
pub fn observe(
    pool: &mut Pool,
    instance: &mut Instance,
    observation: &crate::Observation,
    now: Timestamp,
) -> Result<(), crate::Refused> {
    use crate::Observation;
    let had_success =
        instance.had_job() || matches!(instance.phase, crate::Phase::Idle | crate::Phase::Running);
    let had_failure = instance.failure.is_some();
    let waited = instance.phase == crate::Phase::Warm;
    let looked_at = instance.verified_at.is_some_and(|at| at >= instance.phase_since);
    instance.observe(observation, now)?;
    match observation {
        Observation::Online
        | Observation::JobStarted { .. }
        | Observation::JobCompleted { .. }
        | Observation::RunnerGone => {
            // A runner that was removed under a living environment proves nothing of its start.
            let proven = !matches!(observation, Observation::RunnerGone) || instance.job_proven;
            if !had_success && proven {
                pool.circuit.succeeded();
            }
        }
        Observation::Failed { kind, detail } | Observation::Unanswered { kind, detail } => {
            if !had_failure && kind.counts_against_pool() {
                pool.circuit.failed(detail, now);
            }
        }
        Observation::Removal { reason } => {
            // A create that takes too long its own task tells. One that nobody waits for any more was cut off by a
            // crash: whose failure that was, nobody knows. Nor does anybody of a runner that GitHub was not asked about.
            let counts = matches!(reason, crate::Reason::BootTimeout) && looked_at;
            if counts && !had_failure && !instance.had_job() {
                pool.circuit.failed(reason.as_str(), now);
            }
        }
        // Nobody ended it, and nothing ran in it: another like it may be no better.
        Observation::Ended { .. } | Observation::EnvironmentGone if waited => {
            pool.circuit.failed("an environment ended while it waited for a job", now);
        }
        Observation::CreateBegun
        | Observation::Created { .. }
        | Observation::StartBegun { .. }
        | Observation::Registered { .. }
        | Observation::LaunchBegun
        | Observation::Launched { .. }
        | Observation::Ended { .. }
        | Observation::EnvironmentGone
        | Observation::Deregistered
        | Observation::Busy
        | Observation::StillRegistered
        | Observation::Jobless
        | Observation::Closed { .. } => {}
    }
    // The one job of an ended instance is over, whatever GitHub's level still says.
    let over = instance.had_job() && !instance.occupies() && instance.job_completed_at.is_none();
    // Its runner was gone before the session opened: that job is not in the level GitHub stated then (seed 27036). A
    // message may tell of a level from before it.
    let counted_out = instance.registration == crate::Registration::Gone
        && instance.phase == crate::Phase::Stopping
        && matches!(instance.reason, None | Some(crate::Reason::RunnerGone))
        && instance.phase_since < pool.demand.opened_at;
    if over && !counted_out && !matches!(observation, Observation::Closed { .. }) {
        let told_busy = matches!(observation, Observation::Busy);
        let known = pool.demand.spent.contains_key(&instance.name);
        // Of rows of an older store more may be found gone than GitHub counted (seed 72518). Whose end nobody saw may
        // be gone as long as its row is known (seed 75090).
        let from_before = match instance.job_started_at {
            Some(started) => started < pool.demand.opened_at,
            None => instance.exit.is_none() && instance.created_at < pool.demand.opened_at,
        };
        let counts = known || !from_before || pool.demand.counts_from_before();
        if counts || told_busy {
            let since = pool.demand.spend(&instance.name, now);
            // GitHub still counts it as running.
            if told_busy {
                *since = now;
            }
        }
    } else if instance.job_completed_at.is_some() {
        pool.demand.spent.remove(&instance.name);
    }
    Ok(())
}
