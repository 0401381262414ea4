//! Channels whose waiters wake in the order in which they began to wait.
//!
//! Tokio's `watch` spreads its waiters over eight lists by a random number, so that threads do not meet at one
//! lock: of two tasks that wait on one channel either may go first. In a simulated world one order must come
//! from one seed (design.md 10), so whatever runs in a world and may be waited for by several tasks uses
//! [`watch`] of this room instead. Everywhere else it is as good: our channels have a handful of waiters.
//!
//! What it does not know: anything of ours. It is tokio's channel with one list of waiters.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod watch;
