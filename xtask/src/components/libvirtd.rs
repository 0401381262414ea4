//! A private libvirtd, and a guest for it.
//!
//! The system's paths are libvirt's own, so it runs in a mount namespace where they are directories of ours; its
//! machines are emulated, since a KVM that is there need not bring ordinary kernels up. The guest is made of Debian
//! packages by `make-test-guest.sh`, which is beside this repository, and gets a runner that is on
//! a disk of its own, or takes its JIT config as a shell script; it is kept in the target directory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{NotStarted, Started, is_root};
use crate::process::{Daemon, find_program, run_quiet};

/// Becomes a libvirtd in the directory that is its first argument. A subreaper is its parent: where nobody reaps at
/// once, libvirt waits out its own limits. Tests that restart a daemon start it again with the same directory.
const SCRIPT: &str = r#"#!/bin/sh
# usage: libvirtd.sh DIR: becomes a libvirtd that serves on DIR/libvirt-sock and keeps all it has in DIR.
# LIBVIRTD_CONF: more lines of its configuration. LIBVIRTD_ARGS: more arguments.
set -e
dir=$1
mkdir -p "$dir/run" "$dir/lib" "$dir/cache" "$dir/var-log"
if [ ! -d "$dir/etc" ]; then
    cp -a /etc/libvirt "$dir/etc"
    rm -rf "$dir/etc/qemu/networks"
    mkdir "$dir/etc/qemu/networks"
    # Machines on the network of this name see each other and nothing else, so it needs nothing of the host but a bridge.
    printf "<network><name>default</name><bridge name='fft%s'/></network>" $$ >"$dir/etc/qemu/networks/default.xml"
    printf 'stdio_handler = "file"\nuser = "root"\ngroup = "root"\nsecurity_driver = "none"\n' >"$dir/etc/qemu.conf"
    printf 'unix_sock_dir = "%s"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n' "$dir" >"$dir/etc/libvirtd.conf"
    printf '%s\n' "$LIBVIRTD_CONF" >>"$dir/etc/libvirtd.conf"
fi
exec unshare -m sh -ec '
    mkdir -p /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt
    mount --bind "$1/run" /run/libvirt
    mount --bind "$1/lib" /var/lib/libvirt
    mount --bind "$1/cache" /var/cache/libvirt
    mount --bind "$1/var-log" /var/log/libvirt
    mount --bind "$1/etc" /etc/libvirt
    exec tini -s -- libvirtd $LIBVIRTD_ARGS -f "$1/etc/libvirtd.conf" -p "$1/pid"' - "$dir"
"#;

/// Makes the guest that boots as an image of a distribution does.
const EFI_GUEST: &str = include_str!("efi-guest.sh");

/// What a guest has for its machine id before it has one of its own.
const MACHINE_ID: &str = "00000000000000000000000000000001\n";

/// The runner of the guest.
const RUNNER: &str = r#"#!/bin/sh
# Its machine has a machine id.
# A disk of this label has a runner of its own; without one the JIT config is a script.
if disk=$(findfs LABEL=runner 2>/dev/null); then
    mkdir -p /mnt/runner && mount -o ro -t ext4 "$disk" /mnt/runner || exit 1
    export LD_LIBRARY_PATH=/mnt/runner/lib
    exec /mnt/runner/run.sh
fi
eval "$ACTIONS_RUNNER_INPUT_JITCONFIG"
"#;

const PROGRAMS: [&str; 8] = [
    "libvirtd",
    "virsh",
    "qemu-img",
    "qemu-system-x86_64",
    "tini",
    "debugfs",
    // For the guest that boots by UEFI.
    "mkfs.fat",
    "mcopy",
];

pub(crate) fn is_found() -> bool {
    PROGRAMS.iter().all(|name| find_program(name).is_some())
}

pub(crate) fn start(dir: &Path) -> Result<Started, NotStarted> {
    if !is_root() {
        return Err(NotStarted::Skipped("needs root".into()));
    }
    let Some(guest) = guest()? else {
        return Err(NotStarted::Skipped("needs ../shared/tools/make-test-guest.sh".into()));
    };
    let script = dir.join("libvirtd.sh");
    std::fs::write(&script, SCRIPT)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let mut daemon =
        Daemon::start("libvirtd", Command::new(&script).arg(dir), &dir.join("log"), Signal::TERM)?;
    let socket = dir.join("libvirt-sock");
    daemon.wait_ready(Duration::from_secs(60), || version(&socket).is_ok())?;
    let env = vec![
        ("FLEETFOOT_TEST_LIBVIRT_SOCKET", socket.display().to_string()),
        ("FLEETFOOT_TEST_LIBVIRT_GUEST", guest.display().to_string()),
        ("FLEETFOOT_TEST_LIBVIRT_EFI_GUEST", efi_guest(&guest)?.display().to_string()),
        ("FLEETFOOT_TEST_LIBVIRTD", script.display().to_string()),
    ];
    Ok(Started { version: version(&socket)?, env, daemon: Some(daemon), engine: None })
}

/// The daemon's version, if it answers.
fn version(socket: &Path) -> Result<String> {
    let uri = format!("qemu:///system?socket={}", socket.display());
    let text = run_quiet(Command::new("virsh").args(["-c", &uri, "version"]))?;
    let words = |line: &str| text.lines().find_map(|it| it.strip_prefix(line)).map(str::to_owned);
    let api = words("Using library: ").unwrap_or_default();
    let engine = words("Running hypervisor: ").unwrap_or_default();
    Ok(format!("{api}, {engine}"))
}

/// How many machines were made in a directory: each has a log.
pub(crate) fn machines(dir: &Path) -> u64 {
    let logs = std::fs::read_dir(dir.join("var-log/qemu")).into_iter().flatten().flatten();
    logs.filter(|entry| entry.path().extension().is_some_and(|it| it == "log")).count() as u64
}

/// The guest's disk; kernel and first file system are beside it. Made once for each form of its runner.
fn guest() -> Result<Option<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let kept = root.join("target/test-guest");
    let guest = kept.join("guest.qcow2");
    let runner = std::fs::read_to_string(guest.with_extension("sh")).unwrap_or_default();
    if guest.exists() && runner == RUNNER {
        return Ok(Some(guest.canonicalize()?));
    }
    let script = root.join("../shared/tools/make-test-guest.sh");
    if !script.exists() {
        return Ok(None);
    }
    std::fs::create_dir_all(&kept)?;
    absent_is_fine(std::fs::remove_file(&guest))?;
    let plain = kept.join("plain.qcow2");
    if !plain.exists() {
        let cache = kept.join("debs");
        run_quiet(Command::new("bash").arg(script).arg(&plain).arg("--cache").arg(cache))
            .context("cannot make the test guest")?;
    }
    for part in ["vmlinuz", "initrd"] {
        std::fs::copy(plain.with_extension(part), guest.with_extension(part))?;
    }
    with_runner(&plain, &guest)?;
    Ok(Some(guest.canonicalize()?))
}

/// The same guest, to be booted by UEFI; made once.
fn efi_guest(guest: &Path) -> Result<PathBuf> {
    let (efi, script) = (guest.with_file_name("efi.qcow2"), guest.with_file_name("efi-guest.sh"));
    let age = |path: &Path| path.metadata().and_then(|it| it.modified()).ok();
    let made = std::fs::read_to_string(&script).is_ok_and(|text| text == EFI_GUEST);
    if !made || age(&efi) < age(guest) {
        absent_is_fine(std::fs::remove_file(&efi))?;
        std::fs::write(&script, EFI_GUEST)?;
        let debs = guest.with_file_name("debs");
        run_quiet(Command::new("sh").arg(&script).args([guest, &efi, &debs]))
            .context("cannot make the guest for UEFI")?;
    }
    Ok(efi)
}

fn absent_is_fine(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Puts the runner into the file system, which begins at 1 MiB of the disk.
fn with_runner(plain: &Path, guest: &Path) -> Result<()> {
    let (raw, runner) = (guest.with_extension("raw"), guest.with_extension("sh"));
    std::fs::write(&runner, RUNNER)?;
    run_quiet(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(plain).arg(&raw))?;
    let place = format!("{}?offset=1048576", raw.display());
    let write = format!("write {} /actions-runner/run.sh", runner.display());
    let id = guest.with_extension("id");
    std::fs::write(&id, MACHINE_ID)?;
    let write_id = format!("write {} /etc/machine-id", id.display());
    for request in
        ["mkdir /actions-runner", &write, "sif /actions-runner/run.sh mode 0100755", &write_id]
    {
        run_quiet(Command::new("debugfs").args(["-w", "-R", request, &place]))?;
    }
    let made = guest.with_extension("new");
    run_quiet(
        Command::new("qemu-img").args(["convert", "-c", "-O", "qcow2"]).arg(&raw).arg(&made),
    )?;
    std::fs::remove_file(raw)?;
    std::fs::rename(made, guest)?;
    Ok(())
}
