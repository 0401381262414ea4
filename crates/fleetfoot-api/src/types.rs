//! Pools, instances, jobs and events as the API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::aside::SetAside;

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A running daemon: causes, listeners and capacities are those of this moment.
    Daemon,
    /// The store alone, read while no daemon runs.
    Store,
}

/// Everything at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version that answers.
    pub version: String,
    /// The installation's random identity.
    pub installation: String,
    /// Who answers.
    pub source: Source,
    /// When this was true.
    pub at: String,
    /// When the daemon started; `null` without one.
    pub started_at: Option<String>,
    /// Every pool's first poll was opened.
    pub ready: bool,
    /// The daemon is stopping.
    pub stopping: bool,
    /// The store may know less than what is true outside, and not everything was looked at since.
    #[serde(default)]
    pub behind: Option<StoreBehind>,
    /// The pools, by name.
    pub pools: Vec<PoolStatus>,
    /// The instances that are not closed, by pool and name.
    pub instances: Vec<InstanceStatus>,
    /// What is disagreed about that belongs to no pool that is served; none without a daemon.
    #[serde(default)]
    pub discrepancies: Vec<DiscrepancyInfo>,
    /// The controllers that share the store; none if there is only one.
    #[serde(default)]
    pub controllers: Vec<ControllerInfo>,
    /// Pools that are wanted and not served at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<SetAside>,
}

/// One of several controllers that share a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControllerInfo {
    /// Its name, new in every process.
    pub controller: String,
    /// Its host's name.
    pub host: String,
    /// The identity of its host.
    pub host_id: String,
    /// Its version.
    pub version: String,
    /// It is the one that answers.
    pub here: bool,
    /// Its heart beats.
    pub alive: bool,
    /// The pools it owns, by name.
    pub pools: Vec<String>,
}

/// Who serves a pool, where several controllers share a store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwnerInfo {
    /// The controller that owns it; `null` if it was let go.
    pub controller: Option<String>,
    /// The name of the host of that controller, or of the host that the pool belongs to.
    pub host: Option<String>,
    /// It is the one that answers.
    pub here: bool,
    /// Its heart beats.
    pub alive: bool,
    /// Its backend belongs to that host, so no other one can serve it.
    pub host_bound: bool,
    /// Grows with every change of hands.
    pub epoch: i64,
    /// Controllers have different settings for it, so it stays where it is.
    pub unlike: bool,
}

/// Why the store may know less than what is true outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreBehind {
    /// `lost`, `restored`, `older` or `log_gone`.
    pub cause: String,
    /// The same for people.
    pub message: String,
    /// When the backup was taken, if it was restored from one that says so.
    pub taken_at: Option<String>,
}

/// A list of pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolList {
    /// The pools, by name.
    pub pools: Vec<PoolStatus>,
}

/// A list of instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceList {
    /// The instances that are not closed, by pool and name.
    pub instances: Vec<InstanceStatus>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// `active`, `draining` or `removed`.
    pub phase: String,
    /// The GitHub scope it serves.
    pub url: String,
    /// Its runner group; empty for the default one.
    pub runner_group: String,
    /// GitHub's number of its scale set.
    pub scale_set_id: Option<i64>,
    /// Its listener; `null` without a daemon.
    pub listener: Option<ListenerInfo>,
    /// Instances wanted now, within the limit.
    pub desired: u32,
    /// Instances that take a slot.
    pub occupying: u32,
    /// Instances between their name and their runner being online.
    pub starting: u32,
    /// Environments that are made and wait for a job, unregistered; `starting` does not count them.
    #[serde(default)]
    pub warm: u32,
    /// Instances whose runner is online without a job.
    pub idle: u32,
    /// Instances whose runner has a job.
    pub running: u32,
    /// Instances being removed.
    pub stopping: u32,
    /// Instances that serve demand, or will.
    pub serving: u32,
    /// Its limit; `null` without a daemon.
    pub max_runners: Option<u32>,
    /// The capacity last stated to GitHub; `null` without a daemon.
    pub advertised: Option<u32>,
    /// What GitHub wants.
    pub demand: DemandInfo,
    /// Jobs that wait for a runner.
    pub waiting: Vec<JobInfo>,
    /// Why demand is not served at once.
    pub causes: Vec<CauseInfo>,
    /// Its memory of failed starts.
    pub circuit: CircuitInfo,
    /// What GitHub, the backend and the store disagree about; none without a daemon.
    #[serde(default)]
    pub discrepancies: Vec<DiscrepancyInfo>,
    /// Who serves it; `null` if there is only one controller.
    #[serde(default)]
    pub owner: Option<OwnerInfo>,
    /// The release of GitHub's runner that it uses; `null` where that is not known.
    #[serde(default)]
    pub runner: Option<RunnerInfo>,
}

/// Which release of GitHub's runner a pool uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerInfo {
    /// What its next instances start with; `null` while there is none yet.
    pub version: Option<String>,
    /// The newest that GitHub offers; `null` until it was asked.
    pub newest: Option<String>,
    /// GitHub takes `version` until about then; `null` while nothing newer is known.
    pub accepted_until: Option<String>,
    /// Why there is none yet, or why the last look for a newer one failed.
    pub problem: Option<String>,
}

impl RunnerInfo {
    /// In one line for people, if there is a release.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let mut line = format!("its runner is {}", self.version.as_ref()?);
        match (&self.newest, &self.accepted_until) {
            (Some(newest), Some(until)) => {
                let day = until.split('T').next().unwrap_or(until);
                line.push_str(&format!(
                    "; {newest} is out, and GitHub takes this one until about {day}"
                ));
            }
            (Some(newest), None) if self.version.as_ref() == Some(newest) => {
                line.push_str(", the newest");
            }
            (Some(_), None) | (None, _) => {}
        }
        if let Some(problem) = &self.problem {
            line.push_str(&format!("; the last look for a newer one failed: {problem}"));
        }
        Some(line)
    }
}

/// A disagreement between GitHub, a backend and the store that is there now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscrepancyInfo {
    /// Its kind.
    pub kind: String,
    /// Whose; `null` when it is the pool's own.
    pub instance: Option<String>,
    /// When it was first seen.
    pub since: String,
    /// It lasts longer than its kind should.
    pub overdue: bool,
    /// What it is, for people.
    pub message: String,
    /// What is done about it.
    pub remedy: String,
}

/// What GitHub last stated of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DemandInfo {
    /// A message session is open, so the figures are GitHub's present word.
    pub known: bool,
    /// Jobs waiting for or running on the pool.
    pub assigned: u32,
    /// Jobs running.
    pub running: u32,
    /// Runners registered.
    pub registered: u32,
    /// When GitHub said so; `null` if it never did.
    pub stated_at: Option<String>,
}

/// A pool's listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerInfo {
    /// `opening`, `standby`, `connected`, `backoff` or `closed`.
    pub state: String,
    /// Since when, where that matters.
    pub since: Option<String>,
    /// When it tries again.
    pub until: Option<String>,
    /// What failed, one line.
    pub detail: Option<String>,
}

/// A pool's memory of failed starts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CircuitInfo {
    /// Nothing is started for now.
    pub open: bool,
    /// Failures in a row.
    pub failures: u32,
    /// When one is tried again.
    pub until: Option<String>,
    /// The last failure, one line.
    pub last_failure: Option<String>,
}

/// Why something waits, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseInfo {
    /// A fixed word for programs.
    pub code: String,
    /// One sentence for people.
    pub message: String,
    /// What an operator can do, or that nothing need be done.
    pub remedy: String,
    /// Since when, where it is known.
    pub since: Option<String>,
    /// Until when, where it is known.
    pub until: Option<String>,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its name at GitHub, at the backend and here.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// `pending`, `creating`, `warm`, `starting`, `idle`, `running`, `stopping` or `closed`.
    pub phase: String,
    /// The job it runs or ran.
    pub job: Option<JobInfo>,
    /// GitHub's number of its runner.
    pub runner_id: Option<i64>,
    /// When its name was committed.
    pub created_at: String,
    /// When its phase last changed.
    pub phase_since: String,
    /// Why it is being removed.
    pub reason: Option<String>,
    /// The last failure, one line.
    pub last_error: Option<String>,
    /// How its environment ended.
    pub exit: Option<ExitInfo>,
    /// `none`, `requested`, `present`, `launched`, `ended` or `gone`.
    pub environment: String,
    /// `none`, `requested`, `registered` or `gone`.
    pub registration: String,
    /// The backend's own handle.
    pub handle: Option<String>,
    /// How its life ended, one line; `null` while it lives.
    pub outcome: Option<String>,
    /// It lives on a host whose controller does not answer: nobody can say how it is. Not gone.
    #[serde(default)]
    pub unreachable: bool,
}

/// How an environment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitInfo {
    /// The exit status, where there was one.
    pub code: Option<i32>,
    /// The kernel ended it for want of memory.
    pub out_of_memory: bool,
    /// The backend's own words, one line.
    pub message: Option<String>,
}

/// One job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// GitHub's id.
    pub id: String,
    /// `owner/repository`.
    pub repository: Option<String>,
    /// The workflow file and ref.
    pub workflow: Option<String>,
    /// The name people gave it.
    pub display_name: Option<String>,
    /// The workflow run's number.
    pub run_id: Option<i64>,
    /// Where a browser shows the run.
    pub run_url: Option<String>,
    /// When GitHub queued it.
    pub queued_at: Option<String>,
    /// When its start was heard of.
    pub started_at: Option<String>,
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventInfo {
    /// When.
    pub at: String,
    /// What happened, a fixed lower-case phrase.
    pub kind: String,
    /// The pool it concerns.
    pub pool: Option<String>,
    /// The instance it concerns.
    pub instance: Option<String>,
    /// The job it concerns.
    pub job: Option<String>,
    /// Values, by name.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    /// Phrase and values in one line.
    pub message: String,
}

/// A part of the history, newest last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventList {
    /// The events.
    pub events: Vec<EventInfo>,
}

/// The last lines of an instance's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogTail {
    /// The instance.
    pub instance: String,
    /// Its output, as the backend kept it.
    pub text: String,
}

/// The wish to end an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StopRequest {
    /// Also if it runs a job, which is then lost.
    #[serde(default)]
    pub force: bool,
}

/// The holder of the state directory agreed to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeoverAnswer {
    /// The process that leaves: its lock is free once it did.
    pub pid: u32,
}
