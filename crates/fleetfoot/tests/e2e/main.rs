//! The real binary against a GitHub in a box: real processes, real containers, real signals.
//!
//! Each test has a box, a directory and a daemon of its own ([`harness::Bed`]); where to start is
//! [`process`]. All wait for levels with bounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test"
)]

mod harness;

mod backups;
mod bad_disk;
mod bad_input;
mod broken_engine;
mod broken_github;
mod check;
mod containers;
mod lost_store;
mod machines;
mod myshoes;
mod myshoes_database;
mod myshoes_fleet;
mod myshoes_listener;
mod myshoes_lock;
mod myshoes_original;
mod myshoes_script;
mod myshoes_start;
mod outrunner;
mod pages;
mod process;
mod releases;
mod reload;
mod restart;
mod scale_sets;
mod scaler;
mod secrets;
mod stopping;
mod takeover;
mod tart;
mod why;
