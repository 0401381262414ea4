//! What a pool of machines is made from: plain settings, no behavior.

use std::path::PathBuf;
use std::time::Duration;

/// Who runs the machine's processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DomainType {
    /// The hardware, by KVM.
    #[default]
    Kvm,
    /// QEMU alone, slowly.
    Qemu,
    /// KVM where a test boot of the pool's own image comes up, else QEMU alone.
    Auto,
}

/// What the machine finds at its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Firmware {
    /// UEFI.
    #[default]
    Efi,
    /// The machine type's own.
    Bios,
}

/// The processors' kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    #[default]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

/// How disks are attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bus {
    /// virtio-scsi.
    #[default]
    Scsi,
    /// virtio-blk.
    Virtio,
    /// SATA, for images without virtio drivers.
    Sata,
}

/// What the machine's one interface is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// A network of libvirt.
    Named(String),
    /// A bridge of the host.
    Bridge(String),
    /// QEMU's own, which needs nothing of the host: the guest reaches out, and the host at 10.0.2.2.
    User,
    /// None.
    None,
}

/// A directory of the host inside the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Path on the host.
    pub source: String,
    /// The name to mount it by; the last part of the path without it.
    pub tag: Option<String>,
}

/// A further disk, or a CD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraDisk {
    /// Path on the host.
    pub path: PathBuf,
    /// Format: `raw`, `qcow2`.
    pub format: String,
    /// Whether the machine may only read it. One that may write is for one machine at a time.
    pub read_only: bool,
}

/// A kernel that is started without the image's own loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectBoot {
    /// The kernel's file on the host.
    pub kernel: PathBuf,
    /// Its first file system.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub cmdline: Option<String>,
}

/// How the one-use credential goes into a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JitDelivery {
    /// On the standard input of a small wrapper, which hands it to the runner in the environment.
    #[default]
    Input,
    /// As `--jitconfig JIT`, as the original does: every process of the guest can read it.
    Argument,
    /// On a NoCloud seed that the machine reads at its boot, for guests without an agent. Such a machine cannot wait
    /// for its job, and how its runner ended is not known.
    Seed,
}

/// How a machine waits for its job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WarmMode {
    /// It runs.
    #[default]
    Running,
    /// Its processors are stopped; memory is kept.
    Suspended,
    /// It runs, and was made from the saved memory of a booted one instead of by a boot.
    Snapshot,
}

/// The settings of one pool's machines. Everything but the image is optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtPool {
    /// Base image in qcow2 form; only read.
    pub image: PathBuf,
    /// The runner's program inside the machine.
    pub runner_cmd: String,
    /// Virtual processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Directories of the host.
    pub mounts: Vec<Share>,
    /// Who runs the processors.
    pub domain_type: DomainType,
    /// What it starts from.
    pub firmware: Firmware,
    /// Machine type; `q35`, or `virt` for ARM, without it.
    pub machine: Option<String>,
    /// The processors' kind.
    pub arch: Arch,
    /// How disks are attached.
    pub bus: Bus,
    /// What its interface is attached to.
    pub network: Network,
    /// Where the machines' own disks are, on top of the image.
    pub overlay_dir: PathBuf,
    /// Further disks.
    pub disks: Vec<ExtraDisk>,
    /// A kernel of the host's.
    pub direct_boot: Option<DirectBoot>,
    /// How the JIT config goes in.
    pub jit: JitDelivery,
    /// How a machine waits between its boot and its job.
    pub warm_mode: WarmMode,
    /// How long a machine may take until its agent answers.
    pub agent_max: Duration,
}

impl LibvirtPool {
    /// The original's settings for an image.
    #[must_use]
    pub fn new(image: impl Into<PathBuf>) -> Self {
        Self {
            image: image.into(),
            runner_cmd: "/actions-runner/run.sh".to_owned(),
            cpus: 4,
            memory_mib: 8192,
            mounts: Vec::new(),
            domain_type: DomainType::default(),
            firmware: Firmware::default(),
            machine: None,
            arch: Arch::default(),
            bus: Bus::default(),
            network: Network::Named("default".to_owned()),
            overlay_dir: std::env::temp_dir(),
            disks: Vec::new(),
            direct_boot: None,
            jit: JitDelivery::default(),
            warm_mode: WarmMode::default(),
            agent_max: Duration::from_secs(180),
        }
    }

    /// Whether the runner's program is one of Windows.
    #[must_use]
    pub(crate) fn is_windows(&self) -> bool {
        let command = self.runner_cmd.to_ascii_lowercase();
        let ends = [".cmd", ".bat", ".exe", ".ps1"];
        command.contains('\\') || ends.iter().any(|end| command.ends_with(end))
    }
}
