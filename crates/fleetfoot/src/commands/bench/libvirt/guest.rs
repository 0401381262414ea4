//! Where libvirt and its guest are, the disk with the runner, and machines made by bare calls.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fleetfoot_provisioner_docker::image::{ImageContent, program_files};
use fleetfoot_provisioner_libvirt::Address;
use fleetfoot_provisioner_libvirt::rpc::{AgentAnswer, Connection, ListFlags};
use fleetfoot_provisioner_libvirt::wire::Domain;

use super::super::figure::{apart_ms, now_us};

const URI: &str = "qemu:///system";
const CMDLINE: &str = "quiet loglevel=3 console=ttyS0 random.trust_cpu=on mitigations=off tsc=reliable no_timer_check rcupdate.rcu_expedited=1";
const BOOT_BOUND: Duration = Duration::from_secs(240);
/// Between two looks of bare code at an agent that is not there yet.
const PING_EACH: Duration = Duration::from_millis(50);
const AGENT_BOUND: Duration = Duration::from_secs(30);
const QUIET_EACH: Duration = Duration::from_secs(1);
const LOOKS_QUIET: u32 = 2;

/// The test guest, and the daemon that runs it.
pub(super) struct Guest {
    pub(super) socket: PathBuf,
    image: PathBuf,
}

impl Guest {
    /// Finds them; says why not, if there are none.
    pub(super) fn find() -> Result<Self, String> {
        let variable = |name: &str| {
            let value = std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
            value.ok_or_else(|| {
                format!("no libvirtd with a test guest: {name} is not set (`cargo xtask components --keep` starts one)")
            })
        };
        let socket = variable("FLEETFOOT_TEST_LIBVIRT_SOCKET")?;
        let image = variable("FLEETFOOT_TEST_LIBVIRT_GUEST")?;
        Ok(Self { socket, image })
    }

    fn kernel(&self) -> PathBuf {
        self.image.with_extension("vmlinuz")
    }

    fn initrd(&self) -> PathBuf {
        self.image.with_extension("initrd")
    }

    /// The backend's part of a runner's configuration.
    pub(super) fn config(&self, socket: &Path, directory: &Path, mode: &str) -> String {
        format!(
            "    libvirt:\n      path: {}\n      socket: {}\n      cpus: 1\n      memory: 192\n      type: qemu\n      \
             firmware: bios\n      machine: pc\n      bus: virtio\n      network: user\n      overlay_dir: {}\n      \
             disks: [{{ path: {}, format: raw, read_only: true }}]\n      kernel: {}\n      initrd: {}\n      \
             cmdline: {CMDLINE}\n      agent_timeout: 4m\n      warm_mode: {mode}\n",
            self.image.display(),
            socket.display(),
            directory.display(),
            runner_disk_path(directory).display(),
            self.kernel().display(),
            self.initrd().display(),
        )
    }

    fn xml(&self, name: &str, overlay: &Path, directory: &Path) -> String {
        format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>192</memory><vcpu>1</vcpu><os>\
             <type arch='x86_64' machine='pc'>hvm</type><kernel>{}</kernel><initrd>{}</initrd>\
             <cmdline>{CMDLINE}</cmdline><boot dev='hd'/></os><features><acpi/><apic/></features>\
             <cpu mode='maximum'/><on_poweroff>destroy</on_poweroff><devices>\
             <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='writeback'/>\
             <source file='{}'/><target dev='vda' bus='virtio'/></disk>\
             <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
             <target dev='vdb' bus='virtio'/><readonly/></disk>\
             <interface type='user'><model type='virtio'/></interface><channel type='unix'>\
             <target type='virtio' name='org.qemu.guest_agent.0'/></channel><serial type='pty'/>\
             </devices></domain>",
            self.kernel().display(),
            self.initrd().display(),
            overlay.display(),
            runner_disk_path(directory).display(),
        )
    }

    /// Boots a machine with no more than that, until a program of it is started; how long that took.
    pub(super) async fn boot(
        &self,
        talk: &Connection,
        name: &str,
        directory: &Path,
    ) -> Result<(Domain, f64)> {
        let began_us = now_us();
        let overlay = directory.join(format!("{name}.qcow2"));
        let mut make = command("qemu-img");
        make.args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
        run(make.arg(&self.image).arg(&overlay)).await?;
        let domain = talk.create(&self.xml(name, &overlay, directory)).await?;
        let end = tokio::time::Instant::now() + BOOT_BOUND;
        while !matches!(
            talk.agent(&domain, r#"{"execute":"guest-ping"}"#, AGENT_BOUND).await,
            Ok(AgentAnswer::Said(_))
        ) {
            ensure!(tokio::time::Instant::now() < end, "the bare guest does not come up");
            tokio::time::sleep(PING_EACH).await;
        }
        // Not the runner's own: its second start in a machine is not for a job.
        exec(talk, &domain, "/bin/true", "x").await?;
        Ok((domain, apart_ms(began_us, now_us())))
    }
}

/// A connection by this socket.
pub(super) async fn talk(socket: &Path) -> Result<Connection> {
    let address = Address::parse(&socket.display().to_string())?;
    Ok(Connection::open(&address, URI).await?)
}

/// Where a guest has its runner.
pub(super) const RUNNER: &str = "/actions-runner/run.sh";

/// Starts a program as the runner is started: a shell reads a credential and becomes it.
pub(super) async fn exec(
    talk: &Connection,
    domain: &Domain,
    program: &str,
    jit: &str,
) -> Result<()> {
    let script = "IFS= read -r ACTIONS_RUNNER_INPUT_JITCONFIG; export ACTIONS_RUNNER_INPUT_JITCONFIG; \
                  exec \"$0\" </dev/null >/dev/null 2>&1";
    let input = BASE64.encode(format!("{jit}\n"));
    let command = serde_json::json!({ "execute": "guest-exec", "arguments": {
        "path": "/bin/sh", "arg": ["-c", script, program], "input-data": input } });
    match talk.agent(domain, &command.to_string(), AGENT_BOUND).await? {
        AgentAnswer::Said(_) => Ok(()),
        AgentAnswer::Silent(why) | AgentAnswer::Refused(why) => bail!("the bare guest: {why}"),
    }
}

/// Waits until a machine's processor had little to do for a while.
pub(super) async fn quiet(talk: &Connection, domain: &Domain) -> Result<()> {
    let end = tokio::time::Instant::now() + BOOT_BOUND;
    let (mut looks, mut before) = (0, talk.processor_time(domain).await?);
    while looks < LOOKS_QUIET {
        ensure!(tokio::time::Instant::now() < end, "the guest is never quiet");
        tokio::time::sleep(QUIET_EACH).await;
        let now = talk.processor_time(domain).await?;
        looks = if now.saturating_sub(before) * 40 < QUIET_EACH { looks + 1 } else { 0 };
        before = now;
    }
    Ok(())
}

/// Removes every machine whose name begins so.
pub(super) async fn clear(talk: &Connection, prefixes: &[String]) -> Result<()> {
    for domain in talk.domains(ListFlags::ALL).await? {
        if prefixes.iter().any(|prefix| domain.name.starts_with(prefix)) {
            talk.destroy(&domain).await?;
        }
    }
    Ok(())
}

fn runner_disk_path(directory: &Path) -> PathBuf {
    directory.join("runner.img")
}

/// A read-only disk with this very program, called `run.sh`, and its libraries.
pub(super) async fn runner_disk(directory: &Path) -> Result<()> {
    let root = directory.join("runner.d");
    std::fs::create_dir_all(root.join("lib"))?;
    let exe = std::env::current_exe().context("cannot find the own program")?;
    let run_sh = root.join("run.sh");
    for file in program_files(&exe, Path::new("/run.sh"))? {
        let ImageContent::File(source) = file.content else { continue };
        let name = file.path.file_name().context("a library without a name")?;
        let to = if name == "run.sh" { run_sh.clone() } else { root.join("lib").join(name) };
        std::fs::copy(&source, to).with_context(|| format!("{}", source.display()))?;
    }
    if cfg!(debug_assertions) {
        run(command("strip").arg(&run_sh)).await?;
    }
    let mut bytes = 0;
    for directory in [root.clone(), root.join("lib")] {
        for entry in std::fs::read_dir(directory)? {
            bytes += entry?.metadata()?.len();
        }
    }
    let mut make = command("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-L", "runner", "-d"]);
    let size = format!("{}M", (bytes >> 20) * 5 / 4 + 8);
    run(make.arg(&root).arg(runner_disk_path(directory)).arg(size)).await?;
    std::fs::remove_dir_all(root).context("cannot remove what the disk was made of")
}

#[expect(clippy::disallowed_methods, reason = "the tools that make a guest's disks")]
fn command(program: &str) -> tokio::process::Command {
    tokio::process::Command::new(program)
}

async fn run(command: &mut tokio::process::Command) -> Result<()> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", words.trim());
    Ok(())
}
