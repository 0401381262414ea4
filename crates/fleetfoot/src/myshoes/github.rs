//! What GitHub is asked about scopes: where the App is installed, and whether a target may be made.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleetfoot_core::Timestamp;
use fleetfoot_github::{
    App, CallCounts, CallKind, Calls, ConfigUrl, Connection, Credentials, Durations, ErrorKind,
    GithubError, Http, HttpSettings, Installation, RateLimit, Scope,
};
use fleetfoot_myshoes::environment;
use fleetfoot_myshoes::rules::Failure;
use fleetfoot_server::myshoes::Scopes;
use fleetfoot_server::myshoes::numbers::{ShownCalls, ShownDurations, ShownInstallation};
use fleetfoot_server::wall_clock;
use fleetfoot_store::StoredToken;

/// Where the App is installed is known for so long.
const KNOWN_FOR: Duration = Duration::from_secs(60 * 60);

/// Each call of a creation is over within this.
const CALL_BOUND: Duration = Duration::from_secs(10);

/// After it did not say where the App is installed, it is not asked for so long: a look at a thousand targets asks once.
const AWAY_FOR: Duration = Duration::from_secs(5);

/// Any address at the same GitHub will do for calls that are about no scope.
const ANY_SCOPE: &str = "myshoes";

/// GitHub was not asked, or did not say.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It is no address of an organization or a repository.
    #[error("`{0}` is no organization and no repository")]
    Scope(String),
    /// GitHub.
    #[error("{}", .0.chain())]
    Github(#[from] GithubError),
    /// It did not say a moment ago.
    #[error("{0}")]
    Away(String),
}

/// The GitHub of this daemon: one App, many installations. What is asked often is kept for a while.
#[derive(Debug)]
pub struct Github {
    http: Http,
    url: String,
    app: environment::App,
    caller: App,
    known: Mutex<Known>,
    /// Tokens are to be stored, as the original does.
    stores_tokens: bool,
    /// Questions that were answered from memory.
    hits: Hits,
}

#[derive(Debug, Default)]
struct Hits {
    installations: AtomicU64,
    repositories: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    installations: Option<(Instant, Arc<Vec<Installation>>)>,
    /// They were to be asked anew, and nobody answered: for the original they are not known any more.
    is_purged: bool,
    /// Why they were not said at the last time.
    away: Option<(Instant, String)>,
    /// By installation: the repositories it reaches.
    repositories: BTreeMap<i64, (Instant, Arc<Vec<String>>)>,
    connections: BTreeMap<(String, i64), Connection>,
}

impl Github {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// If the address or the App's key cannot be used.
    pub fn new(url: &str, app: &environment::App, stores_tokens: bool) -> Result<Self, AskError> {
        let http = Http::new(HttpSettings::default())?;
        let any = config_url(url, ANY_SCOPE).ok_or_else(|| AskError::Scope(url.to_owned()))?;
        let caller = App::new(&http, &any, &app.id.to_string(), &app.private_key)?;
        let (url, app) = (url.to_owned(), app.clone());
        Ok(Self {
            http,
            url,
            app,
            caller,
            known: Mutex::default(),
            stores_tokens,
            hits: Hits::default(),
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everywhere the App is installed, as it was asked within the hour.
    ///
    /// # Errors
    /// If GitHub does not say.
    pub async fn installations(&self) -> Result<Arc<Vec<Installation>>, AskError> {
        let (known, away) = {
            let known = self.known();
            (known.installations.clone(), known.away.clone())
        };
        if let Some((_, installations)) = known.filter(|(at, _)| at.elapsed() < KNOWN_FOR) {
            self.hits.installations.fetch_add(1, Ordering::Relaxed);
            return Ok(installations);
        }
        match away.filter(|(at, _)| at.elapsed() < AWAY_FOR) {
            Some((_, why)) => Err(AskError::Away(why)),
            None => self.ask_installations().await,
        }
    }

    async fn ask_installations(&self) -> Result<Arc<Vec<Installation>>, AskError> {
        let asked = match tokio::time::timeout(CALL_BOUND, self.caller.installations()).await {
            Ok(Ok(asked)) => Arc::new(asked),
            failed => {
                let why = match failed {
                    Ok(Err(error)) => error.chain(),
                    Ok(Ok(_)) | Err(_) => format!("no answer within {} s", CALL_BOUND.as_secs()),
                };
                self.known().away = Some((Instant::now(), why.clone()));
                return Err(AskError::Away(why));
            }
        };
        let mut known = self.known();
        (known.away, known.is_purged) = (None, false);
        known.installations = Some((Instant::now(), asked.clone()));
        known.repositories.clear();
        Ok(asked)
    }

    /// The installation that reaches the scope; none if the App is not installed there.
    ///
    /// # Errors
    /// If GitHub does not say.
    pub async fn installation(&self, scope: &str) -> Result<Option<Installation>, AskError> {
        let Some(url) = config_url(&self.url, scope) else { return Ok(None) };
        let installations = self.installations().await?;
        let of_scope = |it: &&Installation| !it.is_suspended && it.is_of(url.scope());
        let Some(found) = installations.iter().find(of_scope) else { return Ok(None) };
        if found.all_repositories {
            return Ok(Some(found.clone()));
        }
        let repositories = self.repositories(scope, found.id).await?;
        let reaches = match url.scope() {
            Scope::Repository { .. } => {
                repositories.iter().any(|name| name.eq_ignore_ascii_case(scope))
            }
            Scope::Organization { .. } | Scope::Enterprise { .. } => !repositories.is_empty(),
        };
        Ok(reaches.then(|| found.clone()))
    }

    async fn repositories(
        &self,
        scope: &str,
        installation: i64,
    ) -> Result<Arc<Vec<String>>, AskError> {
        let known = self.known().repositories.get(&installation).cloned();
        if let Some((_, names)) = known.filter(|(at, _)| at.elapsed() < KNOWN_FOR) {
            self.hits.repositories.fetch_add(1, Ordering::Relaxed);
            return Ok(names);
        }
        if let Some((_, why)) = self.known().away.clone().filter(|(at, _)| at.elapsed() < AWAY_FOR)
        {
            return Err(AskError::Away(why));
        }
        let connection = self.connection(scope, installation)?;
        let asked = connection.installed_repositories().await;
        let is_away = |error: &&GithubError| {
            matches!(
                error.kind(),
                ErrorKind::Timeout | ErrorKind::Unreachable | ErrorKind::Server(_)
            )
        };
        // Nor is each of many installations asked while it does not answer at all.
        let away = asked.as_ref().err().filter(is_away);
        self.known().away = away.map(|error| (Instant::now(), error.chain()));
        let names = Arc::new(asked?);
        self.known().repositories.insert(installation, (Instant::now(), names.clone()));
        Ok(names)
    }

    /// The way to a scope, always the same one.
    ///
    /// # Errors
    /// If the scope is none.
    pub fn connection(&self, scope: &str, installation: i64) -> Result<Connection, AskError> {
        let key = (scope.to_owned(), installation);
        if let Some(connection) = self.known().connections.get(&key) {
            return Ok(connection.clone());
        }
        let url = config_url(&self.url, scope).ok_or_else(|| AskError::Scope(scope.to_owned()))?;
        let credentials = Credentials::App {
            app_id_or_client_id: self.app.id.to_string(),
            installation_id: installation,
            private_key_pem: self.app.private_key.clone(),
        };
        let connection = Connection::new(&self.http, &url, &credentials)?;
        self.known().connections.insert(key, connection.clone());
        Ok(connection)
    }

    /// Forgets ways that nobody needs any more.
    pub fn keep(&self, scopes: &BTreeSet<&str>) {
        self.known().connections.retain(|(scope, _), _| scopes.contains(scope.as_str()));
    }

    /// Installation tokens are to be stored.
    #[must_use]
    pub fn stores_tokens(&self) -> bool {
        self.stores_tokens
    }

    /// The original's words for a scope that no installation reaches.
    pub(super) fn not_installed(&self, scope: &str) -> String {
        format!("{}/{scope} is not installed configured GitHub Apps", self.url)
    }

    /// Budgets and tokens of its credentials.
    #[must_use]
    pub fn shared(&self) -> fleetfoot_github::Shared {
        self.http.shared().clone()
    }

    /// What was asked of GitHub, as metrics show it.
    #[must_use]
    pub fn shown_calls(&self) -> Vec<ShownCalls> {
        let mut shown = shown_calls(self.http.calls());
        for (operation, hits) in [
            (fleetfoot_github::LIST_INSTALLATIONS, &self.hits.installations),
            (fleetfoot_github::LIST_REPOSITORIES, &self.hits.repositories),
        ] {
            // Only what was asked once can be known: its path is there.
            if let Some(calls) = shown.iter_mut().find(|calls| calls.operation == operation) {
                calls.hits = hits.load(Ordering::Relaxed);
            }
        }
        shown
    }

    /// What GitHub last said of the calls that are left, by scope.
    #[must_use]
    pub fn rate_limits(&self) -> Vec<(String, RateLimit)> {
        let known = self.known();
        let told = known
            .connections
            .iter()
            .filter_map(|((scope, _), connection)| Some((scope.clone(), connection.rate_limit()?)));
        told.collect()
    }

    /// What is known is asked anew before a target is made.
    async fn purge(&self) -> Result<(), Failure> {
        let Err(error) = self.ask_installations().await else { return Ok(()) };
        tracing::error!(%error, "failed to list installations");
        let mut known = self.known();
        let is_fresh = known.installations.as_ref().is_some_and(|(at, _)| at.elapsed() < KNOWN_FOR);
        let was_purged = std::mem::replace(&mut known.is_purged, true);
        Err(if is_fresh && !was_purged { Failure::NotInstalled } else { Failure::Purge })
    }

    async fn may_register(&self, scope: &str) -> Result<Connection, Failure> {
        self.purge().await?;
        let owner = scope.split('/').next().unwrap_or_default();
        let is_scope = scope.matches('/').count() < 2
            && scope.split('/').all(|part| !part.is_empty())
            && config_url(&self.url, scope).is_some();
        let asked = if is_scope { scope } else { owner };
        let found = self.installation(asked).await.map_err(|error| {
            tracing::error!(scope, %error, "failed to look for the installation");
            Failure::NotInstalled
        })?;
        let Some(installation) = found else {
            tracing::error!("{}", self.not_installed(scope));
            return Err(Failure::NotInstalled);
        };
        if !is_scope {
            return Err(Failure::Scope);
        }
        let connection = self.connection(scope, installation.id).map_err(|error| {
            tracing::error!(scope, %error, "failed to make a client");
            Failure::Client
        })?;
        get_in(scope, &connection).await?;
        let looked = tokio::time::timeout(CALL_BOUND, connection.scope_exists()).await;
        match looked {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return Err(Failure::Scope),
            Ok(Err(error)) => {
                tracing::error!(scope, error = error.chain(), "failed to look at the scope");
                if *error.kind() == ErrorKind::Unauthorized {
                    // The token that was kept is refused, and maybe there is no other one.
                    get_in(scope, &connection).await?;
                }
                return Err(Failure::Scope);
            }
        }
        if let Some(permission) = installation.missing_permission(connection.url().scope()) {
            tracing::error!(
                scope,
                permission,
                "the App's installation lacks a permission: grant it read and write in the App's settings, and accept it in the installation"
            );
            return Err(Failure::Runners);
        }
        match tokio::time::timeout(CALL_BOUND, connection.list_runners()).await {
            Ok(Ok(_)) => Ok(connection),
            Ok(Err(error)) => {
                tracing::error!(scope, error = error.chain(), "failed to list runners");
                Err(Failure::Runners)
            }
            Err(_) => Err(Failure::Runners),
        }
    }
}

/// There is a token of the scope's installation.
async fn get_in(scope: &str, connection: &Connection) -> Result<(), Failure> {
    let error = match tokio::time::timeout(CALL_BOUND, connection.ensure_token()).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.chain(),
        Err(_) => format!("no answer within {} s", CALL_BOUND.as_secs()),
    };
    tracing::error!(scope, error, "failed to get an installation's token");
    Err(Failure::Token)
}

impl Scopes for Github {
    fn admit<'a>(
        &'a self,
        scope: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Option<StoredToken>, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let connection = self.may_register(scope).await?;
            if !self.stores_tokens {
                return Ok(None);
            }
            stored_token(&connection).await.map(Some).map_err(|error| {
                tracing::error!(scope, error = error.chain(), "failed to get a token to be stored");
                Failure::Token
            })
        })
    }
}

/// A new token of a scope's installation, as the original stores it.
///
/// # Errors
/// If GitHub gives none.
pub(super) async fn stored_token(connection: &Connection) -> Result<StoredToken, GithubError> {
    let (token, ends_at) = connection.issue_token().await?;
    // GitHub's tokens last for an hour.
    let ends_at = ends_at.unwrap_or_else(|| wall_clock().0 / 1000 + 3600);
    Ok(StoredToken { token, expires_at: Timestamp(ends_at * 1000) })
}

/// An installation as metrics name it.
pub(super) fn shown(installation: &Installation) -> ShownInstallation {
    ShownInstallation {
        id: installation.id,
        account_login: installation.account.clone(),
        account_type: installation.account_type.clone(),
        target_type: installation.target_type.clone(),
        repository_selection: if installation.all_repositories { "all" } else { "selected" },
        html_url: installation.html_url.clone(),
    }
}

/// Calls as metrics show them.
fn shown_calls(calls: &Calls) -> Vec<ShownCalls> {
    let durations = |it: Durations| ShownDurations { buckets: it.buckets, sum: it.sum };
    let shown = |(kind, counts): (CallKind, CallCounts)| ShownCalls {
        operation: kind.operation,
        path: kind.path,
        method: kind.method,
        is_rest: kind.is_rest,
        ended: counts.ended.into_iter().map(|(class, it)| (class, durations(it))).collect(),
        errors: counts.errors,
        in_flight: counts.in_flight,
        hits: 0,
    };
    calls.counts().into_iter().map(shown).collect()
}

fn config_url(base: &str, scope: &str) -> Option<ConfigUrl> {
    ConfigUrl::under(base, scope).ok()
}
