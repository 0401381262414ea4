//! What a pool of machines is made from: plain settings, no behavior.

/// A directory of the host inside a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TartMount {
    /// Name of the share; below `/Volumes/My Shared Files` on macOS guests.
    pub name: String,
    /// Absolute path on the host.
    pub source: String,
    /// Whether the machine may only read it.
    pub read_only: bool,
}

impl TartMount {
    /// The option of `tart run`.
    pub(crate) fn option(&self) -> String {
        let mode = if self.read_only { ":ro" } else { "" };
        format!("--dir={}:{}{mode}", self.name, self.source)
    }
}

/// How the JIT config goes into the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JitDelivery {
    /// On the standard input of `tart exec`: no other user of the host can read it.
    #[default]
    Stdin,
    /// As `--jitconfig JIT`, as the original does: every user of the host can read it in the process list.
    Argument,
}

/// The settings of one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TartPool {
    /// Registry reference or name of a local machine.
    pub image: String,
    /// The runner's program inside the machine.
    pub runner_cmd: String,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Directories of the host, in order.
    pub mounts: Vec<TartMount>,
    /// How the JIT config goes in.
    pub jit: JitDelivery,
}

impl TartPool {
    /// Settings with the original's defaults: 4 processors, 8192 MiB, no mounts.
    #[must_use]
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            runner_cmd: "/actions-runner/run.sh".to_owned(),
            cpus: 4,
            memory_mib: 8192,
            mounts: Vec::new(),
            jit: JitDelivery::default(),
        }
    }
}
