//! Keys of the backends.

use super::{Kind, Section, key, required};

/// `docker`.
pub(crate) static DOCKER: Section = Section {
    name: "docker",
    doc: "A fresh container per job, at Docker or Podman.",
    keys: &[
        required(
            "image",
            Kind::Text,
            "Image reference, such as ghcr.io/actions/actions-runner:latest.",
        ),
        key(
            "runner_cmd",
            Kind::Text,
            "./run.sh",
            "The runner's program inside the image; one word, no shell.",
        ),
        key(
            "mounts",
            Kind::Tables(&BIND),
            "",
            "Directories or files of the host to bind into each container.",
        ),
        key(
            "env",
            Kind::TextMap,
            "",
            "Environment variables; anybody who may inspect containers can read them.",
        ),
        key("user", Kind::Text, "the image's", "User, or user:group, that the runner runs as."),
        key("network", Kind::Text, "the engine's default", "Network to attach the container to."),
        key("cpus", Kind::Cpus, "unlimited", "Processors per container, such as 2 or 0.5."),
        key("memory", Kind::Size, "unlimited", "Memory per container."),
        key("pids", Kind::Int, "unlimited", "Most processes and threads per container."),
        key(
            "tmpfs",
            Kind::TextList,
            "",
            "Directories kept in memory, as path or path:options, such as /tmp:size=1g.",
        ),
        key("shm_size", Kind::Size, "64MiB (the engine's)", "Size of /dev/shm."),
        key(
            "runtime",
            Kind::Text,
            "the engine's default",
            "Runtime of the engine, such as runsc or kata.",
        ),
        key("cap_drop", Kind::TextList, "", "Linux capabilities to take away, or ALL."),
        key(
            "security_opt",
            Kind::TextList,
            "",
            "Security options of the engine, such as no-new-privileges.",
        ),
        key(
            "log_max_size",
            Kind::Size,
            "the engine's",
            "Most that the engine keeps of one container's output.",
        ),
        key(
            "pull",
            Kind::Choice(&["missing", "always", "never"]),
            "missing",
            "When to pull the image: when it is absent, at every start and change, or not at all.",
        ),
        key(
            "registry_auth",
            Kind::Text,
            "$DOCKER_CONFIG/config.json",
            "Path of a file in the form of Docker's config.json with the credentials of registries.",
        ),
        key(
            "host",
            Kind::Text,
            "DOCKER_HOST, the docker context, then unix:///var/run/docker.sock",
            "Address of the engine: unix:///path or tcp://host:port.",
        ),
        key(
            "jit",
            Kind::Choice(&["env", "argument"]),
            "env; argument under the name outrunner",
            "How the one-use credential goes in: env as ACTIONS_RUNNER_INPUT_JITCONFIG, or argument as --jitconfig, which other users of the host can read in the process list.",
        ),
        key(
            "runner_release",
            Kind::Text,
            "the image's own runner",
            "latest, or a version such as 2.336.0: fleetfoot keeps that release of GitHub's runner on this host and mounts it, read-only, into containers of an image that needs none of its own, only /bin/sh, mkdir and cp.",
        ),
    ],
};

/// `docker.mounts[]`.
pub(crate) static BIND: Section = Section {
    name: "mount",
    doc: "One directory or file of the host inside a container.",
    keys: &[
        required("source", Kind::Text, "Absolute path on the host."),
        required("target", Kind::Text, "Absolute path in the container."),
        key("read_only", Kind::Bool, "false", "Whether the container may only read it."),
    ],
};

/// `process`.
pub(crate) static PROCESS: Section = Section {
    name: "process",
    doc: "A process in a clean directory per job. Give one of `runner_release`, `runner_dir` and `runner_archive`.",
    keys: &[
        key(
            "runner_release",
            Kind::Text,
            "",
            "latest, or a version such as 2.336.0: fleetfoot keeps that release of GitHub's runner on this host and copies it for each instance.",
        ),
        key(
            "runner_dir",
            Kind::Text,
            "",
            "Directory of an unpacked actions runner, copied for each instance.",
        ),
        key(
            "runner_archive",
            Kind::Text,
            "",
            "Archive (.tar.gz) of an actions runner, unpacked for each instance.",
        ),
        key(
            "runner_cmd",
            Kind::Text,
            "./run.sh",
            "The runner's program, relative to its directory.",
        ),
        key(
            "sandbox",
            Kind::Choice(&["none", "bubblewrap"]),
            "none",
            "What keeps a job away from the rest of the machine.",
        ),
        key(
            "uid_range",
            Kind::Text,
            "",
            "First and last user id to run instances as, such as 20000-20063; needs root. Without it a job runs as fleetfoot's own user and can read what that user can read.",
        ),
        key(
            "cpus",
            Kind::Cpus,
            "unlimited",
            "Processors per instance, where cgroups are writable.",
        ),
        key("memory", Kind::Size, "unlimited", "Memory per instance, where cgroups are writable."),
        key(
            "pids",
            Kind::Int,
            "unlimited",
            "Most processes and threads per instance, where cgroups are writable.",
        ),
        key("env", Kind::TextMap, "", "Environment variables for the runner."),
    ],
};

/// `libvirt`.
pub(crate) static LIBVIRT: Section = Section {
    name: "libvirt",
    doc: "A fresh virtual machine of libvirt per job.",
    keys: &[
        required("path", Kind::Text, "Base image in qcow2 form."),
        key(
            "runner_cmd",
            Kind::Text,
            "/actions-runner/run.sh",
            "The runner's program inside the machine.",
        ),
        key("socket", Kind::Text, "/var/run/libvirt/libvirt-sock", "Socket of libvirtd."),
        key(
            "uri",
            Kind::Text,
            "",
            "libvirtd of another host in place of `socket`: `qemu+tls://HOST/system?pkipath=DIR` or `qemu+ssh://USER@HOST/system`. `overlay_dir` must be the same directory there.",
        ),
        key("cpus", Kind::Int, "4; 0 means the default too", "Virtual processors."),
        key("memory", Kind::Int, "8192; 0 means the default too", "Memory in MiB."),
        key("mount", Kind::Table(&SHARE), "", "A directory of the host inside the machine."),
        key("mounts", Kind::Tables(&SHARES), "", "Further directories of the host, by virtiofs."),
        key(
            "type",
            Kind::Choice(&["auto", "kvm", "qemu"]),
            "kvm",
            "Who runs the processors; auto boots the image once to see whether kvm brings it up.",
        ),
        key("firmware", Kind::Choice(&["efi", "bios"]), "efi", "What the machine starts from."),
        key("machine", Kind::Text, "q35; virt for aarch64", "Machine type of QEMU."),
        key("arch", Kind::Choice(&["x86_64", "aarch64"]), "x86_64", "Kind of processor."),
        key(
            "bus",
            Kind::Choice(&["scsi", "virtio", "sata"]),
            "scsi",
            "How disks are attached; sata needs no virtio driver in the image.",
        ),
        key(
            "network",
            Kind::Text,
            "default",
            "A network of libvirt, bridge:NAME for a bridge of the host, user for QEMU's own, or none.",
        ),
        key(
            "overlay_dir",
            Kind::Text,
            "$TMPDIR or /tmp",
            "Directory of the machines' own disks; QEMU must be able to reach it.",
        ),
        key("disks", Kind::Tables(&DISK), "", "Further disks."),
        key("kernel", Kind::Text, "", "Kernel on the host to start without the image's loader."),
        key("initrd", Kind::Text, "", "First file system for `kernel`."),
        key("cmdline", Kind::Text, "", "Command line for `kernel`."),
        key(
            "jit",
            Kind::Choice(&["input", "argument", "seed"]),
            "input; argument as outrunner",
            "How the one-use credential goes in: standard input of a wrapper, --jitconfig, which every process of the guest can read, or a NoCloud seed, for images without a guest agent.",
        ),
        key(
            "agent_timeout",
            Kind::Duration,
            "3m",
            "How long the image may take until its guest agent answers.",
        ),
        key(
            "warm_mode",
            Kind::Choice(&["running", "suspended", "snapshot"]),
            "running",
            "How a machine waits between its boot and its job: suspended needs no processor time; with snapshot it is made from the memory of a booted one.",
        ),
    ],
};

/// `libvirt.mounts[]`.
pub(crate) static SHARES: Section = Section {
    name: "libvirt mounts",
    doc: "A directory of the host inside a virtual machine, by virtiofs.",
    keys: &[
        required("source", Kind::Text, "Absolute path on the host."),
        key("tag", Kind::Text, "last part of the path", "Name to mount it by."),
    ],
};

/// `libvirt.disks[]`.
pub(crate) static DISK: Section = Section {
    name: "libvirt disk",
    doc: "A further disk of a virtual machine.",
    keys: &[
        required("path", Kind::Text, "Absolute path on the host."),
        key("format", Kind::Choice(&["raw", "qcow2"]), "raw", "Format of the file."),
        key(
            "read_only",
            Kind::Bool,
            "true",
            "Only readable; one that is not serves one machine at a time.",
        ),
    ],
};

/// `libvirt.mount`.
pub(crate) static SHARE: Section = Section {
    name: "libvirt mount",
    doc: "A directory of the host inside a virtual machine.",
    keys: &[required("source", Kind::Text, "Absolute path on the host.")],
};

/// `tart`.
pub(crate) static TART: Section = Section {
    name: "tart",
    doc: "A fresh virtual machine of Tart per job, on a Mac with Apple silicon.",
    keys: &[
        required("image", Kind::Text, "Registry reference or name of a local machine."),
        key(
            "runner_cmd",
            Kind::Text,
            "/actions-runner/run.sh",
            "The runner's program inside the machine.",
        ),
        key("cpus", Kind::Int, "4; 0 means the default too", "Virtual processors."),
        key("memory", Kind::Int, "8192; 0 means the default too", "Memory in MiB."),
        key("mounts", Kind::Tables(&TART_MOUNT), "", "Directories of the host inside the machine."),
        key(
            "jit",
            Kind::Choice(&["stdin", "argument"]),
            "stdin; argument under the name outrunner",
            "How the one-use credential goes in: stdin of `tart exec`, or argument as --jitconfig, which other users of the host can read in the process list.",
        ),
    ],
};

/// `tart.mounts[]`.
pub(crate) static TART_MOUNT: Section = Section {
    name: "tart mount",
    doc: "A directory of the host inside a virtual machine of Tart.",
    keys: &[
        required("name", Kind::Text, "Name of the share."),
        required("source", Kind::Text, "Absolute path on the host."),
        key("read_only", Kind::Bool, "false", "Whether the machine may only read it."),
    ],
};

/// `simulated`.
pub(crate) static SIMULATED: Section = Section {
    name: "simulated",
    doc: "A backend that creates nothing; for trials and measurements. Its runners never take a job by themselves.",
    keys: &[
        key("create_time", Kind::Duration, "0s", "How long it pretends that creating takes."),
        key("delete_time", Kind::Duration, "0s", "How long it pretends that removing takes."),
        key(
            "late_binding",
            Kind::Bool,
            "false",
            "Whether environments are made first and launched later.",
        ),
        key(
            "socket",
            Kind::Text,
            "",
            "Unix socket of an engine in another process, as `fleetfoot bench` serves one.",
        ),
    ],
};
