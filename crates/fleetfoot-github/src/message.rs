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
