//! The configuration, read again while the daemon runs: on SIGHUP, and when the file is another one.
//!
//! A file that cannot be used changes nothing. One that can is told of first, key by key, and then applied:
//! what runs is not touched ([`Controller::apply`]). Under the name `outrunner` only SIGHUP does it: that
//! program's operators do not expect a file to act by being saved.

mod watch;

use std::collections::BTreeSet;
use std::convert::Infallible;

use fleetfoot_controller::{Controller, PoolSettings, StartError};
use fleetfoot_core::PoolName;
use fleetfoot_server::{Metrics, Reload};
use fleetfoot_store::Store;
use tokio::signal::unix::Signal;

use super::limits::{self, TooFewDescriptors};
use super::notify::Notify;
use super::{AllPools, DaemonOptions, prepare};
use crate::config::changes::{Changes, Effect, changes};
use crate::config::credentials::{RealSurroundings, resolve};
use crate::config::summary::summarize;
use crate::config::{Config, Flavor, LoadError, Loaded, load};
use crate::wiring::{self, Wiring, WiringError};

use watch::FileWatch;

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    File(#[from] LoadError),
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    #[error(transparent)]
    Wiring(#[from] WiringError),
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Refused {
    /// In one line.
    fn reason(&self) -> String {
        match self {
            Self::File(LoadError::Invalid(report)) => report.summary(),
            Self::Wiring(WiringError::Resolve { runner, source }) => {
                format!("runner {runner}: {}", source.in_own_words())
            }
            Self::File(LoadError::Read { .. })
            | Self::Descriptors(_)
            | Self::Wiring(_)
            | Self::Start(_) => crate::chain(self),
        }
    }

    /// Every mistake with its place, as `check` prints it.
    fn report(&self) -> Option<String> {
        match self {
            Self::File(LoadError::Invalid(report)) => Some(report.render()),
            Self::File(LoadError::Read { .. })
            | Self::Descriptors(_)
            | Self::Wiring(_)
            | Self::Start(_) => None,
        }
    }
}

/// Who asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// SIGHUP: credentials are read again whatever the file says.
    Asked,
    /// The file is another one.
    File,
}

/// Reads the configuration again, as often as it is asked to.
pub(super) struct Reloader<'a> {
    options: &'a DaemonOptions,
    all: AllPools,
    store: Store,
    wiring: Wiring,
    metrics: Metrics,
    notify: Notify,
    /// What holds now.
    text: Vec<u8>,
    /// What was refused: said once, not at each look.
    refused: Option<Vec<u8>>,
}

impl<'a> Reloader<'a> {
    /// From a daemon that was started with `options`, its pools made by `wiring`.
    pub(super) fn new(
        options: &'a DaemonOptions,
        all: AllPools,
        store: Store,
        wiring: Wiring,
        metrics: Metrics,
        notify: Notify,
    ) -> Self {
        let text = options.text.clone();
        Self { options, all, store, wiring, metrics, notify, text, refused: None }
    }

    /// Waits for reasons to read it again, and does.
    pub(super) async fn serve(
        mut self,
        controller: &Controller,
        hangups: &mut Signal,
    ) -> Infallible {
        let mut file = FileWatch::new(&self.options.config.path);
        let watches = self.options.flavor == Flavor::Native;
        loop {
            let cause = tokio::select! {
                biased;
                Some(()) = hangups.recv() => Cause::Asked,
                () = file.changed(), if watches => Cause::File,
                else => std::future::pending().await,
            };
            file.note();
            self.notify.reloading();
            self.reload(controller, cause).await;
            self.notify.ready();
        }
    }

    async fn reload(&mut self, controller: &Controller, cause: Cause) {
        if cause == Cause::Asked {
            tracing::info!("asked to read the configuration again");
        }
        let result = match self.read(controller, cause).await {
            Ok(result) => result,
            Err(refused) => {
                let (reason, report) = self.explain(&refused);
                let report = report.as_deref();
                tracing::error!(error = reason, report, "configuration refused, nothing changed");
                Reload::Refused
            }
        };
        if result == Reload::Applied {
            tracing::info!("configuration applied");
        }
        if cause == Cause::Asked || result != Reload::Unchanged {
            self.metrics.config_reload(result);
        }
    }

    /// In one line, and every mistake with its place; the original's log has lines only.
    fn explain(&self, refused: &Refused) -> (String, Option<String>) {
        match (self.options.flavor, refused) {
            (Flavor::Outrunner, Refused::File(error)) => {
                // Its library takes several lines for mistakes of type; a line of the log is one.
                (crate::outrunner::load_error(error).replace("\n  ", " "), None)
            }
            (Flavor::Native | Flavor::Outrunner, _) => (refused.reason(), refused.report()),
        }
    }

    async fn read(&mut self, controller: &Controller, cause: Cause) -> Result<Reload, Refused> {
        let loaded = match load(&self.options.config.path, &self.options.load) {
            Ok(loaded) => loaded,
            Err(LoadError::Invalid(report)) => {
                let text = report.text().as_bytes().to_vec();
                let known = cause == Cause::File && self.refused.as_ref() == Some(&text);
                self.refused = Some(text);
                return if known {
                    Ok(Reload::Unchanged)
                } else {
                    Err(LoadError::Invalid(report).into())
                };
            }
            Err(error @ LoadError::Read { .. }) => return Err(error.into()),
        };
        self.refused = None;
        if cause == Cause::File && loaded.bytes == self.text {
            return Ok(Reload::Unchanged);
        }
        self.take(controller, loaded).await
    }

    async fn take(&mut self, controller: &Controller, loaded: Loaded) -> Result<Reload, Refused> {
        let Loaded { config, report, bytes } = loaded;
        limits::raise(&config.runners)?;
        let resolution = resolve(&config, &self.options.flags, &RealSurroundings);
        for warning in &resolution.warnings {
            tracing::warn!("{warning}");
        }
        let mut pools = self.wiring.pools(&config, resolution).await?;
        let changes = changes(&self.text, &bytes);
        if !changes.is_empty() {
            for finding in report.warnings() {
                tracing::warn!("{}", finding.one_line(&report.file));
            }
            self.tell(&changes, &config);
        }
        let served: BTreeSet<PoolName> =
            controller.health().borrow().pools.keys().cloned().collect();
        let removed = wiring::removed_pools(&self.store, &pools, &served);
        pools.extend(removed);
        self.prepare(&pools, &changes);
        self.all.apply_file(pools, wiring::host_limits(&config)).await?;
        let result = if changes.is_empty() { Reload::Unchanged } else { Reload::Applied };
        if result == Reload::Unchanged {
            tracing::info!("configuration is the same, credentials were read again");
        }
        self.text = bytes;
        Ok(result)
    }

    /// The plan, before anything of it is done.
    fn tell(&self, changes: &Changes, config: &Config) {
        let (added, removed) = (changes.added.len(), changes.removed.len());
        let settings = changes.changed.len();
        tracing::info!(added, removed, settings, "configuration changed, applying it");
        for pool in &changes.removed {
            tracing::info!(pool, "pool is removed: it is drained, what runs finishes");
        }
        let summary = summarize(config, &self.options.flags);
        for pool in summary.pools.iter().filter(|pool| changes.added.contains(&pool.name)) {
            tracing::info!(pool = pool.name, plan = %pool, "pool is added");
        }
        for change in &changes.changed {
            let (pool, key) = (change.pool.as_deref(), change.key.as_str());
            let (from, to) = (change.from.as_str(), change.to.as_str());
            if change.effect == Effect::Restart {
                tracing::warn!(key, from, to, "setting needs a restart, the old one stays");
            } else {
                let effect = change.effect.as_str();
                tracing::info!(pool, key, from, to, effect, "setting changes");
            }
        }
    }

    /// What is new, or made otherwise from now on.
    fn prepare(&self, pools: &[PoolSettings], changes: &Changes) {
        let made_otherwise = |pool: &&PoolSettings| {
            let name = pool.name.as_str();
            let otherwise = |effect| matches!(effect, Effect::NextInstance | Effect::Moves);
            changes.added.iter().any(|added| added == name)
                || changes
                    .changed
                    .iter()
                    .any(|change| change.pool.as_deref() == Some(name) && otherwise(change.effect))
        };
        for pool in pools.iter().filter(made_otherwise) {
            prepare(pool);
        }
    }
}
