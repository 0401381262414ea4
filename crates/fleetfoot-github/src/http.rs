//! The HTTP clients of the process, and one sent request.

mod roots;
mod shared;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder};
use url::Url;

use crate::calls::Calls;
use crate::error::{ErrorKind, GithubError, RETRY_AFTER_DEFAULT, Result};
use crate::resolver::SharedResolver;
use crate::within::{Way, Within};

pub use roots::Roots;
pub use shared::Shared;

/// One attempt of a control call. Polls have their own, longer bound.
pub(crate) const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Probes start after 15 idle seconds, and an unanswered probe may be repeated: with a user timeout
/// of 30 s, reqwest's default, one lost probe resets a healthy poll at its 45th second.
const KEEPALIVE: Duration = Duration::from_secs(15);
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of one answer; the longest that GitHub gives are lists of a hundred runners.
pub(crate) const BODY_MAX: usize = 32 << 20;
/// Idle control connections kept after a burst: each holds 25 KiB and more.
const CONTROL_IDLE_MAX: usize = 8;
/// The same of calls about single runners: the removals of a burst of jobs, and the next burst, open none anew. To open a
/// hundred takes the daemon's thread ten milliseconds, and each of the hundred calls waits for that.
const RUNNERS_IDLE_MAX: usize = 100;
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

const SETUP: &str = "set up the HTTP client";

/// How to reach GitHub.
#[derive(Clone, Default)]
pub struct HttpSettings {
    /// A proxy for all requests; without it `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` count.
    pub proxy: Option<String>,
    /// A file of PEM certificates to trust besides the system's.
    pub extra_ca: Option<PathBuf>,
    /// A Unix socket behind which all requests are answered, whatever host they name: for tests on a clock that
    /// leaps, where what is written has to be there to read at once.
    pub unix_socket: Option<PathBuf>,
    /// Who answers all requests in this process: for simulated worlds.
    pub within: Option<Within>,
    /// What these clients share with others of the process that are reached in another way.
    pub shared: Shared,
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy address may hold a password.
        f.debug_struct("HttpSettings")
            .field("proxy", &self.proxy.as_ref().map(|_| "…"))
            .field("extra_ca", &self.extra_ca)
            .field("unix_socket", &self.unix_socket)
            .field("within", &self.within)
            .finish()
    }
}

/// The HTTP clients of the process: some for TLS and some for plain HTTP, each made when they are
/// first needed (the certificate store is the largest thing in a small process).
#[derive(Clone)]
pub struct Http {
    inner: Arc<Inner>,
}

struct Inner {
    settings: HttpSettings,
    extra_ca: Vec<Certificate>,
    plain: Mutex<Option<Clients>>,
    tls: Mutex<Option<Clients>>,
    resolver: SharedResolver,
    calls: Calls,
}

/// Which connections a control call goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Those of calls that come one by one, or many at a start and then no more.
    Control,
    /// Those of calls that come for each job: as many at once as jobs do.
    Runners,
}

/// Polls and control calls never share connections: see `lib.rs`.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    pub(crate) polls: Way,
    pub(crate) control: Way,
    /// With TLS the same as `control`: there HTTP/2 carries calls side by side, and another client would read all
    /// certificate authorities once more.
    pub(crate) runners: Way,
    roots: Roots,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Http {
    /// Checks the settings and reads the CA file. Sends nothing.
    pub fn new(settings: HttpSettings) -> Result<Self> {
        let extra_ca = read_ca(&settings)?;
        if let Some(proxy) = &settings.proxy {
            check_proxy(proxy)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                extra_ca,
                plain: Mutex::default(),
                tls: Mutex::default(),
                resolver: SharedResolver::default(),
                calls: Calls::default(),
            }),
        })
    }

    /// Which authorities requests to an address of that kind trust. Makes the client.
    pub fn roots(&self, secure: bool) -> Result<Roots> {
        Ok(self.clients(secure)?.roots)
    }

    /// What it shares with other clients, and may share with more.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.inner.settings.shared
    }

    /// What was asked over it.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.inner.calls
    }

    pub(crate) fn clients(&self, secure: bool) -> Result<Clients> {
        if let Some(within) = &self.inner.settings.within {
            let way = Way::Within(within.clone());
            let (polls, control) = (way.clone(), way.clone());
            return Ok(Clients { polls, control, runners: way, roots: Roots::None });
        }
        let slot = if secure { &self.inner.tls } else { &self.inner.plain };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clients) = slot.as_ref() {
            return Ok(clients.clone());
        }
        let clients = if secure { self.tls_clients()? } else { self.plain_clients()? };
        *slot = Some(clients.clone());
        Ok(clients)
    }

    /// Host and port of the proxy for TLS, without its credentials: the setting's, or the environment's.
    pub(crate) fn proxy_place(&self) -> Option<String> {
        const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
        let stated = self.inner.settings.proxy.clone();
        let address =
            stated.or_else(|| VARIABLES.iter().find_map(|name| std::env::var(name).ok()))?;
        place_of(&address)
    }

    fn plain_clients(&self) -> Result<Clients> {
        let none = || Vec::<Certificate>::new();
        Ok(Clients {
            polls: build(self.polls()?.tls_certs_only(none()))?,
            control: build(self.control()?.tls_certs_only(none()))?,
            runners: build(self.runners()?.tls_certs_only(none()))?,
            roots: Roots::None,
        })
    }

    fn tls_clients(&self) -> Result<Clients> {
        let extra = &self.inner.extra_ca;
        // Without the extra authorities: with them an empty system would go unnoticed.
        let roots = match self.control()?.build() {
            Ok(_) => Roots::System,
            Err(reason) => {
                tracing::debug!(%reason, "no certificate authorities on this system");
                Roots::BuiltIn
            }
        };
        let trust = |builder: ClientBuilder| match roots {
            Roots::System => builder.tls_certs_merge(extra.clone()),
            Roots::BuiltIn | Roots::None => builder.tls_certs_only(self.built_in_roots()),
        };
        let control = build(trust(self.control()?))?;
        let runners = control.clone();
        let clients = Clients { polls: build(trust(self.polls()?))?, control, runners, roots };
        let extra_ca = self.inner.settings.extra_ca.as_ref().map(|path| path.display().to_string());
        tracing::info!(%roots, extra_ca, "certificate authorities loaded");
        Ok(clients)
    }

    fn built_in_roots(&self) -> Vec<Certificate> {
        webpki_root_certs::TLS_SERVER_ROOT_CERTS
            .iter()
            .filter_map(|der| Certificate::from_der(der).ok())
            .chain(self.inner.extra_ca.iter().cloned())
            .collect()
    }

    /// Long polls: a connection each, over HTTP/1.
    fn polls(&self) -> Result<ClientBuilder> {
        Ok(self.common()?.http1_only())
    }

    /// Control calls: bursts of a hundred, then nothing.
    fn control(&self) -> Result<ClientBuilder> {
        Ok(self.common()?.pool_max_idle_per_host(CONTROL_IDLE_MAX))
    }

    /// Calls about single runners: bursts of a hundred, and the next one soon.
    fn runners(&self) -> Result<ClientBuilder> {
        Ok(self.common()?.pool_max_idle_per_host(RUNNERS_IDLE_MAX))
    }

    fn common(&self) -> Result<ClientBuilder> {
        let builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .timeout(CONTROL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEPALIVE)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .dns_resolver(self.inner.resolver.clone());
        #[cfg(target_os = "linux")]
        let builder = builder.tcp_user_timeout(USER_TIMEOUT);
        #[cfg(unix)]
        let builder = match &self.inner.settings.unix_socket {
            // Idle connections are counted by the machine's clock, which such a test does not have.
            Some(path) => builder.unix_socket(path.as_path()).pool_idle_timeout(None),
            None => builder,
        };
        Ok(match &self.inner.settings.proxy {
            Some(proxy) => builder.proxy(check_proxy(proxy)?),
            None => builder,
        })
    }
}

fn build(builder: ClientBuilder) -> Result<Way> {
    builder
        .build()
        .map(Way::Net)
        .map_err(|source| GithubError::with_source(SETUP, ErrorKind::Settings, "", source))
}

fn place_of(address: &str) -> Option<String> {
    let parsed = Url::parse(address).ok().filter(Url::has_host);
    let url = parsed.or_else(|| Url::parse(&format!("http://{address}")).ok())?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

fn check_proxy(address: &str) -> Result<reqwest::Proxy> {
    reqwest::Proxy::all(address).map_err(|source| {
        let detail = "`github.proxy` is no proxy address (write http://host:port)";
        GithubError::with_source(SETUP, ErrorKind::Settings, detail, source)
    })
}

fn read_ca(settings: &HttpSettings) -> Result<Vec<Certificate>> {
    let Some(path) = &settings.extra_ca else {
        return Ok(Vec::new());
    };
    let wrong = |what: &str| format!("CA file `{}` {what}", path.display());
    let pem = std::fs::read(path).map_err(|source| {
        GithubError::with_source(SETUP, ErrorKind::Settings, wrong("cannot be read"), source)
    })?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|source| {
        GithubError::with_source(SETUP, ErrorKind::Settings, wrong("is not PEM"), source)
    })?;
    if certificates.is_empty() {
        let detail = wrong("holds no certificate");
        return Err(GithubError::new(SETUP, ErrorKind::Settings, detail));
    }
    Ok(certificates)
}

/// What GitHub last said of a credential's calls to its REST API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// In one window.
    pub limit: u32,
    /// Left in this one.
    pub remaining: u32,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Without the byte order mark that the service sometimes sends.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, headers: HeaderMap, body: Vec<u8>) -> Self {
        let body = match body.strip_prefix(b"\xEF\xBB\xBF") {
            Some(rest) => rest.to_vec(),
            None => body,
        };
        Self { status, headers, body }
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim)
    }

    /// The id by which GitHub's support finds the request.
    pub(crate) fn request_id(&self) -> Option<&str> {
        let id = self.header("ActivityId").or_else(|| self.header("X-GitHub-Request-Id"));
        id.filter(|id| !id.is_empty())
    }

    /// How long GitHub wants us to wait, if this answer limits the rate: any 429, or a 403 that
    /// says so in one of three ways.
    pub(crate) fn rate_limit(&self, message: &str) -> Option<Duration> {
        let spent = self.header("x-ratelimit-remaining") == Some("0");
        let stated = self.headers.contains_key(RETRY_AFTER);
        let secondary = message.to_ascii_lowercase().contains("secondary rate");
        if self.status != 429 && !(self.status == 403 && (spent || stated || secondary)) {
            return None;
        }
        let reset = || self.rate_limit_reset().filter(|_| spent);
        Some(self.retry_after().or_else(reset).unwrap_or(RETRY_AFTER_DEFAULT))
    }

    /// Calls left in GitHub's window, where it says.
    pub(crate) fn rate_limit_remaining(&self) -> Option<u32> {
        self.header("x-ratelimit-remaining")?.parse().ok()
    }

    /// Calls that GitHub's window has in all and left, where it says so and has a window.
    pub(crate) fn rate_limit_window(&self) -> Option<RateLimit> {
        let reset: u64 = self.header("x-ratelimit-reset")?.parse().ok()?;
        let limit = self.header("x-ratelimit-limit")?.parse().ok()?;
        let remaining = self.rate_limit_remaining()?;
        (reset > 0).then_some(RateLimit { limit, remaining })
    }

    /// Time until GitHub's window begins anew.
    pub(crate) fn rate_limit_reset(&self) -> Option<Duration> {
        let reset: u64 = self.header("x-ratelimit-reset")?.parse().ok()?;
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(reset))?;
        at.duration_since(SystemTime::now()).ok()
    }

    /// Seconds, or a date.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        let wait = at.duration_since(jiff::Timestamp::now());
        Duration::try_from(wait).ok()
    }
}

/// An `Authorization` value that no log prints.
pub(crate) fn authorization(
    operation: &'static str,
    scheme: &str,
    token: &str,
) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {token}")).map_err(|_| {
        let detail = "it holds characters that HTTP cannot carry (a line break inside?)";
        GithubError::new(operation, ErrorKind::Credentials, detail)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        Answer { status, headers: headers.collect(), body: Vec::new() }
    }

    #[test]
    fn rate_limits_are_recognized() {
        let seconds =
            |answer: Answer, message: &str| answer.rate_limit(message).map(|d| d.as_secs());
        assert_eq!(seconds(answer(429, &[]), ""), Some(60));
        assert_eq!(seconds(answer(429, &[("retry-after", "7")]), ""), Some(7));
        assert_eq!(seconds(answer(403, &[("retry-after", "3600")]), ""), Some(3600));
        assert_eq!(seconds(answer(403, &[]), ""), None);
        assert_eq!(seconds(answer(403, &[]), "You exceeded a Secondary Rate limit"), Some(60));
        assert_eq!(seconds(answer(500, &[("retry-after", "7")]), ""), None);
        let past = answer(429, &[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(seconds(past, ""), Some(60));
        let reset = (jiff::Timestamp::now().as_second() + 100).to_string();
        let spent = answer(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &reset)]);
        assert!((98..=100).contains(&seconds(spent, "").unwrap()));
    }

    #[test]
    fn settings_are_checked_at_once() {
        let wrong_proxy = HttpSettings { proxy: Some("::".into()), ..HttpSettings::default() };
        assert_eq!(Http::new(wrong_proxy).unwrap_err().kind(), &ErrorKind::Settings);
        let missing =
            HttpSettings { extra_ca: Some("/no/such/ca.pem".into()), ..HttpSettings::default() };
        let text = Http::new(missing).unwrap_err().chain();
        assert!(text.contains("CA file `/no/such/ca.pem` cannot be read"), "{text}");
        let not_pem = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(not_pem.path(), "hello").unwrap();
        let not_pem =
            HttpSettings { extra_ca: Some(not_pem.path().into()), ..HttpSettings::default() };
        assert!(Http::new(not_pem).unwrap_err().chain().contains("CA file"));
    }

    #[test]
    fn a_proxy_is_named_without_its_credentials() {
        for (address, place) in [
            ("http://u:secret@proxy.example:3128", "proxy.example:3128"),
            ("https://proxy.example", "proxy.example:443"),
            ("proxy.example:8080", "proxy.example:8080"),
        ] {
            assert_eq!(place_of(address).as_deref(), Some(place), "{address}");
        }
    }

    #[test]
    fn a_proxy_password_is_not_printed() {
        let settings =
            HttpSettings { proxy: Some("http://u:secret@p:1".into()), ..HttpSettings::default() };
        assert!(!format!("{:?}", Http::new(settings).unwrap()).contains("secret"));
    }

    #[test]
    fn plain_http_loads_no_roots_and_tls_finds_some() {
        let http = Http::new(HttpSettings::default()).unwrap();
        assert_eq!(http.roots(false).unwrap(), Roots::None);
        assert_ne!(http.roots(true).unwrap(), Roots::None);
        assert!(http.built_in_roots().len() > 50);
    }
}
