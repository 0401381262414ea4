//! The shim: the small parent that each instance has, so that the daemon need not be it.
//!
//! ```text
//!  daemon ─▶ __shim DIR           starts the next one and ends: what follows is nobody's child
//!             └▶ __shim --stay DIR    own session, subreaper; pid file; output to files; waits; exit.json
//!                 └▶ __shim --exec …      joins the cgroups, drops to the job's user, becomes the runner
//! ```
//!
//! It runs one thread and no runtime. Its orders, the JIT config among them, come on standard input: nothing secret is in
//! an argument or a file. It answers with one line of JSON on standard output once the runner was started (or why not).
//! On SIGTERM or SIGINT it passes SIGTERM on to the runner, and after the grace time, or at a second signal, kills the tree.

mod become_runner;
mod output;
mod serve;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::program;

/// The word that the binary takes as its first argument to act as shim.
pub const WORD: &str = "__shim";
pub(crate) const STAY: &str = "--stay";
pub(crate) const EXEC: &str = "--exec";

/// What a shim is told to do.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    /// The runner's program and arguments, wrapped by the sandbox if there is one.
    pub(crate) command: Vec<String>,
    /// Where it starts.
    pub(crate) work: PathBuf,
    /// Its whole environment, without the JIT config.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) jit: String,
    pub(crate) uid: Option<u32>,
    pub(crate) groups: Vec<Group>,
    pub(crate) grace_ms: u64,
    pub(crate) log_max_size: u64,
    /// The runner is the child of the sandbox's first process, not the process we start.
    pub(crate) sandboxed: bool,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("command", &self.command)
            .field("work", &self.work)
            .finish_non_exhaustive()
    }
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The runner was started. What of its limits could not be set is said.
    Started {
        /// One line for each group that could not be made or set.
        warnings: Vec<String>,
    },
    /// The runner was not started.
    Refused {
        /// Why.
        message: String,
        /// For want of room on the disk.
        no_room: bool,
    },
}

/// Acts as shim. `args` are the words after [`WORD`].
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    match args.first().and_then(|word| word.to_str()) {
        Some(STAY) => {
            args.get(1).map_or(ExitCode::from(64), |directory| serve::main(directory.into()))
        }
        Some(EXEC) => become_runner::main(args.get(1..).unwrap_or_default()),
        Some(_) | None => args.first().map_or(ExitCode::from(64), detach),
    }
}

/// Starts the shim proper and ends, so that it becomes a child of the system's first process.
fn detach(directory: &OsString) -> ExitCode {
    let spawned = program::this().arg(WORD).arg(STAY).arg(directory).stderr(Stdio::null()).spawn();
    if spawned.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
