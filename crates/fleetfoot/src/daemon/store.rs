//! The store of the daemon: its own file, or a database that it shares with other controllers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetfoot_controller::{Clock, Stopped};
use fleetfoot_core::{Phase, Span};
use fleetfoot_store::{Location, Membership, Options, Retention, StateDir, Store};

use super::DaemonError;
use crate::config::Config;
use crate::config::credentials::RealSurroundings;
use crate::config::store::find;

/// Opens the store; among several controllers it has joined them then.
pub(super) async fn open(
    config: &Config,
    state_dir: &StateDir,
    options: Options,
) -> Result<Store, DaemonError> {
    let Some(shared) = find(config, &RealSurroundings)? else {
        let location = Location::Sqlite(state_dir.store_file());
        return Ok(state_dir.open_store(location, options).await?);
    };
    let host_id = state_dir.host_id().map_err(DaemonError::StateDir)?;
    let controller = uuid::Uuid::new_v4().to_string();
    let member = Membership {
        boot_id: fleetfoot_store::boot_id().unwrap_or_default(),
        version: version().to_owned(),
        ..Membership::new(&controller, &host_id, &host_name())
    };
    let options = Options { member: Some(member), ..options };
    let store = state_dir.open_store(shared.location(), options).await?;
    tracing::info!(
        store = store.place(),
        source = shared.source,
        controller,
        "store is shared with other controllers"
    );
    // Who owns what is known before anything is decided.
    store.beat(&BTreeMap::new()).await?;
    Ok(store)
}

/// What the configuration says of its store.
pub(super) fn options(config: &Config) -> Options {
    let kept = config.history;
    let age = Span::minutes(i64::from(kept.days) * 24 * 60);
    let retention = Retention {
        events_max: kept.events_max,
        events_age: age,
        closed_max: kept.jobs_max,
        closed_age: age,
        ..Retention::default()
    };
    Options { retention, ..Options::default() }
}

/// A daemon that was told to stop before it had a store.
pub(super) const NOT_BEGUN: Stopped =
    Stopped { idle: 0, running: 0, clean: true, took: Duration::ZERO };

/// One that was told to stop before it had a controller: what lives goes on.
pub(super) fn not_begun(store: &Store) -> Stopped {
    let mut stopped = NOT_BEGUN;
    for instance in store.pools().values().flat_map(|state| state.instances.values()) {
        match instance.phase {
            Phase::Running => stopped.running += 1,
            Phase::Idle | Phase::Starting | Phase::Warm => stopped.idle += 1,
            Phase::Pending | Phase::Creating | Phase::Stopping | Phase::Closed => {}
        }
    }
    stopped
}

/// When the oldest instance that lives was begun: it may use a release of the runner that was replaced since.
pub(super) fn oldest_instance(store: &Store) -> Option<SystemTime> {
    let pools = store.pools();
    let begun = pools.values().flat_map(|state| state.instances.values()).map(|one| one.created_at);
    let oldest = u64::try_from(begun.min()?.0).unwrap_or_default();
    Some(UNIX_EPOCH + Duration::from_millis(oldest))
}

/// The host's name, for the other controllers' operators.
fn host_name() -> String {
    if let Some(name) = seam("FLEETFOOT_TEST_HOST") {
        return name;
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// This program's version.
pub(super) fn version() -> &'static str {
    match seam("FLEETFOOT_TEST_VERSION") {
        Some(version) => version.leak(),
        None => env!("CARGO_PKG_VERSION"),
    }
}

/// The system's clock.
pub(super) fn clock() -> Clock {
    let off = seam("FLEETFOOT_TEST_CLOCK_OFF_MS").and_then(|ms| ms.parse().ok());
    match off {
        Some(ms) => Clock::with_wall(Clock::system().now() + Span(ms), Arc::default()),
        None => Clock::system(),
    }
}

/// What a test of several processes on one machine says of this one. No release listens.
fn seam(variable: &str) -> Option<String> {
    if cfg!(debug_assertions) { std::env::var(variable).ok() } else { None }
}
