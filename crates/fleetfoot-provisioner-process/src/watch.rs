//! Exits as they happen, from process descriptors; also of instances that an earlier daemon launched.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Weak};

use fleetfoot_provisioner::InstanceName;
use fleetfoot_provisioner::{EnvironmentState, Event, EventStream};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::directory::{self, Meta, PidRecord};
use crate::failure::At;
use crate::host::{Owner, ProcessHost};
use crate::life::{self, Life};
use crate::stop::Held;
use crate::{failure::AtPath, leftovers};

/// The stream ends when the host's own object is gone.
struct Watch {
    host: Weak<ProcessHost>,
    launches: Receiver<InstanceName>,
    waits: FuturesUnordered<BoxFuture<'static, InstanceName>>,
    watched: BTreeSet<InstanceName>,
}

/// Watches everything that lives now and everything that will be launched.
pub(crate) async fn watch(host: &Arc<ProcessHost>) -> Result<EventStream, At> {
    // First listen, then look: what is launched in between is seen twice and watched once.
    let launches = host.launches.subscribe();
    let mut watch = Watch {
        host: Arc::downgrade(host),
        launches,
        waits: FuturesUnordered::new(),
        watched: BTreeSet::new(),
    };
    watch.look().await?;
    Ok(futures_util::stream::unfold(watch, |mut watch| async move {
        watch.next().await.map(|event| (event, watch))
    })
    .boxed())
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                biased;
                Some(name) = self.waits.next() => {
                    self.watched.remove(&name);
                    let host = self.host.upgrade()?;
                    if let Some(event) = ended(host, name).await {
                        return Some(event);
                    }
                }
                launched = self.launches.recv() => match launched {
                    Ok(name) => {
                        let host = self.host.upgrade()?;
                        let record = directory::read::<PidRecord>(&host.directory(&name).pid()).ok().and_then(directory::Record::ok);
                        if let Some(record) = record {
                            self.add(&host, name, record);
                        }
                    }
                    Err(RecvError::Lagged(_)) => {
                        // A look that fails is repeated by the sweep's own `list`.
                        let _ = self.look().await;
                        return Some(Event::Resynced);
                    }
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    async fn look(&mut self) -> Result<(), At> {
        let Some(host) = self.host.upgrade() else { return Ok(()) };
        let looking = Arc::clone(&host);
        let instances = tokio::task::spawn_blocking(move || looking.instances()).await;
        let root = host.root.clone();
        for (info, life) in instances.map_err(io::Error::other).at("read", &root)?? {
            if let Life::Alive(record) = life {
                self.add(&host, info.name, record);
            }
        }
        Ok(())
    }

    fn add(&mut self, host: &Arc<ProcessHost>, name: InstanceName, record: PidRecord) {
        if !self.watched.insert(name.clone()) {
            return;
        }
        let boot_id = host.boot_id.clone();
        self.waits.push(
            async move {
                // Not alive any more, or no descriptor to be had: the look that follows tells what is so.
                if let Ok(Some(held)) = Held::new(&record, &boot_id) {
                    let _ = held.ended().await;
                }
                name
            }
            .boxed(),
        );
    }
}

/// What became of an instance whose shim ended. Nothing if it was deleted.
async fn ended(host: Arc<ProcessHost>, name: InstanceName) -> Option<Event> {
    let looked = tokio::task::spawn_blocking({
        let name = name.clone();
        move || {
            let directory = host.directory(&name);
            let Ok(Owner::Ours(meta @ Meta { .. })) = host.owner(&name) else { return None };
            let life = life::look(&directory, &host.boot_id).ok()?;
            if let Life::ShimLost(record) = &life {
                leftovers::settle(&directory, record, meta.uid);
            }
            Some(life.state())
        }
    });
    match looked.await.ok()?? {
        EnvironmentState::Ended(exit) => Some(Event::Ended { name, exit }),
        EnvironmentState::Created | EnvironmentState::Running => None,
    }
}
