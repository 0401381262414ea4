//! The process backend: a job runs as ordinary processes of this host, in a clean directory of its own.
//!
//! ```text
//!  create                launch                                            delete
//!  <root>/<instance>/    daemon ─▶ shim ─▶ runner ─▶ job's processes       stop, kill the tree,
//!    meta.json             (own session, subreaper,                        remove cgroups and directory
//!    runner/ home/ tmp/     survives the daemon)
//!                         writes pid, output.log, exit.json
//! ```
//!
//! Each instance has a small parent process, the *shim* ([`shim`]; the binary calls it for `fleetfoot __shim`).
//! It is a process of its own session and not a child of the daemon, so the daemon may crash, restart or be
//! replaced while jobs run. What the next daemon needs to know is in files: `pid` (process id, start time, boot id;
//! all three must match a live process that is no zombie) and at the end `exit.json`. Both are written atomically.
//! Under systemd the daemon's unit needs `KillMode=process`, otherwise stopping the unit ends the jobs with it.
//!
//! # What a job can read
//!
//! Without root and without a sandbox a job runs as the daemon's own user: it can read and change everything that
//! the daemon can, which includes the state directory, the GitHub App key or token file, other instances' directories
//! and the JIT configs in their environments. Use that only for repositories whose authors you trust like yourself.
//! - `uid_range` (needs root) gives each live instance a user id of its own: a job then cannot read the daemon's
//!   files or other jobs' files and processes; it still sees what every local user sees.
//! - [`Sandbox::Bubblewrap`] shows the job a read-only system, its own directory, its own `/tmp` and its own process
//!   ids, and nothing of the state directory; works with and without root, and together with `uid_range`.
//!
//! In every case a job can read its own JIT config (the runner's environment and the files the runner writes from it);
//! that credential is bound to this one runner and worthless once its job is over. It never appears in an argument
//! list and is never written by us.
//!
//! # Limits
//!
//! Processor, memory and process limits are cgroup limits: v2 where controllers are delegated to the daemon (systemd:
//! `Delegate=yes`, `DelegateSubgroup=daemon`) or it is root, else v1.
//! Where none is writable the limits are not enforced and `check` names them. Processes that try to escape are caught by
//! the cgroup, or without one by the shim as their subreaper.
//!
//! It is a backend of Linux. Elsewhere the room has the same names, so that a Mac's program compiles, and
//! [`ProcessHost::open`] says so.
//!
//! What this room does not know: GitHub, the store, the controller, any other backend.
//!
//! Where to start: [`ProcessProvisioner`], then `directory` (what is on disk) and `life` (what it means).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

#[cfg(target_os = "linux")]
mod archive;
#[cfg(target_os = "linux")]
mod cgroup;
#[cfg(target_os = "linux")]
mod check;
#[cfg(target_os = "linux")]
mod copy;
#[cfg(target_os = "linux")]
mod create;
#[cfg(target_os = "linux")]
mod directory;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod failure;
#[cfg(target_os = "linux")]
mod host;
#[cfg(target_os = "linux")]
mod layout;
#[cfg(target_os = "linux")]
mod leftovers;
#[cfg(target_os = "linux")]
mod life;
#[cfg(target_os = "linux")]
mod locks;
#[cfg(target_os = "linux")]
mod logs;
mod pool;
#[cfg(target_os = "linux")]
mod proc;
#[cfg(target_os = "linux")]
mod program;
#[cfg(target_os = "linux")]
mod provisioner;
#[cfg(target_os = "linux")]
mod remove;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
pub mod shim;
#[cfg(target_os = "linux")]
mod stop;
#[cfg(target_os = "linux")]
mod watch;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{HostError, ProcessHost, ProcessProvisioner, shim};
#[cfg(target_os = "linux")]
pub use host::{HostError, ProcessHost};
pub use pool::{BubblewrapSettings, ProcessPool, RunnerSource, Sandbox};
#[cfg(target_os = "linux")]
pub use provisioner::ProcessProvisioner;
