//! What the control API tells. All times are microseconds since 1970 on one clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Endpoint;

/// Everything the box knows, at one instant.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BoxState {
    /// The instant.
    pub now_us: u64,
    /// All jobs, oldest first.
    pub jobs: Vec<Job>,
    /// All registered runners.
    pub runners: Vec<Runner>,
    /// All scale sets.
    pub scale_sets: Vec<ScaleSet>,
    /// Every `generatejitconfig` call, in order of arrival.
    pub jit_calls: Vec<JitCall>,
    /// Every session that was ever opened, oldest first.
    pub sessions: Vec<Session>,
    /// Requests by endpoint.
    pub requests: BTreeMap<Endpoint, u64>,
    /// Counts over everything.
    pub summary: Summary,
}

impl BoxState {
    /// The job with this number.
    #[must_use]
    pub fn job(&self, id: u64) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == id)
    }

    /// The scale set of this scope and name.
    #[must_use]
    pub fn scale_set(&self, scope: &str, name: &str) -> Option<&ScaleSet> {
        self.scale_sets.iter().find(|set| set.scope.eq_ignore_ascii_case(scope) && set.name == name)
    }

    /// The runner with this name.
    #[must_use]
    pub fn runner(&self, name: &str) -> Option<&Runner> {
        self.runners.iter().find(|runner| runner.name == name)
    }

    /// How long each started job had been queued, in microseconds, shortest first.
    #[must_use]
    pub fn queue_to_start_us(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self
            .jobs
            .iter()
            .filter_map(|job| job.started_us.map(|started| started.saturating_sub(job.queued_us)))
            .collect();
        all.sort_unstable();
        all
    }

    /// The latest session of a scale set.
    #[must_use]
    pub fn session(&self, scale_set_id: i64) -> Option<&Session> {
        self.sessions.iter().rev().find(|session| session.scale_set_id == scale_set_id)
    }
}

/// Counts over everything; cheap at any size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Jobs ever queued.
    pub jobs_queued_total: u64,
    /// Jobs not yet assigned to a scale set (offered ones included).
    pub jobs_waiting: u64,
    /// Jobs assigned to a scale set, not yet taken by a runner.
    pub jobs_assigned: u64,
    /// Jobs taken by a runner.
    pub jobs_running: u64,
    /// Jobs ended, however they ended.
    pub jobs_completed: u64,
    /// Of those, ended with `succeeded`.
    pub jobs_succeeded: u64,
    /// Of those, ended because their runner vanished.
    pub jobs_lost: u64,
    /// Jobs that were started more than once. Must stay 0.
    pub jobs_started_twice: u64,
    /// Assignments taken back because no runner came.
    pub withdrawals: u64,
    /// Runners registered now.
    pub runners: u64,
    /// Of those, online.
    pub runners_online: u64,
    /// Of those, with a job.
    pub runners_busy: u64,
    /// Runners ever registered.
    pub runners_registered_total: u64,
    /// Scale sets now.
    pub scale_sets: u64,
    /// Open message sessions now.
    pub sessions: u64,
    /// Polls of message sessions in flight now.
    pub polls: u64,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a scale set with capacity.
    Queued,
    /// Offered to a scale set (GHES); nobody acquired it yet.
    Available,
    /// Assigned to a scale set.
    Assigned,
    /// Sent to a runner that has not started it yet.
    Offered,
    /// Runs.
    Running,
    /// Ended.
    Completed,
}

/// A job and its history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Number in this box, from 1.
    pub id: u64,
    /// The id that messages carry.
    pub job_id: String,
    /// Display name.
    pub name: String,
    /// Scope it was queued in.
    pub scope: String,
    /// Scale set it asks for by name.
    pub scale_set: Option<String>,
    /// Labels it asks for.
    pub labels: Vec<String>,
    /// Where it is.
    pub state: JobState,
    /// Scale set it is or was last assigned to.
    pub scale_set_id: Option<i64>,
    /// Runner that took it.
    pub runner: Option<String>,
    /// `succeeded`, `failed`, `canceled`.
    pub result: Option<String>,
    /// Times started. More than 1 is a broken promise.
    pub starts: u32,
    /// Times the assignment was taken back.
    pub withdrawals: u32,
    /// Excluded because the last poll advertised no capacity when it was queued.
    pub excluded: bool,
    /// Ended because its runner vanished.
    pub lost: bool,
    /// How long it is meant to run.
    pub duration_ms: u64,
    /// When it was queued.
    pub queued_us: u64,
    /// When it was last assigned.
    pub assigned_us: Option<u64>,
    /// When the first message that names it (as available or assigned) was sent.
    pub delivered_us: Option<u64>,
    /// When the JIT config of the runner that took it was made.
    pub runner_registered_us: Option<u64>,
    /// When that runner connected.
    pub runner_connected_us: Option<u64>,
    /// When a runner was first sent it.
    pub offered_us: Option<u64>,
    /// When a runner first said that it started.
    pub started_us: Option<u64>,
    /// When it ended.
    pub completed_us: Option<u64>,
}

/// A registered runner.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Runner {
    /// GitHub's number.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Scope it is registered in.
    pub scope: String,
    /// Scale set, unless made through REST.
    pub scale_set_id: Option<i64>,
    /// Labels.
    pub labels: Vec<String>,
    /// Connected now.
    pub online: bool,
    /// Has a job.
    pub busy: bool,
    /// The job.
    pub job: Option<u64>,
    /// When its JIT config was requested.
    pub registered_us: u64,
    /// When it connected.
    pub connected_us: Option<u64>,
}

/// Counts as the service states them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// Offered, not acquired.
    pub total_available_jobs: u64,
    /// Acquired, not running.
    pub total_acquired_jobs: u64,
    /// Assigned, waiting or running.
    pub total_assigned_jobs: u64,
    /// Running.
    pub total_running_jobs: u64,
    /// Runners registered.
    pub total_registered_runners: u64,
    /// Runners with a job.
    pub total_busy_runners: u64,
    /// Runners online without one.
    pub total_idle_runners: u64,
}

/// A label, with its type as received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Text.
    pub name: String,
    /// `System`, `User`, or whatever was sent.
    #[serde(rename = "type", default)]
    pub label_type: String,
}

/// A scale set.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScaleSet {
    /// GitHub's number.
    pub id: i64,
    /// Scope.
    pub scope: String,
    /// Name.
    pub name: String,
    /// Runner group.
    pub runner_group_id: i64,
    /// Labels as received.
    pub labels: Vec<Label>,
    /// Runner setting.
    pub disable_update: bool,
    /// Capacity the last poll advertised.
    pub capacity: Option<u32>,
    /// Open session.
    pub session_id: Option<String>,
    /// Counts.
    pub statistics: Statistics,
    /// Job messages not yet sent.
    pub undelivered: usize,
    /// Number of the message that was sent and not acknowledged.
    pub unacknowledged: Option<i64>,
    /// Messages acknowledged so far.
    pub acknowledged: u64,
}

/// One message session, open or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: String,
    /// Its scale set.
    pub scale_set_id: i64,
    /// Who opened it.
    pub owner: String,
    /// When it was opened.
    pub opened_us: u64,
    /// When its first poll arrived.
    pub first_poll_us: Option<u64>,
    /// When its last poll arrived.
    pub last_poll_us: Option<u64>,
    /// Polls so far.
    pub polls: u64,
    /// When it was closed, replaced or dropped.
    pub closed_us: Option<u64>,
    /// Why: `deleted`, `lapsed`, `expired`, `vanished`.
    pub closed_by: Option<String>,
}

/// One `generatejitconfig` call (the one of REST too).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JitCall {
    /// Runner name it asked for.
    pub name: String,
    /// Scale set.
    pub scale_set_id: Option<i64>,
    /// When it arrived, before latency and faults.
    pub arrived_us: u64,
    /// When it was answered; `None` while it hangs or when the answer was cut.
    pub answered_us: Option<u64>,
    /// Status it was answered with.
    pub status: Option<u16>,
}
