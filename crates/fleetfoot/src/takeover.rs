//! Taking over from a running fleetfoot: ask it over its control socket, then wait for its lock.

use std::path::Path;
use std::time::Duration;

use fleetfoot_store::{Lock, LockError, StateDir};

/// A predecessor closes its sessions and exits within this.
const HANDOVER_BOUND: Duration = Duration::from_secs(20);

/// Asks the holder to stop deciding, close its sessions, release the lock and exit.
pub(crate) async fn ask(control_socket: &Path) {
    let client = match fleetfoot_api::Client::unix(control_socket) {
        Ok(client) => client,
        Err(error) => return tracing::info!(%error, "nobody to take over from"),
    };
    match client.takeover().await {
        Ok(_) => tracing::info!("asked the running fleetfoot to hand over"),
        Err(error) => tracing::info!(error = %crate::chain(&error), "nobody to take over from"),
    }
}

/// Takes the lock as soon as the holder lets go of it.
pub(crate) async fn lock(state_dir: &StateDir) -> Result<Lock, LockError> {
    let deadline = tokio::time::Instant::now() + HANDOVER_BOUND;
    loop {
        match state_dir.lock() {
            Ok(lock) => return Ok(lock),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
