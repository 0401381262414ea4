//! The box, met as its users meet it: over the wire, through crate `scaleset`, with real runner
//! processes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm)]

mod common;
mod faults;
mod jobs;
mod listener;
mod load;
mod machines;
mod rest;
mod runners;
mod sessions;
