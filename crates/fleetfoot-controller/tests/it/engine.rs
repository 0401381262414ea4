//! Engines that are processes of their own, as far as a controller can tell, with stand-in runners in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use fleetfoot_core::{Exit, InstanceName};
use fleetfoot_provisioner::simulated::{Binding, SimulatedEngine, SimulatedProvisioner, serve};
use fleetfoot_provisioner::{Event, Provisioner};
use fleetfoot_sim::runner;
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
pub(crate) fn engine(directory: &std::path::Path, number: usize) -> Engine {
    let (engine, socket) =
        (SimulatedEngine::new(), directory.join(format!("engine-{number}.sock")));
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(serve(listener, engine.clone()));
    let runners: Arc<Mutex<BTreeMap<InstanceName, AbortHandle>>> = Arc::default();
    let (handle, hook_engine, known) =
        (tokio::runtime::Handle::current(), engine.clone(), runners.clone());
    engine.on_launch(move |name, jit| {
        let blob = runner::Blob::parse(jit.expose()).unwrap();
        let (engine, of) = (hook_engine.clone(), name.clone());
        let task = handle.spawn(async move {
            let ended = runner::Runner::new(blob).run(&mut std::io::sink()).await;
            let code = match ended {
                Ok(runner::Exit::JobDone | runner::Exit::Stopped) => 0,
                Ok(runner::Exit::Crashed) => 137,
                Ok(runner::Exit::Refused | runner::Exit::VersionDeprecated) | Err(_) => 1,
            };
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

impl Drop for Engine {
    fn drop(&mut self) {
        for task in self.runners.lock().unwrap().values() {
            task.abort();
        }
    }
}
