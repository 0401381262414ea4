//! The answer to "why does this wait, and what became of it".

use serde::{Deserialize, Serialize};

use crate::types::{CauseInfo, EventInfo};

/// What kind of thing was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A pool.
    Pool,
    /// A runner: an instance of ours.
    Runner,
    /// A job.
    Job,
}

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The full name of what was asked about.
    pub subject: String,
    /// What kind of thing it is.
    pub kind: Subject,
    /// The answer, one sentence a line; the first one is the short answer.
    pub answer: Vec<String>,
    /// What holds it up.
    pub causes: Vec<CauseInfo>,
    /// The last events that concern it, newest last.
    pub events: Vec<EventInfo>,
}
