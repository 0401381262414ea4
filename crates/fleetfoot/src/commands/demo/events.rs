//! What happened between two looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fleetfoot_api::Status;
use fleetfoot_sim::{BoxState, JobState};

/// One thing worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Queued { count: usize },
    Born { instance: String },
    Started { job: u64, name: String, runner: String, waited_ms: u64 },
    Ended { job: u64, name: String, result: String },
    Gone { instance: String },
    Killed { pid: i32, running: u64 },
    Restarted { pid: i32, running: u64 },
    Adopted { count: usize },
}

impl Event {
    /// Whether it is told where there is no room for everything.
    pub(super) fn is_large(&self) -> bool {
        match self {
            Self::Queued { .. }
            | Self::Killed { .. }
            | Self::Restarted { .. }
            | Self::Adopted { .. } => true,
            Self::Born { .. } | Self::Started { .. } | Self::Ended { .. } | Self::Gone { .. } => {
                false
            }
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued { count } => write!(f, "{} queued at GitHub", of(*count, "job")),
            Self::Born { instance } => write!(f, "{instance} is made"),
            Self::Started { job, name, runner, waited_ms } => {
                write!(f, "job {job} {name} runs on {runner}, {waited_ms} ms after it was queued")
            }
            Self::Ended { job, name, result } => write!(f, "job {job} {name} {result}"),
            Self::Gone { instance } => write!(f, "{instance} is gone"),
            Self::Killed { pid, running } => {
                write!(f, "kill -9 {pid}: fleetfoot is dead, running: {}", jobs(*running))
            }
            Self::Restarted { pid, running } => {
                write!(
                    f,
                    "fleetfoot is started again as pid {pid}, still running: {}",
                    jobs(*running)
                )
            }
            Self::Adopted { count } => {
                write!(f, "adopted from before the crash: {}", of(*count, "instance"))
            }
        }
    }
}

fn jobs(count: u64) -> String {
    of(usize::try_from(count).unwrap_or(usize::MAX), "job")
}

fn of(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Remembers the last look.
#[derive(Debug, Default)]
pub(super) struct Witness {
    jobs: BTreeMap<u64, JobState>,
    instances: BTreeSet<String>,
    /// The last look found no controller.
    blind: bool,
}

impl Witness {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// What is new.
    pub(super) fn look(&mut self, github: &BoxState, status: Option<&Status>) -> Vec<Event> {
        let mut events = Vec::new();
        match status {
            Some(status) => self.look_at_instances(status, &mut events),
            None => self.blind = true,
        }
        for job in &github.jobs {
            let before = self.jobs.insert(job.id, job.state);
            let runner = job.runner.clone().unwrap_or_default();
            let (has_started, has_ended) =
                (job.started_us.is_some(), job.state == JobState::Completed);
            let had_started = matches!(before, Some(JobState::Running | JobState::Completed));
            if has_started && !had_started {
                let waited_ms = job.started_us.unwrap_or(0).saturating_sub(job.queued_us) / 1000;
                events.push(Event::Started {
                    job: job.id,
                    name: job.name.clone(),
                    runner,
                    waited_ms,
                });
            }
            if has_ended && before != Some(JobState::Completed) {
                let result = job.result.clone().unwrap_or_else(|| "ended".to_owned());
                events.push(Event::Ended { job: job.id, name: job.name.clone(), result });
            }
        }
        events
    }

    fn look_at_instances(&mut self, status: &Status, events: &mut Vec<Event>) {
        // Before it is ready it may not have looked at everything yet.
        if self.blind && !status.ready {
            return;
        }
        let now: BTreeSet<String> = status.instances.iter().map(|one| one.name.clone()).collect();
        if std::mem::take(&mut self.blind) && !self.instances.is_empty() {
            let count = now.intersection(&self.instances).count();
            events.push(Event::Adopted { count });
        }
        events.extend(
            now.difference(&self.instances).map(|name| Event::Born { instance: name.clone() }),
        );
        events.extend(
            self.instances.difference(&now).map(|name| Event::Gone { instance: name.clone() }),
        );
        self.instances = now;
    }
}
