//! What GitHub says in a message session.

use std::time::SystemTime;

/// Jobs and runners of a scale set, as GitHub counts them: a level, not a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Jobs offered, not yet acquired.
    pub available: u32,
    /// Jobs acquired, not yet assigned.
    pub acquired: u32,
    /// Jobs assigned, waiting and running ones: the number of runners that are needed.
    pub assigned: u32,
    /// Jobs that run.
    pub running: u32,
    /// Runners registered.
    pub registered: u32,
    /// Runners with a job.
    pub busy: u32,
    /// Runners online without a job.
    pub idle: u32,
}

/// One batch of news, at most 50 items. It comes again until it is acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// Its number, to acknowledge it by.
    pub id: i64,
    /// The level at the time of the message.
    pub statistics: Option<Statistics>,
    /// Jobs offered (GitHub Enterprise Server): acquire them.
    pub available: Vec<JobInfo>,
    /// Jobs assigned to the scale set.
    pub assigned: Vec<JobInfo>,
    /// Jobs that began to run.
    pub started: Vec<JobStarted>,
    /// Jobs that ended, or whose assignment was withdrawn.
    pub completed: Vec<JobCompleted>,
}

/// What GitHub tells about a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobInfo {
    /// The job's key.
    pub job_id: String,
    /// The number to acquire it by; always 0 on github.com, so never a key.
    pub request_id: i64,
    /// The repository's name.
    pub repository: String,
    /// The repository's owner.
    pub owner: String,
    /// The workflow file and ref.
    pub workflow_ref: String,
    /// The name that people see.
    pub display_name: String,
    /// The workflow run.
    pub run_id: i64,
    /// The event that caused the run.
    pub event: String,
    /// The labels that the job asks for.
    pub labels: Vec<String>,
    /// When it was queued.
    pub queued_at: Option<SystemTime>,
    /// When it was assigned to the scale set.
    pub assigned_at: Option<SystemTime>,
    /// When a runner took it.
    pub started_at: Option<SystemTime>,
    /// When it ended.
    pub finished_at: Option<SystemTime>,
}

/// A job began to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobStarted {
    /// The job.
    pub job: JobInfo,
    /// The runner's number.
    pub runner_id: i64,
    /// The runner's name.
    pub runner_name: String,
}

/// A job ended, or its assignment was withdrawn: then there is no runner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobCompleted {
    /// The job.
    pub job: JobInfo,
    /// The runner's number; 0 without one.
    pub runner_id: i64,
    /// The runner's name; empty without one.
    pub runner_name: String,
    /// `succeeded`, `failed`, `canceled`, ….
    pub result: String,
}

impl From<scaleset::ScaleSetStatistics> for Statistics {
    fn from(from: scaleset::ScaleSetStatistics) -> Self {
        Self {
            available: from.total_available_jobs,
            acquired: from.total_acquired_jobs,
            assigned: from.total_assigned_jobs,
            running: from.total_running_jobs,
            registered: from.total_registered_runners,
            busy: from.total_busy_runners,
            idle: from.total_idle_runners,
        }
    }
}

impl From<scaleset::ScaleSetMessage> for Message {
    fn from(from: scaleset::ScaleSetMessage) -> Self {
        let mut message = Self {
            id: from.id.get(),
            statistics: from.statistics.map(Into::into),
            ..Self::default()
        };
        for item in from.jobs {
            message.push(item);
        }
        message
    }
}

impl Message {
    fn push(&mut self, item: scaleset::JobMessage) {
        match item {
            scaleset::JobMessage::Available(item) => self.available.push(item.job.into()),
            scaleset::JobMessage::Assigned(item) => self.assigned.push(item.job.into()),
            scaleset::JobMessage::Started(item) => self.started.push(JobStarted {
                runner_id: item.runner_id.get(),
                runner_name: item.runner_name,
                job: item.job.into(),
            }),
            scaleset::JobMessage::Completed(item) => self.completed.push(JobCompleted {
                runner_id: item.runner_id.get(),
                runner_name: item.runner_name,
                result: item.result,
                job: item.job.into(),
            }),
            // A kind of message that nobody knew when this was written.
            scaleset::JobMessage::Unknown | _ => {}
        }
    }
}

impl From<scaleset::JobInfo> for JobInfo {
    fn from(from: scaleset::JobInfo) -> Self {
        Self {
            job_id: from.job_id,
            request_id: from.runner_request_id.get(),
            repository: from.repository_name,
            owner: from.owner_name,
            workflow_ref: from.job_workflow_ref,
            display_name: from.job_display_name,
            run_id: from.workflow_run_id,
            event: from.event_name,
            labels: from.request_labels,
            queued_at: from.queue_time.map(SystemTime::from),
            assigned_at: from.scale_set_assign_time.map(SystemTime::from),
            started_at: from.runner_assign_time.map(SystemTime::from),
            finished_at: from.finish_time.map(SystemTime::from),
        }
    }
}
