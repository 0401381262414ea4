//! The Tart backend: a job runs in a virtual machine of its own on Apple hardware.
//!
//! ```text
//!  create                                     launch                       delete
//!  tart clone, tart set                       tart exec NAME RUNNER        end the runner
//!  keeper ─▶ tart run        (stays)          keeper ─▶ tart exec (stays)  tart stop, tart delete
//!  tart exec NAME echo ok    (until it works)                              remove the records
//! ```
//!
//! Everything is an invocation of the `tart` program found in `PATH`. `tart run` and the `tart exec` of the runner
//! live as long as the machine and the job, so they must not be children of the daemon: each has a small parent of
//! its own, the *keeper* ([`keeper`]; the binary calls it for `fleetfoot __tart`). It is a process of its own session,
//! keeps the command's output in bounded files, and writes down how it ended. While it lives it holds a file lock,
//! by which every later daemon knows that it lives: no process id is trusted without it, and a restart of the host ends it.
//!
//! # Ownership
//!
//! A machine is ours if its exact name has a record below the state directory, made before the clone, or a marker
//! file of this installation lies in the machine's own directory. Nothing is ever judged by a prefix of its name.
//!
//! # Two machines
//!
//! Apple's framework runs at most two macOS guests at once. That is capacity, not a failure: a third start answers
//! [`ErrorKind::NoRoom`](fleetfoot_provisioner::ErrorKind::NoRoom).
//!
//! What this room does not know: GitHub, the store, the controller, any other backend.
//!
//! Where to start: [`TartProvisioner`], then `directory` (what is on disk) and `life` (what it means).
//! [`stand_in`] is a program that behaves like `tart`, for tests.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod check;
mod command;
mod create;
mod directory;
mod host;
mod images;
mod keep;
pub mod keeper;
mod legacy;
mod life;
mod locks;
mod logs;
mod pool;
mod provisioner;
mod remove;
pub mod stand_in;
mod tail;
mod watch;

pub use host::{HostError, TartHost};
pub use pool::{JitDelivery, TartMount, TartPool};
pub use provisioner::TartProvisioner;
