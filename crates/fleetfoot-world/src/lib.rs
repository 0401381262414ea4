//! Simulated worlds: the real controller, GitHub room and store against the box and the simulated backend,
//! in one current-thread runtime under a paused clock, driven by a seed.
//!
//! ```text
//!            script (by seed) ─── happenings ──▶ stage ──▶ controller ─▶ store (SQLite, inline)
//!                                                 │           │   └──▶ box (in this process)
//!                                                 │           └──────▶ engines ─▶ runners (in this process)
//!                                                 ▼
//!            books: what GitHub, engines and store did, held against the ten invariants at every step
//! ```
//!
//! A world is a span of hours with pools, jobs and faults; then the faults stop, and within a stated time
//! every job has to be done and nothing may be left over. Equal seeds are equal worlds, byte for byte.
//!
//! What it does not know: concrete backends, the configuration file, HTTP serving.
//!
//! Where to start: [`World::run`], then `script` (what happens) and `books` (what must hold).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod away;
mod books;
mod bursts;
mod checks;
mod directory;
mod families;
mod finish;
mod happening;
mod incarnation;
mod keeping;
mod lasting;
mod levels;
mod log;
mod manners;
mod options;
mod outside;
mod peers;
mod progress;
mod runner;
mod script;
mod search;
mod stage;
mod tasks;
mod unseen;
mod whole;
mod witness;
mod world;

pub use log::Line;
pub use options::{Family, Options, PoolSize, Stop};
pub use progress::{Hears, Progress};
pub use world::{Report, Violation, World};

/// Seeds of worlds that once broke a promise; they are run for ever.
pub fn kept_seeds() -> impl Iterator<Item = u64> {
    let lines = include_str!("../seeds.txt").lines();
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok())
}
