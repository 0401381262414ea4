//! A box and a simulated engine in this process, and a controller of its own between them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_provisioner::simulated::{SimulatedEngine, serve};
use fleetfoot_provisioner::{Exit, InstanceName, JitConfig};
use fleetfoot_sim::runner::{Blob, Runner};
use fleetfoot_sim::{
    BoxConfig, BoxState, DEFAULT_TOKEN, GithubBox, Settings, Summary, WaitedInVain,
};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::commands::sim::{Controller, ControllerFiles, DataDirectory};

/// The organization of everything measured.
pub(super) const SCOPE: &str = "bench";
/// A controller may take so long until every pool polls.
const READY_BOUND: Duration = Duration::from_secs(120);
/// And so long to end.
const STOP_BOUND: Duration = Duration::from_secs(20);

/// One pool of a configuration.
pub(super) struct PoolLine {
    pub(super) name: String,
    pub(super) limit: usize,
}

/// A simulated engine behind a socket, whose environments are played by stand-in runners in this process.
pub(super) struct Engine {
    pub(super) engine: SimulatedEngine,
    tasks: JoinSet<()>,
}

impl Engine {
    /// Serves an engine on `socket`.
    pub(super) fn serve(socket: &Path) -> Result<Self> {
        let listener = UnixListener::bind(socket).context("cannot bind the engine's socket")?;
        let engine = SimulatedEngine::new();
        let (launched_tx, launched_rx) = mpsc::unbounded_channel();
        engine.on_launch(move |name, jit| {
            // The receiver lives as long as the engine's tasks.
            let _ = launched_tx.send((name.clone(), jit.clone()));
        });
        let mut tasks = JoinSet::new();
        let serving = engine.clone();
        tasks.spawn(async move {
            let _ = serve(listener, serving).await;
        });
        tasks.spawn(play_all(engine.clone(), launched_rx));
        Ok(Self { engine, tasks })
    }

    /// Ends the engine with its runners.
    pub(super) async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn play_all(
    engine: SimulatedEngine,
    mut launched: mpsc::UnboundedReceiver<(InstanceName, JitConfig)>,
) {
    let mut runners = JoinSet::new();
    loop {
        tokio::select! {
            next = launched.recv() => {
                let Some((name, jit)) = next else { return };
                let engine = engine.clone();
                runners.spawn(async move {
                    play(jit.expose()).await;
                    engine.end(&name, Exit { code: Some(0), out_of_memory: false, message: None });
                });
            }
            Some(_) = runners.join_next() => {}
        }
    }
}

/// Plays the runner with this JIT config until its end.
pub(super) async fn play(jit: &str) {
    if let Ok(blob) = Blob::parse(jit) {
        // A runner that fails is a job that does not end; the measurement notices.
        let _ = Runner::new(blob).run(&mut std::io::sink()).await;
    }
}

/// Everything for a row with the simulated engine.
pub(super) struct Rig {
    pub(super) data: DataDirectory,
    pub(super) github: GithubBox,
    pub(super) engine: Engine,
    pub(super) files: ControllerFiles,
    pub(super) controller: Option<Controller>,
}

impl Rig {
    /// Starts the box, the engine and a controller with these pools, and waits until all poll.
    pub(super) async fn start(settings: Settings, pools: &[PoolLine]) -> Result<Self> {
        let data = DataDirectory::new("bench")?;
        let github = GithubBox::start(BoxConfig::with_settings(settings)).await?;
        let socket = data.path().join("engine.sock");
        let engine = Engine::serve(&socket)?;
        let config = config(&github.url(), data.path(), pools, &simulated(&socket))?;
        let files = ControllerFiles::write(data.path(), &config)?;
        let mut rig = Self { data, github, engine, files, controller: None };
        rig.start_controller().await?;
        Ok(rig)
    }

    /// Starts the controller (again) and waits until it is ready.
    pub(super) async fn start_controller(&mut self) -> Result<()> {
        let controller = self.controller.insert(Controller::start(&self.files)?);
        controller.wait_ready(READY_BOUND).await?;
        Ok(())
    }

    /// Waits until the box is as wanted; fails if the controller ends.
    pub(super) async fn wait(
        &mut self,
        bound: Duration,
        wanted: impl FnMut(&BoxState) -> bool,
    ) -> Result<BoxState> {
        let waited = self.github.wait_until(bound, wanted).await;
        self.checked(waited)
    }

    /// The same by counts alone: with many jobs, copies of the box's state are work beside what is measured.
    pub(super) async fn wait_counts(
        &mut self,
        bound: Duration,
        wanted: impl FnMut(&Summary) -> bool,
    ) -> Result<Summary> {
        let waited = self.github.wait_counts(bound, wanted).await;
        self.checked(waited)
    }

    /// A controller that ended is why somebody waited in vain.
    fn checked<T>(&mut self, waited: Result<T, WaitedInVain>) -> Result<T> {
        if let Some(controller) = &mut self.controller {
            controller.check()?;
        }
        Ok(waited?)
    }

    /// Waits until no runner and no environment is left.
    pub(super) async fn wait_quiet(&mut self, bound: Duration) -> Result<()> {
        let engine = self.engine.engine.clone();
        self.wait(bound, |state| state.summary.runners == 0 && engine.environments().is_empty())
            .await?;
        Ok(())
    }

    /// Ends everything.
    pub(super) async fn end(mut self) -> Result<()> {
        if let Some(controller) = self.controller.take() {
            controller.stop(STOP_BOUND).await?;
        }
        self.engine.end().await;
        drop(self.github);
        self.data.remove()
    }
}

/// The backend's part of a configuration with a simulated engine.
pub(super) fn simulated(socket: &Path) -> String {
    format!("    simulated: {{socket: {}}}\n", socket.display())
}

/// A configuration, and the token file it names.
pub(super) fn config(
    url: &str,
    directory: &Path,
    pools: &[PoolLine],
    backend: &str,
) -> Result<String> {
    let token = directory.join("token");
    std::fs::write(&token, DEFAULT_TOKEN).context("cannot write the token file")?;
    let mut text = format!("url: {url}/{SCOPE}\ntoken_file: {}\nrunners:\n", token.display());
    for PoolLine { name, limit } in pools {
        let _ = write!(
            text,
            "  {name}:\n    labels: [{name}]\n    max_runners: {limit}\n    idle_timeout: 1s\n    remains_max: 200\n{backend}"
        );
    }
    Ok(text)
}

/// Pools `<prefix>-0000` and on, each with this limit.
pub(super) fn pool_lines(prefix: &str, count: usize, limit: usize) -> Vec<PoolLine> {
    (0..count).map(|index| PoolLine { name: format!("{prefix}-{index:04}"), limit }).collect()
}
