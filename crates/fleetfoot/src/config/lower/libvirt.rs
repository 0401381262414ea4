//! Lowering of the `libvirt` backend.

use std::path::PathBuf;
use std::time::Duration;

use fleetfoot_provisioner_libvirt::{
    Address, Arch, Bus, DirectBoot, DomainType, ExtraDisk, Firmware, JitDelivery, Network, Share,
    WarmMode,
};

use super::super::Flavor;
use super::super::shape::Table;
use super::super::types::LibvirtConfig;
use super::backend::MACHINE_RUNNER;
use super::{Lowering, join};

/// The original's bound.
const AGENT_TIMEOUT: Duration = Duration::from_secs(180);

impl Lowering<'_> {
    pub(super) fn libvirt(&mut self, table: &Table, path: &str) -> Option<LibvirtConfig> {
        let image = self.required(table, path, "path");
        let mount = table
            .table("mount")
            .and_then(|mount| self.required(mount, &join(path, "mount"), "source"));
        let (cpus, memory_mib) = self.machine(table, path);
        let firmware =
            if table.text("firmware") == Some("bios") { Firmware::Bios } else { Firmware::Efi };
        let arch = if table.text("arch") == Some("aarch64") { Arch::Aarch64 } else { Arch::X86_64 };
        Some(LibvirtConfig {
            runner_cmd: self.command(table, path, MACHINE_RUNNER),
            address: self.daemon(table, path),
            cpus,
            memory_mib,
            mount,
            mounts: self.shares(table, path),
            domain_type: match table.text("type") {
                Some("auto") => DomainType::Auto,
                Some("qemu") => DomainType::Qemu,
                _ => DomainType::Kvm,
            },
            firmware,
            machine: table.owned("machine"),
            arch,
            bus: match table.text("bus") {
                Some("virtio") => Bus::Virtio,
                Some("sata") => Bus::Sata,
                _ => Bus::Scsi,
            },
            network: match table.text("network") {
                Some("none") => Network::None,
                Some("user") => Network::User,
                Some(name) => match name.strip_prefix("bridge:") {
                    Some(bridge) => Network::Bridge(bridge.to_owned()),
                    None => Network::Named(name.to_owned()),
                },
                None => Network::Named("default".to_owned()),
            },
            overlay_dir: table.path("overlay_dir"),
            disks: self.disks(table, path),
            direct_boot: self.direct_boot(table, path),
            jit: match (table.text("jit"), self.options.flavor) {
                (Some("argument"), _) => JitDelivery::Argument,
                (Some("seed"), _) => JitDelivery::Seed,
                (Some(_), _) | (None, Flavor::Native) => JitDelivery::Input,
                (None, Flavor::Outrunner) => JitDelivery::Argument,
            },
            agent_timeout: table.duration("agent_timeout").unwrap_or(AGENT_TIMEOUT),
            warm_mode: match table.text("warm_mode") {
                Some("suspended") => WarmMode::Suspended,
                Some("snapshot") => WarmMode::Snapshot,
                _ => WarmMode::Running,
            },
            path: PathBuf::from(image?),
        })
    }

    /// A socket of this host, or another host.
    fn daemon(&mut self, table: &Table, path: &str) -> Address {
        let socket = table.path("socket");
        let socket = socket.unwrap_or_else(|| PathBuf::from("/var/run/libvirt/libvirt-sock"));
        let Some(uri) = table.text("uri") else { return Address::Unix(socket) };
        if table.position_of("socket").is_some() {
            self.unusable(table, path, "uri", "`uri` and `socket` exclude each other".to_owned());
        }
        match Address::parse(uri) {
            Ok(address @ Address::Remote(_)) => address,
            Ok(Address::Unix(_)) | Err(_) => {
                let message = "`uri` must be `qemu+tls://HOST/system` or `qemu+ssh://HOST/system`; a socket of this host is `socket`";
                self.unusable(table, path, "uri", message.to_owned());
                Address::Unix(socket)
            }
        }
    }

    fn shares(&mut self, table: &Table, path: &str) -> Vec<Share> {
        let mut shares = Vec::new();
        for (index, share) in table.tables("mounts").iter().enumerate() {
            let path = join(path, &format!("mounts[{index}]"));
            let Some(source) = self.required(share, &path, "source") else { continue };
            shares.push(Share { source, tag: share.owned("tag") });
        }
        shares
    }

    fn disks(&mut self, table: &Table, path: &str) -> Vec<ExtraDisk> {
        let mut disks = Vec::new();
        for (index, disk) in table.tables("disks").iter().enumerate() {
            let path = join(path, &format!("disks[{index}]"));
            let Some(source) = self.required(disk, &path, "path") else { continue };
            disks.push(ExtraDisk {
                path: PathBuf::from(source),
                format: disk.owned("format").unwrap_or_else(|| "raw".to_owned()),
                read_only: disk.boolean("read_only").unwrap_or(true),
            });
        }
        disks
    }

    fn direct_boot(&mut self, table: &Table, path: &str) -> Option<DirectBoot> {
        let kernel = table.path("kernel");
        if kernel.is_none() {
            for key in ["initrd", "cmdline"] {
                if table.position_of(key).is_some() {
                    self.unusable(table, path, key, format!("`{key}` needs `kernel`"));
                }
            }
        }
        Some(DirectBoot {
            kernel: kernel?,
            initrd: table.path("initrd"),
            cmdline: table.owned("cmdline"),
        })
    }
}
