//! The checked settings of each backend.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use fleetfoot_provisioner_libvirt::{
    Address, Arch, Bus, DirectBoot, DomainType, ExtraDisk, Firmware, Network, Share, WarmMode,
};

use super::Cpus;

/// What runs the jobs of a pool.
#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    /// Containers.
    Docker(Box<DockerConfig>),
    /// Processes in clean directories.
    Process(ProcessConfig),
    /// Virtual machines of libvirt.
    Libvirt(Box<LibvirtConfig>),
    /// Virtual machines of Tart.
    Tart(TartConfig),
    /// Nothing at all.
    Simulated(SimulatedConfig),
}

impl Backend {
    /// The backend's key in the file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Backend::Docker(_) => "docker",
            Backend::Process(_) => "process",
            Backend::Libvirt(_) => "libvirt",
            Backend::Tart(_) => "tart",
            Backend::Simulated(_) => "simulated",
        }
    }

    /// It makes an environment first and launches its runner later, so that some can wait.
    #[must_use]
    pub fn binds_late(&self) -> bool {
        match self {
            Backend::Docker(_) | Backend::Process(_) | Backend::Tart(_) => true,
            Backend::Libvirt(libvirt) => {
                libvirt.jit != fleetfoot_provisioner_libvirt::JitDelivery::Seed
            }
            Backend::Simulated(simulated) => simulated.late_binding,
        }
    }
}

/// The `docker` backend.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerConfig {
    /// Image reference.
    pub image: String,
    /// The runner's program inside the image.
    pub runner_cmd: String,
    /// Bind mounts.
    pub mounts: Vec<BindMount>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// User of the runner.
    pub user: Option<String>,
    /// Network.
    pub network: Option<String>,
    /// Processors per container.
    pub cpus: Option<Cpus>,
    /// Bytes of memory per container.
    pub memory: Option<u64>,
    /// Most processes per container.
    pub pids: Option<u32>,
    /// Directories in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Bytes of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// Runtime of the engine.
    pub runtime: Option<String>,
    /// Capabilities to take away.
    pub cap_drop: Vec<String>,
    /// Security options.
    pub security_opt: Vec<String>,
    /// Bytes of output kept by the engine.
    pub log_max_size: Option<u64>,
    /// When to pull.
    pub pull: PullPolicy,
    /// File with registry credentials, in the form of Docker's `config.json`.
    pub registry_auth: Option<PathBuf>,
    /// Address of the engine.
    pub host: Option<String>,
    /// How the one-use credential goes in.
    pub jit: JitDelivery,
    /// The release of the runner that we keep for images without one.
    pub runner_release: Option<WantedRelease>,
}

/// Which release of GitHub's runner we keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedRelease {
    /// The newest that GitHub offers.
    Latest,
    /// This version.
    Exact(String),
}

impl WantedRelease {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Latest => "latest",
            Self::Exact(version) => version,
        }
    }
}

/// A directory or file of the host inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    /// Path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// A directory in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Path in the container.
    pub path: String,
    /// Mount options, such as `size=1g`; may be empty.
    pub options: String,
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// When it is absent.
    #[default]
    Missing,
    /// At every start and change.
    Always,
    /// Not at all.
    Never,
}

/// How the one-use credential goes into a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JitDelivery {
    /// As the variable `ACTIONS_RUNNER_INPUT_JITCONFIG`.
    #[default]
    Env,
    /// As `--jitconfig <JIT>`, as the original does; readable in the process list.
    Argument,
}

/// The `process` backend.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessConfig {
    /// Where a clean runner comes from.
    pub source: RunnerSource,
    /// The runner's program, relative to its directory.
    pub runner_cmd: String,
    /// What keeps a job away from the machine.
    pub sandbox: Sandbox,
    /// First and last user id of instances.
    pub uid_range: Option<(u32, u32)>,
    /// Processors per instance.
    pub cpus: Option<Cpus>,
    /// Bytes of memory per instance.
    pub memory: Option<u64>,
    /// Most processes per instance.
    pub pids: Option<u32>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
}

/// Where a clean runner comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunnerSource {
    /// An unpacked directory.
    Directory(PathBuf),
    /// A `.tar.gz`.
    Archive(PathBuf),
    /// A release that we keep.
    Release(WantedRelease),
}

/// What keeps a job away from the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Nothing but the user id.
    #[default]
    None,
    /// bubblewrap.
    Bubblewrap,
}

/// The `libvirt` backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LibvirtConfig {
    /// Base image.
    pub path: PathBuf,
    /// The runner's program.
    pub runner_cmd: String,
    /// Where libvirtd is.
    pub address: Address,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Source of the one mount.
    pub mount: Option<String>,
    /// Further mounts.
    pub mounts: Vec<Share>,
    /// Who runs the processors.
    pub domain_type: DomainType,
    /// What it starts from.
    pub firmware: Firmware,
    /// Machine type.
    pub machine: Option<String>,
    /// Kind of processor.
    pub arch: Arch,
    /// How disks are attached.
    pub bus: Bus,
    /// What the interface is attached to.
    pub network: Network,
    /// Where the machines' own disks are.
    pub overlay_dir: Option<PathBuf>,
    /// Further disks.
    pub disks: Vec<ExtraDisk>,
    /// A kernel of the host's.
    pub direct_boot: Option<DirectBoot>,
    /// How the JIT config goes in.
    pub jit: fleetfoot_provisioner_libvirt::JitDelivery,
    /// How long until the agent answers.
    pub agent_timeout: Duration,
    /// How a machine waits for its job.
    pub warm_mode: WarmMode,
}

/// The `tart` backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TartConfig {
    /// Registry reference or local name.
    pub image: String,
    /// The runner's program.
    pub runner_cmd: String,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Shared directories.
    pub mounts: Vec<TartMount>,
    /// Whether the JIT config is an argument, as in the original, instead of standard input.
    pub jit_argument: bool,
}

/// A directory of the host inside a virtual machine of Tart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TartMount {
    /// Name of the share.
    pub name: String,
    /// Path on the host.
    pub source: String,
    /// Whether the machine may only read it.
    pub read_only: bool,
}

/// The `simulated` backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SimulatedConfig {
    /// How long creating seems to take.
    pub create_time: Duration,
    /// How long removing seems to take.
    pub delete_time: Duration,
    /// Environments are made first and launched later.
    pub late_binding: bool,
    /// Socket of an engine in another process.
    pub socket: Option<PathBuf>,
}
