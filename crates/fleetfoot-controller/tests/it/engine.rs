//! Engines that are processes of their own, as far as a controller can tell, with runners in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetfoot_core::{Exit, InstanceName};
use fleetfoot_provisioner::simulated::{Binding, SimulatedEngine, SimulatedProvisioner, serve};
use fleetfoot_provisioner::{Event, Provisioner};
use fleetfoot_sim::GithubBox;
use futures_util::StreamExt as _;
use tokio::task::AbortHandle;

use crate::bed::installation;

pub(crate) struct Engine {
    pub(crate) engine: SimulatedEngine,
    pub(crate) socket: std::path::PathBuf,
    runners: Arc<Mutex<BTreeMap<InstanceName, AbortHandle>>>,
}

impl Engine {
    /// The runner in `name` falls silent; its environment goes on.
    pub(crate) fn silence(&self, name: &InstanceName) {
        if let Some(task) = self.runners.lock().unwrap().remove(name) {
            task.abort();
        }
    }

    pub(crate) fn ours(&self) -> BTreeSet<InstanceName> {
        let ours = self.engine.environments().into_iter().filter(|(of, _)| *of == installation());
        ours.map(|(_, info)| info.name).collect()
    }
}

/// An engine behind a socket, as one that is a process of its own.
pub(crate) fn engine(
    directory: &std::path::Path,
    number: usize,
    github: &Arc<GithubBox>,
) -> Engine {
    let (engine, socket) =
        (SimulatedEngine::new(), directory.join(format!("engine-{number}.sock")));
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(serve(listener, engine.clone()));
    let runners: Arc<Mutex<BTreeMap<InstanceName, AbortHandle>>> = Arc::default();
    let (hook_engine, known, github) = (engine.clone(), runners.clone(), github.clone());
    engine.on_launch(move |name, jit| {
        let (engine, github) = (hook_engine.clone(), github.clone());
        let (of, jit) = (name.clone(), jit.expose().to_owned());
        let task = tokio::spawn(async move {
            let code = runner(&github, &jit).await;
            engine.end(&of, Exit { code: Some(code), ..Exit::default() });
        });
        known.lock().unwrap().insert(name.clone(), task.abort_handle());
    });
    // What is deleted or killed takes its runner with it.
    let (watched, known) = (engine.clone(), runners.clone());
    tokio::spawn(async move {
        let watch = SimulatedProvisioner::new(&watched, installation(), Binding::SingleStep);
        let mut events = watch.watch().await.unwrap();
        while let Some(event) = events.next().await {
            if let Event::Ended { name, .. } = event
                && let Some(task) = known.lock().unwrap().remove(&name)
            {
                task.abort();
            }
        }
    });
    Engine { engine, socket, runners }
}

/// Does its one job; its exit code.
pub(crate) async fn runner(github: &GithubBox, jit: &str) -> i32 {
    if github.settings().runner_version_deprecated {
        return 1;
    }
    let Some(mut agent) = github.connect_runner(jit) else { return 1 };
    let Some(work) = agent.job().await else { return 1 };
    if !agent.start(work.id) {
        return 1;
    }
    let result = tokio::select! {
        biased;
        () = tokio::time::sleep(Duration::from_millis(work.duration_ms)) => work.result.as_str(),
        () = agent.cancelled(work.id) => "canceled",
    };
    if work.crash {
        return 137;
    }
    agent.complete(work.id, result);
    0
}

impl Drop for Engine {
    fn drop(&mut self) {
        for task in self.runners.lock().unwrap().values() {
            task.abort();
        }
    }
}
