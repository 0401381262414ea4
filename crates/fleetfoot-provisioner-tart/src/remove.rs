//! Ending and removing one instance, whatever state it is in.

use std::time::Duration;

use fleetfoot_provisioner::{BackendError, ErrorKind, InstanceName};

use crate::command;
use crate::directory::{self, Job};
use crate::host::TartHost;
use crate::keep;
use crate::life::{self, Life};

pub(crate) const OPERATION: &str = "delete tart machine";
/// A keeper ends its command by force after its grace; then it is soon gone.
const AFTER_GRACE: Duration = Duration::from_secs(5);

/// The machine, its keepers, its records; the caller holds the name's lock and knows that it is ours.
pub(crate) async fn all(host: &TartHost, name: &InstanceName) -> Result<(), BackendError> {
    let directory = host.directory(name);
    let failed = |kind, message: String| BackendError::new(OPERATION, kind, message).about(name);
    let backend = |error: std::io::Error| failed(ErrorKind::Backend, error.to_string());
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("tart.remove.before");
    // First the mark, then the look: a keeper that comes late takes its lock first and then looks for the mark.
    if directory.path().exists() {
        directory::gone(std::fs::write(directory.deleting(), "")).map_err(backend)?;
    }
    let bound = host.stop_grace + AFTER_GRACE;
    for job in [Job::Clone, Job::Runner] {
        if !keep::end(&directory, job, bound).await.map_err(backend)? {
            let message = format!("tart {} does not end", job.word());
            return Err(failed(ErrorKind::Backend, message));
        }
    }
    // A clone whose keeper was killed may have landed where we cannot look.
    let lost = !host.home.join("vms").is_dir()
        && life::look(&directory, Job::Clone).map_err(backend)? == Life::Lost;
    machine(host, name, directory.elsewhere().exists() || lost).await?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("tart.forget.before");
    directory.remove().map_err(backend)?;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("tart.forget.after");
    Ok(())
}

/// `tart stop`, `tart delete`: what is not there is fine. What may be `elsewhere` than in the home that we see is asked
/// for all the same.
pub(crate) async fn machine(
    host: &TartHost,
    name: &InstanceName,
    elsewhere: bool,
) -> Result<(), BackendError> {
    let failed =
        |message: String| BackendError::new(OPERATION, ErrorKind::Backend, message).about(name);
    let directory = host.directory(name);
    let backend = |error: std::io::Error| failed(error.to_string());
    let machine = host.machine(name.as_str());
    if elsewhere || machine.exists() {
        // Its own failure decides nothing: a machine that still runs cannot be deleted, and that is said.
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("tart.stop.before");
        let stopped = host.tart(OPERATION, &command::stop(name)).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("tart.stop.after");
        if !stopped.succeeded() && !stopped.says_not_there() {
            tracing::warn!(instance = %name, error = stopped.said(), "failed to stop tart vm");
        }
    }
    let bound = host.stop_grace + AFTER_GRACE;
    if life::is_alive(&directory, Job::Vm).map_err(backend)?
        && !keep::end(&directory, Job::Vm, bound).await.map_err(backend)?
    {
        return Err(failed("tart run does not end".to_owned()));
    }
    if elsewhere || machine.exists() {
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("tart.delete.before");
        let deleted = host.tart(OPERATION, &command::delete(name)).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("tart.delete.after");
        if !deleted.succeeded() && !deleted.says_not_there() {
            return Err(failed(format!("tart delete: {}", deleted.said())));
        }
    }
    if machine.exists() {
        return Err(failed(format!("tart delete: {} is still there", machine.display())));
    }
    Ok(())
}
