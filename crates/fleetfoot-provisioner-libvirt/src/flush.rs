//! Before the plug is pulled: what the guest caches of shared directories is written out.
//!
//! A machine's own disk is thrown away with it, so nothing else of it is worth a graceful end.

use std::time::Duration;

use fleetfoot_provisioner::InstanceName;

use crate::agent;
use crate::engine::{Lane, LibvirtEngine};
use crate::machine::domain;
use crate::record::Stage;

/// A guest that hangs holds up its own removal no longer than this.
const FLUSH_MAX: Duration = Duration::from_secs(3);

/// Asks the guest of a launched machine with shares for it. Whether it did changes nothing of the removal.
pub(crate) async fn flush(engine: &LibvirtEngine, name: &InstanceName) {
    let Ok(Some(record)) = engine.records.read(name) else { return };
    if !record.shares || !matches!(record.stage, Stage::Launched { .. } | Stage::Ending { .. }) {
        return;
    }
    let asked = async {
        let talk = engine.talk(Lane::Poll).await.ok()?;
        agent::shell(&talk, &domain(&record), "sync").await.ok()
    };
    let done = tokio::time::timeout(FLUSH_MAX, asked).await.ok().flatten();
    if done.is_none() {
        tracing::debug!(instance = %name, "guest did not write out its caches");
    }
}
