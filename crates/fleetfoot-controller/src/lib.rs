//! The shell of fleetfoot that acts.
//!
//! Everything is decided in `fleetfoot-core`; here is what carries decisions out. For each pool there is
//! one *listener* (the long poll: commit what a message says, then acknowledge) and one *reconciler*
//! (read everything of the pool, ask [`fleetfoot_core::plan()`] what to do, commit it, act). For each
//! backend connection there is one *sweeper* (list, compare, tell). They share nothing but the store.
//!
//! ```text
//! GitHub ─▶ listener ─commit─▶ STORE ─tick─▶ reconciler ─▶ plan ─▶ commit intent ─▶ executor ─▶ backend, GitHub
//!                                ▲                                                      │
//!                                └────────────── observations ◀── sweeper, watch ◀──────┘
//! ```
//!
//! What it does not know: HTTP serving, the configuration file, any concrete backend.
//!
//! Where several controllers share a store, `keeper` takes pools, hands them over and stops what it lost.
//!
//! Where to start: [`Controller`], then `reconciler` and `listener`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod adopt;
mod backend;
mod calls;
mod clock;
mod controller;
mod dependency;
mod executor;
mod gate;
mod host;
mod keeper;
mod ledger;
mod listener;
mod live;
mod messages;
#[cfg(feature = "faults")]
mod points;
mod pool;
mod reconciler;
mod record;
mod registrations;
mod removal;
mod roster;
mod rouse;
mod settings;
mod shift;
#[cfg(test)]
mod sizes;
mod start;
mod sweeper;
mod tasks;
mod verify;

pub use clock::Clock;
pub use controller::{Controller, LogReader, StartError, Stopped};
pub use gate::Gate;
pub use host::{DiskFloor, HostLimits};
pub use settings::{ControllerSettings, Pace, PoolSettings, ScaleSetEnd, SessionSettings};
pub use tasks::Tasks;
