//! Where the daemon can be reached: the control socket, and an address if one is configured.

use std::sync::Arc;

use fleetfoot_server::{Face, ServerState, listen};
use fleetfoot_store::StateDir;
use secrecy::SecretString;
use tokio::sync::watch;

use super::DaemonError;
use crate::config::Config;

/// Both, open and not served yet.
pub(super) struct Faces {
    control: tokio::net::UnixListener,
    network: Option<(tokio::net::TcpListener, Face)>,
}

impl Faces {
    /// Binds both.
    pub(super) async fn open(config: &Config, state_dir: &StateDir) -> Result<Self, DaemonError> {
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

    /// Serves both until `stop` is true. Numbers are kept where somebody reads them: here, or as `counts` says.
    pub(super) fn serve(
        self,
        state: ServerState,
        counts: bool,
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
        if counts || self.network.is_some() {
            let (store, metrics) = (state.store.clone(), state.metrics.clone());
            let numbers = fleetfoot_server::record::watch(store, metrics, stopped(stop.clone()));
            serving.push(tasks.spawn("numbers", numbers));
        }
        if let Some((listener, face)) = self.network {
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
