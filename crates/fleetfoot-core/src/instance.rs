//! One instance: the container, machine or process that hosts one runner for one job.
//!
//! ```text
//! Pending ─▶ Creating ─▶ Warm ─▶ Starting ─▶ Idle ─▶ Running ─▶ Stopping ─▶ Closed
//! ```
//!
//! Single-step backends skip `Creating` and `Warm`. The row keeps two facts beside its phase, each
//! committed *before* the call it speaks of: what is registered at GitHub ([`Registration`]) and what
//! exists at the backend ([`Environment`]). Recovery reads the facts, never the phase alone.

mod standing;

use crate::cause::Reason;
use crate::names::{InstanceName, JobId, PoolName, RunnerId, ScaleSetId};
use crate::outcome::{Exit, FailureKind, Outcome};
use crate::phase::{Observation, Phase, Refused, apply};
use crate::removal::registration_open;
use crate::time::{Span, Timestamp};

/// A runner that was called busy runs as long as this at least although no message tells of its job, where GitHub
/// does not say whether it is busy.
pub const UNTOLD_JOB_HOLD: Span = Span::minutes(60);

/// What is known of the registration at GitHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registration {
    /// Never asked for.
    #[default]
    None,
    /// A JIT config was asked for; the answer is not in the store.
    Requested,
    /// Registered under this number.
    Registered(RunnerId),
    /// Proven absent: deregistered by us, or removed by GitHub after its job.
    Gone,
}

/// What is known of the environment at the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Environment {
    /// No call was made.
    #[default]
    None,
    /// A create call was made; its answer is not in the store.
    Requested,
    /// Made, and nothing launched in it.
    Present,
    /// The launch call was made.
    Launched,
    /// Its machine is proven ended; remains may be left.
    Ended,
    /// Proven absent.
    Gone,
}

/// One instance, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name everywhere.
    pub name: InstanceName,
    /// The pool it belongs to.
    pub pool: PoolName,
    /// Where it is in its life.
    pub phase: Phase,
    /// What GitHub holds.
    pub registration: Registration,
    /// What the backend holds.
    pub environment: Environment,
    /// The runner's number, kept after the registration is gone.
    pub runner_id: Option<RunnerId>,
    /// The scale set it registered under.
    pub scale_set_id: Option<ScaleSetId>,
    /// The backend's own handle (container id, directory, …).
    pub handle: Option<String>,
    /// The backend identity that holds the environment (engine id, host UUID, …), or
    /// [`HOLDER_UNCERTAIN`](Self::HOLDER_UNCERTAIN).
    pub backend_identity: Option<String>,
    /// The host's boot id when the environment was made.
    pub boot_id: Option<String>,
    /// A digest of what its environment was made from, where that is known.
    pub recipe: Option<String>,
    /// The job it runs or ran.
    pub job: Option<JobId>,
    /// When its job's start was seen.
    pub job_started_at: Option<Timestamp>,
    /// When its job's completion was seen.
    pub job_completed_at: Option<Timestamp>,
    /// The job's result as GitHub spelled it.
    pub job_result: Option<String>,
    /// GitHub itself proved that its one job ran (11.5: the runner is gone by itself).
    pub job_proven: bool,
    /// How its environment ended.
    pub exit: Option<Exit>,
    /// Why it is being removed.
    pub reason: Option<Reason>,
    /// The failure that ended it before it served.
    pub failure: Option<(FailureKind, String)>,
    /// An operator said `--force`: the removal gate is open.
    pub forced: bool,
    /// A create or JIT call went unanswered at this time: it may still land (11.1).
    pub unanswered_since: Option<Timestamp>,
    /// Complete lists since the other side answered again that showed nothing (11.1).
    pub clear_lists: u32,
    /// When the last of those lists began.
    pub last_clear_list_at: Option<Timestamp>,
    /// When the last call for this name ended, or an environment that landed late did: evidence must be newer (11.2).
    pub last_call_at: Option<Timestamp>,
    /// Attempts at the present step of its removal.
    pub attempts: u32,
    /// Not before this time the next attempt.
    pub retry_at: Option<Timestamp>,
    /// The last failure of a removal step, one line.
    pub last_error: Option<String>,
    /// When its name was committed.
    pub created_at: Timestamp,
    /// When its phase last changed.
    pub phase_since: Timestamp,
    /// When it was last verified at GitHub.
    pub verified_at: Option<Timestamp>,
    /// How its life ended; set when it closes.
    pub outcome: Option<Outcome>,
}

impl Instance {
    /// The identity of no backend: another one began to answer while the environment was made, and no list has shown yet
    /// which of them holds it.
    pub const HOLDER_UNCERTAIN: &'static str = "";

    /// A new name: nothing outside yet.
    #[must_use]
    pub fn pending(name: InstanceName, pool: PoolName, now: Timestamp) -> Self {
        Self {
            name,
            pool,
            phase: Phase::Pending,
            registration: Registration::None,
            environment: Environment::None,
            runner_id: None,
            scale_set_id: None,
            handle: None,
            backend_identity: None,
            boot_id: None,
            recipe: None,
            job: None,
            job_started_at: None,
            job_completed_at: None,
            job_result: None,
            job_proven: false,
            exit: None,
            reason: None,
            failure: None,
            forced: false,
            unanswered_since: None,
            clear_lists: 0,
            last_clear_list_at: None,
            last_call_at: None,
            attempts: 0,
            retry_at: None,
            last_error: None,
            created_at: now,
            phase_since: now,
            verified_at: None,
            outcome: None,
        }
    }

    /// Takes in one observation: changes the facts, and the phase through [`apply`].
    ///
    /// # Errors
    /// [`Refused`] when the observation cannot be true of an instance in this phase; nothing changes.
    pub fn observe(&mut self, observation: &Observation, now: Timestamp) -> Result<(), Refused> {
        let next = apply(self.phase, observation)?;
        // Busy, but its machine is gone or was never launched: there is nothing to keep running (gate, case d).
        let next = if matches!(observation, Observation::Busy) && !self.may_run() {
            self.phase
        } else if self.lacks_job(observation, now) {
            Phase::Idle
        } else {
            next
        };
        self.record(observation, now);
        if next != self.phase {
            self.phase = next;
            self.phase_since = now;
            self.attempts = 0;
            self.retry_at = None;
        }
        Ok(())
    }

    /// It was called busy once, and nobody ever told of a job: what GitHub lists without one has none, and where
    /// nobody may list, it is idle again after a while. The gate asks before anything of it goes.
    fn lacks_job(&self, observation: &Observation, now: Timestamp) -> bool {
        let runs = self.phase == Phase::Running && !self.had_job();
        let long = || self.phase_since.age(now) >= UNTOLD_JOB_HOLD;
        match observation {
            Observation::Online | Observation::Jobless => runs,
            Observation::StillRegistered => runs && long(),
            Observation::CreateBegun
            | Observation::Created { .. }
            | Observation::StartBegun { .. }
            | Observation::Registered { .. }
            | Observation::LaunchBegun
            | Observation::Launched { .. }
            | Observation::JobStarted { .. }
            | Observation::JobCompleted { .. }
            | Observation::Ended { .. }
            | Observation::EnvironmentGone
            | Observation::Deregistered
            | Observation::RunnerGone
            | Observation::Busy
            | Observation::Failed { .. }
            | Observation::Unanswered { .. }
            | Observation::Removal { .. }
            | Observation::Closed { .. } => false,
        }
    }

    fn record(&mut self, observation: &Observation, now: Timestamp) {
        match observation {
            Observation::CreateBegun => self.environment = Environment::Requested,
            Observation::Created { handle } => {
                self.environment = Environment::Present;
                self.handle = Some(handle.clone());
                self.last_call_at = Some(now);
            }
            Observation::StartBegun { scale_set } => {
                self.registration = Registration::Requested;
                self.scale_set_id = Some(*scale_set);
            }
            Observation::Registered { runner } => {
                self.registration = Registration::Registered(*runner);
                self.runner_id = Some(*runner);
                self.last_call_at = Some(now);
            }
            Observation::LaunchBegun => {
                self.environment = match self.environment {
                    Environment::Present => Environment::Launched,
                    Environment::None => Environment::Requested,
                    kept @ (Environment::Requested
                    | Environment::Launched
                    | Environment::Ended
                    | Environment::Gone) => kept,
                };
            }
            Observation::Launched { handle } => {
                // A late landing shows up as launched again; what ended stays ended.
                if self.environment != Environment::Ended {
                    self.environment = Environment::Launched;
                }
                if handle.is_some() {
                    self.handle.clone_from(handle);
                }
                self.last_call_at = Some(now);
                self.unanswered_since = None;
            }
            Observation::Online => self.verified_at = Some(now),
            Observation::JobStarted { job } => {
                self.job = Some(job.clone());
                self.job_started_at = self.job_started_at.or(Some(now));
            }
            Observation::JobCompleted { job, result } => {
                if self.job.is_none() {
                    self.job.clone_from(job);
                }
                self.job_completed_at = self.job_completed_at.or(Some(now));
                if result.is_some() {
                    self.job_result.clone_from(result);
                }
            }
            Observation::Ended { exit } => {
                // A late landing that is heard of by its end: it was there until now (11.2).
                if self.environment == Environment::Requested {
                    self.last_call_at = Some(now);
                }
                // Nobody had seen it end before: it was taken for gone and was there until now, as where another engine
                // answered for a while. Its remains are there still (seed 65291).
                if self.environment != Environment::Gone || self.exit.is_none() {
                    self.environment = Environment::Ended;
                }
                self.exit = self.exit.take().or_else(|| Some(exit.clone()));
                self.unanswered_since = None;
            }
            Observation::EnvironmentGone => {
                self.environment = Environment::Gone;
                self.last_call_at = Some(now);
                // Of a registration that is left GitHub may have said when it wants to be asked again (seed 20576).
                if !registration_open(self) {
                    self.attempts = 0;
                    self.retry_at = None;
                }
            }
            Observation::Deregistered => {
                self.registration = Registration::Gone;
                self.attempts = 0;
                self.retry_at = None;
            }
            Observation::RunnerGone => {
                // Without an end it proves no job: somebody may have removed an idle runner by hand.
                if self.may_live() && !self.had_job() {
                    self.reason = self.reason.or(Some(Reason::RunnerGone));
                } else {
                    self.job_proven = true;
                }
                self.registration = Registration::Gone;
                self.verified_at = Some(now);
            }
            Observation::Busy => {
                self.verified_at = Some(now);
                if self.may_run() {
                    self.reason = None;
                    // It has a job, so what was said of its end was not true (11.15): it serves.
                    self.job_completed_at = None;
                    self.job_result = None;
                } else if !self.may_live() {
                    // Only a runner with a job is called busy, and its machine is gone: the job is over.
                    self.job_proven = true;
                }
            }
            // Whether it is online was not said, and nobody may count that as a failed start (seed 81436).
            Observation::StillRegistered if self.phase == Phase::Starting => {
                self.retry_at = Some(now + crate::plan::BOOT_VERIFY_PERIOD);
            }
            Observation::StillRegistered | Observation::Jobless => self.verified_at = Some(now),
            Observation::Failed { kind, detail } => {
                self.failure = self.failure.take().or_else(|| Some((*kind, detail.clone())));
                self.last_call_at = Some(now);
            }
            Observation::Unanswered { kind, detail } => {
                self.failure = self.failure.take().or_else(|| Some((*kind, detail.clone())));
                self.unanswered_since = Some(now);
                self.clear_lists = 0;
                self.last_clear_list_at = None;
                self.last_call_at = Some(now);
            }
            Observation::Removal { reason } => {
                // A limit says nothing of a backend that does not answer, as a person may (seed 83207).
                let insists =
                    *reason == Reason::OperatorForce && self.reason == Some(Reason::MaxJobDuration);
                self.reason = self.reason.filter(|_| !insists).or(Some(*reason));
                self.forced |= reason.opens_gate();
            }
            Observation::Closed { outcome } => self.outcome = Some(outcome.clone()),
        }
    }
}
