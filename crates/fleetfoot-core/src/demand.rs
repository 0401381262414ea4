//! What GitHub wants of a pool: a level it states, never a sum of messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::names::{InstanceName, JobId};
use crate::time::{Span, Timestamp};

/// How long `JobAssigned` items raise demand above what statistics say (design, section 5).
pub const ASSIGNED_ITEMS_HOLD: Span = Span::minutes(2);

/// How long a job that certainly ran is taken off GitHub's level at least, and until GitHub is heard after that: a level
/// that nobody could state anew still counts it (seed 56755).
pub(crate) const SPENT_HOLD: Span = Span::minutes(5);

/// Instances whose job is over, remembered at most; beyond it the oldest are counted by GitHub's level again.
pub const SPENT_MAX: usize = 10_000;

/// How long a finished job is remembered against messages that come again.
pub(crate) const FINISHED_HOLD: Span = Span::minutes(10);

/// Finished jobs remembered at most.
pub const FINISHED_MAX: usize = 128;

/// The statistics of a scale set, as GitHub states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Jobs offered and not acquired (GHES).
    pub available: u32,
    /// Jobs acquired and not assigned (GHES).
    pub acquired: u32,
    /// Jobs waiting for or running on this scale set.
    pub assigned: u32,
    /// Jobs running.
    pub running: u32,
    /// Runners registered.
    pub registered: u32,
    /// Runners busy.
    pub busy: u32,
    /// Runners idle.
    pub idle: u32,
}

/// Where a job is, as far as messages told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Assigned to the scale set; no runner yet.
    Assigned,
    /// A runner took it.
    Started {
        /// The runner's name; it need not be one of ours.
        instance: Option<InstanceName>,
    },
}

/// One unfinished job, keyed by GitHub's job id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// GitHub's id.
    pub id: JobId,
    /// Its state.
    pub state: JobState,
    /// `owner/repository`.
    pub repository: String,
    /// The workflow file and ref.
    pub workflow: String,
    /// The name people gave it.
    pub display_name: String,
    /// The workflow run's number; `0` when unknown.
    pub run_id: i64,
    /// When GitHub queued it, where it said so.
    pub queued_at: Option<Timestamp>,
    /// When we first heard of it.
    pub seen_at: Timestamp,
    /// When its start was heard of.
    pub started_at: Option<Timestamp>,
}

/// What GitHub last stated about one pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demand {
    /// A message session is open and its statistics are below. Otherwise demand is unknown.
    pub known: bool,
    /// The last statistics of the open session.
    pub statistics: Statistics,
    /// When they were stated.
    pub stated_at: Timestamp,
    /// When the session opened whose first statistics were stated with it.
    pub opened_at: Timestamp,
    /// Of the jobs that had begun before the session, as many at most may still be counted in its level. Nothing where no
    /// first statistics bound them.
    pub before_session: Option<u32>,
    /// The last message taken in.
    pub last_message_id: Option<i64>,
    /// Instances whose one job is over though GitHub's level may still count it, and since when.
    pub spent: BTreeMap<InstanceName, Timestamp>,
    /// Jobs that ended a short while ago: a message that comes again must not open them again.
    ///
    /// Shared: a pool's row is copied for each change of it, this part of it hardly ever changes.
    pub finished: Arc<BTreeMap<JobId, Timestamp>>,
}

impl Demand {
    /// A session opened with these statistics: whatever was corrected before is in them.
    pub fn session_opened(&mut self, statistics: Statistics, now: Timestamp) {
        self.known = true;
        self.statistics = statistics;
        self.stated_at = now;
        self.opened_at = now;
        self.before_session = Some(statistics.assigned);
        self.last_message_id = None;
        self.spent.clear();
    }

    /// The session is gone: what GitHub wants is unknown until the next one.
    pub fn session_lost(&mut self) {
        self.known = false;
        self.last_message_id = None;
    }

    /// The one job of an instance is over, whatever GitHub's level still says; since when it is known to be.
    pub fn spend(&mut self, instance: &InstanceName, now: Timestamp) -> &mut Timestamp {
        if self.spent.len() >= SPENT_MAX && !self.spent.contains_key(instance) {
            // Without any statistics nothing else takes them out.
            self.spent.retain(|_, since| since.age(now) < SPENT_HOLD);
            forget_oldest(&mut self.spent, SPENT_MAX - 1);
        }
        self.spent.entry(instance.clone()).or_insert(now)
    }

    /// A job that had begun before the session is over. Whether GitHub's level may still count it: what it stated when
    /// the session opened bounds how many of them it may.
    pub(crate) fn counts_from_before(&mut self) -> bool {
        let Some(left) = self.before_session.as_mut() else { return true };
        let counts = *left > 0;
        *left = left.saturating_sub(1);
        counts
    }

    /// A job ended: it is remembered for a while, within bounds.
    pub fn finish(&mut self, job: &JobId, now: Timestamp) {
        let finished = Arc::make_mut(&mut self.finished);
        finished.insert(job.clone(), now);
        // Its pool's row, which is written with every message, has them all: no more than are needed.
        finished.retain(|_, at| at.age(now) < FINISHED_HOLD);
        forget_oldest(finished, FINISHED_MAX);
    }

    /// A session opened and did not state any statistics: unknown until its first message does.
    pub fn session_opened_blind(&mut self) {
        self.known = false;
        self.before_session = None;
        self.last_message_id = None;
        self.spent.clear();
    }

    /// Jobs are taken off that are not any more once GitHub was heard at this time.
    #[must_use]
    pub fn has_overdue(&self, now: Timestamp) -> bool {
        self.spent.values().any(|since| since.age(now) >= SPENT_HOLD)
    }

    /// GitHub was heard, if only that it has nothing new to tell.
    pub fn heard(&mut self, now: Timestamp) {
        self.spent.retain(|_, since| since.age(now) < SPENT_HOLD);
    }

    /// New statistics of the open session.
    pub fn state(&mut self, statistics: Statistics, now: Timestamp) {
        self.known = true;
        self.heard(now);
        self.statistics = statistics;
        self.stated_at = now;
    }
}

/// Leaves the newest `most` entries.
fn forget_oldest<K: Ord + Clone>(entries: &mut BTreeMap<K, Timestamp>, most: usize) {
    while entries.len() > most {
        let oldest = entries.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone());
        let Some(key) = oldest else { return };
        entries.remove(&key);
    }
}

/// A length as a count, saturating.
pub(crate) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
