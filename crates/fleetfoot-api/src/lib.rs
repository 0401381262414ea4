//! The public contract of fleetfoot: what its HTTP API says, and the typed client that speaks it.
//!
//! The words here are our own and change only with care: scripts, the command line and the web page
//! rely on them. Times are RFC 3339 in UTC. A field that is not known is `null`, never missing.
//!
//! What this room does not know: the core's types, the store, how anything is decided. Translation from
//! inside to these words happens in one place, the server's `views`.
//!
//! Where to start: [`Status`] for what `fleetfoot status` shows, [`ErrorCode`] for what can go wrong,
//! [`Client`] to ask a running daemon.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod aside;
mod client;
mod error;
mod types;
mod why;

pub use aside::SetAside;
pub use client::{Client, ClientError, EventQuery};
pub use error::{ErrorBody, ErrorCode, ErrorDetail};
pub use types::{
    CauseInfo, CircuitInfo, ControllerInfo, DemandInfo, DiscrepancyInfo, EventInfo, EventList,
    ExitInfo, InstanceList, InstanceStatus, JobInfo, ListenerInfo, LogTail, OwnerInfo, PoolList,
    PoolStatus, RunnerInfo, Source, Status, StopRequest, StoreBehind, TakeoverAnswer,
};
pub use why::{Subject, Why};

/// The path under which version 1 of the API lives.
pub const API_V1: &str = "/api/v1";
