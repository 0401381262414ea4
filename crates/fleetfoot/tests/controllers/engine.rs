//! An external engine that every controller of a case can see, with stand-in runners in it.

use std::path::{Path, PathBuf};

use fleetfoot_core::Exit;
use fleetfoot_provisioner::simulated::{SimulatedEngine, serve};
use fleetfoot_sim::runner;

pub(crate) struct Engine {
    pub(crate) engine: SimulatedEngine,
    pub(crate) socket: PathBuf,
}

impl Engine {
    pub(crate) fn start(directory: &Path) -> Self {
        let (engine, socket) = (SimulatedEngine::new(), directory.join("engine.sock"));
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(serve(listener, engine.clone()));
        let (handle, launched) = (tokio::runtime::Handle::current(), engine.clone());
        engine.on_launch(move |name, jit| {
            let blob = runner::Blob::parse(jit.expose()).unwrap();
            let (engine, of) = (launched.clone(), name.clone());
            handle.spawn(async move {
                let ended = runner::Runner::new(blob).run(&mut std::io::sink()).await;
                let code = match ended {
                    Ok(runner::Exit::JobDone | runner::Exit::Stopped) => 0,
                    Ok(runner::Exit::Crashed) => 137,
                    Ok(runner::Exit::Refused | runner::Exit::VersionDeprecated) | Err(_) => 1,
                };
                engine.end(&of, Exit { code: Some(code), ..Exit::default() });
            });
        });
        Self { engine, socket }
    }
}
