//! How a store is opened.

use std::path::PathBuf;

use fleetfoot_core::{InstallationId, Span, Timestamp};

use crate::fleet::{Membership, Ticks};
use crate::script::Scripted;

/// Whether a commit survives a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// It does (`synchronous=FULL`): what production uses.
    #[default]
    Full,
    /// It survives the end of the process, not of the machine: for tests and throw-away demos.
    Off,
    /// The file is one thread's alone, who opens it with `Execution::Inline`, perhaps more than once: no locks, and
    /// the journal in memory. For simulated worlds, whose controllers die between statements and never within one.
    OneThread,
}

/// Where the closures of `update` run (SQLite only; servers always have a task of their own).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Execution {
    /// On one dedicated thread: what production uses.
    #[default]
    Thread,
    /// On the calling thread, at once: keeps a world under a paused clock deterministic.
    Inline,
}

/// How much of the past is kept. Pruned in small steps after commits, by the time of what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events at most.
    pub events_max: u32,
    /// Events older than this go.
    pub events_age: Span,
    /// Closed instances and finished jobs at most, each.
    pub closed_max: u32,
    /// Closed instances and finished jobs older than this go.
    pub closed_age: Span,
    /// Rows removed in one step at most.
    pub step: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            events_max: 100_000,
            events_age: Span::minutes(30 * 24 * 60),
            closed_max: 20_000,
            closed_age: Span::minutes(30 * 24 * 60),
            step: 200,
        }
    }
}

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether a commit survives a power cut.
    pub durability: Durability,
    /// Where closures run.
    pub execution: Execution,
    /// How much of the past is kept.
    pub retention: Retention,
    /// The identity written beside the store. A new store takes it over, and says that it was lost
    /// (`Store::behind`); an old store that has another one is refused.
    pub installation: Option<InstallationId>,
    /// The identity of this host, noted in the store.
    pub host: Option<String>,
    /// When the store is being opened, for its age; read from the clock when absent.
    pub now: Option<Timestamp>,
    /// This controller's part among several on the same database; alone when absent.
    pub member: Option<Membership>,
    /// The file in which this host remembers how far a shared database was; without it nothing is concluded.
    pub seen: Option<PathBuf>,
    /// The clock of leases where the database is a file, for worlds with a time of their own.
    pub file_clock: Option<Ticks>,
    /// What a simulated world does to commits (inline execution only).
    pub script: Scripted,
}
