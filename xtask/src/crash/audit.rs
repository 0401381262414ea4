//! What must be true at the end of a case, whatever happened in it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::Backend;
use super::bed::{Bed, directories};
use super::mac;
use crate::process::wait_until;

/// How long what ends by itself may take to.
pub(super) const LAST: Duration = Duration::from_secs(5);

/// Holds jobs, backend, GitHub and store against what was promised. A job whose machine was killed under it
/// may have failed.
pub(super) fn audit(bed: &Bed, cancelled: &[u64], machine_killed: bool) -> Result<()> {
    let state = bed.github.state()?;
    for job in &state.jobs {
        ensure!(job.starts <= 1, "job {} was started {} times", job.id, job.starts);
        ensure!(!job.lost || machine_killed, "job {} is lost", job.id);
        let result = job.result.as_deref().unwrap_or(&job.state);
        let well = result == "succeeded" && job.starts == 1;
        ensure!(
            well || job.lost || cancelled.contains(&job.id),
            "job {} has ended as {result}",
            job.id
        );
    }
    let runners: Vec<&str> = state.runners.iter().map(|runner| runner.name.as_str()).collect();
    ensure!(runners.is_empty(), "registered at GitHub still: {}", runners.join(", "));
    let open = state.scale_sets.iter().find(|set| set.session_id.is_some());
    ensure!(open.is_none(), "a session is open still: {open:?}");
    // Without a daemon it is the store that answers.
    let status = bed.status()?.unwrap_or_default();
    ensure!(status["source"] == "store", "a daemon answers still");
    let rows = status["instances"].as_array().map_or(0, Vec::len);
    ensure!(rows == 0, "{rows} rows are live still: {}", status["instances"]);
    if let Some(above) = &bed.above {
        bail!("{above}");
    }
    match bed.backend() {
        Backend::Process => processes(bed),
        Backend::Docker => containers(bed),
        Backend::Tart => mac::audit(bed.dir()),
        Backend::Postgres | Backend::Mariadb => bed.audit_engine(),
        Backend::Libvirt => {
            let pools: Vec<&str> = bed.pools.iter().map(|pool| pool.name.as_str()).collect();
            bed.hypervisor().map_or(Ok(()), |it| it.audit(bed.dir(), &pools))
        }
    }
}

fn processes(bed: &Bed) -> Result<()> {
    let left = directories(&bed.instances());
    ensure!(left.is_empty(), "directories are left: {}", left.join(", "));
    let gone = wait_until(LAST, || working_in(&bed.instances()).is_empty());
    ensure!(gone, "processes are left: {}", working_in(&bed.instances()).join(", "));
    bed.audit_machines()
}

fn containers(bed: &Bed) -> Result<()> {
    let Some(engine) = bed.engine() else { return Ok(()) };
    let pools: Vec<&str> = bed.pools.iter().map(|pool| pool.name.as_str()).collect();
    let left = engine.containers(&pools)?;
    ensure!(left.is_empty(), "containers are left: {left:?}");
    for pool in &bed.pools {
        if let Some(wrong) = engine.wrong(&pool.name, pool.limit) {
            bail!("{wrong}");
        }
    }
    Ok(())
}

/// Processes that name the directory or work in it.
pub(super) fn working_in(dir: &Path) -> Vec<String> {
    let needle = dir.display().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.parse::<u32>().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let work = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        (words.contains(&needle) || work.starts_with(dir)).then(|| format!("{name} {words}"))
    });
    found.collect()
}
