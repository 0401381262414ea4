//! A job: queued, assigned, taken, ended.

use std::sync::Arc;

use crate::config::Flavor;
use crate::model::JobState;
use crate::request::QueueJobs;

use super::State;
use super::messages::Item;

/// What never changes about a job.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) job_id: String,
    pub(crate) request_id: i64,
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) repository: String,
    pub(crate) workflow: String,
    pub(crate) run_id: i64,
    pub(crate) labels: Vec<String>,
    pub(crate) queued_us: u64,
    pub(crate) duration_ms: u64,
    pub(crate) result: String,
    pub(crate) crash: bool,
    pub(crate) log_lines: u32,
    pub(crate) memory_mib: u32,
}

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) facts: Arc<Facts>,
    pub(crate) tenant: i64,
    /// The scale set it asked for.
    pub(crate) wants: Option<String>,
    pub(crate) state: JobState,
    pub(crate) set: Option<i64>,
    pub(crate) runner: Option<i64>,
    pub(crate) runner_name: Option<String>,
    pub(crate) result: Option<String>,
    pub(crate) starts: u32,
    pub(crate) withdrawals: u32,
    /// Grows with each assignment and offer, so that old timers are seen to be old.
    pub(crate) assignment: u64,
    pub(crate) excluded: bool,
    pub(crate) lost: bool,
    pub(crate) cancelled: bool,
    pub(crate) started_told: bool,
    pub(crate) assigned_us: Option<u64>,
    pub(crate) delivered_us: Option<u64>,
    pub(crate) runner_registered_us: Option<u64>,
    pub(crate) runner_connected_us: Option<u64>,
    pub(crate) offered_us: Option<u64>,
    pub(crate) started_us: Option<u64>,
    pub(crate) completed_us: Option<u64>,
}

impl State {
    /// Queues jobs and assigns what can be assigned.
    pub(crate) fn queue_jobs(&mut self, request: &QueueJobs) -> Vec<u64> {
        let tenant = self.tenant(&request.scope);
        let mut ids = Vec::with_capacity(request.count);
        for _ in 0..request.count {
            let id = self.new_job(tenant, request);
            self.place(id);
            ids.push(id);
        }
        self.touch();
        ids
    }

    pub(crate) fn new_job(&mut self, tenant: i64, request: &QueueJobs) -> u64 {
        let id = self.next_job;
        self.next_job += 1;
        let scope = self.scope_of(tenant).to_owned();
        let number = i64::try_from(id).unwrap_or(i64::MAX);
        let (owner, repository) = match &request.repository {
            Some(full) => full.split_once('/').unwrap_or((scope.as_str(), full.as_str())),
            None => scope.split_once('/').unwrap_or((scope.as_str(), "app")),
        };
        let facts = Facts {
            job_id: format!("{:08x}-0000-4000-9000-{id:012x}", fastrand::u32(..)),
            request_id: match self.flavor(&scope) {
                Flavor::Github => 0,
                Flavor::Ghes => 10_000 + number,
            },
            name: request.name.clone().unwrap_or_else(|| format!("job-{id}")),
            owner: owner.to_owned(),
            repository: repository.to_owned(),
            workflow: request.workflow.clone().unwrap_or_else(|| "ci.yml".to_owned()),
            run_id: 1_000_000 + number,
            labels: match (&request.scale_set, request.labels.is_empty()) {
                (Some(name), true) => vec![name.clone()],
                _ => request.labels.clone(),
            },
            queued_us: self.now_us(),
            duration_ms: request.duration_ms,
            result: request.result.clone(),
            crash: request.crash,
            log_lines: request.log_lines,
            memory_mib: request.memory_mib,
        };
        self.jobs.insert(
            id,
            Job {
                id,
                facts: Arc::new(facts),
                tenant,
                wants: request.scale_set.clone(),
                state: JobState::Queued,
                set: None,
                runner: None,
                runner_name: None,
                result: None,
                starts: 0,
                withdrawals: 0,
                assignment: 0,
                excluded: false,
                lost: false,
                cancelled: false,
                started_told: false,
                assigned_us: None,
                delivered_us: None,
                runner_registered_us: None,
                runner_connected_us: None,
                offered_us: None,
                started_us: None,
                completed_us: None,
            },
        );
        self.totals.jobs_queued_total += 1;
        self.totals.jobs_waiting += 1;
        id
    }

    /// Cancels a job, as a user of the web page does. False if it is unknown or has ended.
    pub(crate) fn cancel_job(&mut self, id: u64) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else { return false };
        match job.state {
            JobState::Completed => return false,
            JobState::Queued => self.end_job(id, "canceled", false),
            JobState::Available | JobState::Assigned => self.end_job(id, "canceled", true),
            JobState::Offered | JobState::Running => {
                job.cancelled = true;
                let runner = job.runner;
                if let Some(runner) = runner.and_then(|id| self.runners.get(&id)) {
                    runner.wake.notify_waiters();
                }
                if let Some(runner) = runner.filter(|id| self.is_auto(*id)) {
                    self.auto_finish(runner, id);
                }
            }
        }
        self.touch();
        true
    }

    /// Ends a job wherever it is, and tells its scale set unless it never heard of it.
    pub(crate) fn end_job(&mut self, id: u64, result: &str, tell: bool) {
        let now = self.now_us();
        self.unplace(id);
        self.tell_started(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.state = JobState::Completed;
        job.result = Some(result.to_owned());
        job.completed_us = Some(now);
        self.totals.jobs_completed += 1;
        self.totals.jobs_succeeded += u64::from(result == "succeeded");
        self.totals.jobs_lost += u64::from(job.lost);
        let (set, facts) = (job.set, Arc::clone(&job.facts));
        let item = Item::completed(id, facts, result, job.runner, job.runner_name.clone(), now);
        if tell && let Some(set) = set {
            self.tell(set, item, true);
        }
        self.completed.push_back(id);
        while self.completed.len() > self.settings.history_max {
            if let Some(oldest) = self.completed.pop_front() {
                self.jobs.remove(&oldest);
            }
        }
        if let Some(set) = set {
            self.assign(set);
        }
    }

    /// Emits the started message, once, if the job ever started.
    pub(crate) fn tell_started(&mut self, id: u64) {
        let wakes = self.settings.started_wakes_poll;
        let now = self.now_us();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.started_told || job.started_us.is_none() {
            return;
        }
        job.started_told = true;
        let (Some(set), Some(runner)) = (job.set, job.runner) else { return };
        let name = job.runner_name.clone().unwrap_or_default();
        let item = Item::started(id, Arc::clone(&job.facts), runner, name, now);
        self.tell(set, item, wakes);
    }
}
