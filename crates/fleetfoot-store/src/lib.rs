//! The durable record of fleetfoot: what is true, and stays true when everything is killed.
//!
//! The present (pools, their live instances, their unfinished jobs) is mirrored in memory, so that
//! reading it costs nothing; the past (closed instances, finished jobs, events) lives only in the
//! database, within the bounds of [`Retention`].
//!
//! ```text
//! update(closure) ──▶ one writer ──▶ closures run, one after another, on a working copy
//!                                        │ what changed = rows
//!                                        ▼
//!                              ONE durable transaction for all that arrived together
//!                                        │ committed                    │ failed
//!                                        ▼                              ▼
//!                         new state published, touched pools    nothing published, every
//!                         tick, replies sent                    closure of the batch hears why
//! ```
//!
//! Guarantees: a reply is sent only after its commit; a closure that changes nothing costs no commit;
//! a closure that panics loses its own changes and nobody else's; names of instances are never reused.
//!
//! Several controllers may share one database ([`Options::member`]): each owns some pools, its commits are
//! fenced by the epochs of these, and what it shows of others' pools is as old as its last heartbeat
//! ([`Store::beat`]). A simulated world opens one SQLite file twice, inline, with clocks of its own
//! ([`Membership::clock`] and [`Options::file_clock`]).
//!
//! What it does not know: GitHub, backends, the controller, HTTP. It is the only room that knows SQL:
//! SQLite is built in, MySQL/MariaDB and PostgreSQL are two more drivers of the same statements.
//!
//! Where to start: [`Store`] and [`Txn`]; `writer` for the one writer, `rows` for what a row is made
//! of, `dialect` for all that differs between databases, [`StateDir`] for the files beside the store.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod authorities;
mod batch;
mod behind;
mod closures;
mod compare;
mod copies;
mod dialect;
mod driver;
mod error;
mod event;
mod fault;
mod fleet;
mod floor;
mod heard;
mod history;
mod homes;
mod hosts;
mod identity;
mod lease;
mod location;
mod lock;
mod mark;
mod member;
mod membership;
mod named_lock;
mod names;
mod open;
mod options;
mod prune;
mod queue;
mod reads;
mod report;
mod rows;
mod runner_rows;
mod schema;
mod script;
mod seen;
mod shared;
mod sql;
mod state_dir;
mod store;
mod targets;
mod told;
mod txn;
mod wishes;
mod writer;

#[cfg(test)]
mod tests;

pub use behind::Behind;
pub use copies::{BackedUp, CopyError, PutBack, back_up, put_back};
pub use error::{
    InsertError, LockError, ObserveError, OpenError, ReadError, RemovePoolError, StateDirError,
    UpdateError,
};
pub use event::{Event, EventFilter, EventRow};
pub use fault::{DriverError, Fault, RowError};
pub use fleet::{Beat, LEASE_VALID, Membership, Taken, Ticks};
pub use history::{ClosedFilter, FinishedJob, FinishedJobFilter};
pub use hosts::{HostRow, HostsError, forget_host, hosts};
pub use identity::boot_id;
pub use location::Location;
pub use lock::Lock;
pub use named_lock::NamedLock;
pub use options::{Durability, Execution, Options, Retention};
pub use report::{Report, inspect};
pub use runner_rows::{AliveRunner, RunnerRows};
pub use script::{Fate, Script, Scripted};
pub use shared::{Counters, Pools};
pub use state_dir::{Search, StateDir, StateDirOpenError};
pub use store::Store;
pub use targets::{
    NO_TOKEN_EXPIRED_AT, NewTarget, StoredToken, TargetChanges, TargetKey, TargetRow,
    TargetSettings, TargetWrite, TargetsError,
};
pub use txn::Txn;
