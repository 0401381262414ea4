//! The end of one machine, whatever state it is in: domain, disk, seed, record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleetfoot_provisioner::{BackendError, Deletion, ErrorKind, InstanceName};

use crate::engine::{Lane, LibvirtEngine};
use crate::failure;
use crate::locks::Guard;
use crate::machine;
use crate::record::{Record, Stage, absent_is_fine};
use crate::seed;
use crate::tasks;

const DELETE: &str = "remove domain";

/// Ends the machine and removes all of it.
pub(crate) async fn delete(
    engine: &Arc<LibvirtEngine>,
    name: &InstanceName,
) -> Result<Deletion, BackendError> {
    let guard = engine.locks.lock(name).await;
    let record = engine.records.read(name).map_err(failure::file(DELETE, name))?;
    let record = match record {
        Some(record) => record,
        None => match unrecorded(engine, name).await? {
            Some(record) => record,
            None => return Ok(Deletion::WasAbsent),
        },
    };
    let (engine, name) = (Arc::clone(engine), name.clone());
    let work = tasks::start(async move {
        let removed = remove(&engine, &record).await;
        drop(guard);
        removed
    });
    work.await.map_err(machine::lost_task(DELETE))?.map_err(|error| error.about(&name))?;
    Ok(Deletion::Removed)
}

/// A machine whose record is lost, by what its domain says of itself.
async fn unrecorded(
    engine: &LibvirtEngine,
    name: &InstanceName,
) -> Result<Option<Record>, BackendError> {
    let failed = failure::call(DELETE, false);
    let talk = engine.talk(Lane::Calls).await.map_err(&failed)?;
    let Some(domain) = talk.domain_named(name.as_str()).await.map_err(&failed)? else {
        return Ok(None);
    };
    let evidence = engine.evidence(&talk, &domain).await.map_err(&failed)?;
    let ours =
        evidence.filter(|it| it.installation == engine.installation().as_str() && it.name == *name);
    Ok(ours.map(|evidence| {
        let expected = format!("{name}.qcow2");
        let overlay = evidence.overlay.map(PathBuf::from);
        let overlay = overlay.filter(|path| path.file_name().is_some_and(|it| *it == *expected));
        Record {
            name: name.as_str().to_owned(),
            pool: evidence.pool.map(|pool| pool.as_str().to_owned()).unwrap_or_default(),
            uuid: domain.uuid,
            overlay: overlay.unwrap_or_default(),
            template: None,
            wrapped: false,
            shares: false,
            suspends: false,
            stage: Stage::Launching,
        }
    }))
}

/// Domain, disk, record: in this order, so that what is left has a record.
async fn remove(engine: &LibvirtEngine, record: &Record) -> Result<(), BackendError> {
    let talk = engine.talk(Lane::Calls).await.map_err(failure::call(DELETE, true))?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.destroy.before");
    let destroyed = talk.destroy(&machine::domain(record)).await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.destroy.after");
    destroyed.map_err(failure::call(DELETE, true))?;
    engine.awake().remove(&record.uuid);
    let file = |error: std::io::Error| {
        BackendError::new("remove overlay", ErrorKind::Backend, error.to_string())
    };
    remove_file(&record.overlay).await.map_err(file)?;
    seed::remove_of(&record.overlay).map_err(file)?;
    let Some(name) = record.instance() else { return Ok(()) };
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.forget.before");
    engine.records.remove(&name).map_err(file)?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("libvirt.forget.after");
    Ok(())
}

/// Not on this thread: a large disk takes a while to give back.
pub(crate) async fn remove_file(path: &Path) -> std::io::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    absent_is_fine(tokio::fs::remove_file(path).await)
}

/// Removes what is of no use any more; what cannot be removed now is listed and removed later.
pub(crate) async fn finish_removal(engine: &LibvirtEngine, record: Record, guard: Guard) {
    if let Err(error) = remove(engine, &record).await {
        tracing::warn!(instance = record.name, %error, "machine that failed could not be removed");
    }
    drop(guard);
}
