//! The life of the process: plugin, lock, store, targets, faces, signals, and the way out.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_controller::{Clock, Controller, ControllerSettings, StartError, Stopped};
use fleetfoot_provisioner_shoes::{HostSettings, PluginHost, PluginOutput, ProcessModel};
use fleetfoot_server::ControlRequest;
use fleetfoot_server::listen::ListenError;
use fleetfoot_store::{
    LockError, NamedLock, ReadError, Search, StateDir, StateDirError, StateDirOpenError, Store,
    TargetsError,
};
use tokio::sync::watch;

use super::Environment;
use super::database::Place;
use super::docker_hub::Hub;
use super::github::{AskError, Github};
use super::plugin::{self, PluginError};
use super::pools::Served;
use super::rest::{self, Faces};
use super::sync::Sync;
use super::tokens;
use crate::daemon::session_owner;
use crate::daemon::signals::{self, Wish};

/// The named lock is asked for this often.
const LOCK_CHECK: Duration = Duration::from_secs(2);

/// The daemon could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum MyshoesError {
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// Somebody else holds it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StateDirOpenError),
    /// The database of the named lock.
    #[error("the database cannot be used: {0}")]
    Database(fleetfoot_store::DriverError),
    /// That store does not answer.
    #[error("failed to read the store")]
    StoreRead(#[from] ReadError),
    /// Its targets.
    #[error("failed to read targets")]
    Targets(#[from] TargetsError),
    /// The plugin.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The App's key, or the address of GitHub.
    #[error(transparent)]
    Github(#[from] AskError),
    /// A place to be reached at.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The token of the API.
    #[error("MYSHOES_API_TOKEN_FILE: failed to read {}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The controller.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Signals cannot be received.
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    /// Webhook mode.
    #[error(
        "SCALESET_ENABLED: webhook mode is not in this version, set it to true for scale set mode"
    )]
    WebhookMode,
    /// Another process has the lock now.
    #[error("the named lock of the database is lost: somebody else may work on it")]
    LockLost,
}

/// Runs until a signal or a takeover ends it.
///
/// # Errors
/// [`MyshoesError`] when it could not start, or lost its database to another one.
pub async fn run(environment: Environment) -> Result<Stopped, MyshoesError> {
    let wishes = signals::listen().map_err(MyshoesError::Signals)?;
    if !environment.settings.scale_set.is_enabled {
        return Err(MyshoesError::WebhookMode);
    }
    tracing::info!("Scale set mode enabled");
    let program = plugin::find(&environment).await?;
    let github = Github::new(
        &environment.settings.github_url,
        &environment.settings.app,
        environment.own.stores_tokens,
    )?;
    let state_dir = StateDir::resolve(&Search::from_environment(None, false))?;
    if let Some(warning) = state_dir.warning() {
        tracing::warn!(state_dir = %state_dir.path().display(), "{warning}");
    }
    let held = state_dir.lock()?;
    let place = Place::of(&environment, &state_dir);
    let mut wishes = wishes;
    // A signal ends a standby at once: it has begun nothing.
    let opened = async {
        let lock = place.lock().await?;
        Ok::<_, MyshoesError>((lock, place.open(&state_dir).await?))
    };
    let (lock, store) = tokio::select! {
        biased;
        wish = wishes.next() => match wish {
            Wish::Stop => return Ok(Stopped { idle: 0, running: 0, clean: true }),
        },
        opened = opened => opened?,
        never = rest::standby(environment.own.standby_port) => match never? {},
    };
    let host = PluginHost::new(host_settings(&environment, program));
    let daemon = Daemon { environment, state_dir, store, github: Arc::new(github), host };
    let stopped = daemon.serve(wishes, lock).await;
    if matches!(stopped, Err(MyshoesError::LockLost)) {
        // Nothing is said goodbye to: that would be written.
        return stopped;
    }
    daemon.host.end().await;
    daemon.store.close().await;
    drop(held);
    stopped
}

fn host_settings(environment: &Environment, program: PathBuf) -> HostSettings {
    let settings = HostSettings::new(program);
    let model =
        if environment.own.plugin_per_call { ProcessModel::PerCall } else { settings.model };
    HostSettings { model, output: PluginOutput::PassedOn, ..settings }
}

struct Daemon {
    environment: Environment,
    state_dir: StateDir,
    store: Store,
    github: Arc<Github>,
    host: Arc<PluginHost>,
}

impl Daemon {
    async fn serve(
        &self,
        mut wishes: signals::Wishes,
        lock: Option<NamedLock>,
    ) -> Result<Stopped, MyshoesError> {
        let faces = Faces::open(&self.environment, &self.state_dir, self.github.clone()).await?;
        let mut sync = Sync::new(&self.environment, self.github.clone(), self.host.clone());
        let Served { pools, set_aside } = sync.look(&self.store, &BTreeSet::new()).await?;
        let settings = ControllerSettings {
            session_owner: format!("myshoes-manager-{}", session_owner()),
            boot_id: fleetfoot_store::boot_id().ok(),
            careful: self.store.was_lost(),
            ..ControllerSettings::default()
        };
        let clock = Clock::system();
        tracing::info!("Starting in scale set mode");
        let controller =
            Controller::start(self.store.clone(), pools, settings, clock.clone()).await?;
        controller.set_aside(set_aside);
        let (stop, stopping) = watch::channel(false);
        let (hub_tells, hub) = watch::channel(None);
        let shown = sync.shown();
        let (serving, mut requests) =
            faces.serve(&self.environment, &self.store, &controller, clock, shown, hub, &stopping);
        let successor = tokio::select! {
            biased;
            wish = wishes.next() => match wish {
                Wish::Stop => false,
            },
            Some(request) = requests.recv() => match request {
                ControlRequest::Takeover => true,
            },
            // Whoever has the lock now must not meet us: nothing more is written, what was begun is in rows.
            () = lost(lock) => return Err(MyshoesError::LockLost),
            never = sync.run(&self.store, &controller) => match never {},
            never = tokens::keep(self.github.clone(), self.store.clone()) => match never {},
            never = Hub::new(&self.environment.settings.docker_hub).run(hub_tells) => match never {},
        };
        wishes.exit_on_the_next();
        let stopped =
            if successor { controller.hand_over().await } else { controller.stop().await };
        stop.send_replace(true);
        for task in serving {
            // A face that panicked has nothing left to close.
            let _ = task.await.is_ok();
        }
        let _ = std::fs::remove_file(self.state_dir.control_socket()).is_ok();
        Ok(stopped)
    }
}

/// Ends when the lock is lost; without one, never.
async fn lost(lock: Option<NamedLock>) {
    let Some(mut lock) = lock else { return std::future::pending().await };
    while lock.is_held().await {
        tokio::time::sleep(LOCK_CHECK).await;
    }
}
