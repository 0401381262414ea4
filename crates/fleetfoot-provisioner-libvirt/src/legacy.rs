//! What the original program left behind: transient domains named `<pool>-<8 hex digits>` on a disk of the
//! same name.
//!
//! The original writes no labels, so all of this must hold: the exact form of the name, no metadata of ours, a
//! domain that vanishes when it stops (an administrator's own machines are defined), and a first disk
//! `<name>.qcow2`. It removes nothing at its start, against its own README.

use std::path::PathBuf;

use fleetfoot_provisioner::{
    BackendError, Deletion, EnvironmentInfo, EnvironmentState, ErrorKind, Handle, InstanceName,
    PoolName,
};

use crate::engine::{Lane, LibvirtEngine};
use crate::failure;
use crate::record::absent_is_fine;
use crate::rpc::ListFlags;
use crate::wire::Domain;
use crate::xml::tags;

const LIST: &str = "list domains of the original";
const DELETE: &str = "remove domain of the original";

pub(crate) async fn list(
    engine: &LibvirtEngine,
    pool: &PoolName,
) -> Result<Vec<EnvironmentInfo>, BackendError> {
    let found = find(engine, LIST, |name| name.is_of_pool(pool)).await?;
    let info = |(domain, name, _): (Domain, InstanceName, PathBuf)| EnvironmentInfo {
        name,
        pool: Some(pool.clone()),
        handle: Handle(domain.uuid.to_string()),
        state: EnvironmentState::Running,
    };
    Ok(found.into_iter().map(info).collect())
}

pub(crate) async fn delete(
    engine: &LibvirtEngine,
    name: &InstanceName,
) -> Result<Deletion, BackendError> {
    let mut deletion = Deletion::WasAbsent;
    for (domain, _, overlay) in find(engine, DELETE, |it| it == name).await? {
        let talk = engine.talk(Lane::Calls).await.map_err(failure::call(DELETE, true))?;
        let pool = name.as_str().rsplit_once('-').map_or("", |(pool, _)| pool);
        tracing::info!(pool, instance = domain.name, "cleaning up orphaned machine");
        deletion = Deletion::Removed;
        talk.destroy(&domain).await.map_err(failure::call(DELETE, true))?;
        absent_is_fine(tokio::fs::remove_file(&overlay).await).map_err(|error| {
            BackendError::new(DELETE, ErrorKind::Backend, error.to_string()).about(name)
        })?;
    }
    Ok(deletion)
}

async fn find(
    engine: &LibvirtEngine,
    operation: &'static str,
    wanted: impl Fn(&InstanceName) -> bool,
) -> Result<Vec<(Domain, InstanceName, PathBuf)>, BackendError> {
    let failed = failure::call(operation, false);
    let talk = engine.talk(Lane::Calls).await.map_err(&failed)?;
    let mut found = Vec::new();
    for (domain, evidence) in engine.domains(&talk, ListFlags::TRANSIENT).await.map_err(&failed)? {
        let Ok(name) = InstanceName::new(&domain.name) else { continue };
        if evidence.is_some() || !wanted(&name) {
            continue;
        }
        let Some(xml) = talk.xml(&domain).await.map_err(&failed)? else { continue };
        if let Some(overlay) = overlay_of(&xml, &name) {
            found.push((domain, name, overlay));
        }
    }
    Ok(found)
}

/// The first disk's file, if it is named as the original names it.
fn overlay_of(xml: &str, name: &InstanceName) -> Option<PathBuf> {
    let tags = tags(xml);
    let source = tags.iter().find(|tag| tag.is_at(&["domain", "devices", "disk", "source"]))?;
    let path = PathBuf::from(source.attribute("file")?);
    let named = path.file_name().is_some_and(|it| *it == *format!("{name}.qcow2"));
    named.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_disk_is_removed() {
        let name = InstanceName::new("windows-0123abcd").unwrap();
        let xml = |file: &str| {
            format!(
                "<domain><devices><disk type='file'><driver/><source file='{file}' index='1'/></disk></devices></domain>"
            )
        };
        let of = |file: &str| overlay_of(&xml(file), &name);
        assert_eq!(of("/tmp/windows-0123abcd.qcow2"), Some("/tmp/windows-0123abcd.qcow2".into()));
        assert_eq!(of("/images/windows.qcow2"), None);
        assert_eq!(overlay_of("<domain/>", &name), None);
    }
}
