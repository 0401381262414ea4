//! The HTTP face of fleetfoot: API v1, health, metrics.
//!
//! A GET shows the store and the controller's health; a POST changes what an operator wants in the
//! store, and the change wakes the controller. Nothing here calls GitHub or a backend.
//!
//! What this room does not know: the controller, GitHub, backends. Logs of an instance come through a
//! function that the binary hands in, health through a `watch`, a takeover goes out through a channel.
//!
//! Where to start: [`router`] for the routes, [`views`] for the one place where inside words become
//! the API's, [`why`] for the answers of `fleetfoot why`, [`metrics`] for the numbers.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod auth;
pub mod causes;
mod error;
mod handlers;
pub mod listen;
pub mod metrics;
pub mod myshoes;
pub mod record;
mod router;
mod state;
pub mod views;
pub mod why;

pub use error::ApiError;
pub use metrics::{Metrics, Reload};
pub use router::{Face, router};
pub use state::{ControlRequest, LogReader, ServerState, wall_clock};
