//! The life of the `run` process: lock, store, pools, faces, signals, and the way out.

mod beside;
mod faces;
mod limits;
mod notify;
mod parts;
mod reload;
pub(crate) mod signals;
mod store;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_controller::{Controller, ControllerSettings, Pace, StartError, Stopped};
use fleetfoot_core::PoolName;
use fleetfoot_server::listen::ListenError;
use fleetfoot_server::{ControlRequest, Metrics, ServerState};
use fleetfoot_store::{LockError, Search, StateDir, StateDirError, StateDirOpenError, Store};
use tokio::sync::{mpsc, watch};

use crate::config::credentials::{Flags, RealSurroundings, resolve};
use crate::config::store::StoreUrlError;
use crate::config::{Config, Flavor, LoadOptions};
use crate::myshoes::Environment;
use crate::myshoes::database::Guard;
use crate::myshoes::targets::{MyshoesError, Targets};
use crate::wiring::{self, Surroundings, Wiring, WiringError};

use beside::{Beside, run_beside};
use faces::Faces;
pub(crate) use parts::AllPools;
use parts::all_pools;
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
    /// Targets of myshoes beside the pools.
    pub targets: Option<Environment>,
}

impl DaemonOptions {
    /// There is a configuration; without one the targets are all there is.
    fn has_file(&self) -> bool {
        !self.config.path.as_os_str().is_empty()
    }
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
    /// Targets of myshoes.
    #[error(transparent)]
    Myshoes(#[from] MyshoesError),
}

impl DaemonError {
    /// The mistake is in the configuration, not in the surroundings.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        let of_targets = |error: &MyshoesError| {
            matches!(
                error,
                MyshoesError::Section(_) | MyshoesError::TwoStores | MyshoesError::WebhookMode
            )
        };
        match self {
            Self::Wiring(_) | Self::ListenToken { .. } | Self::StoreUrl(_) => true,
            Self::Myshoes(error) => of_targets(error),
            Self::StateDir(_)
            | Self::Lock(_)
            | Self::Store(_)
            | Self::StoreRead(_)
            | Self::Descriptors(_)
            | Self::Listen(_)
            | Self::Program(_)
            | Self::Start(_)
            | Self::PutBack
            | Self::Signals(_) => false,
        }
    }
}

/// Runs until a signal or a takeover ends it.
///
/// # Errors
/// [`DaemonError`] when it could not start; what it began is undone.
pub async fn run(options: DaemonOptions) -> Result<Stopped, DaemonError> {
    let mut wishes = signals::listen().map_err(DaemonError::Signals)?;
    let config = &options.config;
    let targets = match &options.targets {
        Some(environment) => Some(Targets::ready(environment.clone()).await?),
        None => None,
    };
    limits::raise(&config.runners)?;
    let outrunner = options.flavor == Flavor::Outrunner;
    let key = options.state_dir.clone().or_else(|| config.state_dir.clone());
    let file = outrunner.then_some(config.path.as_path());
    let state_dir = crate::outrunner::state_dir(&Search::from_environment(key, outrunner), file)?;
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
    let Some((guard, store)) =
        open_store(&options, targets.as_ref(), &state_dir, &mut wishes).await?
    else {
        return Ok(store::NOT_BEGUN);
    };
    if let Some(behind) = store.behind() {
        tracing::warn!(
            cause = behind.as_str(),
            "{behind}, looking at everything outside before making anything"
        );
    }
    let life = async {
        let stopped = serve(&options, &state_dir, store.clone(), wishes, targets.as_ref()).await;
        if let Some(targets) = &targets {
            let took = stopped.as_ref().map_or(Duration::ZERO, |stopped| stopped.took);
            targets.end(took).await;
        }
        store.close().await;
        stopped
    };
    // Without its lock nothing is said goodbye to: that would be written.
    let stopped = guard.during(life).await;
    drop(lock);
    stopped
}

type Opened = (Guard, Store);

/// Opens the store; nothing if a signal came while it was waited for: a standby ends at once, it has begun nothing.
async fn open_store(
    options: &DaemonOptions,
    targets: Option<&Targets>,
    state_dir: &StateDir,
    wishes: &mut signals::Wishes,
) -> Result<Option<Opened>, DaemonError> {
    let (config, with) = (&options.config, store::options(&options.config));
    let by_targets = |it: &&Targets| it.names_store() || !options.has_file();
    let Some(targets) = targets.filter(by_targets) else {
        return Ok(Some((Guard::none(), store::open(config, state_dir, with).await?)));
    };
    if options.has_file() && crate::config::store::find(config, &RealSurroundings)?.is_some() {
        return Err(MyshoesError::TwoStores.into());
    }
    tokio::select! {
        biased;
        wish = wishes.next() => match wish {
            Wish::Stop => Ok(None),
        },
        opened = targets.open(state_dir, &with) => opened.map(Some),
    }
}

async fn serve(
    options: &DaemonOptions,
    state_dir: &StateDir,
    store: Store,
    wishes: signals::Wishes,
    targets: Option<&Targets>,
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
    if let Some(targets) = targets {
        wiring.share(targets.shared());
    }
    let mut pools = wiring.pools(config, resolution).await?;
    let (faces_stop, faces_stopped) = watch::channel(false);
    let (clock, mut wishes) = (store::clock(), wishes);
    let mut beside = None;
    if let Some(targets) = targets {
        let (clock, stop) = (clock.clone(), &faces_stopped);
        beside = Beside::new(targets, &store, &pools, clock, stop, &mut wishes).await?;
        if beside.is_none() {
            return Ok(store::not_begun(&store));
        }
    }
    let of_targets = beside.as_mut().map(Beside::take).unwrap_or_default();
    let known: BTreeSet<PoolName> = of_targets.iter().map(|pool| pool.name.clone()).collect();
    pools.extend(wiring::removed_pools(&store, &pools, &known));
    let faces = Faces::open(config, state_dir).await?;
    for pool in &pools {
        prepare(pool);
    }
    let named: Vec<PoolName> = pools.iter().map(|pool| pool.name.clone()).collect();
    let releases = wiring.releases();
    let host = wiring::host_limits(config);
    let (all, turns) = all_pools(pools.clone(), of_targets.clone(), host.clone());
    pools.extend(of_targets);
    let settings = ControllerSettings {
        host,
        session_owner: session_owner(),
        boot_id: fleetfoot_store::boot_id().ok(),
        careful: store.was_lost(),
        runner_refused: releases.refused(),
        ..ControllerSettings::default()
    };
    let controller =
        Controller::start_at(store.clone(), pools, settings, clock.clone(), pace()).await?;
    let (control, mut requests) = mpsc::channel(4);
    let instances = store.clone();
    let reader = controller.log_reader();
    let metrics = Metrics::install();
    metrics.config_loaded();
    let notify = notify::Notify::from_environment();
    let reloader =
        Reloader::new(options, all.clone(), store.clone(), wiring, metrics.clone(), notify.clone());
    let state = ServerState {
        store: store.clone(),
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
    let mut serving = faces.serve(state.clone(), beside.is_some(), &faces_stopped);
    if let Some(beside) = &mut beside {
        serving.extend(beside.show(&controller, state));
    }
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
        never = run_beside(beside.as_mut(), &store, &controller, &all) => match never {},
        never = reloader.serve(&controller, &mut hangups), if options.has_file() => match never {},
        never = turns.run(&controller) => match never {},
        never = notify.stay_alive() => match never {},
        never = releases.run(|| store::oldest_instance(&instances)) => match never {},
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
    if options.flavor == Flavor::Outrunner {
        crate::outrunner::stopped(&store, &named, stopped.clean);
    }
    if put_back { Err(DaemonError::PutBack) } else { Ok(stopped) }
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
