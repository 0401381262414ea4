//! What every test stands on: a box in this process, a directory, a configuration, the real binary.

mod bed;
mod daemon;
mod database;
mod engine;
mod gate;
mod gateway;
mod hypervisor;
mod left;
mod mariadb;
mod sampler;
mod shoes;

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use bed::{Bed, ORG, PROGRAM};
pub(crate) use daemon::Daemon;
pub(crate) use database::Database;
pub(crate) use engine::{Engine, IMAGE, OwnEngine, Recorder, host_programs};
pub(crate) use gate::Gate;
pub(crate) use gateway::Gateway;
pub(crate) use hypervisor::{BOOT_BOUND, Hypervisor};
pub(crate) use mariadb::OwnMariaDb;
pub(crate) use sampler::{Sampler, shims};
pub(crate) use shoes::{Api, Shoes, plugin, private_key};

/// How long one thing may take before a test gives up: generous, since the machine may be busy.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
///
/// # Panics
/// When the bound is over first.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    bound: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What `variable` says, or `None` with a note if this run does without the component.
pub(crate) fn component(word: &str, variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok();
    let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|one| one == word);
    assert!(value.is_some() || !is_required, "{word} is required but {variable} is not set");
    if value.is_none() {
        eprintln!("SKIPPED: needs {word}");
    }
    value
}

/// A name that no other test and no other run uses.
pub(crate) fn unique(word: &str) -> String {
    format!("{word}{:06x}", fastrand::u32(..1 << 24))
}
