//! The runner keeper: releases of GitHub's runner, kept on this host.
//!
//! **What this room is for.** GitHub takes a runner for about thirty days after a newer one is out, and an image or a
//! directory with an older one works until the day it does not. This room knows which release each pool uses, looks now
//! and then which one is the newest, tells how long the older one is still taken, and keeps releases unpacked, so that
//! images and hosts need none of their own.
//!
//! ```text
//!  GitHub's downloads endpoint ─▶ archive ─▶ SHA-256 ─▶ unpacked ─▶ renamed
//!                                                                     │
//!  <dir>/2.335.0/    unpacked; stays while an instance may use it     │
//!  <dir>/2.336.0/    unpacked  ◀──────────────────────────────────────┘
//!  <dir>/latest ─▶ 2.336.0     a link; each instance reads it once, at its start
//! ```
//!
//! Nothing here is in the way of a start: what is unpacked is used, with or without a network. Only a pool that has no
//! release at all waits for its first one, and `why` says so.
//!
//! **What it does not know.** Instances, backends, the store, the controller. Backends get a path; the controller reads
//! a [`RunnerRelease`](fleetfoot_core::RunnerRelease) out of a channel.
//!
//! **Where to start.** [`Keeper`] is the loop, [`Shelf`] is what is on disk.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod archive;
mod fetch;
mod keeper;
mod shelf;
mod version;

pub use fetch::FetchError;
pub use keeper::{Keeper, Order};
pub use shelf::{Shelf, Wanted};
pub use version::version_named;
