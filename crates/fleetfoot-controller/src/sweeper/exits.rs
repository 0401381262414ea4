//! Exits of environments, as their backend tells of them.

use std::sync::Arc;

use fleetfoot_core::{Backoff, Exit, InstanceName, Observation, PoolName, Span};
use fleetfoot_provisioner::Event;
use futures_util::StreamExt;

use crate::backend::Backend;
use crate::executor::chain;
use crate::pool::{Shared, told};
use crate::record::observe;

/// Exits in one commit.
const EXITS_MAX: usize = 256;

/// Pauses between attempts to follow exits; what is missed meanwhile the sweep finds.
const WATCH_WAITS: Backoff = Backoff { first: Span::seconds(1), longest: Span::seconds(5) };

/// Follows the connection's exits for as long as a pool uses it.
pub(crate) async fn watch(shared: Arc<Shared>, backend: Arc<Backend>) {
    if !backend.provisioner.capabilities().watch {
        return;
    }
    let mut unused = backend.unused.subscribe();
    let mut failures: u32 = 0;
    loop {
        let follow = async {
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("controller.backend.watch.before");
            let watched = backend.provisioner.watch().await;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("controller.backend.watch.after");
            // Exits that come while others are committed are committed together after them.
            let mut events = match watched {
                Ok(events) => events.ready_chunks(EXITS_MAX),
                Err(error) => {
                    // Said once: that the backend does not answer, the sweep says.
                    if failures == 0 {
                        tracing::warn!(connection = backend.provisioner.connection(), error = %chain(&error), "watch failed");
                    }
                    return failures.saturating_add(1);
                }
            };
            while let Some(events) = events.next().await {
                let mut exits = Vec::new();
                for event in events {
                    match event {
                        Event::Ended { name, exit } => exits.push((name, exit)),
                        Event::Resynced => backend.look.notify_one(),
                    }
                }
                ended(&shared, exits).await;
            }
            0
        };
        failures = tokio::select! {
            biased;
            () = told(&mut unused) => return,
            failures = follow => failures,
        };
        backend.look.notify_one();
        tokio::select! {
            biased;
            () = told(&mut unused) => return,
            () = tokio::time::sleep(WATCH_WAITS.wait(failures).to_std()) => {}
        }
    }
}

async fn ended(shared: &Shared, exits: Vec<(InstanceName, Exit)>) {
    let now = shared.clock.now();
    let mut known = Vec::with_capacity(exits.len());
    for (name, exit) in exits {
        let Some(pool) = owner(shared, &name) else { continue };
        tracing::debug!(%pool, instance = %name, code = exit.code, "environment ended");
        shared.saw(&exit);
        known.push((pool, name, exit));
    }
    if known.is_empty() {
        return;
    }
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.ended.before");
    let recorded = shared
        .store
        .update(move |txn| {
            for (pool, name, exit) in known {
                observe(txn, &pool, &name, &Observation::Ended { exit }, now);
            }
        })
        .await;
    #[cfg(feature = "faults")]
    fleetfoot_faults::point("controller.commit.ended.after");
    if let Err(error) = recorded {
        // The next list shows them as ended, too.
        tracing::error!(error = %chain(&error), "store refused an observation");
    }
}

/// The pool of ours that has a live row of that name.
fn owner(shared: &Shared, name: &InstanceName) -> Option<PoolName> {
    let has = |pool: &&PoolName| {
        shared.store.pool(pool).is_some_and(|state| state.instances.contains_key(name))
    };
    shared.roster.borrow().pools.keys().find(has).cloned()
}
