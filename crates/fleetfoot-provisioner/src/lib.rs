//! The backend contract of fleetfoot.
//!
//! A backend makes, lists and deletes *environments*: containers, machines, processes. One trait,
//! [`Provisioner`], with two shapes of start: *late binding* (`create`, later `launch` with the JIT
//! config) and *single step* (`create` carries the JIT config). What a backend can do it declares in
//! its [`Capabilities`]; the [`conformance`] suite runs what is declared against the real thing.
//!
//! What this room does not know: GitHub, the store, the controller, any concrete tool.
//!
//! Where to start: [`Provisioner`], then [`simulated`], the backend in memory that ships.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod conformance;
mod error;
mod provisioner;
pub mod simulated;
mod tasks;

pub use fleetfoot_core::{Exit, InstallationId, InstanceName, NameError, PoolName, ResourceType};

pub use error::{Advice, BackendError, ErrorKind, original_duration};
pub use provisioner::{
    Capabilities, Deletion, EnvironmentInfo, EnvironmentSpec, EnvironmentState, Event, EventStream,
    Finding, Handle, JitConfig, Listing, Provisioner, Reach, Severity,
};
