//! Events: what happened, in one line each, for `why` and for people.

use std::collections::BTreeMap;

use fleetfoot_core::{InstanceName, JobId, PoolName, Timestamp};

/// Something that happened, to be written into the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// A fixed lower-case phrase; several, with commas between them, if that happened to an instance in one transaction.
    pub phrase: String,
    /// The pool it concerns.
    pub pool: Option<PoolName>,
    /// The instance it concerns.
    pub instance: Option<InstanceName>,
    /// The job it concerns.
    pub job: Option<JobId>,
    /// Values, by name.
    pub fields: BTreeMap<String, String>,
}

impl Event {
    /// Something that happened at `at`.
    #[must_use]
    pub fn new(at: Timestamp, phrase: &str) -> Self {
        Self {
            at,
            phrase: phrase.to_owned(),
            pool: None,
            instance: None,
            job: None,
            fields: BTreeMap::new(),
        }
    }

    /// It concerns this pool.
    #[must_use]
    pub fn pool(mut self, pool: &PoolName) -> Self {
        self.pool = Some(pool.clone());
        self
    }

    /// It concerns this instance.
    #[must_use]
    pub fn instance(mut self, instance: &InstanceName) -> Self {
        self.instance = Some(instance.clone());
        self
    }

    /// It concerns this job.
    #[must_use]
    pub fn job(mut self, job: &JobId) -> Self {
        self.job = Some(job.clone());
        self
    }

    /// Whether it goes on what `earlier` tells: of the same instance, in the same moment.
    pub(crate) fn goes_on(&self, earlier: &Self) -> bool {
        let same_job = earlier.job.is_none() || earlier.job == self.job;
        let same_place = self.instance.is_some() && self.instance == earlier.instance;
        same_place && same_job && (&self.pool, self.at) == (&earlier.pool, earlier.at)
    }

    /// Tells of what came next, too; where it came from stays as it is.
    pub(crate) fn join(&mut self, next: Self) {
        self.phrase = format!("{}, {}", self.phrase, next.phrase);
        self.job = next.job;
        for (name, value) in next.fields {
            if name != "from" || !self.fields.contains_key("from") {
                self.fields.insert(name, value);
            }
        }
    }

    /// With a value.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl ToString) -> Self {
        self.fields.insert(name.to_owned(), value.to_string());
        self
    }
}

/// An event as the history holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its number: later events have higher ones.
    pub id: i64,
    /// What happened.
    pub event: Event,
}

/// Which events to read: all conditions together, the newest `limit` of them, oldest first.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only of this pool.
    pub pool: Option<PoolName>,
    /// Only of this instance.
    pub instance: Option<InstanceName>,
    /// Only of this job.
    pub job: Option<JobId>,
    /// At most this many; 0 for 1000.
    pub limit: u32,
}
