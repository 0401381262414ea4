//! A machine's description for libvirt, and our evidence in it.

use std::path::Path;

use fleetfoot_provisioner::{InstallationId, InstanceName, PoolName};
use uuid::Uuid;

use crate::pool::{
    Arch, Bus, DomainType, Firmware, JitDelivery, LibvirtPool, Network, Share, WarmMode,
};
use crate::seed;
use crate::xml::{XmlWriter, tags};

/// The namespace of our metadata.
pub const NAMESPACE: &str = "https://fleetfoot.dev/libvirt/1";

/// Who a machine belongs to: installation and exact instance name are the evidence of ownership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) installation: String,
    pub(crate) name: InstanceName,
    pub(crate) pool: Option<PoolName>,
    /// The disk that goes with the machine.
    pub(crate) overlay: Option<String>,
}

impl Evidence {
    /// Reads our element, as libvirt gives it back.
    pub(crate) fn read(xml: &str) -> Option<Self> {
        let tags = tags(xml);
        let tag = tags.iter().find(|tag| tag.name().ends_with("instance"))?;
        Some(Self {
            installation: tag.attribute("installation")?.to_owned(),
            name: InstanceName::new(tag.attribute("name")?).ok()?,
            pool: tag.attribute("pool").and_then(|pool| PoolName::new(pool).ok()),
            overlay: tag.attribute("overlay").map(str::to_owned),
        })
    }
}

/// What one machine has for itself.
#[derive(Debug)]
pub(crate) struct Machine<'a> {
    pub(crate) name: &'a InstanceName,
    pub(crate) pool: &'a PoolName,
    pub(crate) installation: &'a InstallationId,
    pub(crate) uuid: Uuid,
    pub(crate) overlay: &'a Path,
    /// [`DomainType::Auto`] is decided before.
    pub(crate) accelerated: bool,
}

/// Whether `auto` is still to be decided.
pub(crate) fn decided(domain_type: DomainType) -> Option<bool> {
    match domain_type {
        DomainType::Kvm => Some(true),
        DomainType::Qemu => Some(false),
        DomainType::Auto => None,
    }
}

/// The domain XML of spec 11.3, with our metadata, and an end at every way out: nothing is restarted.
pub(crate) fn domain_xml(settings: &LibvirtPool, machine: &Machine<'_>) -> String {
    let mut xml = XmlWriter::new();
    let kind = if machine.accelerated { "kvm" } else { "qemu" };
    xml.begin("domain", &[("type", kind)]);
    xml.text("name", &[], machine.name.as_str());
    xml.text("uuid", &[], &machine.uuid.to_string());
    let overlay = machine.overlay.display().to_string();
    xml.begin("metadata", &[]).empty(
        "fleetfoot:instance",
        &[
            ("xmlns:fleetfoot", NAMESPACE),
            ("installation", machine.installation.as_str()),
            ("name", machine.name.as_str()),
            ("pool", machine.pool.as_str()),
            ("overlay", &overlay),
        ],
    );
    xml.end();
    xml.text("memory", &[("unit", "MiB")], &settings.memory_mib.to_string());
    xml.text("vcpu", &[], &settings.cpus.to_string());
    if !settings.mounts.is_empty() {
        xml.begin("memoryBacking", &[]);
        xml.empty("source", &[("type", "memfd")]).empty("access", &[("mode", "shared")]).end();
    }
    if settings.warm_mode == WarmMode::Snapshot {
        // libvirt gives each clone another: a kernel that knows of it notices that it was cloned.
        xml.empty("genid", &[]);
    }
    os(&mut xml, settings);
    xml.begin("features", &[]).empty("acpi", &[]);
    if settings.arch == Arch::X86_64 {
        xml.empty("apic", &[]);
    }
    xml.end();
    // Without the hardware there is no host's processor to pass through.
    let cpu = if machine.accelerated { "host-passthrough" } else { "maximum" };
    xml.empty("cpu", &[("mode", cpu)]);
    for way_out in ["on_poweroff", "on_reboot", "on_crash"] {
        xml.text(way_out, &[], "destroy");
    }
    devices(&mut xml, settings, machine);
    xml.finish()
}

fn os(xml: &mut XmlWriter, settings: &LibvirtPool) {
    let (arch, machine) = match settings.arch {
        Arch::X86_64 => ("x86_64", "q35"),
        Arch::Aarch64 => ("aarch64", "virt"),
    };
    let machine = settings.machine.as_deref().unwrap_or(machine);
    match settings.firmware {
        Firmware::Efi => xml.begin("os", &[("firmware", "efi")]),
        Firmware::Bios => xml.begin("os", &[]),
    };
    xml.text("type", &[("arch", arch), ("machine", machine)], "hvm");
    if let Some(direct) = &settings.direct_boot {
        xml.text("kernel", &[], &direct.kernel.display().to_string());
        if let Some(initrd) = &direct.initrd {
            xml.text("initrd", &[], &initrd.display().to_string());
        }
        if let Some(cmdline) = &direct.cmdline {
            xml.text("cmdline", &[], cmdline);
        }
    }
    xml.empty("boot", &[("dev", "hd")]).end();
}

fn devices(xml: &mut XmlWriter, settings: &LibvirtPool, machine: &Machine<'_>) {
    let overlay = machine.overlay.display().to_string();
    xml.begin("devices", &[]);
    let (bus, letters) = match settings.bus {
        Bus::Scsi => ("scsi", "sd"),
        Bus::Virtio => ("virtio", "vd"),
        Bus::Sata => ("sata", "sd"),
    };
    if settings.bus == Bus::Scsi {
        xml.empty("controller", &[("type", "scsi"), ("model", "virtio-scsi")]);
    }
    xml.begin("disk", &[("type", "file"), ("device", "disk")]);
    xml.empty("driver", &[("name", "qemu"), ("type", "qcow2"), ("cache", "writeback")]);
    xml.empty("source", &[("file", &overlay)]);
    xml.empty("target", &[("dev", &format!("{letters}a")), ("bus", bus)]).end();
    for (letter, disk) in ('b'..='z').zip(&settings.disks) {
        xml.begin("disk", &[("type", "file"), ("device", "disk")]);
        xml.empty("driver", &[("name", "qemu"), ("type", &disk.format)]);
        xml.empty("source", &[("file", &disk.path.display().to_string())]);
        xml.empty("target", &[("dev", &format!("{letters}{letter}")), ("bus", bus)]);
        if disk.read_only {
            xml.empty("readonly", &[]);
        }
        xml.end();
    }
    if settings.jit == JitDelivery::Seed {
        // A virtio disk is what there is where no bus takes a CD; guests look for its label.
        let device = if settings.bus == Bus::Virtio { "disk" } else { "cdrom" };
        let letter = ('b'..='z').nth(settings.disks.len()).unwrap_or('z');
        xml.begin("disk", &[("type", "file"), ("device", device)]);
        xml.empty("driver", &[("name", "qemu"), ("type", "raw")]);
        let seed = seed::path(machine.overlay).display().to_string();
        xml.empty("source", &[("file", &seed)]);
        xml.empty("target", &[("dev", &format!("{letters}{letter}")), ("bus", bus)]);
        xml.empty("readonly", &[]).end();
    }
    let (kind, source) = match &settings.network {
        Network::Named(name) => ("network", Some(("network", name.as_str()))),
        Network::Bridge(name) => ("bridge", Some(("bridge", name.as_str()))),
        Network::User => ("user", None),
        Network::None => ("", None),
    };
    if !kind.is_empty() {
        xml.begin("interface", &[("type", kind)]);
        if let Some(source) = source {
            xml.empty("source", &[source]);
        }
        xml.empty("model", &[("type", "virtio")]).end();
    }
    xml.begin("channel", &[("type", "unix")]);
    xml.empty("target", &[("type", "virtio"), ("name", "org.qemu.guest_agent.0")]).end();
    for share in &settings.mounts {
        xml.begin("filesystem", &[("type", "mount"), ("accessmode", "passthrough")]);
        xml.empty("driver", &[("type", "virtiofs")]);
        xml.empty("source", &[("dir", &share.source)]);
        xml.empty("target", &[("dir", tag(share))]).end();
    }
    xml.empty("serial", &[("type", "pty")]).empty("console", &[("type", "pty")]);
    xml.end();
}

/// The name to mount a share by.
fn tag(share: &Share) -> &str {
    let base = share.source.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    share.tag.as_deref().unwrap_or(if base.is_empty() { "share" } else { base })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{DirectBoot, ExtraDisk};
    use crate::xml::Tag;

    fn described(settings: &LibvirtPool, accelerated: bool) -> Vec<Tag> {
        let machine = Machine {
            name: &InstanceName::new("linux-0123abcd").unwrap(),
            pool: &PoolName::new("linux").unwrap(),
            installation: &InstallationId::new("me").unwrap(),
            uuid: Uuid::nil(),
            overlay: Path::new("/tmp/linux-0123abcd.qcow2"),
            accelerated,
        };
        tags(&domain_xml(settings, &machine))
    }

    fn at<'a>(tags: &'a [Tag], path: &str) -> Vec<&'a Tag> {
        let path: Vec<_> = path.split('/').collect();
        tags.iter().filter(|tag| tag.is_at(&path)).collect()
    }

    fn value(tags: &[Tag], path: &str, attribute: &str) -> String {
        at(tags, path)[0].attribute(attribute).unwrap_or_default().to_owned()
    }

    #[test]
    fn every_element_of_the_original_is_there() {
        let tags = described(&LibvirtPool::new("/base.qcow2"), true);
        for (path, attribute, wanted) in [
            ("domain", "type", "kvm"),
            ("domain/memory", "unit", "MiB"),
            ("domain/os", "firmware", "efi"),
            ("domain/os/type", "arch", "x86_64"),
            ("domain/os/type", "machine", "q35"),
            ("domain/os/boot", "dev", "hd"),
            ("domain/cpu", "mode", "host-passthrough"),
            ("domain/devices/controller", "type", "scsi"),
            ("domain/devices/controller", "model", "virtio-scsi"),
            ("domain/devices/disk", "type", "file"),
            ("domain/devices/disk", "device", "disk"),
            ("domain/devices/disk/driver", "name", "qemu"),
            ("domain/devices/disk/driver", "type", "qcow2"),
            ("domain/devices/disk/driver", "cache", "writeback"),
            ("domain/devices/disk/source", "file", "/tmp/linux-0123abcd.qcow2"),
            ("domain/devices/disk/target", "dev", "sda"),
            ("domain/devices/disk/target", "bus", "scsi"),
            ("domain/devices/interface", "type", "network"),
            ("domain/devices/interface/source", "network", "default"),
            ("domain/devices/interface/model", "type", "virtio"),
            ("domain/devices/channel", "type", "unix"),
            ("domain/devices/channel/target", "type", "virtio"),
            ("domain/devices/channel/target", "name", "org.qemu.guest_agent.0"),
            ("domain/devices/serial", "type", "pty"),
            ("domain/devices/console", "type", "pty"),
        ] {
            assert_eq!(value(&tags, path, attribute), wanted, "{path} {attribute}");
        }
        for (path, text) in [
            ("domain/name", "linux-0123abcd"),
            ("domain/memory", "8192"),
            ("domain/vcpu", "4"),
            ("domain/os/type", "hvm"),
        ] {
            assert_eq!(at(&tags, path)[0].text, text, "{path}");
        }
        for path in ["domain/features/acpi", "domain/features/apic"] {
            assert_eq!(at(&tags, path).len(), 1, "{path}");
        }
        for path in ["domain/memoryBacking", "domain/devices/filesystem", "domain/clock"] {
            assert!(at(&tags, path).is_empty(), "{path}");
        }
    }

    #[test]
    fn a_mount_brings_shared_memory_and_virtiofs() {
        let mut settings = LibvirtPool::new("/base.qcow2");
        settings.mounts = vec![
            Share { source: "/srv/cache/".to_owned(), tag: None },
            Share { source: "/srv/tools".to_owned(), tag: Some("t".to_owned()) },
        ];
        let tags = described(&settings, true);
        assert_eq!(value(&tags, "domain/memoryBacking/source", "type"), "memfd");
        assert_eq!(value(&tags, "domain/memoryBacking/access", "mode"), "shared");
        let shares = at(&tags, "domain/devices/filesystem");
        assert_eq!(shares.len(), 2);
        assert_eq!(shares[0].attribute("type"), Some("mount"));
        assert_eq!(shares[0].attribute("accessmode"), Some("passthrough"));
        assert_eq!(value(&tags, "domain/devices/filesystem/driver", "type"), "virtiofs");
        assert_eq!(value(&tags, "domain/devices/filesystem/source", "dir"), "/srv/cache/");
        let targets = at(&tags, "domain/devices/filesystem/target");
        let tags: Vec<_> = targets.iter().map(|it| it.attribute("dir").unwrap()).collect();
        assert_eq!(tags, ["cache", "t"]);
    }

    #[test]
    fn values_are_escaped() {
        let mut settings = LibvirtPool::new("/base.qcow2");
        let name = "a&b<c>'d\"";
        settings.mounts = vec![Share { source: format!("/srv/{name}"), tag: None }];
        settings.network = Network::Named(name.to_owned());
        let tags = described(&settings, true);
        assert_eq!(value(&tags, "domain/devices/interface/source", "network"), name);
        assert_eq!(value(&tags, "domain/devices/filesystem/target", "dir"), name);
    }

    #[test]
    fn settings_are_taken() {
        let mut settings = LibvirtPool::new("/base.qcow2");
        settings.firmware = Firmware::Bios;
        settings.machine = Some("pc".to_owned());
        settings.bus = Bus::Virtio;
        settings.network = Network::Bridge("br0".to_owned());
        settings.disks = vec![ExtraDisk {
            path: "/srv/x.img".into(),
            format: "raw".to_owned(),
            read_only: true,
        }];
        settings.direct_boot =
            Some(DirectBoot { kernel: "/k".into(), initrd: None, cmdline: Some("a=b".to_owned()) });
        let tags = described(&settings, false);
        assert_eq!(value(&tags, "domain", "type"), "qemu");
        assert_eq!(value(&tags, "domain/cpu", "mode"), "maximum");
        assert_eq!(at(&tags, "domain/os")[0].attribute("firmware"), None);
        assert_eq!(value(&tags, "domain/os/type", "machine"), "pc");
        assert_eq!(at(&tags, "domain/os/kernel")[0].text, "/k");
        assert_eq!(at(&tags, "domain/os/cmdline")[0].text, "a=b");
        assert_eq!(value(&tags, "domain/devices/interface/source", "bridge"), "br0");
        let disks = at(&tags, "domain/devices/disk/target");
        assert_eq!(
            disks.iter().map(|it| it.attribute("dev").unwrap()).collect::<Vec<_>>(),
            ["vda", "vdb"]
        );
        assert_eq!(at(&tags, "domain/devices/disk/readonly").len(), 1);
        assert!(at(&tags, "domain/devices/controller").is_empty());
        settings.arch = Arch::Aarch64;
        settings.machine = None;
        let tags = described(&settings, false);
        assert_eq!(value(&tags, "domain/os/type", "machine"), "virt");
        assert!(at(&tags, "domain/features/apic").is_empty());
    }

    #[test]
    fn a_seed_is_the_last_disk() {
        let mut settings = LibvirtPool::new("/base.qcow2");
        settings.jit = JitDelivery::Seed;
        let tags = described(&settings, true);
        let disk = at(&tags, "domain/devices/disk")[1];
        assert_eq!(disk.attribute("device"), Some("cdrom"));
        let source = at(&tags, "domain/devices/disk/source")[1];
        assert_eq!(source.attribute("file"), Some("/tmp/linux-0123abcd.iso"));
        assert_eq!(at(&tags, "domain/devices/disk/target")[1].attribute("dev"), Some("sdb"));
        settings.bus = Bus::Virtio;
        let disk = described(&settings, true);
        assert_eq!(at(&disk, "domain/devices/disk")[1].attribute("device"), Some("disk"));
    }

    #[test]
    fn evidence_is_read_back() {
        let tags = described(&LibvirtPool::new("/base.qcow2"), true);
        assert_eq!(at(&tags, "domain/metadata/fleetfoot:instance").len(), 1);
        let read = Evidence::read(
            "<fleetfoot:instance xmlns:fleetfoot='x' installation='me' name='linux-0123abcd' pool='linux' overlay='/tmp/a.qcow2'/>",
        );
        let read = read.unwrap();
        assert_eq!((read.installation.as_str(), read.name.as_str()), ("me", "linux-0123abcd"));
        assert_eq!(read.overlay.as_deref(), Some("/tmp/a.qcow2"));
        assert_eq!(Evidence::read("<instance installation='me'/>"), None);
    }
}
