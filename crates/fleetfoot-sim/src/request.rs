//! What the control API takes.

use serde::{Deserialize, Serialize};

/// Jobs to queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueJobs {
    /// Scope: `org`, `owner/repo` or `enterprises/name`.
    pub scope: String,
    /// Scale set by name; without one the labels decide.
    pub scale_set: Option<String>,
    /// Labels.
    pub labels: Vec<String>,
    /// How many.
    pub count: usize,
    /// How long each runs.
    pub duration_ms: u64,
    /// How each ends: `succeeded` or `failed`.
    pub result: String,
    /// Display name.
    pub name: Option<String>,
    /// `owner/repo`.
    pub repository: Option<String>,
    /// Workflow file.
    pub workflow: Option<String>,
    /// The runner's process ends in the middle of the job without a word.
    pub crash: bool,
    /// Lines the job prints.
    pub log_lines: u32,
    /// Memory the job takes, to meet a limit.
    pub memory_mib: u32,
}

impl Default for QueueJobs {
    fn default() -> Self {
        Self {
            scope: String::new(),
            scale_set: None,
            labels: Vec::new(),
            count: 1,
            duration_ms: 100,
            result: "succeeded".to_owned(),
            name: None,
            repository: None,
            workflow: None,
            crash: false,
            log_lines: 0,
            memory_mib: 0,
        }
    }
}

impl QueueJobs {
    /// `count` jobs for a scale set, each of `duration_ms`.
    #[must_use]
    pub fn for_scale_set(
        scope: impl Into<String>,
        scale_set: impl Into<String>,
        count: usize,
        duration_ms: u64,
    ) -> Self {
        Self {
            scope: scope.into(),
            scale_set: Some(scale_set.into()),
            count,
            duration_ms,
            ..Self::default()
        }
    }
}

/// What was queued.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Queued {
    /// Their numbers.
    pub ids: Vec<u64>,
}

/// A job message that is sent whether or not it is true: repeated, early, or wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Told {
    /// `JobAssigned`.
    Assigned,
    /// `JobStarted`, naming the job's runner.
    Started,
    /// `JobCompleted`, naming the job's runner.
    Completed {
        /// The result it states.
        result: String,
    },
}

/// What happens to the job messages of a scale set that were not sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Muddle {
    /// They are lost.
    Lose,
    /// They come in the opposite order.
    Reverse,
    /// Each comes twice.
    Repeat,
}

/// Something that expires at a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expire {
    /// Tokens of the scale set service: the next call is 401.
    AdminTokens,
    /// Registration tokens.
    RegistrationTokens,
    /// Installation tokens: the next REST call is 401.
    InstallationTokens,
    /// Message queue tokens: polls, waiting ones too, are 401.
    QueueTokens,
    /// Message sessions: they are dead, as the setting `dead_session` says.
    Sessions,
}

/// What to expire, of which scale set (all when empty).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExpireRequest {
    /// What.
    pub what: Expire,
    /// Scope.
    #[serde(default)]
    pub scope: Option<String>,
    /// Scale set name.
    #[serde(default)]
    pub scale_set: Option<String>,
}

/// A scale set by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScaleSetRef {
    /// Scope.
    pub scope: String,
    /// Name.
    pub scale_set: String,
}
