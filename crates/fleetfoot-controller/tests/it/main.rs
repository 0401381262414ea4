//! The controller against a GitHub in a box and a simulated engine: every hard case of design.md 11 that
//! concerns it, by name.
//!
//! Each test has a box, an engine and a store of its own ([`bed::Bed`]). A crash ends the controller's runtime
//! without a word; engine, runners and box live on. All wait for levels with bounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    reason = "a test"
)]

mod bed;
mod engine;

mod chaos;
mod clocks;
mod early;
mod failures;
mod gate;
mod landings;
mod levels;
mod live;
mod scale_sets;
mod sessions;
mod sides;
mod starts;
mod strays;
mod warm;
