//! The shapes of a message session: GitHub's JSON, read so that no batch is lost to one odd entry.
//!
//! A message that cannot be read would come again for ever. What is unknown, null or broken in it becomes
//! nothing, and the rest counts.

use std::time::SystemTime;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};

use crate::message::{JobCompleted, JobInfo, JobStarted, Message, Statistics};
use crate::wire::null_as_default;

/// The only type of message that there is today.
const JOB_MESSAGES: &str = "RunnerScaleSetJobMessages";

/// `0001-01-01T00:00:00Z`: how Go writes a time that is not known.
const GO_ZERO_TIME_SECONDS: i64 = -62_135_596_800;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewSession<'a> {
    pub(crate) session_id: &'a str,
    pub(crate) owner_name: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SessionBody {
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) session_id: String,
    #[serde(deserialize_with = "null_as_default")]
    pub(crate) message_queue_url: String,
    pub(crate) message_queue_access_token: SecretString,
    pub(crate) statistics: Option<StatisticsBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StatisticsBody {
    #[serde(deserialize_with = "count")]
    total_available_jobs: u32,
    #[serde(deserialize_with = "count")]
    total_acquired_jobs: u32,
    #[serde(deserialize_with = "count")]
    total_assigned_jobs: u32,
    #[serde(deserialize_with = "count")]
    total_running_jobs: u32,
    #[serde(deserialize_with = "count")]
    total_registered_runners: u32,
    #[serde(deserialize_with = "count")]
    total_busy_runners: u32,
    #[serde(deserialize_with = "count")]
    total_idle_runners: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MessageBody {
    message_id: i64,
    #[serde(deserialize_with = "null_as_default")]
    message_type: String,
    /// JSON in a string.
    #[serde(deserialize_with = "null_as_default")]
    body: String,
    statistics: Option<StatisticsBody>,
}

/// One entry of a message's body.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    #[serde(deserialize_with = "null_as_default")]
    message_type: String,
    #[serde(deserialize_with = "null_as_default")]
    runner_id: i64,
    #[serde(deserialize_with = "null_as_default")]
    runner_name: String,
    #[serde(deserialize_with = "null_as_default")]
    result: String,
    #[serde(flatten)]
    job: JobBody,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JobBody {
    #[serde(deserialize_with = "null_as_default")]
    job_id: String,
    #[serde(deserialize_with = "null_as_default")]
    runner_request_id: i64,
    #[serde(deserialize_with = "null_as_default")]
    repository_name: String,
    #[serde(deserialize_with = "null_as_default")]
    owner_name: String,
    #[serde(deserialize_with = "null_as_default")]
    job_workflow_ref: String,
    #[serde(deserialize_with = "null_as_default")]
    job_display_name: String,
    #[serde(deserialize_with = "null_as_default")]
    workflow_run_id: i64,
    #[serde(deserialize_with = "null_as_default")]
    event_name: String,
    #[serde(deserialize_with = "null_as_default")]
    request_labels: Vec<String>,
    #[serde(deserialize_with = "time")]
    queue_time: Option<SystemTime>,
    #[serde(deserialize_with = "time")]
    scale_set_assign_time: Option<SystemTime>,
    #[serde(deserialize_with = "time")]
    runner_assign_time: Option<SystemTime>,
    #[serde(deserialize_with = "time")]
    finish_time: Option<SystemTime>,
}

/// Negative or too large a number is read as the nearest that counts.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let value = Option::<i64>::deserialize(deserializer)?.unwrap_or_default();
    Ok(u32::try_from(value.max(0)).unwrap_or(u32::MAX))
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
    let value = Option::<jiff::Timestamp>::deserialize(deserializer)?;
    Ok(value.filter(|at| at.as_second() > GO_ZERO_TIME_SECONDS).map(SystemTime::from))
}

impl From<StatisticsBody> for Statistics {
    fn from(from: StatisticsBody) -> Self {
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

impl From<JobBody> for JobInfo {
    fn from(from: JobBody) -> Self {
        Self {
            job_id: from.job_id,
            request_id: from.runner_request_id,
            repository: from.repository_name,
            owner: from.owner_name,
            workflow_ref: from.job_workflow_ref,
            display_name: from.job_display_name,
            run_id: from.workflow_run_id,
            event: from.event_name,
            labels: from.request_labels,
            queued_at: from.queue_time,
            assigned_at: from.scale_set_assign_time,
            started_at: from.runner_assign_time,
            finished_at: from.finish_time,
        }
    }
}

impl From<MessageBody> for Message {
    fn from(from: MessageBody) -> Self {
        let id = from.message_id;
        let statistics = from.statistics.map(Statistics::from);
        let mut message = Self { id, statistics, ..Self::default() };
        if from.message_type != JOB_MESSAGES {
            tracing::warn!(message = id, kind = from.message_type, "message of an unknown type");
            return message;
        }
        if from.body.is_empty() {
            return message;
        }
        match serde_json::from_str::<Vec<serde_json::Value>>(&from.body) {
            Ok(entries) => entries.into_iter().for_each(|entry| push(&mut message, entry)),
            Err(error) => {
                tracing::warn!(message = id, %error, "message cannot be read, only its level counts");
            }
        }
        message
    }
}

fn push(message: &mut Message, entry: serde_json::Value) {
    let entry: Entry = match serde_json::from_value(entry) {
        Ok(entry) => entry,
        Err(error) => {
            tracing::warn!(message = message.id, %error, "part of a message cannot be read");
            return;
        }
    };
    let Entry { message_type, runner_id, runner_name, result, job } = entry;
    let job = JobInfo::from(job);
    match message_type.as_str() {
        "JobAvailable" => message.available.push(job),
        "JobAssigned" => message.assigned.push(job),
        "JobStarted" => message.started.push(JobStarted { job, runner_id, runner_name }),
        "JobCompleted" => {
            message.completed.push(JobCompleted { job, runner_id, runner_name, result });
        }
        // A kind that nobody knew when this was written.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, body: &serde_json::Value) -> Message {
        let body = serde_json::json!({
            "messageId": 7, "messageType": kind, "body": body.to_string(),
            "statistics": { "totalAssignedJobs": 3, "totalIdleRunners": -1, "new": 1 },
        });
        serde_json::from_value::<MessageBody>(body).unwrap().into()
    }

    #[test]
    fn a_batch_is_read_entry_by_entry() {
        let body = serde_json::json!([
            { "messageType": "JobAvailable", "runnerRequestId": 1, "acquireJobUrl": "u",
              "queueTime": "2024-01-01T00:00:00Z", "finishTime": "0001-01-01T00:00:00Z" },
            { "messageType": "JobAssigned", "jobId": "a", "requestLabels": ["x"], "eventName": null },
            { "messageType": "JobStarted", "jobId": "a", "runnerId": 5, "runnerName": "r" },
            { "messageType": "JobCompleted", "jobId": "a", "result": "succeeded", "runnerId": null },
            { "messageType": "JobAssigned", "jobId": 12 },
            { "messageType": "JobDancing", "jobId": "b" },
            "nonsense",
        ]);
        let message = message(JOB_MESSAGES, &body);
        assert_eq!((message.id, message.statistics.unwrap().assigned), (7, 3));
        assert_eq!(message.statistics.unwrap().idle, 0);
        let [offered] = message.available.as_slice() else { panic!("{message:?}") };
        assert_eq!((offered.request_id, offered.finished_at), (1, None));
        assert!(offered.queued_at.is_some());
        let [assigned] = message.assigned.as_slice() else { panic!("{message:?}") };
        assert_eq!((assigned.job_id.as_str(), assigned.labels[0].as_str()), ("a", "x"));
        assert_eq!(message.started[0].runner_name, "r");
        assert_eq!(message.completed[0].result, "succeeded");
    }

    #[test]
    fn what_cannot_be_read_still_has_its_number_and_its_level() {
        for (kind, body) in [("Other", serde_json::json!([])), (JOB_MESSAGES, serde_json::json!(1))]
        {
            let message = message(kind, &body);
            assert_eq!((message.id, message.statistics.unwrap().assigned), (7, 3));
            assert!(message.assigned.is_empty());
        }
    }
}
