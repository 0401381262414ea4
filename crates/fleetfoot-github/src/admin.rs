//! The way in: credential, registration token, admin token; and calls that carry the last.
//!
//! One per connection, shared by its pools. Tokens are fetched by one caller while the others wait
//! and share the outcome, a failure too: otherwise two thousand callers would each try in turn, and
//! the last would hear of an outage after hours.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use url::Url;

use crate::agent;
use crate::app::AppSigner;
use crate::backoff::backoff;
use crate::breaker::Breaker;
use crate::clock::{CORRECTED_SECONDS_MAX, Clock};
use crate::config_url::ConfigUrl;
use crate::credentials::Credentials;
use crate::error::{ErrorKind, GithubError, Result};
use crate::http::{Answer, Http, Lane, RateLimit, authorization};
use crate::single_flight::SingleFlight;
use crate::within::Way;

/// The longest that a control call may hold its caller, waiting for a token included.
const CALL_MAX: Duration = Duration::from_secs(45);

/// The longest that a download may take as a whole.
const DOWNLOAD_MAX: Duration = Duration::from_secs(30 * 60);

pub(crate) const GITHUB_JSON: HeaderValue = HeaderValue::from_static("application/vnd.github+json");
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const API_VERSION: &str = "6.0-preview";

pub(crate) struct Admin {
    http: Http,
    pub(crate) url: ConfigUrl,
    pub(crate) credentials: Credentials,
    identity: Arc<Identity>,
    user_agents: UserAgents,
    pub(crate) clock: Arc<Clock>,
    pub(crate) breaker: Breaker,
    token: RwLock<Option<Arc<AdminToken>>>,
    connecting: SingleFlight,
    limit: RwLock<Option<RateLimit>>,
}

/// What all connections of one App's installation share: who signs, GitHub's time, and the token that opens the REST
/// API. A thousand repositories of one installation need one.
#[derive(Debug, Default)]
pub(crate) struct Identity {
    signer: Option<AppSigner>,
    clock: Arc<Clock>,
    bearer: RwLock<Option<Arc<Bearer>>>,
    renewing: SingleFlight,
}

impl Identity {
    fn of(http: &Http, url: &ConfigUrl, credentials: &Credentials) -> Result<Arc<Self>> {
        let (app, key, installation) = match credentials {
            Credentials::App { app_id_or_client_id, private_key_pem, installation_id } => {
                (app_id_or_client_id, private_key_pem, *installation_id)
            }
            Credentials::Token(source) => {
                let token = source.read()?;
                authorization("set up the connection", "Bearer", token.expose_secret())?;
                return Ok(Arc::default());
            }
        };
        if installation <= 0 {
            let detail = "the App's installation id is missing";
            return Err(GithubError::new("set up the connection", ErrorKind::Credentials, detail));
        }
        http.shared().identity(&format!("{} {}", url.api("/"), credentials.identity()), || {
            let clock = Arc::<Clock>::default();
            let signer = Some(AppSigner::new(app, key, Arc::clone(&clock))?);
            Ok(Self { signer, clock, ..Self::default() })
        })
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct UserAgents {
    control: HeaderValue,
    listener: HeaderValue,
}

/// What opens GitHub's REST API.
#[derive(Debug)]
pub(crate) struct Bearer {
    pub(crate) token: SecretString,
    pub(crate) fresh_until: Option<Instant>,
    /// When it ends by GitHub's word, in seconds since 1970.
    pub(crate) ends_at: Option<i64>,
}

#[derive(Debug)]
pub(crate) struct AdminToken {
    pub(crate) authorization: HeaderValue,
    /// The root of the scale set service for this connection.
    pub(crate) service: String,
    pub(crate) fresh_until: Instant,
}

/// One call to the scale set service.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) operation: &'static str,
    pub(crate) lane: Lane,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) body: Option<Vec<u8>>,
}

impl Admin {
    pub(crate) fn new(http: &Http, url: &ConfigUrl, credentials: &Credentials) -> Result<Self> {
        let identity = Identity::of(http, url, credentials)?;
        Ok(Self {
            http: http.clone(),
            url: url.clone(),
            credentials: credentials.clone(),
            clock: Arc::clone(&identity.clock),
            identity,
            user_agents: UserAgents {
                control: agent::of("control"),
                listener: agent::of("listener"),
            },
            breaker: Breaker::default(),
            token: RwLock::default(),
            connecting: SingleFlight::default(),
            limit: RwLock::default(),
        })
    }

    /// Who signs for the App, if it is one.
    pub(crate) fn signer(&self) -> Option<&AppSigner> {
        self.identity.signer.as_ref()
    }

    /// Calls the scale set service with the admin token; a token that is refused is replaced once.
    /// An answer comes back whatever its status.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Answer> {
        let operation = call.operation;
        bounded(operation, CALL_MAX, async {
            self.breaker.check()?;
            let token = self.token(operation).await?;
            let answer = self.call_once(&call, &token).await?;
            if answer.status != 401 {
                return Ok(answer);
            }
            tracing::debug!(operation, "admin token refused, renewing it");
            take_if_same(&self.token, &token);
            let token = self.token(operation).await?;
            self.call_once(&call, &token).await
        })
        .await
    }

    /// As [`Admin::call`], for what may be asked twice: once more if the connection broke or a
    /// server in between had a bad moment.
    pub(crate) async fn call_again<'a>(&self, call: impl Fn() -> Call<'a>) -> Result<Answer> {
        match self.call(call()).await {
            Ok(answer) if !matches!(answer.status, 502..=504) => return Ok(answer),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Unreachable) => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(backoff(Duration::from_millis(300), Duration::from_secs(1), 1)).await;
        self.call(call()).await
    }

    async fn call_once(&self, call: &Call<'_>, token: &AdminToken) -> Result<Answer> {
        let url = service_url(call, &token.service)?;
        let mut request = Request::new(call.method.clone(), url);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, token.authorization.clone());
        headers.insert(CONTENT_TYPE, JSON);
        *request.body_mut() = call.body.clone().map(Into::into);
        let answer = self.send_in(call.lane, request, call.operation).await;
        match &answer {
            Ok(_) => self.breaker.succeeded(),
            Err(error) if *error.kind() == ErrorKind::Unreachable => self.breaker.failed(error),
            Err(_) => {}
        }
        answer
    }

    /// Calls GitHub's REST API. `path` begins with a slash and may have a query.
    pub(crate) async fn rest(&self, operation: &'static str, path: &str) -> Result<Answer> {
        bounded(operation, CALL_MAX, self.rest_twice(operation, Method::GET, path)).await
    }

    pub(crate) async fn rest_twice(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
    ) -> Result<Answer> {
        let bearer = self.bearer(operation).await?;
        let answer = self.rest_once(operation, method.clone(), path, &bearer.token).await?;
        if answer.status != 401 || !self.another_bearer(&bearer) {
            return Ok(answer);
        }
        tracing::debug!(operation, "credential refused, renewing it");
        let bearer = self.bearer(operation).await?;
        self.rest_once(operation, method, path, &bearer.token).await
    }

    pub(crate) async fn rest_once(
        &self,
        operation: &'static str,
        method: Method,
        path: &str,
        token: &SecretString,
    ) -> Result<Answer> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut url = self.url.api(path);
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        let mut request = Request::new(method, url);
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, authorization(operation, "Bearer", token.expose_secret())?);
        headers.insert(ACCEPT, GITHUB_JSON);
        self.send(request, operation).await
    }

    pub(crate) async fn send(&self, request: Request, operation: &'static str) -> Result<Answer> {
        self.send_in(Lane::Control, request, operation).await
    }

    async fn send_in(
        &self,
        lane: Lane,
        request: Request,
        operation: &'static str,
    ) -> Result<Answer> {
        let clients = self.http.clients(request.url().scheme() == "https")?;
        let way = match lane {
            Lane::Control => &clients.control,
            Lane::Runners => &clients.runners,
        };
        self.send_over(way, &self.user_agents.control, request, operation).await
    }

    /// Sends what belongs to a message session, on the connections of polls.
    pub(crate) async fn send_poll(
        &self,
        request: Request,
        operation: &'static str,
    ) -> Result<Answer> {
        let clients = self.http.clients(request.url().scheme() == "https")?;
        self.send_over(&clients.polls, &self.user_agents.listener, request, operation).await
    }

    /// Begins a download from an address that GitHub gave. It may take long: each part has its own bound.
    pub(crate) async fn begin_download(
        &self,
        operation: &'static str,
        url: Url,
        token: Option<&SecretString>,
    ) -> Result<reqwest::Response> {
        let clients = self.http.clients(url.scheme() == "https")?;
        let mut request = Request::new(Method::GET, url);
        *request.timeout_mut() = Some(DOWNLOAD_MAX);
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, self.user_agents.control.clone());
        if let Some(token) = token {
            let value = authorization(operation, "Bearer", token.expose_secret())?;
            headers.insert(AUTHORIZATION, value);
        }
        let begun = clients.control.begin(request, operation, CALL_MAX).await;
        begun.map_err(|error| error.through(|| self.http.proxy_place()))
    }

    async fn send_over(
        &self,
        way: &Way,
        user_agent: &HeaderValue,
        mut request: Request,
        operation: &'static str,
    ) -> Result<Answer> {
        request.headers_mut().insert(USER_AGENT, user_agent.clone());
        let counted = self.http.calls().begin(operation, &request);
        let answer = way.send(request, operation).await;
        counted.end(&answer);
        let answer = answer.map_err(|error| error.through(|| self.http.proxy_place()))?;
        self.clock.note(&answer.headers);
        if let Some(limit) = answer.rate_limit_window() {
            *self.limit.write().unwrap_or_else(PoisonError::into_inner) = Some(limit);
        }
        Ok(answer)
    }

    pub(crate) async fn bearer(&self, operation: &'static str) -> Result<Arc<Bearer>> {
        let fresh = || {
            read(&self.identity.bearer)
                .filter(|bearer| bearer.fresh_until.is_none_or(|end| Instant::now() < end))
        };
        self.identity.renewing.run(fresh, &self.identity.bearer, self.new_bearer(operation)).await
    }

    /// Forgets a bearer that was refused; says whether there is a chance for another one.
    fn another_bearer(&self, refused: &Arc<Bearer>) -> bool {
        let changed = match &self.credentials {
            Credentials::App { .. } => true,
            Credentials::Token(source) => source
                .read()
                .is_ok_and(|token| token.expose_secret() != refused.token.expose_secret()),
        };
        if changed {
            take_if_same(&self.identity.bearer, refused);
        }
        changed
    }

    async fn token(&self, operation: &'static str) -> Result<Arc<AdminToken>> {
        let fresh = || read(&self.token).filter(|token| Instant::now() < token.fresh_until);
        let connect = async {
            let outcome = self.connect(operation).await;
            match &outcome {
                Ok(_) => self.breaker.succeeded(),
                Err(reason) => self.breaker.failed(reason),
            }
            outcome
        };
        self.connecting.run(fresh, &self.token, connect).await
    }

    /// What GitHub last said of the calls that are left.
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        *self.limit.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the way in, or finds it made.
    pub(crate) async fn reach(&self, operation: &'static str) -> Result<String> {
        bounded(operation, CALL_MAX, async { Ok(self.token(operation).await?.service.clone()) })
            .await
    }
}

/// Puts a bound on a call, and a box around it: the caller's own future stays small, which counts
/// where two thousand of them wait in a poll and could be anywhere else.
pub(crate) fn bounded<'a, T: 'a>(
    operation: &'static str,
    bound: Duration,
    call: impl Future<Output = Result<T>> + Send + 'a,
) -> impl Future<Output = Result<T>> + Send + 'a {
    let call: Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>> = Box::pin(call);
    async move {
        tokio::time::timeout(bound, call).await.unwrap_or_else(|_| {
            let detail = format!("within {} s", bound.as_secs());
            Err(GithubError::new(operation, ErrorKind::Timeout, detail))
        })
    }
}

fn read<T>(slot: &RwLock<Option<Arc<T>>>) -> Option<Arc<T>> {
    slot.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn take_if_same<T>(slot: &RwLock<Option<Arc<T>>>, old: &Arc<T>) {
    let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
    if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, old)) {
        *slot = None;
    }
}

pub(crate) fn service_url(call: &Call<'_>, service: &str) -> Result<Url> {
    let joined = format!("{}/{}", service.trim_end_matches('/'), call.path);
    let mut url = Url::parse(&joined).map_err(|source| {
        GithubError::with_source(call.operation, ErrorKind::Unusable, "service address", source)
    })?;
    // In the order of their names, as GitHub's own library writes them.
    let mut query: Vec<(&str, &str)> = call.query.to_vec();
    query.push(("api-version", API_VERSION));
    query.sort_unstable();
    url.query_pairs_mut().extend_pairs(query);
    Ok(url)
}

/// Whether the difference of the clocks is worth a warning.
pub(crate) fn is_clock_off(ahead_seconds: i64) -> bool {
    ahead_seconds.abs() > CORRECTED_SECONDS_MAX
}
