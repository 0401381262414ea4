//! Machines without an agent: the JIT config is on a NoCloud seed that the machine finds at its boot.
//!
//! ```text
//! record ─▶ overlay, seed ─▶ Launching ─▶ domain ─▶ Launched ─▶ the guest powers off ─▶ Ended, exit status unknown
//! ```
//!
//! One step: what is made is launched. The seed goes with the disk; what is on it is spent once the runner has
//! registered.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleetfoot_provisioner::{BackendError, EnvironmentSpec, ErrorKind, InstanceName, JitConfig};
use uuid::Uuid;

use crate::domain::{Machine, domain_xml};
use crate::engine::{Lane, LibvirtEngine};
use crate::failure;
use crate::iso::{IsoFile, image};
use crate::machine::{self, CREATE};
use crate::pool::LibvirtPool;
use crate::record::{Record, Stage, absent_is_fine};
use crate::remove;
use crate::tasks;

/// The volume's name by which guests look for it.
const LABEL: &str = "cidata";
/// There is no process that an agent could be asked for.
const NO_PID: i64 = 0;

/// Where the seed of a machine with this disk is.
pub(crate) fn path(overlay: &Path) -> PathBuf {
    overlay.with_extension("iso")
}

/// Text as one word of a POSIX shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What the guest runs at its first boot: the runner, and then its own end.
fn user_data(pool: &LibvirtPool, jit: &JitConfig) -> String {
    if pool.is_windows() {
        let word = |text: &str| format!("'{}'", text.replace('\'', "''"));
        return format!(
            "#ps1_sysnative\r\n$env:ACTIONS_RUNNER_INPUT_JITCONFIG={}\r\n& {}\r\nStop-Computer -Force\r\n",
            word(jit.expose()),
            word(&pool.runner_cmd)
        );
    }
    format!(
        "#!/bin/sh\numask 077\nexport ACTIONS_RUNNER_INPUT_JITCONFIG={}\n\
         {} </dev/null >/var/log/fleetfoot-runner.log 2>&1\npoweroff || shutdown -h now\n",
        shell_word(jit.expose()),
        shell_word(&pool.runner_cmd)
    )
}

/// The seed's image.
fn seed(name: &InstanceName, user_data: &str) -> Vec<u8> {
    let meta_data = format!("instance-id: {name}\nlocal-hostname: {name}\n");
    let file = |short, name, content| IsoFile { short, name, content };
    image(
        LABEL,
        &[
            file("METADATA", "meta-data", meta_data.as_bytes()),
            file("USERDATA", "user-data", user_data.as_bytes()),
        ],
    )
}

/// For this user alone. libvirt gives it to QEMU's.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    absent_is_fine(std::fs::remove_file(path))?;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

/// A seed of a machine that ends as soon as it has read it, for a test boot.
pub(crate) fn write_trial(overlay: &Path, name: &InstanceName) -> io::Result<()> {
    write(&path(overlay), &seed(name, "#!/bin/sh\npoweroff || shutdown -h now\n"))
}

/// Makes the machine with its credential; once per name.
pub(crate) async fn create(
    engine: &Arc<LibvirtEngine>,
    pool: &Arc<LibvirtPool>,
    spec: &EnvironmentSpec,
    accelerated: bool,
    jit: &JitConfig,
) -> Result<Uuid, BackendError> {
    let name = &spec.name;
    let guard = engine.locks.lock(name).await;
    let known = engine.records.read(name).map_err(failure::file(CREATE, name))?;
    let record = match known {
        Some(record) if record.stage != Stage::Making => return Ok(record.uuid),
        Some(record) => record,
        None => machine::claim(engine, pool, spec).await?,
    };
    let work = {
        let (engine, pool) = (Arc::clone(engine), Arc::clone(pool));
        let (name, pool_name) = (name.clone(), spec.pool.clone());
        let seed = seed(&name, &user_data(&pool, jit));
        tasks::start(async move {
            let machine = Machine {
                name: &name,
                pool: &pool_name,
                installation: engine.installation(),
                uuid: record.uuid,
                overlay: &record.overlay,
                accelerated,
            };
            match make(&engine, &pool, &machine, &record, &seed).await {
                Ok(()) => Ok(record.uuid),
                Err(error) => {
                    let error = error.about(&name);
                    if error.kind != ErrorKind::Unanswered && error.kind != ErrorKind::Backend {
                        remove::finish_removal(&engine, record, guard).await;
                    }
                    Err(error)
                }
            }
        })
    };
    work.await.map_err(machine::lost_task(CREATE))?
}

async fn make(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    machine: &Machine<'_>,
    record: &Record,
    seed: &[u8],
) -> Result<(), BackendError> {
    let noting = failure::file(CREATE, machine.name);
    machine::make_overlay(&pool.image, machine.overlay).await?;
    write(&path(machine.overlay), seed).map_err(&noting)?;
    let talk = engine.talk(Lane::Make).await.map_err(failure::call(CREATE, false))?;
    let launching = Record { stage: Stage::Launching, ..record.clone() };
    engine.records.write(&launching).map_err(&noting)?;
    talk.create(&domain_xml(pool, machine)).await.map_err(failure::call(CREATE, true))?;
    let launched = Record { stage: Stage::Launched { pid: NO_PID }, ..launching };
    engine.records.write(&launched).map_err(noting)
}

/// Whether the machine of this record was launched by a seed.
pub(crate) fn is_seeded(record: &Record) -> bool {
    record.stage == Stage::Launched { pid: NO_PID }
}

/// Removes the seed beside a disk, if there is one.
pub(crate) fn remove_of(overlay: &Path) -> io::Result<()> {
    absent_is_fine(std::fs::remove_file(path(overlay)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_runs_the_runner_and_ends() {
        let jit = JitConfig::new("c2Vj'cmV0".to_owned().into());
        let mut pool = LibvirtPool::new("/base.qcow2");
        let script = user_data(&pool, &jit);
        assert!(script.starts_with("#!/bin/sh\n"), "{script}");
        assert!(script.contains(r"JITCONFIG='c2Vj'\''cmV0'"), "{script}");
        assert!(script.contains("\n'/actions-runner/run.sh' </dev/null"), "{script}");
        assert!(script.ends_with("poweroff || shutdown -h now\n"), "{script}");
        pool.runner_cmd = r"C:\actions-runner\run.cmd".to_owned();
        let script = user_data(&pool, &jit);
        assert!(script.starts_with("#ps1_sysnative\r\n"), "{script}");
        assert!(
            script.contains("JITCONFIG='c2Vj''cmV0'\r\n& 'C:\\actions-runner\\run.cmd'"),
            "{script}"
        );
    }

    /// Read back by a real reader: the kernel's, which needs root for it, or libarchive's.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test")]
    fn a_real_reader_finds_both_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("seed.iso");
        let name = InstanceName::new("linux-0123abcd").unwrap();
        let long = format!("#!/bin/sh\n{}\n", "# filled\n".repeat(1000));
        write(&file, &seed(&name, &long)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&file).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        let mount = directory.path().join("mount");
        std::fs::create_dir(&mount).unwrap();
        let mounted = std::process::Command::new("unshare")
            .args(["-m", "sh", "-ec", "mount -o loop,ro -t iso9660 \"$1\" \"$2\"; ls \"$2\"; cat \"$2/meta-data\"; cat \"$2/user-data\"", "-"])
            .args([&file, &mount])
            .output()
            .unwrap();
        if !mounted.status.success() {
            println!("SKIPPED: needs to mount: {}", String::from_utf8_lossy(&mounted.stderr));
            return;
        }
        let wanted =
            format!("meta-data\nuser-data\ninstance-id: {name}\nlocal-hostname: {name}\n{long}");
        assert_eq!(String::from_utf8_lossy(&mounted.stdout), wanted);
    }
}
