//! From a checked configuration to pools the controller can run: the only place that names concrete
//! backends.

mod backends;
mod connections;
mod docker;
mod libvirt;
mod releases;
mod tart;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_controller::{DiskFloor, HostLimits, PoolSettings, ScaleSetEnd};
use fleetfoot_core::host::{Footprint, HostBudget};
use fleetfoot_core::{InstallationId, Intent, NameError, PoolName, PoolSpec, PoolState, Span};
use fleetfoot_github::{ConfigUrlError, Connection, GithubError, Shared};
use fleetfoot_releases::Keeper;
use fleetfoot_store::Store;

use crate::config::credentials::{Resolution, ResolveError};
use crate::config::{Backend, Config, DiskShare, Flavor, GithubSettings, Position, RunnerConfig};

use backends::{Backends, Made};
use connections::Connections;

/// A pool could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// Its URL or credential could not be resolved.
    #[error("runner {runner}: {source}")]
    Resolve {
        /// The pool.
        runner: String,
        /// Why.
        source: ResolveError,
    },
    /// Its URL is none.
    #[error("runner {runner}: create scaleset client: {source}")]
    Url {
        /// The pool.
        runner: String,
        /// Why.
        source: ConfigUrlError,
    },
    /// The connection could not be set up.
    #[error("runner {runner}: {}", source.chain())]
    Connection {
        /// The pool.
        runner: String,
        /// Why.
        source: GithubError,
    },
    /// The installation's number is beyond GitHub's.
    #[error("runner {runner}: installation_id is too large")]
    Installation {
        /// The pool.
        runner: String,
    },
    /// Its name cannot name a pool.
    #[error("runner {runner}: {source}")]
    Name {
        /// The pool.
        runner: String,
        /// Why.
        source: NameError,
    },
    /// Its backend could not be set up.
    #[error("runner {runner}: {message}")]
    Backend {
        /// The pool.
        runner: String,
        /// One line.
        message: String,
    },
}

/// What pools are made from, besides the configuration.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The installation that owns what is made.
    pub installation: InstallationId,
    /// Where process instances live.
    pub instances: PathBuf,
    /// The fleetfoot program, for the shim.
    pub program: PathBuf,
    /// Whose habits.
    pub flavor: Flavor,
}

/// Makes pools of configurations, one after another: what does not change from one to the next is the very
/// same connection and the very same backend again.
#[derive(Debug)]
pub struct Wiring {
    flavor: Flavor,
    connections: Connections,
    backends: Backends,
    releases: Arc<Keeper>,
}

impl Wiring {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(surroundings: &Surroundings, config: &Config) -> Self {
        Self {
            releases: releases::keeper(surroundings, &config.runner_releases),
            flavor: surroundings.flavor,
            connections: Connections::default(),
            backends: Backends::new(surroundings.clone()),
        }
    }

    /// Connections of pools share budgets and tokens with the others of this process, by credential.
    pub fn share(&mut self, shared: Shared) {
        self.connections.share(shared);
    }

    /// What keeps releases of the runner for these pools, once it runs.
    #[must_use]
    pub fn releases(&self) -> Arc<Keeper> {
        Arc::clone(&self.releases)
    }

    /// Makes the pools of `config`, in the order of their names.
    ///
    /// # Errors
    /// The first pool that cannot be put together.
    pub async fn pools(
        &mut self,
        config: &Config,
        resolution: Resolution,
    ) -> Result<Vec<PoolSettings>, WiringError> {
        // All ways to GitHub first: the original tells of them before it looks at any backend.
        let Resolution { runners, failures, .. } = resolution;
        let ways = connections::ways(&mut self.connections, config, &runners, failures)?;
        let mut pools = Vec::new();
        for (runner, resolved, connection) in ways {
            let name = PoolName::new(&runner.name)
                .map_err(|source| WiringError::Name { runner: runner.name.clone(), source })?;
            let order = releases::order(runner, &connection);
            let kept = order.as_ref().and_then(|order| self.releases.place(order));
            let Made { provisioner, concurrency } = self.backends.backend(runner, kept).await?;
            let release = order.map(|order| self.releases.serve(&name, order));
            pools.push(PoolSettings {
                name,
                spec: spec(runner, self.flavor),
                scale_set_name: None,
                naming: fleetfoot_core::Naming::OfPool,
                session: fleetfoot_controller::SessionSettings::default(),
                label_kind: fleetfoot_github::LabelKind::User,
                labels: runner.labels.clone(),
                runner_group: runner.runner_group.clone(),
                connection,
                credential_reference: resolved.source.to_string(),
                provisioner,
                backend_concurrency: concurrency,
                footprint: footprint(&runner.backend),
                removed: false,
                scale_set_end: ScaleSetEnd::Stays,
                takeover: config.takeover,
                digest: digest(runner, &resolved.url),
                runner: release,
            });
        }
        self.connections.keep(&runners);
        self.backends.keep(&config.runners);
        self.releases.keep(&pools.iter().map(|pool| pool.name.clone()).collect());
        Ok(pools)
    }
}

/// What stops a start before anything is looked at or made.
///
/// # Errors
/// The first runner, in the order of their names, without a URL or a credential that can be used. Connections that
/// come before it are told of, as the original does.
pub fn refuse(config: &Config, resolution: Resolution) -> Result<(), WiringError> {
    let Resolution { runners, failures, warnings } = resolution;
    if failures.is_empty() && !runners.iter().any(connections::is_odd) {
        return Ok(());
    }
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    connections::ways(&mut Connections::default(), config, &runners, failures).map(|_| ())
}

/// The ways to GitHub of one configuration, each once. No backend is looked at.
///
/// # Errors
/// The first runner that has none.
pub fn ways_to_github(resolution: Resolution) -> Result<Vec<Connection>, WiringError> {
    if let Some((runner, source)) = resolution.failures.into_iter().next() {
        return Err(WiringError::Resolve { runner, source });
    }
    let mut connections = Connections::default();
    let mut ways: Vec<Connection> = Vec::new();
    for resolved in &resolution.runners {
        let connection = connections.connection(resolved)?;
        if ways.iter().all(|known| !known.is(&connection)) {
            ways.push(connection);
        }
    }
    Ok(ways)
}

/// Makes the pools of one configuration, in the order of their names.
///
/// # Errors
/// The first pool that cannot be put together.
pub async fn pools(
    config: &Config,
    resolution: Resolution,
    surroundings: &Surroundings,
) -> Result<Vec<PoolSettings>, WiringError> {
    Wiring::new(surroundings, config).pools(config, resolution).await
}

/// Pools that are not in the configuration any more and still have instances: each lives on with the
/// backend and the credential of a configured pool that has the same ones (design, 11.8). Those that are
/// `served` have their own.
#[must_use]
pub fn removed_pools(
    store: &Store,
    pools: &[PoolSettings],
    served: &BTreeSet<PoolName>,
) -> Vec<PoolSettings> {
    let mut removed = Vec::new();
    for (name, state) in store.pools().iter() {
        let known = served.contains(name) || pools.iter().any(|pool| pool.name == *name);
        if state.instances.is_empty() || known || may_be_anothers(store, name, state) {
            continue;
        }
        let row = &state.pool;
        let backend =
            pools.iter().find(|pool| pool.provisioner.connection() == row.backend_connection);
        let same_credential = |pool: &&PoolSettings| {
            pool.credential_reference == row.credential_reference
                && pool.connection.url().as_str() == row.config_url
        };
        let (Some(backend), Some(github)) = (backend, pools.iter().find(same_credential)) else {
            tracing::error!(
                pool = %name,
                instances = state.instances.len(),
                "pool is not in the configuration any more and nothing there reaches its instances: put it back until they are gone"
            );
            continue;
        };
        tracing::warn!(pool = %name, instances = state.instances.len(), "pool is not in the configuration any more, draining it");
        removed.push(PoolSettings {
            name: name.clone(),
            connection: github.connection.clone(),
            credential_reference: row.credential_reference.clone(),
            spec: PoolSpec { max_runners: 0, ..backend.spec.clone() },
            labels: Vec::new(),
            runner_group: None,
            removed: true,
            runner: None,
            ..backend.clone()
        });
    }
    removed
}

/// Among several controllers a pool that is not in this one's configuration may be in another's, even if that
/// one does not run: only what belongs to this host, or is being drained already, is surely nobody's.
fn may_be_anothers(store: &Store, name: &PoolName, state: &PoolState) -> bool {
    let Some(me) = store.membership() else { return false };
    let of_host = store.fleet().pools.get(name).and_then(|row| row.host_id.clone());
    of_host.as_deref() != Some(me.host_id.as_str()) && state.pool.intent != Intent::Removed
}

/// The host's limits in the controller's words.
#[must_use]
pub fn host_limits(config: &Config) -> HostLimits {
    let host = &config.host;
    HostLimits {
        budget: HostBudget {
            max_instances: host.max_instances,
            millicpus: host.cpus.map(|cpus| u64::from(cpus.millis)),
            memory_mib: host.memory.map(|bytes| bytes >> 20),
        },
        min_free_disk: Some(match host.min_free_disk {
            DiskShare::Percent(percent) => DiskFloor::Percent(f64::from(percent)),
            DiskShare::Bytes(bytes) => DiskFloor::Bytes(bytes),
        }),
    }
}

/// A digest of how a runner is served, the same in every program that reads the same settings. Where its
/// secrets are read from may differ from host to host.
fn digest(runner: &RunnerConfig, url: &str) -> String {
    let served = RunnerConfig {
        position: Position { line: 0, column: 0, width: 0 },
        url: Some(url.to_owned()),
        token_file: None,
        github: GithubSettings::default(),
        own_app: false,
        ca_file: None,
        ..runner.clone()
    };
    fingerprint(&format!("{served:?}"))
}

/// A digest of what a runner's environments are made from, its image's file included.
fn recipe(runner: &RunnerConfig) -> String {
    let file = match &runner.backend {
        Backend::Libvirt(libvirt) => std::fs::metadata(&libvirt.path).ok(),
        Backend::Docker(_) | Backend::Process(_) | Backend::Tart(_) | Backend::Simulated(_) => None,
    };
    let file = file.map(|file| (file.len(), file.modified().ok()));
    let made_from = (&runner.backend, &runner.proxy, &runner.ca_file, file);
    fingerprint(&format!("{made_from:?}"))
}

fn fingerprint(text: &str) -> String {
    format!("{:016x}", fleetfoot_core::naming::fnv1a(text.bytes()))
}

fn spec(runner: &RunnerConfig, flavor: Flavor) -> PoolSpec {
    let timeouts = &runner.timeouts;
    PoolSpec {
        max_runners: runner.max_runners,
        min_idle: runner.min_idle,
        warm: runner.warm,
        warm_ttl: span(runner.warm_ttl),
        recipe: recipe(runner),
        idle_timeout: span(timeouts.idle),
        start_timeout: span(timeouts.start),
        create_timeout: span(timeouts.create),
        boot_timeout: span(timeouts.boot),
        stop_timeout: span(timeouts.stop),
        max_job_duration: runner.max_job_duration.map(span),
        remains_max: runner.remains_max,
        advertise_limit: flavor == Flavor::Outrunner,
    }
}

fn span(duration: Duration) -> Span {
    Span(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn footprint(backend: &Backend) -> Footprint {
    let (cpus, memory) = match backend {
        Backend::Docker(docker) => (docker.cpus, docker.memory),
        Backend::Process(process) => (process.cpus, process.memory),
        Backend::Libvirt(libvirt) => {
            return Footprint {
                millicpus: u64::from(libvirt.cpus) * 1000,
                memory_mib: libvirt.memory_mib,
            };
        }
        Backend::Tart(tart) => {
            return Footprint {
                millicpus: u64::from(tart.cpus) * 1000,
                memory_mib: tart.memory_mib,
            };
        }
        Backend::Simulated(_) => (None, None),
    };
    Footprint {
        millicpus: cpus.map_or(0, |cpus| u64::from(cpus.millis)),
        memory_mib: memory.map_or(0, |bytes| bytes >> 20),
    }
}

type AnyProvisioner = Arc<dyn fleetfoot_provisioner::Provisioner>;
