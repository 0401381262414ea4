//! The original's REST API.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetfoot_controller::{Clock, Tasks};
use fleetfoot_github::RateLimit;
use fleetfoot_server::listen::ListenError;
use fleetfoot_server::myshoes::numbers::{self, Retries, Shown, ShownLimit};
use fleetfoot_server::myshoes::{MyshoesState, Page, router};
use fleetfoot_server::{ServerState, listen};
use fleetfoot_store::Store;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::github::Github;
use super::log;
use super::targets::{MyshoesError, Targets};
use crate::daemon::DaemonError;

/// What the API shows and changes.
pub(crate) struct Served {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) shown: watch::Receiver<Shown>,
    pub(crate) hub: watch::Receiver<Option<(f64, f64)>>,
    /// The daemon as a whole, from the moment at which its controller runs.
    pub(crate) whole: watch::Receiver<Option<ServerState>>,
}

/// The API, open and not served yet.
pub(crate) struct Api {
    listener: tokio::net::TcpListener,
    token: Option<Arc<SecretString>>,
}

impl Targets {
    /// Opens the place where the API is reached.
    pub(crate) async fn open_api(&self) -> Result<Api, DaemonError> {
        let environment = &self.environment;
        let token = match &environment.own.api_token_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| MyshoesError::Token { path: path.clone(), source })?;
                Some(Arc::new(SecretString::from(text.trim().to_owned())))
            }
        };
        let place = environment.place();
        if token.is_none() && !place.ip().is_loopback() {
            tracing::warn!(
                "the API takes orders from whoever reaches port {}: set MYSHOES_API_TOKEN_FILE or MYSHOES_READ_ONLY, or keep others away from it",
                environment.settings.port
            );
        }
        let listener = listen::bind_tcp(place).await.map_err(|error| match error {
            ListenError::InUse { address } => MyshoesError::PortInUse(address.port()).into(),
            other @ (ListenError::PathTooLong { .. }
            | ListenError::Control { .. }
            | ListenError::Tcp { .. }) => DaemonError::from(other),
        })?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!("start webserver on {address}");
        }
        Ok(Api { listener, token })
    }

    /// Serves it until `stop` is true.
    pub(crate) fn serve_api(
        &self,
        api: Api,
        served: Served,
        stop: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        let settings = &self.environment.settings;
        let retries = Arc::new(Mutex::new(Retries::default()));
        let (store, clock) = (served.store.clone(), served.clock.clone());
        let kept = keep(retries.clone(), store.clone(), served.shown.clone(), clock);
        let routes = router(MyshoesState {
            store,
            scopes: self.github.clone(),
            ghe_domain: settings.is_enterprise_server().then(|| settings.github_url.clone()),
            debug: Arc::new(log::set_debug),
            // In scale set mode nothing asks for it; GitHub says which runner is online.
            strict: Arc::new(|_| ()),
            metrics: page(served, self.github.clone(), retries),
            token: api.token,
            is_read_only: self.environment.own.is_read_only,
        });
        Tasks::default().spawn("targets", async move {
            let served = fleetfoot_server::myshoes::serve(api.listener, routes, stopped(stop));
            let served = tokio::select! {
                biased;
                served = served => served,
                never = kept => match never {},
            };
            if let Err(error) = served {
                tracing::error!(%error, "http failed");
            }
        })
    }
}

/// Deletions that are tried again are looked at this often at most: less than the shortest wait.
const RETRIES_PAUSE: Duration = Duration::from_millis(200);

/// Counts them for ever.
async fn keep(
    retries: Arc<Mutex<Retries>>,
    store: Store,
    shown: watch::Receiver<Shown>,
    clock: Clock,
) -> Infallible {
    let mut changes = store.changes_all();
    loop {
        let targets = shown.borrow().targets.iter().map(|(pool, _)| pool.clone()).collect();
        {
            let mut known = retries.lock().unwrap_or_else(PoisonError::into_inner);
            known.look(&store.pools(), &targets, clock.now());
        }
        tokio::time::sleep(RETRIES_PAUSE).await;
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A scrape waits so long for a daemon that begins.
const BEGINS_WITHIN: Duration = Duration::from_secs(3);

/// The original's numbers, and ours as soon as there are any.
fn page(served: Served, github: Arc<Github>, retries: Arc<Mutex<Retries>>) -> Page {
    let (served, scrapes) = (Arc::new(served), Arc::new(AtomicU64::new(0)));
    Arc::new(move || {
        let (served, scrapes) = (served.clone(), scrapes.clone());
        let (github, retries) = (github.clone(), retries.clone());
        Box::pin(async move {
            let mut whole = served.whole.clone();
            let begun = tokio::time::timeout(BEGINS_WITHIN, whole.wait_for(Option::is_some)).await;
            let whole = begun.ok().and_then(Result::ok).and_then(|whole| whole.clone());
            let scrapes = scrapes.fetch_add(1, Ordering::Relaxed) + 1;
            let limit = |(scope, it): (String, RateLimit)| ShownLimit {
                scope,
                limit: it.limit,
                remaining: it.remaining,
            };
            let shown = Shown {
                scrapes,
                calls: github.shown_calls(),
                retries: retries.lock().unwrap_or_else(PoisonError::into_inner).clone(),
                limits: github.rate_limits().into_iter().map(limit).collect(),
                docker_hub: *served.hub.borrow(),
                ..served.shown.borrow().clone()
            };
            numbered(&served, &shown, whole.as_ref())
        })
    })
}

fn numbered(served: &Served, shown: &Shown, whole: Option<&ServerState>) -> String {
    let ours = whole.map(ServerState::render_metrics).unwrap_or_default();
    let health = whole.map(|whole| whole.health.borrow().clone()).unwrap_or_default();
    let (pools, now) = (served.store.pools(), served.clock.now());
    numbers::render(shown, &pools, &health, now, &ours) + &ours
}

/// Tells that this process lives, while it waits for another one's lock. Ends with what it waits for.
pub(super) async fn standby(port: Option<u16>) -> Result<Infallible, DaemonError> {
    let Some(port) = port else { return std::future::pending().await };
    let listener = listen::bind_tcp(([0, 0, 0, 0], port).into()).await?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!("standby tells its health on {address}");
    }
    let routes = fleetfoot_server::myshoes::standby();
    // Nothing ends it but its caller.
    let _ =
        fleetfoot_server::myshoes::serve(listener, routes, std::future::pending()).await.is_ok();
    std::future::pending().await
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.is_ok();
}
