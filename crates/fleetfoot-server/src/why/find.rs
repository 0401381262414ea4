//! What a word on the command line names: a pool, a runner, or a job.

use std::sync::Arc;

use fleetfoot_api::Subject;
use fleetfoot_core::{Instance, Job, PoolState};
use fleetfoot_store::FinishedJob;

use crate::views::Snapshot;

/// Something of the present.
#[derive(Debug, Clone)]
pub enum Found {
    /// A pool.
    Pool(Arc<PoolState>),
    /// An instance that is not closed.
    Runner(Arc<PoolState>, Arc<Instance>),
    /// A job that is not over.
    Job(Arc<PoolState>, Box<Job>),
}

impl Found {
    /// What kind of thing it is.
    #[must_use]
    pub fn kind(&self) -> Subject {
        match self {
            Self::Pool(_) => Subject::Pool,
            Self::Runner(..) => Subject::Runner,
            Self::Job(..) => Subject::Job,
        }
    }

    /// Its full name.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Pool(state) => state.pool.name.as_str().to_owned(),
            Self::Runner(_, instance) => instance.name.as_str().to_owned(),
            Self::Job(_, job) => job.id.as_str().to_owned(),
        }
    }

    /// What to ask for to mean this and nothing else, with what people know it by.
    #[must_use]
    pub fn choice(&self) -> String {
        match self {
            Self::Pool(_) => format!("pool:{}", self.name()),
            Self::Runner(..) => format!("runner:{}", self.name()),
            Self::Job(_, job) => format!("job:{} ({})", self.name(), job.display_name),
        }
    }
}

/// A word with the kind it is said to be: `pool:x`, `runner:x`, `job:x`, or just `x`.
fn split(subject: &str) -> (Option<Subject>, &str) {
    let kinds = [("pool:", Subject::Pool), ("runner:", Subject::Runner), ("job:", Subject::Job)];
    for (prefix, kind) in kinds {
        if let Some(rest) = subject.strip_prefix(prefix) {
            return (Some(kind), rest);
        }
    }
    (None, subject)
}

/// Everything of the present that `subject` names. An exact name of a pool or of an instance means that
/// one; otherwise a runner's number and everything a job is known by count.
#[must_use]
pub fn find(snapshot: &Snapshot, subject: &str) -> Vec<Found> {
    let (kind, word) = split(subject);
    let asked = |this: Subject| kind.is_none_or(|kind| kind == this);
    let pools = || snapshot.pools.values();
    if asked(Subject::Pool)
        && let Some(state) = pools().find(|state| state.pool.name.as_str() == word)
    {
        return vec![Found::Pool(Arc::clone(state))];
    }
    let mut found = Vec::new();
    if asked(Subject::Runner) {
        let number: Option<i64> = word.parse().ok();
        for state in pools() {
            for instance in state.instances.values() {
                let runner = Found::Runner(Arc::clone(state), Arc::clone(instance));
                if instance.name.as_str() == word {
                    return vec![runner];
                }
                if number.is_some() && instance.runner_id.map(|id| id.0) == number {
                    found.push(runner);
                }
            }
        }
    }
    if asked(Subject::Job) {
        for state in pools() {
            let named = state.jobs.values().filter(|job| names(word, job));
            found.extend(named.map(|job| Found::Job(Arc::clone(state), Box::new(Job::clone(job)))));
        }
    }
    found
}

/// The finished job is one that `subject` names.
#[must_use]
pub(crate) fn names_finished(subject: &str, job: &FinishedJob) -> bool {
    let (kind, word) = split(subject);
    kind.is_none_or(|kind| kind == Subject::Job) && names(word, &job.job)
}

/// The ways to name a job: GitHub's id, its run's number, its display name, its repository, repository
/// and run (`o/r#7`, `o/r/7`, `o/r 7`), the address of its run.
fn names(word: &str, job: &Job) -> bool {
    let run = job.run_id.to_string();
    let is_run = |text: &str| job.run_id != 0 && text == run;
    if job.id.as_str() == word
        || is_run(word)
        || (!job.display_name.is_empty() && job.display_name.eq_ignore_ascii_case(word))
    {
        return true;
    }
    if job.repository.is_empty() {
        return false;
    }
    if let Some((before, after)) = word.split_once("/actions/runs/") {
        let number = after.split(['/', '?', '#']).next().unwrap_or_default();
        return before.ends_with(&job.repository) && is_run(number);
    }
    match word.strip_prefix(job.repository.as_str()) {
        Some("") => true,
        Some(rest) => rest.strip_prefix(['#', '/', ' ', '@']).is_some_and(is_run),
        None => false,
    }
}
