//! The github room against crate `scaleset`'s emulator and against a stub that misbehaves on
//! demand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::panic,
    clippy::disallowed_methods
)]

mod api_base;
mod app;
mod bad_answers;
mod burst;
mod control;
mod emulator;
mod sessions;
mod stub;
mod the_box;
mod tls;
