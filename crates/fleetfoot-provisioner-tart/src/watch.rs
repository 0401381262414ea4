//! Exits as they happen, also of machines that an earlier daemon began.
//!
//! A keeper's end shows in files only, so they are looked at: often while something lives, not at all while nothing does.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fleetfoot_provisioner::{
    BackendError, EnvironmentInfo, EnvironmentState, Event, EventStream, InstanceName,
};
use futures_util::StreamExt as _;
use tokio::sync::watch::Receiver;

use crate::host::TartHost;

/// Between two looks while something lives.
const LOOK: Duration = Duration::from_millis(200);
/// After a look that failed.
const PAUSE: Duration = Duration::from_secs(2);

/// The stream ends when the host's own object is gone.
struct Watch {
    host: Weak<TartHost>,
    begun: Receiver<u64>,
    told: BTreeSet<InstanceName>,
    pending: Vec<Event>,
    alive: bool,
}

/// Watches everything that lives now and everything that will be begun.
pub(crate) async fn watch(host: &Arc<TartHost>) -> Result<EventStream, BackendError> {
    // First listen, then look.
    let begun = host.begun.subscribe();
    let mut watch = Watch {
        host: Arc::downgrade(host),
        begun,
        told: BTreeSet::new(),
        pending: Vec::new(),
        alive: true,
    };
    // What ended before is for `list` to tell.
    watch.take(host.instances().await?);
    watch.pending.clear();
    Ok(futures_util::stream::unfold(watch, |mut watch| async move {
        watch.next().await.map(|event| (event, watch))
    })
    .boxed())
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.pending.pop() {
                return Some(event);
            }
            if self.alive {
                tokio::time::sleep(LOOK).await;
            } else if self.begun.changed().await.is_err() {
                return None;
            }
            self.begun.mark_unchanged();
            let host = self.host.upgrade()?;
            match host.instances().await {
                Ok(instances) => self.take(instances),
                Err(error) => {
                    tracing::debug!(%error, "look at tart machines failed");
                    drop(host);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn take(&mut self, instances: Vec<EnvironmentInfo>) {
        self.told.retain(|name| instances.iter().any(|it| it.name == *name));
        self.alive = false;
        for EnvironmentInfo { name, state, .. } in instances {
            match state {
                EnvironmentState::Ended(exit) => {
                    if self.told.insert(name.clone()) {
                        self.pending.push(Event::Ended { name, exit });
                    }
                }
                EnvironmentState::Created | EnvironmentState::Running => self.alive = true,
            }
        }
    }
}
