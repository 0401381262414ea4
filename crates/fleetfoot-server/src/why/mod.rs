//! The answers of `fleetfoot why`: finds what a word names, and says why it is as it is.
//!
//! Pure: the present comes as a [`Snapshot`], the past as rows that the caller has read
//! ([`crate::record::why`] does).

mod find;
mod job;
mod pool;
mod reasons;
mod runner;
#[cfg(test)]
mod tests;

use fleetfoot_api::{CauseInfo, DiscrepancyInfo, EventInfo, JobInfo, Subject, Why};
use fleetfoot_core::{Instance, Timestamp};
use fleetfoot_store::FinishedJob;

use crate::views::Snapshot;
use crate::views::time::{rfc3339, span};

pub(crate) use find::names_finished;
pub use find::{Found, find};
pub(crate) use reasons::why_removed;

/// Why something of the present is as it is.
#[must_use]
pub fn answer(snapshot: &Snapshot, found: &Found, events: Vec<EventInfo>) -> Why {
    let (kind, subject) = (found.kind(), found.name());
    let (answer, causes): (Vec<String>, Vec<CauseInfo>) = match found {
        Found::Pool(state) => pool::answer(snapshot, state),
        Found::Runner(state, instance) => runner::answer(snapshot, state, instance),
        Found::Job(state, job) => job::answer(snapshot, state, job),
    };
    Why { subject, kind, answer, causes, events }
}

/// Why a pool that is wanted is not served at all.
#[must_use]
pub(crate) fn answer_set_aside(subject: &str, reason: &str) -> Why {
    Why {
        subject: subject.to_owned(),
        kind: Subject::Pool,
        answer: vec![format!("pool `{subject}` is not served: {reason}")],
        causes: Vec::new(),
        events: Vec::new(),
    }
}

/// What became of an instance that is closed.
#[must_use]
pub(crate) fn answer_closed(instance: &Instance, now: Timestamp, events: Vec<EventInfo>) -> Why {
    Why {
        subject: instance.name.as_str().to_owned(),
        kind: Subject::Runner,
        answer: runner::closed(instance, now),
        causes: Vec::new(),
        events,
    }
}

/// What became of a job that is over.
#[must_use]
pub(crate) fn answer_finished(
    snapshot: &Snapshot,
    job: &FinishedJob,
    ran_on: Option<&Instance>,
    events: Vec<EventInfo>,
) -> Why {
    Why {
        subject: job.job.id.as_str().to_owned(),
        kind: Subject::Job,
        answer: job::finished(snapshot, job, ran_on),
        causes: Vec::new(),
        events,
    }
}

/// `since 2026-… (3 min)`.
fn since(then: Timestamp, now: Timestamp) -> String {
    format!("since {} ({})", rfc3339(then), span(then.age(now)))
}

/// A disagreement in one line.
fn disagreement(told: &DiscrepancyInfo) -> String {
    let whose = told.instance.as_ref().map_or_else(String::new, |name| format!("`{name}`: "));
    let overdue = if told.overdue { ", longer than it should" } else { "" };
    format!(
        "sides disagree ({}): {whose}{} since {}{overdue}; {}",
        told.kind, told.message, told.since, told.remedy
    )
}

/// A job as people name it: its display name, its repository, its workflow, its run.
fn title(job: &JobInfo) -> String {
    let name = job.display_name.as_deref().unwrap_or(&job.id);
    let mut text = format!("job `{name}`");
    if let Some(repository) = &job.repository {
        text.push_str(" of ");
        text.push_str(repository);
    }
    if let Some(url) = &job.run_url {
        text.push_str(&format!(" ({url})"));
    }
    text
}
