//! The life of the `run` process: lock, store, pools, faces, signals, and the way out.

mod limits;
mod notify;
mod reload;
pub(crate) mod signals;
mod store;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use fleetfoot_controller::{Controller, ControllerSettings, Pace, StartError, Stopped};
use fleetfoot_core::Span;
use fleetfoot_server::listen::{self, ListenError};
use fleetfoot_server::{ControlRequest, Face, Metrics, ServerState};
use fleetfoot_store::{
    LockError, Options, Retention, Search, StateDir, StateDirError, StateDirOpenError, Store,
};
use secrecy::SecretString;
use tokio::sync::{mpsc, watch};

use crate::config::credentials::{Flags, RealSurroundings, resolve};
use crate::config::store::StoreUrlError;
use crate::config::{Config, Flavor, LoadOptions};
use crate::wiring::{self, Surroundings, Wiring, WiringError};

use reload::Reloader;
use signals::Wish;

/// What `run` is asked to do.
#[derive(Debug, Clone)]
pub struct DaemonOptions {
    /// The checked configuration.
    pub config: Config,
    /// The file it was read from, as it was.
    pub text: Vec<u8>,
    /// How the file is read again.
    pub load: LoadOptions,
    /// What the command line adds to it.
    pub flags: Flags,
    /// `--state-dir`, before the configuration's key.
    pub state_dir: Option<PathBuf>,
    /// Whose habits.
    pub flavor: Flavor,
    /// Ask a running fleetfoot to hand over first.
    pub takeover: bool,
}

/// The daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The state directory.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// Somebody else holds it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The store in it.
    #[error(transparent)]
    Store(#[from] StateDirOpenError),
    /// The address of a store that several controllers share.
    #[error(transparent)]
    StoreUrl(#[from] StoreUrlError),
    /// That store does not answer yet.
    #[error("failed to read the store")]
    StoreRead(#[from] fleetfoot_store::ReadError),
    /// A pool.
    #[error(transparent)]
    Wiring(#[from] WiringError),
    /// Too few file descriptors.
    #[error(transparent)]
    Descriptors(#[from] limits::TooFewDescriptors),
    /// A place to be reached at.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The token file of `listen`.
    #[error("failed to read the token file of `listen` {}", path.display())]
    ListenToken {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program's own path is not known.
    #[error("failed to find the fleetfoot program itself")]
    Program(#[source] std::io::Error),
    /// The controller.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What it shares with other controllers is of the past.
    #[error(
        "the database was put back to what it was before; start again, everything outside is looked at first then"
    )]
    PutBack,
    /// Signals cannot be received.
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
}

impl DaemonError {
    /// The mistake is in the configuration, not in the surroundings.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Wiring(_) | Self::ListenToken { .. } | Self::StoreUrl(_))
    }
}

/// Runs until a signal or a takeover ends it.
///
/// # Errors
/// [`DaemonError`] when it could not start; what it began is undone.
pub async fn run(options: DaemonOptions) -> Result<Stopped, DaemonError> {
    let wishes = signals::listen().map_err(DaemonError::Signals)?;
    let config = &options.config;
    limits::raise(&config.runners)?;
    let outrunner = options.flavor == Flavor::Outrunner;
    let key = options.state_dir.clone().or_else(|| config.state_dir.clone());
    let state_dir = StateDir::resolve(&Search::from_environment(key, outrunner))?;
    if let Some(warning) = state_dir.warning() {
        tracing::warn!(state_dir = %state_dir.path().display(), "{warning}");
    }
    if options.takeover {
        crate::takeover::ask(&state_dir.control_socket()).await;
    }
    let lock = if options.takeover {
        crate::takeover::lock(&state_dir).await?
    } else {
        state_dir.lock()?
    };
    let store = store::open(config, &state_dir, store_options(config)).await?;
    if let Some(behind) = store.behind() {
        tracing::warn!(
            cause = behind.as_str(),
            "{behind}, looking at everything outside before making anything"
        );
    }
    let stopped = serve(&options, &state_dir, store.clone(), wishes).await;
    store.close().await;
    drop(lock);
    stopped
}

async fn serve(
    options: &DaemonOptions,
    state_dir: &StateDir,
    store: Store,
    wishes: signals::Wishes,
) -> Result<Stopped, DaemonError> {
    let config = &options.config;
    let resolution = resolve(config, &options.flags, &RealSurroundings);
    for warning in &resolution.warnings {
        tracing::warn!("{warning}");
    }
    let surroundings = Surroundings {
        installation: store.installation().clone(),
        instances: state_dir.instances(),
        program: std::env::current_exe().map_err(DaemonError::Program)?,
        flavor: options.flavor,
    };
    let mut wiring = Wiring::new(&surroundings, config);
    let mut pools = wiring.pools(config, resolution).await?;
    pools.extend(wiring::removed_pools(&store, &pools, &BTreeSet::new()));
    let faces = Faces::open(config, state_dir).await?;
    for pool in &pools {
        prepare(pool);
    }
    let releases = wiring.releases();
    let settings = ControllerSettings {
        host: wiring::host_limits(config),
        session_owner: session_owner(),
        boot_id: fleetfoot_store::boot_id().ok(),
        careful: store.was_lost(),
        runner_refused: releases.refused(),
        ..ControllerSettings::default()
    };
    let clock = store::clock();
    let controller =
        Controller::start_at(store.clone(), pools, settings, clock.clone(), pace()).await?;
    let (faces_stop, faces_stopped) = watch::channel(false);
    let (control, mut requests) = mpsc::channel(4);
    let instances = store.clone();
    let reader = controller.log_reader();
    let metrics = Metrics::install();
    metrics.config_loaded();
    let notify = notify::Notify::from_environment();
    let reloader = Reloader::new(options, store.clone(), wiring, metrics.clone(), notify.clone());
    let state = ServerState {
        store,
        health: controller.health(),
        logs: Arc::new(move |name, lines| {
            let reader = reader.clone();
            Box::pin(async move { reader.read(&name, lines).await })
        }),
        version: store::version(),
        control,
        metrics,
        clock: Arc::new(move || clock.now()),
    };
    let serving = faces.serve(state, &faces_stopped);
    let mut wishes = wishes;
    let mut hangups = signals::hangups().map_err(DaemonError::Signals)?;
    notify.ready();
    let mut put_back = false;
    let successor = tokio::select! {
        biased;
        () = instances.put_back() => {
            put_back = true;
            false
        }
        wish = wishes.next() => match wish {
            Wish::Stop => false,
        },
        Some(request) = requests.recv() => match request {
            ControlRequest::Takeover => {
                tracing::info!("handing over");
                true
            }
        },
        never = reloader.serve(&controller, &mut hangups) => match never {},
        never = notify.stay_alive() => match never {},
        never = releases.run(|| oldest_instance(&instances)) => match never {},
    };
    notify.stopping();
    wishes.exit_on_the_next();
    let stopped = if successor { controller.hand_over().await } else { controller.stop().await };
    faces_stop.send_replace(true);
    for task in serving {
        // A face that panicked has nothing left to close.
        let _ = task.await.is_ok();
    }
    // Nobody answers there any more; a successor makes its own once the lock is free.
    let _ = std::fs::remove_file(state_dir.control_socket()).is_ok();
    if put_back { Err(DaemonError::PutBack) } else { Ok(stopped) }
}

/// When the oldest instance that lives was begun: it may use a release of the runner that was replaced since.
fn oldest_instance(store: &Store) -> Option<std::time::SystemTime> {
    let pools = store.pools();
    let begun = pools.values().flat_map(|state| state.instances.values()).map(|one| one.created_at);
    let oldest = u64::try_from(begun.min()?.0).unwrap_or_default();
    Some(std::time::UNIX_EPOCH + std::time::Duration::from_millis(oldest))
}

/// Production's pace. A program built for tests of crashes takes a shorter bound of calls from its
/// environment, or each test would wait for what may still land (design, 11.1).
fn pace() -> Pace {
    #[cfg(feature = "faults")]
    if let Some(ms) = std::env::var("FLEETFOOT_CALL_BOUND_MS").ok().and_then(|ms| ms.parse().ok()) {
        return Pace { call_bound: fleetfoot_core::Span(ms), ..Pace::default() };
    }
    Pace::default()
}

/// Where the daemon can be reached.
struct Faces {
    control: tokio::net::UnixListener,
    network: Option<(tokio::net::TcpListener, Face)>,
}

impl Faces {
    async fn open(config: &Config, state_dir: &StateDir) -> Result<Self, DaemonError> {
        let network = match &config.listen {
            None => None,
            Some(listen) => {
                let token = match &listen.token_file {
                    None => None,
                    Some(path) => {
                        let text = std::fs::read_to_string(path).map_err(|source| {
                            DaemonError::ListenToken { path: path.clone(), source }
                        })?;
                        Some(Arc::new(SecretString::from(text.trim().to_owned())))
                    }
                };
                let listener = listen::bind_tcp(listen.address).await?;
                tracing::info!(address = %listen.address, "listening for http");
                Some((listener, Face::Network { token }))
            }
        };
        Ok(Self { control: listen::bind_control(&state_dir.control_socket())?, network })
    }

    fn serve(
        self,
        state: ServerState,
        stop: &watch::Receiver<bool>,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let tasks = fleetfoot_controller::Tasks::default();
        let stopped = |mut stop: watch::Receiver<bool>| async move {
            let _ = stop.wait_for(|stop| *stop).await.is_ok();
        };
        let control = fleetfoot_server::router(state.clone(), &Face::Control);
        let control_stop = stopped(stop.clone());
        let mut serving = vec![tasks.spawn("control socket", async move {
            if let Err(error) = listen::serve(self.control, control, control_stop).await {
                tracing::error!(%error, "control socket failed");
            }
        })];
        if let Some((listener, face)) = self.network {
            let (store, metrics) = (state.store.clone(), state.metrics.clone());
            let numbers = fleetfoot_server::record::watch(store, metrics, stopped(stop.clone()));
            serving.push(tasks.spawn("numbers", numbers));
            let router = fleetfoot_server::router(state, &face);
            let network_stop = stopped(stop.clone());
            serving.push(tasks.spawn("http", async move {
                if let Err(error) = listen::serve(listener, router, network_stop).await {
                    tracing::error!(%error, "http failed");
                }
            }));
        }
        serving
    }
}

fn store_options(config: &Config) -> Options {
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

/// Pulls, unpacks, checks: in the background, so that no pool waits for another's.
fn prepare(pool: &fleetfoot_controller::PoolSettings) {
    let (name, provisioner) = (pool.name.clone(), pool.provisioner.clone());
    fleetfoot_controller::Tasks::default().spawn("prepare", async move {
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("daemon.prepare.before");
        let prepared = provisioner.prepare().await;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("daemon.prepare.after");
        if let Err(error) = prepared {
            tracing::warn!(pool = %name, error = %crate::chain(&error), "backend is not prepared");
        }
    });
}

/// The host's name; a random one if it has none.
pub(crate) fn session_owner() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if host.is_empty() { uuid::Uuid::new_v4().to_string() } else { host }
}
