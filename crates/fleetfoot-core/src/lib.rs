//! Nouns and decisions of fleetfoot.
//!
//! This room holds what fleetfoot *is*: pools, demand, jobs and instances, and every decision about
//! them. [`apply`] is the only thing that changes a phase; [`plan()`] is the only thing that decides
//! what to do next. Both are pure functions of their arguments.
//!
//! What it does not know: async, I/O, any clock, chance, serialization, logs. Time comes in as a
//! [`Timestamp`], names come in from outside, and reasons go out as data ([`Cause`], [`Reason`]).
//!
//! Where to start: [`instance`] for the life of an instance, [`plan()`] for the decisions over a pool,
//! [`sizing`] for how many instances a pool wants and what capacity it advertises.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod backoff;
pub mod cause;
pub mod circuit;
pub mod demand;
pub mod discrepancy;
pub mod doubt;
pub mod fleet;
pub mod health;
pub mod host;
pub mod instance;
pub mod names;
pub mod naming;
pub mod outcome;
pub mod phase;
pub mod plan;
pub mod pool;
pub mod release;
pub mod removal;
mod resource_type;
mod resume;
pub mod sizing;
pub mod time;

pub use backoff::Backoff;
pub use cause::{Cause, Reason};
pub use circuit::Circuit;
pub use demand::{Demand, Job, JobState, Statistics};
pub use discrepancy::Discrepancy;
pub use fleet::{Candidacy, Fleet, Ownership, Peer, Wish, WishWord};
pub use health::{Health, ListenerState, PoolHealth};
pub use instance::{Environment, Instance, Registration};
pub use names::{InstallationId, InstanceName, JobId, NameError, PoolName, RunnerId, ScaleSetId};
pub use naming::Naming;
pub use outcome::{Exit, FailureKind, Outcome};
pub use phase::{Observation, Phase, Refused, apply};

pub use plan::{Action, Dependency, Plan, Snapshot, plan};
pub use pool::{Intent, Pool, PoolSpec, PoolState};
pub use release::RunnerRelease;
pub use resource_type::ResourceType;
pub use time::{Span, Timestamp};
