//! What a daemon needs to serve targets: the plugin, the App, the lock of the original's database, the numbers.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_controller::Controller;
use fleetfoot_myshoes::environment::Switch;
use fleetfoot_provisioner_shoes::{HostSettings, PluginHost, PluginOutput, ProcessModel};
use fleetfoot_store::{Options, StateDir, Store, TargetsError};
use tokio::sync::watch;

use super::database::{Guard, Place};
use super::docker_hub::Hub;
use super::github::{AskError, Github};
use super::plugin::{self, PluginError};
use super::sync::Sync;
use super::{Environment, SectionError, history, rest, tokens};
use crate::daemon::{AllPools, DaemonError};

/// From the signal to the exit; whoever waits for it gives ten seconds.
const EXIT_BOUND: Duration = Duration::from_millis(9_500);

/// Targets cannot be served, or not any longer.
#[derive(Debug, thiserror::Error)]
pub enum MyshoesError {
    /// The section of the configuration.
    #[error(transparent)]
    Section(#[from] SectionError),
    /// The database of the named lock.
    #[error("the database cannot be used: {0}")]
    Database(fleetfoot_store::DriverError),
    /// Two databases are named.
    #[error(
        "both the configuration and the variables of myshoes name a database, keep one of them"
    )]
    TwoStores,
    /// The targets.
    #[error("failed to read targets")]
    Targets(#[from] TargetsError),
    /// The plugin.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The App's key, or the address of GitHub.
    #[error("{}: {_0}", variable_of(_0))]
    Github(#[from] AskError),
    /// Another program listens there.
    #[error("PORT: {0} is in use: stop the program that has it, or choose another one")]
    PortInUse(u16),
    /// The token of the API.
    #[error("MYSHOES_API_TOKEN_FILE: failed to read {}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Webhook mode.
    #[error(
        "SCALESET_ENABLED: webhook mode is not in this version: set it to true for scale set mode, or to false to serve only those targets whose own mode is scaleset"
    )]
    WebhookMode,
    /// Another process has the lock now.
    #[error("the named lock of the database is lost: somebody else may work on it")]
    LockLost,
}

/// The variable that a way to GitHub cannot be made of.
fn variable_of(error: &AskError) -> &'static str {
    match error {
        AskError::Scope(_) => "GITHUB_URL",
        AskError::Github(_) | AskError::Away(_) => "GITHUB_PRIVATE_KEY_BASE64",
    }
}

/// Targets that can be served.
pub(crate) struct Targets {
    pub(super) environment: Environment,
    pub(super) github: Arc<Github>,
    host: Arc<PluginHost>,
}

impl Targets {
    /// Finds the plugin and reads the App's key; nobody is asked yet.
    pub(crate) async fn ready(environment: Environment) -> Result<Self, MyshoesError> {
        let settings = &environment.settings;
        if settings.scale_set.switch == Switch::Unsaid {
            // Whoever only replaced the binary would see it run, and no job.
            return Err(MyshoesError::WebhookMode);
        }
        // The configuration first, the App's key and then the plugin included, then the mode: in the original's order.
        let stores_tokens = environment.own.stores_tokens;
        let github = Github::new(&settings.github_url, &settings.app, stores_tokens)?;
        let program = plugin::find(&environment).await?;
        match settings.scale_set.switch {
            Switch::On => tracing::info!("Scale set mode enabled"),
            Switch::Off | Switch::Unsaid => {
                tracing::info!("Scale set mode disabled (webhook mode)");
                tracing::warn!(
                    "webhook mode is not in this version: targets get machines only if their own mode is scaleset"
                );
            }
        }
        let host = PluginHost::new(host_settings(&environment, program));
        Ok(Self { environment, github: Arc::new(github), host })
    }

    /// Budgets and tokens, which pools of a configuration with the same App share.
    pub(crate) fn shared(&self) -> fleetfoot_github::Shared {
        self.github.shared()
    }

    /// Whether its variables name the store.
    pub(crate) fn names_store(&self) -> bool {
        self.environment.settings.database.is_some()
    }

    /// Waits for the named lock, where there is one, and opens the store.
    pub(crate) async fn open(
        &self,
        state_dir: &StateDir,
        options: &Options,
    ) -> Result<(Guard, Store), DaemonError> {
        let place = Place::of(&self.environment, state_dir);
        let opened = async {
            let guard = place.lock().await?;
            let store = guard.during(place.open(state_dir, options)).await?;
            Ok((guard, store))
        };
        tokio::select! {
            biased;
            opened = opened => opened,
            never = rest::standby(self.environment.own.standby_port) => match never? {},
        }
    }

    /// What goes on now, in the original's words where it has them.
    pub(crate) fn log_start(&self) {
        match self.environment.settings.scale_set.switch {
            Switch::On => tracing::info!("Starting in scale set mode"),
            Switch::Off | Switch::Unsaid => {
                tracing::info!("Starting in scale set mode for targets whose own mode it is");
            }
        }
    }

    /// From targets to pools.
    pub(crate) fn sync(&self, store: &Store) -> Sync {
        Sync::new(&self.environment, self.github.clone(), self.host.clone(), store)
    }

    /// Everything that goes on beside the controller, for ever.
    pub(crate) async fn run(
        &self,
        sync: &mut Sync,
        store: &Store,
        controller: &Controller,
        all: &AllPools,
        hub: watch::Sender<Option<(f64, f64)>>,
    ) -> Infallible {
        let hub = Hub::new(&self.environment.settings.docker_hub).run(hub);
        tokio::select! {
            biased;
            never = sync.run(store, controller, all) => never,
            never = tokens::keep(self.github.clone(), store.clone()) => never,
            never = history::keep(self.environment.own.history_days, store.clone()) => never,
            never = hub => never,
        }
    }

    /// Ends the plugin, in what is left of the stop after so long.
    pub(crate) async fn end(&self, took: Duration) {
        self.host.end(EXIT_BOUND.saturating_sub(took)).await;
    }
}

fn host_settings(environment: &Environment, program: PathBuf) -> HostSettings {
    let settings = HostSettings::new(program);
    let model =
        if environment.own.plugin_per_call { ProcessModel::PerCall } else { settings.model };
    let (auto_mtls, environment) = (environment.own.plugin_auto_mtls, environment.more.clone());
    HostSettings { auto_mtls, model, output: PluginOutput::PassedOn, environment, ..settings }
}
