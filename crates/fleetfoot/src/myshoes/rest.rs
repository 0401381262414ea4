//! The faces: the original's REST API on all interfaces, and our control socket for the command line.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fleetfoot_controller::{Clock, Controller, Tasks};
use fleetfoot_github::RateLimit;
use fleetfoot_server::myshoes::numbers::{self, Shown, ShownLimit};
use fleetfoot_server::myshoes::{MyshoesState, router};
use fleetfoot_server::{ControlRequest, Face, Metrics, ServerState, listen};
use fleetfoot_store::{StateDir, Store};
use secrecy::SecretString;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::daemon::MyshoesError;
use super::github::{Github, shown_calls};
use super::{Environment, log};

/// Both, open and not served yet.
pub(super) struct Faces {
    control: tokio::net::UnixListener,
    api: tokio::net::TcpListener,
    token: Option<Arc<SecretString>>,
    github: Arc<Github>,
}

impl Faces {
    pub(super) async fn open(
        environment: &Environment,
        state_dir: &StateDir,
        github: Arc<Github>,
    ) -> Result<Self, MyshoesError> {
        let token = match &environment.own.api_token_file {
            None => {
                tracing::warn!(
                    "the API takes orders from whoever reaches port {}: set MYSHOES_API_TOKEN_FILE or MYSHOES_READ_ONLY, or keep others away from it",
                    environment.settings.port
                );
                None
            }
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| MyshoesError::Token { path: path.clone(), source })?;
                Some(Arc::new(SecretString::from(text.trim().to_owned())))
            }
        };
        let control = listen::bind_control(&state_dir.control_socket())?;
        let any: SocketAddr = ([0, 0, 0, 0], environment.settings.port).into();
        let api = listen::bind_tcp(any).await?;
        if let Ok(address) = api.local_addr() {
            tracing::info!("start webserver on {address}");
        }
        Ok(Self { control, api, token, github })
    }

    /// Serves both until `stop` is true.
    pub(super) fn serve(
        self,
        environment: &Environment,
        store: &Store,
        controller: &Controller,
        clock: Clock,
        shown: watch::Receiver<Shown>,
        hub: watch::Receiver<Option<(f64, f64)>>,
        stop: &watch::Receiver<bool>,
    ) -> (Vec<JoinHandle<()>>, mpsc::Receiver<ControlRequest>) {
        let tasks = Tasks::default();
        let (control, requests) = mpsc::channel(4);
        let reader = controller.log_reader();
        let metrics = Metrics::install();
        let state = ServerState {
            store: store.clone(),
            health: controller.health(),
            logs: Arc::new(move |name, lines| {
                let reader = reader.clone();
                Box::pin(async move { reader.read(&name, lines).await })
            }),
            version: env!("CARGO_PKG_VERSION"),
            control,
            metrics: metrics.clone(),
            clock: Arc::new(move || clock.now()),
        };
        let numbers =
            fleetfoot_server::record::watch(store.clone(), metrics, stopped(stop.clone()));
        let page = page(state.clone(), shown, self.github.clone(), hub);
        let api = router(MyshoesState {
            store: store.clone(),
            scopes: self.github,
            ghe_domain: environment
                .settings
                .is_enterprise_server()
                .then(|| environment.settings.github_url.clone()),
            debug: Arc::new(log::set_debug),
            // In scale set mode nothing asks for it; GitHub says which runner is online.
            strict: Arc::new(|_| ()),
            metrics: page,
            token: self.token,
            is_read_only: environment.own.is_read_only,
        });
        let control_routes = fleetfoot_server::router(state, &Face::Control);
        let (control_stop, api_stop) = (stopped(stop.clone()), stopped(stop.clone()));
        let serving = vec![
            tasks.spawn("numbers", numbers),
            tasks.spawn("control socket", async move {
                if let Err(error) = listen::serve(self.control, control_routes, control_stop).await
                {
                    tracing::error!(%error, "control socket failed");
                }
            }),
            tasks.spawn("http", async move {
                if let Err(error) = listen::serve_known(self.api, api, api_stop).await {
                    tracing::error!(%error, "http failed");
                }
            }),
        ];
        (serving, requests)
    }
}

/// The original's numbers, and ours.
fn page(
    state: ServerState,
    shown: watch::Receiver<Shown>,
    github: Arc<Github>,
    hub: watch::Receiver<Option<(f64, f64)>>,
) -> Arc<dyn Fn() -> String + Send + Sync> {
    let scrapes = AtomicU64::new(0);
    Arc::new(move || {
        let ours = state.render_metrics();
        let scrapes = scrapes.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = |(scope, it): (String, RateLimit)| ShownLimit {
            scope,
            limit: it.limit,
            remaining: it.remaining,
        };
        let shown = Shown {
            scrapes,
            calls: shown_calls(github.calls()),
            limits: github.rate_limits().into_iter().map(limit).collect(),
            docker_hub: *hub.borrow(),
            ..shown.borrow().clone()
        };
        let health = state.health.borrow().clone();
        let now = (state.clock)();
        let theirs = numbers::render(&shown, &state.store.pools(), &health, now, &ours);
        theirs + &ours
    })
}

/// Tells that this process lives, while it waits for another one's lock. Ends with what it waits for.
pub(super) async fn standby(port: Option<u16>) -> Result<Infallible, MyshoesError> {
    let Some(port) = port else { return std::future::pending().await };
    let listener = listen::bind_tcp(([0, 0, 0, 0], port).into()).await?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!("standby tells its health on {address}");
    }
    let routes = fleetfoot_server::myshoes::standby();
    // Nothing ends it but its caller.
    let _ = listen::serve(listener, routes, std::future::pending()).await.is_ok();
    std::future::pending().await
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.is_ok();
}
