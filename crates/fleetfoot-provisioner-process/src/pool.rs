//! What a pool of processes is made from: plain settings, no behavior.

use std::path::PathBuf;
use std::time::Duration;

/// Where the runner's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunnerSource {
    /// An unpacked runner. What earlier registrations left in it (`.runner`, `.credentials`, `_work`, `_diag`) is not copied.
    RunnerDirectory(PathBuf),
    /// A `.tar.gz` as GitHub publishes it. Unpacked once, then cloned.
    RunnerArchive(PathBuf),
    /// An unpacked runner, or a link to one, that somebody else keeps: it may not be there yet, and the link may lead
    /// elsewhere tomorrow. Each instance follows it once.
    KeptRunner(PathBuf),
}

/// What the bubblewrap sandbox shows to a job, besides the system and its own directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BubblewrapSettings {
    /// Share the host's network. Without it the runner reaches nothing, GitHub included.
    pub share_network: bool,
    /// Further directories or files that a job may read.
    pub read_only: Vec<PathBuf>,
    /// Further directories that a job may write; they outlive it.
    pub writable: Vec<PathBuf>,
}

impl Default for BubblewrapSettings {
    fn default() -> Self {
        Self { share_network: true, read_only: Vec::new(), writable: Vec::new() }
    }
}

/// What stands between a job and the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Sandbox {
    /// Nothing but the user id.
    #[default]
    None,
    /// `bwrap`: a read-only system, a private `/tmp`, own process ids.
    Bubblewrap(BubblewrapSettings),
}

/// The settings of one pool.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessPool {
    /// The runner's files.
    pub source: RunnerSource,
    /// The command that starts the runner, relative to its directory, with its arguments.
    pub command: Vec<String>,
    /// Environment of the runner. It does not inherit the daemon's.
    pub env: Vec<(String, String)>,
    /// What stands between a job and the host.
    pub sandbox: Sandbox,
    /// First and last user id for instances; each live one has its own. Needs root.
    pub uid_range: Option<(u32, u32)>,
    /// Processors, as a number of whole ones.
    pub cpus: Option<f64>,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u32>,
    /// How long a runner that is asked to stop may take before it is killed.
    pub stop_grace: Duration,
    /// How much output is kept, in bytes, in two files of half this size.
    pub log_max_size: u64,
}

impl ProcessPool {
    /// Settings with defaults: `./run.sh`, no sandbox, no limits, 10 s to stop, 4 MiB of output.
    #[must_use]
    pub fn new(source: RunnerSource) -> Self {
        Self {
            source,
            command: vec!["./run.sh".to_owned()],
            env: Vec::new(),
            sandbox: Sandbox::None,
            uid_range: None,
            cpus: None,
            memory: None,
            pids: None,
            stop_grace: Duration::from_secs(10),
            log_max_size: 4 << 20,
        }
    }
}
