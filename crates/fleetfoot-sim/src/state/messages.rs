//! The message queue of a scale set: batches of at most fifty, sent again until acknowledged.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock::rfc3339;

use crate::request::{Muddle, Told};

use super::State;
use super::jobs::Facts;
use super::sessions::Dead;

/// The service sends no more job messages at once.
pub(crate) const BATCH_MAX: usize = 50;

/// One job message, complete: it outlives what the box remembers of the job.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) job: u64,
    kind: Kind,
    facts: Arc<Facts>,
    at_us: u64,
}

#[derive(Debug, Clone)]
enum Kind {
    Available,
    Assigned,
    Started { runner: i64, name: String },
    Completed { result: String, runner: i64, name: String },
}

impl Item {
    pub(crate) fn available(job: u64, facts: Arc<Facts>, at_us: u64) -> Self {
        Self { job, kind: Kind::Available, facts, at_us }
    }

    pub(crate) fn assigned(job: u64, facts: Arc<Facts>, at_us: u64) -> Self {
        Self { job, kind: Kind::Assigned, facts, at_us }
    }

    pub(crate) fn started(
        job: u64,
        facts: Arc<Facts>,
        runner: i64,
        name: String,
        at_us: u64,
    ) -> Self {
        Self { job, kind: Kind::Started { runner, name }, facts, at_us }
    }

    pub(crate) fn completed(
        job: u64,
        facts: Arc<Facts>,
        result: &str,
        runner: Option<i64>,
        name: Option<String>,
        at_us: u64,
    ) -> Self {
        let kind = Kind::Completed {
            result: result.to_owned(),
            runner: runner.unwrap_or(0),
            name: name.unwrap_or_default(),
        };
        Self { job, kind, facts, at_us }
    }

    fn is_offer(&self) -> bool {
        matches!(self.kind, Kind::Available)
    }

    fn is_assignment(&self) -> bool {
        match &self.kind {
            Kind::Assigned => true,
            Kind::Started { name, .. } => name.is_empty(),
            Kind::Available | Kind::Completed { .. } => false,
        }
    }

    fn json(&self, base: &str, set: i64) -> Value {
        let facts = &self.facts;
        // Go's zero time is what the service sends for a time that is not known.
        const NEVER: &str = "0001-01-01T00:00:00Z";
        let at = rfc3339(self.at_us);
        let mut item = json!({
            "messageType": "",
            "runnerRequestId": facts.request_id,
            "repositoryName": facts.repository,
            "ownerName": facts.owner,
            "jobId": facts.job_id,
            "jobWorkflowRef": format!(
                "{}/{}/.github/workflows/{}@refs/heads/main",
                facts.owner, facts.repository, facts.workflow
            ),
            "jobDisplayName": facts.name,
            "workflowRunId": facts.run_id,
            "eventName": "push",
            "requestLabels": facts.labels,
            "queueTime": rfc3339(facts.queued_us),
            "scaleSetAssignTime": NEVER,
            "runnerAssignTime": NEVER,
            "finishTime": NEVER,
        });
        let (message_type, more) = match &self.kind {
            Kind::Available => (
                "JobAvailable",
                json!({ "acquireJobUrl": format!("{base}/_apis/runtime/runnerscalesets/{set}/acquirejobs") }),
            ),
            Kind::Assigned => ("JobAssigned", json!({ "scaleSetAssignTime": at })),
            Kind::Started { runner, name } => (
                "JobStarted",
                json!({ "runnerId": runner, "runnerName": name, "runnerAssignTime": at }),
            ),
            Kind::Completed { result, runner, name } => (
                "JobCompleted",
                json!({ "result": result, "runnerId": runner, "runnerName": name, "finishTime": at }),
            ),
        };
        item["messageType"] = message_type.into();
        if let Value::Object(more) = more {
            for (key, value) in more {
                item[key] = value;
            }
        }
        item
    }
}

/// A batch that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) id: i64,
    body: String,
    /// Jobs that it offers.
    pub(crate) offers: Vec<u64>,
    /// Jobs of which it says that they are assigned, or that they run and not where.
    pub(crate) assigned: Vec<u64>,
    /// It has as many items as fit.
    pub(crate) is_full: bool,
}

impl Message {
    /// It offers the job, or says that it is assigned.
    pub(crate) fn names_new(&self, job: u64) -> bool {
        self.offers.contains(&job) || self.assigned.contains(&job)
    }
}

/// What a poll finds.
#[derive(Debug)]
pub(crate) enum Polled {
    /// A message, as JSON.
    Message(Value),
    /// Nothing yet.
    Nothing,
    /// The session cannot be used.
    Dead(Dead),
}

impl State {
    /// Puts an item in the queue of a scale set; `wakes` ends a poll that waits.
    pub(crate) fn tell(&mut self, set_id: i64, item: Item, wakes: bool) {
        let Some(set) = self.sets.get_mut(&set_id) else { return };
        set.outbox.push_back(item);
        if wakes {
            set.wake.notify_waiters();
        }
    }

    /// Sends a message about a job whether or not it is true.
    pub(crate) fn tell_anyway(&mut self, id: u64, told: &Told) -> bool {
        let now = self.now_us();
        let Some(job) = self.jobs.get(&id) else { return false };
        let Some(set) = job.set else { return false };
        let (facts, runner, name) = (Arc::clone(&job.facts), job.runner, job.runner_name.clone());
        let item = match told {
            Told::Assigned => Item::assigned(id, facts, now),
            Told::Started => {
                Item::started(id, facts, runner.unwrap_or(0), name.unwrap_or_default(), now)
            }
            Told::Completed { result } => Item::completed(id, facts, result, runner, name, now),
        };
        self.tell(set, item, true);
        self.touch();
        true
    }

    /// Brings what was not sent yet into disorder.
    pub(crate) fn muddle(&mut self, set_id: i64, how: Muddle) -> bool {
        let Some(set) = self.sets.get_mut(&set_id) else { return false };
        match how {
            Muddle::Lose => set.outbox.clear(),
            Muddle::Reverse => set.outbox = set.outbox.drain(..).rev().collect(),
            Muddle::Repeat => {
                let twice = set.outbox.iter().cloned().collect::<Vec<_>>();
                set.outbox.extend(twice);
            }
        }
        true
    }

    /// A poll arrived.
    pub(crate) fn poll_arrived(
        &mut self,
        set_id: i64,
        number: u64,
        capacity: Option<u32>,
        arrived_us: u64,
    ) {
        if let Some(record) = self.sessions.get_mut(&number) {
            record.first_poll_us.get_or_insert(arrived_us);
            record.last_poll_us = Some(arrived_us);
            record.polls += 1;
        }
        let Some(set) = self.sets.get_mut(&set_id) else { return };
        // A client that advertises nothing at all is taken at its word for everything.
        set.capacity = Some(capacity.unwrap_or(u32::MAX));
        self.assign(set_id);
        self.touch();
    }

    /// What there is for a poll that waits or has just come.
    pub(crate) fn poll(&mut self, set_id: i64, number: u64, token: &str, base: &str) -> Polled {
        let now = self.now_us();
        let Some(set) = self.sets.get_mut(&set_id) else { return Polled::Dead(Dead::ScaleSet) };
        let Some(session) = set.session.as_ref().filter(|session| session.number == number) else {
            return Polled::Dead(Dead::Session);
        };
        if session.queue_token != token {
            return Polled::Dead(Dead::Token);
        }
        if set.unacknowledged.is_none() {
            if set.outbox.is_empty() {
                return Polled::Nothing;
            }
            let count = set.outbox.len().min(BATCH_MAX);
            let items: Vec<Item> = set.outbox.drain(..count).collect();
            let id = set.next_message;
            set.next_message += 1;
            let body: Vec<Value> = items.iter().map(|item| item.json(base, set_id)).collect();
            let of = |wanted: fn(&Item) -> bool| -> Vec<u64> {
                items.iter().filter(|item| wanted(item)).map(|item| item.job).collect()
            };
            let (offers, assigned) = (of(Item::is_offer), of(Item::is_assignment));
            for job in offers.iter().chain(&assigned) {
                if let Some(job) = self.jobs.get_mut(job) {
                    job.delivered_us.get_or_insert(now);
                }
            }
            let body = Value::Array(body).to_string();
            let is_full = count == BATCH_MAX;
            set.unacknowledged = Some(Message { id, body, offers, assigned, is_full });
        }
        let statistics = set.stated(&self.settings);
        match &set.unacknowledged {
            None => Polled::Nothing,
            Some(message) => Polled::Message(json!({
                "messageId": message.id,
                "messageType": "RunnerScaleSetJobMessages",
                "body": message.body,
                "statistics": statistics,
            })),
        }
    }

    /// Forgets a message that was acknowledged; unknown ones are forgotten already.
    pub(crate) fn acknowledge(&mut self, set_id: i64, message: i64) {
        let Some(set) = self.sets.get_mut(&set_id) else { return };
        if set.unacknowledged.as_ref().is_some_and(|sent| sent.id == message) {
            set.unacknowledged = None;
            set.acknowledged += 1;
            self.touch();
        }
    }
}
