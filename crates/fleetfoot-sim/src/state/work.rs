//! A runner and its job: handed over, started, ended, lost.

use serde::{Deserialize, Serialize};

use crate::model::JobState;
use crate::request::QueueJobs;

use super::State;
use super::timers::Due;

/// The work a runner is sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JobFor {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) duration_ms: u64,
    pub(crate) result: String,
    #[serde(default)]
    pub(crate) crash: bool,
    #[serde(default)]
    pub(crate) log_lines: u32,
    #[serde(default)]
    pub(crate) memory_mib: u32,
}

/// What there is for a runner that waits.
#[derive(Debug)]
pub(crate) enum Offer {
    Job(JobFor),
    Nothing,
    Gone,
}

impl State {
    pub(crate) fn offer_for(&self, id: i64) -> Offer {
        let Some(runner) = self.runners.get(&id) else { return Offer::Gone };
        let Some(job) = runner.job.and_then(|job| self.jobs.get(&job)) else {
            return Offer::Nothing;
        };
        Offer::Job(JobFor {
            id: job.id,
            name: job.facts.name.clone(),
            duration_ms: job.facts.duration_ms,
            result: job.facts.result.clone(),
            crash: job.facts.crash,
            log_lines: job.facts.log_lines,
            memory_mib: job.facts.memory_mib,
        })
    }

    /// Gives an assigned job to a waiting runner.
    pub(crate) fn hand_over(&mut self, job_id: u64, runner_id: i64) {
        let now = self.now_us();
        let lost_after = self.settings.runner_lost_after_ms;
        let Some(runner) = self.runners.get_mut(&runner_id) else { return };
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        job.state = JobState::Offered;
        job.set = runner.set;
        job.runner = Some(runner_id);
        job.runner_name = Some(runner.name.clone());
        job.runner_registered_us = Some(runner.registered_us);
        job.runner_connected_us = runner.connected_us;
        job.offered_us.get_or_insert(now);
        runner.job = Some(job_id);
        runner.wake.notify_waiters();
        let auto = runner.auto;
        let duration = job.facts.duration_ms;
        if let Some(set) = runner.set.and_then(|set| self.sets.get_mut(&set)) {
            set.active += 1;
            set.busy += 1;
        }
        self.totals.jobs_assigned -= 1;
        self.totals.jobs_running += 1;
        self.totals.runners_busy += 1;
        if auto {
            self.start_job(runner_id, job_id);
            self.timers.after(duration, Due::AutoFinish { runner: runner_id, job: job_id });
        } else {
            self.timers.after(lost_after, Due::OfferTimeout { runner: runner_id, job: job_id });
        }
        self.touch();
    }

    /// A runner says that it starts its job. False if the job is not its own (any more).
    pub(crate) fn start_job(&mut self, runner_id: i64, job_id: u64) -> bool {
        let now = self.now_us();
        let delay = self.settings.started_delay_ms;
        let Some(job) = self.jobs.get_mut(&job_id) else { return false };
        if job.runner != Some(runner_id) || job.state != JobState::Offered {
            return false;
        }
        job.state = JobState::Running;
        job.starts += 1;
        if job.starts == 2 {
            self.totals.jobs_started_twice += 1;
        }
        job.started_us.get_or_insert(now);
        if delay == 0 {
            self.tell_started(job_id);
        } else {
            self.timers.after(delay, Due::TellStarted { job: job_id });
        }
        self.touch();
        true
    }

    /// Whether a runner's job was cancelled; `None` if it is not its job (any more).
    pub(crate) fn job_cancelled(&self, runner_id: i64, job_id: u64) -> Option<bool> {
        self.jobs
            .get(&job_id)
            .filter(|job| job.runner == Some(runner_id) && job.state == JobState::Running)
            .map(|job| job.cancelled)
    }

    /// A runner says how its job ended; the runner is gone with it.
    pub(crate) fn finish_job(&mut self, runner_id: i64, job_id: u64, result: &str) -> bool {
        if self.job_cancelled(runner_id, job_id).is_none() {
            return false;
        }
        self.end_job(job_id, result, true);
        self.forget_runner(runner_id);
        self.touch();
        true
    }

    /// The race of a removal with an offer: a new job goes to this very runner.
    pub(crate) fn offer_now(&mut self, id: i64, duration_ms: u64) {
        let Some(runner) = self.runners.get(&id) else { return };
        let (tenant, set) = (runner.tenant, runner.set);
        let request = QueueJobs {
            scope: self.scope_of(tenant).to_owned(),
            scale_set: set.and_then(|set| self.sets.get(&set)).map(|set| set.name.clone()),
            duration_ms,
            ..QueueJobs::default()
        };
        let job = self.new_job(tenant, &request);
        self.totals.jobs_waiting -= 1;
        self.totals.jobs_assigned += 1;
        self.runner_stopped_waiting(id);
        self.hand_over(job, id);
    }

    pub(crate) fn offer_timeout(&mut self, runner: i64, job: u64) {
        let offered = self
            .jobs
            .get(&job)
            .is_some_and(|known| known.state == JobState::Offered && known.runner == Some(runner));
        if offered {
            self.lose(runner, job);
            self.touch();
        }
    }

    /// A runner with a job is gone: a job that never started goes to another.
    pub(crate) fn lose(&mut self, runner: i64, job_id: u64) {
        match self.jobs.get_mut(&job_id) {
            Some(job) if job.starts == 0 => {
                self.unplace(job_id);
                self.requeue(job_id);
            }
            Some(job) => {
                job.lost = true;
                self.end_job(job_id, "failed", true);
            }
            None => {}
        }
        self.forget_runner(runner);
    }

    pub(crate) fn auto_finish(&mut self, runner: i64, job_id: u64) {
        let Some(job) = self.jobs.get(&job_id) else { return };
        let result = if job.cancelled { "canceled".to_owned() } else { job.facts.result.clone() };
        self.finish_job(runner, job_id, &result);
    }
}
