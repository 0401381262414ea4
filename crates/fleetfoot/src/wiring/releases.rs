//! Which release of GitHub's runner a pool uses: the one that is kept for it, or the one it brings.

use std::sync::Arc;

use fleetfoot_github::Connection;
use fleetfoot_releases::{Keeper, Order, Shelf, Wanted, version_named};

use crate::config::{Backend, RunnerConfig, RunnerReleases, RunnerSource, WantedRelease};

use super::Surroundings;

pub(super) fn keeper(surroundings: &Surroundings, settings: &RunnerReleases) -> Arc<Keeper> {
    let own = || surroundings.instances.with_file_name("runners");
    let shelf = Shelf::new(settings.dir.clone().unwrap_or_else(own));
    Arc::new(Keeper::new(shelf, settings.check_interval))
}

/// What the keeper has to know of a pool; nothing of one whose runner's version no name tells.
pub(super) fn order(runner: &RunnerConfig, connection: &Connection) -> Option<Order> {
    let (wanted, name) = match &runner.backend {
        Backend::Docker(docker) => (docker.runner_release.as_ref(), docker.image.clone()),
        Backend::Process(process) => match &process.source {
            RunnerSource::Release(release) => (Some(release), String::new()),
            RunnerSource::Archive(path) => (None, path.display().to_string()),
            RunnerSource::Directory(_) => return None,
        },
        Backend::Libvirt(_) | Backend::Tart(_) | Backend::Simulated(_) => return None,
    };
    let wanted = wanted.map(|release| match release {
        WantedRelease::Latest => Wanted::Latest,
        WantedRelease::Exact(version) => Wanted::Exact(version.clone()),
    });
    let brings = if wanted.is_some() { None } else { version_named(&name) };
    let known = wanted.is_some() || brings.is_some();
    known.then(|| Order { connection: connection.clone(), wanted, brings })
}
