//! What users of myshoes have, as pure rules: environment variables, targets, the texts of its REST API.
//!
//! Every byte here is somebody's environment file, client or dashboard. Nothing is read or written: whoever
//! serves, stores or asks GitHub uses these rules.
//!
//! What this room does not know: HTTP, SQL, GitHub, plugins, clocks.
//!
//! Where to start: [`environment`] for the settings, [`target`] for what a target is, [`body`] for how
//! clients send and get one, [`rules`] for what may be done to it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod body;
pub mod dsn;
pub mod environment;
pub mod names;
pub mod rules;
pub mod target;
pub mod version;
