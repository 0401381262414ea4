//! What is missing on this host, each with its remedy; and the test boot.
//!
//! That libvirt says a host can run a kind of machine proves little: on some, KVM is there and no ordinary kernel
//! comes up in it. So the pool's own image is booted once, until its agent answers, and thrown away.

use std::io::ErrorKind as IoErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_provisioner::{
    BackendError, ErrorKind, Finding, InstallationId, InstanceName, PoolName, Severity,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::{Machine, decided};
use crate::engine::{Lane, LibvirtEngine};
use crate::failure;
use crate::machine;
use crate::overlay;
use crate::pool::{JitDelivery, LibvirtPool, Network, WarmMode};
use crate::record::{Record, Stage, absent_is_fine};
use crate::rpc::{CallError, Connection, ListFlags};
use crate::seed;
use crate::snapshot;
use crate::tasks;
use crate::template;
use crate::xml::tags;

const ANSWER_MAX: Duration = Duration::from_secs(10);
/// With hardware a machine that is not up by then never will be; the emulation is for those.
const KVM_BOOT_MAX: Duration = Duration::from_secs(60);
const TRIAL: &str = "boot a trial machine";
const TRIAL_LOOK: Duration = Duration::from_millis(200);
const TRIAL_POOL: &str = "fleetfoot-trial";

fn error(message: String, hint: impl Into<String>) -> Finding {
    Finding { severity: Severity::Error, message, hint: hint.into() }
}

fn warning(message: String, hint: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warning, message, hint: hint.into() }
}

pub(crate) async fn check(engine: &Arc<LibvirtEngine>, pool: &Arc<LibvirtPool>) -> Vec<Finding> {
    let mut findings = files(pool);
    match tokio::time::timeout(ANSWER_MAX, daemon(engine, pool)).await {
        Ok(Ok(more)) => findings.extend(more),
        Ok(Err(failure)) => findings.push(unreachable(engine, &failure)),
        Err(_) => findings.push(error(
            format!("libvirt at {} does not answer", engine.address()),
            "look at its log; `systemctl restart libvirtd` leaves machines running",
        )),
    }
    if findings.iter().all(|finding| finding.severity != Severity::Error) {
        findings.extend(boots(engine, pool).await);
    }
    if pool.warm_mode == WarmMode::Snapshot
        && findings.iter().all(|finding| finding.severity != Severity::Error)
    {
        findings.extend(snapshot_finding(engine, pool).await);
    }
    findings
}

/// Why machines of this pool boot although they were to be made from memory: one is, and thrown away.
async fn snapshot_finding(engine: &Arc<LibvirtEngine>, pool: &Arc<LibvirtPool>) -> Option<Finding> {
    let hint = "machines boot instead; set `warm_mode: running` or `suspended` to say so";
    let say = |why: &str| warning(format!("`warm_mode: snapshot` cannot be had: {why}"), hint);
    if let Some(why) = template::refusal_at(engine, pool) {
        return Some(say(why));
    }
    let accelerated = match decided(pool.domain_type) {
        Some(decided) => decided,
        None => decide(engine, pool).await.ok()?,
    };
    let tried = snapshot::trial(engine, pool, accelerated).await;
    tried.err().map(|failure| say(&failure.message))
}

/// What this host's files say.
fn files(pool: &LibvirtPool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !in_path("qemu-img") {
        findings.push(error(
            "`qemu-img` is not in PATH".to_owned(),
            "install it: `apt install qemu-utils` or `dnf install qemu-img`",
        ));
    }
    if let Err(failure) = std::fs::File::open(&pool.image) {
        let message = format!("the image {} cannot be read: {failure}", pool.image.display());
        findings.push(error(message, "give `path` a qcow2 file that this user and QEMU may read"));
    }
    let directory = &pool.overlay_dir;
    if rustix::fs::access(directory, rustix::fs::Access::WRITE_OK).is_err() {
        let message = format!("disks cannot be made in {}", directory.display());
        findings.push(error(message, "create it, or let this user write there"));
    }
    for share in pool.mounts.iter().filter(|share| !Path::new(&share.source).is_dir()) {
        let message = format!("the mount source {} is no directory", share.source);
        findings.push(error(message, "create it or take the mount out"));
    }
    for disk in pool.disks.iter().filter(|disk| !disk.path.exists()) {
        let message = format!("the disk {} does not exist", disk.path.display());
        findings.push(error(message, "create it or take the disk out"));
    }
    findings
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// What the daemon says.
async fn daemon(engine: &LibvirtEngine, pool: &LibvirtPool) -> Result<Vec<Finding>, CallError> {
    let talk = engine.talk(Lane::Calls).await?;
    talk.version().await?;
    let mut findings = Vec::new();
    if let Network::Named(name) = &pool.network
        && !talk.has_network(name).await?
    {
        let hint = format!(
            "`virsh net-start {name}` (and `net-autostart`), or set `network` to another, or to `none`"
        );
        findings.push(error(format!("libvirt has no network `{name}`"), hint));
    }
    Ok(findings)
}

fn unreachable(engine: &LibvirtEngine, failure: &CallError) -> Finding {
    let address = engine.address();
    let CallError::Connect { cause, .. } = failure else {
        return error(format!("libvirt at {address}: {failure}"), "look at its log");
    };
    let kind = cause.kind();
    if kind == IoErrorKind::NotFound {
        error(
            format!("there is no libvirt socket at {address}"),
            "install and start libvirt (`systemctl start libvirtd`), or set `socket`",
        )
    } else if kind == IoErrorKind::PermissionDenied {
        error(
            format!("no permission to use the libvirt socket at {address}"),
            "add the user to the group `libvirt` and log in again",
        )
    } else if kind == IoErrorKind::ConnectionRefused {
        error(format!("nobody listens at {address}"), "start it: `systemctl start libvirtd`")
    } else {
        error(format!("cannot reach libvirt at {address}: {cause}"), "check the address")
    }
}

/// The test boot, and what it says.
async fn boots(engine: &Arc<LibvirtEngine>, pool: &Arc<LibvirtPool>) -> Vec<Finding> {
    let accelerated = match decided(pool.domain_type) {
        Some(decided) => decided,
        None => match decide(engine, pool).await {
            // It was booted to decide.
            Ok(true) => return Vec::new(),
            Ok(false) => {
                let message = "KVM does not bring the image up here; machines are emulated, slowly";
                let hint =
                    "enable virtualization in the firmware, or set `type: qemu` if that is meant";
                let mut findings = vec![warning(message.to_owned(), hint)];
                findings.extend(trial_finding(engine, pool, false).await);
                return findings;
            }
            Err(failure) => return vec![error(failure.to_string(), "look at libvirt's log")],
        },
    };
    trial_finding(engine, pool, accelerated).await
}

async fn trial_finding(
    engine: &Arc<LibvirtEngine>,
    pool: &Arc<LibvirtPool>,
    accelerated: bool,
) -> Vec<Finding> {
    let Err(failure) = trial(engine, pool, accelerated, pool.agent_max).await else {
        return Vec::new();
    };
    let hint = if accelerated {
        "look at /var/log/libvirt/qemu; where KVM cannot run the image, set `type: qemu` or `auto`; the image needs UEFI or `firmware: bios`, and qemu-guest-agent"
    } else {
        "look at /var/log/libvirt/qemu; the image needs UEFI or `firmware: bios`, and qemu-guest-agent"
    };
    vec![error(format!("a machine of this pool does not come up: {}", failure.message), hint)]
}

/// What `auto` comes to on this host with this image.
pub(crate) async fn decide(
    engine: &Arc<LibvirtEngine>,
    pool: &Arc<LibvirtPool>,
) -> Result<bool, BackendError> {
    let failed = failure::call(TRIAL, false);
    let talk = engine.talk(Lane::Make).await.map_err(&failed)?;
    let capabilities = talk.capabilities().await.map_err(&failed)?;
    let claimed = tags(&capabilities)
        .iter()
        .any(|tag| tag.name() == "domain" && tag.attribute("type") == Some("kvm"));
    if !claimed {
        tracing::info!(image = %pool.image.display(), "no kvm here, machines are emulated");
        return Ok(false);
    }
    match trial(engine, pool, true, pool.agent_max.min(KVM_BOOT_MAX)).await {
        Ok(()) => Ok(true),
        Err(failure) if failure.kind == ErrorKind::Instance => {
            tracing::warn!(image = %pool.image.display(), error = %failure, "kvm does not bring the image up, machines are emulated");
            Ok(false)
        }
        Err(failure) => Err(failure),
    }
}

/// Boots the pool's image until its agent answers, and throws the machine away. Goes on to its own end when
/// nobody waits for it any more: nothing of it may stay.
async fn trial(
    engine: &Arc<LibvirtEngine>,
    pool: &Arc<LibvirtPool>,
    accelerated: bool,
    agent_max: Duration,
) -> Result<(), BackendError> {
    let engine = Arc::clone(engine);
    let pool = LibvirtPool { agent_max, ..LibvirtPool::clone(pool) };
    let work = tasks::start(async move { try_once(&engine, &pool, accelerated).await });
    work.await.map_err(|error| BackendError::new(TRIAL, ErrorKind::Backend, error.to_string()))?
}

async fn try_once(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    accelerated: bool,
) -> Result<(), BackendError> {
    let odd = |error: fleetfoot_provisioner::NameError| {
        BackendError::new(TRIAL, ErrorKind::Backend, error.to_string())
    };
    let uuid = Uuid::new_v4();
    let owner = InstallationId::new(&format!("trial.{}", std::process::id())).map_err(odd)?;
    let pool_name = PoolName::new(TRIAL_POOL).map_err(odd)?;
    let suffix = uuid.as_fields().0;
    let name = InstanceName::of_pool(&pool_name, suffix);
    let overlay = overlay::path(&pool.overlay_dir, &name);
    let failed = failure::call(TRIAL, false);
    let talk = engine.talk(Lane::Make).await.map_err(&failed)?;
    clear_abandoned(engine, &talk).await.map_err(&failed)?;
    let machine = Machine {
        name: &name,
        pool: &pool_name,
        installation: &owner,
        uuid,
        overlay: &overlay,
        accelerated,
    };
    let record = Record {
        name: name.as_str().to_owned(),
        pool: TRIAL_POOL.to_owned(),
        uuid,
        overlay: overlay.clone(),
        template: None,
        wrapped: false,
        shares: false,
        suspends: false,
        stage: Stage::Making,
    };
    let booted = trial_boot(engine, pool, &machine, &record).await;
    let ended = talk.destroy(&machine::domain(&record)).await;
    let removed =
        absent_is_fine(std::fs::remove_file(&overlay)).and_then(|()| seed::remove_of(&overlay));
    if let Err(error) = ended {
        tracing::warn!(name = %name, %error, "trial machine could not be removed");
    }
    if let Err(error) = removed {
        tracing::warn!(name = %name, %error, "disk of a trial machine could not be removed");
    }
    booted
}

/// Until the agent answers; one with a seed, until it has read it and powered off.
async fn trial_boot(
    engine: &LibvirtEngine,
    pool: &LibvirtPool,
    machine: &Machine<'_>,
    record: &Record,
) -> Result<(), BackendError> {
    if pool.jit != JitDelivery::Seed {
        machine::make(engine, pool, machine).await?;
        return machine::boot(engine, pool, record).await;
    }
    seed::write_trial(machine.overlay, machine.name).map_err(failure::file(TRIAL, machine.name))?;
    machine::make(engine, pool, machine).await?;
    let failed = failure::call(TRIAL, false);
    let end = Instant::now() + pool.agent_max;
    let talk = engine.talk(Lane::Make).await.map_err(&failed)?;
    while talk.domain_of(machine.uuid).await.map_err(&failed)?.is_some() {
        if Instant::now() > end {
            let words = "the guest did not run its seed's user-data, or cannot power off";
            return Err(BackendError::new(TRIAL, ErrorKind::Instance, words));
        }
        tokio::time::sleep(TRIAL_LOOK).await;
    }
    Ok(())
}

/// Removes trial machines whose process did not live to do it.
async fn clear_abandoned(engine: &LibvirtEngine, talk: &Connection) -> Result<(), CallError> {
    for (domain, evidence) in engine.domains(talk, ListFlags::TRANSIENT).await? {
        let Some(evidence) = evidence else { continue };
        let Some(pid) = evidence.installation.strip_prefix("trial.") else { continue };
        let is_trial = evidence.pool.is_some_and(|pool| pool.as_str() == TRIAL_POOL);
        if is_trial && !Path::new("/proc").join(pid).exists() {
            talk.destroy(&domain).await?;
            if let Some(overlay) = evidence.overlay {
                let _ = std::fs::remove_file(&overlay);
                let _ = seed::remove_of(Path::new(&overlay));
            }
        }
    }
    Ok(())
}
