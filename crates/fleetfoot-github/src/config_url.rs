//! The address that scale sets are registered at: an organization, a repository or an enterprise.

use std::fmt;

use url::Url;

/// Set (to anything), it makes every host count as a GitHub Enterprise Server.
const FORCE_GHES_ENV: &str = "GITHUB_ACTIONS_FORCE_GHES";

/// A checked configuration URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConfigUrl {
    /// As given, less one trailing slash; this is what the registration body carries.
    text: String,
    url: Url,
    scope: Scope,
    hosted: bool,
    /// Where its REST API is, if not where it is by default.
    api: Option<Url>,
    /// What stands before the scope in its path, where GitHub is not at the root of its host.
    prefix: String,
}

/// What a configuration URL points to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// `https://host/<organization>`.
    Organization {
        /// Its login.
        organization: String,
    },
    /// `https://host/<owner>/<repository>`.
    Repository {
        /// The owner's login.
        owner: String,
        /// The repository's name.
        repository: String,
    },
    /// `https://host/enterprises/<enterprise>`.
    Enterprise {
        /// Its slug.
        enterprise: String,
    },
}

/// Why a text is not a configuration URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigUrlError {
    /// It has no path, an empty part, or too many parts.
    #[error(
        "failed to parse githubConfigURL: {url:?}: invalid config URL, should point to an enterprise, org, or repository"
    )]
    Path {
        /// The text as given.
        url: String,
    },
    /// It is no URL at all.
    #[error("failed to parse githubConfigURL: failed to parse URL: {reason}")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// It has no scheme, or one that is not HTTP.
    #[error(
        "failed to parse githubConfigURL: {url:?}: it must begin with https:// (for example https://github.com/{example})"
    )]
    Scheme {
        /// The text as given.
        url: String,
        /// What to write after the host.
        example: String,
    },
    /// Plain HTTP to github.com or GHE.com.
    #[error(
        "failed to parse githubConfigURL: {url:?}: {host} needs https://, a token must not travel in the clear"
    )]
    Insecure {
        /// The text as given.
        url: String,
        /// The host.
        host: String,
    },
    /// The stated address of the REST API cannot be used.
    #[error("{url:?} cannot be the address of the REST API: {reason}")]
    ApiBase {
        /// The text as given.
        url: String,
        /// Why.
        reason: String,
    },
}

impl ConfigUrl {
    /// Parses a configuration URL.
    ///
    /// `github.com`, `www.github.com`, `github.localhost` and `*.ghe.com` are GitHub's own hosts
    /// unless the variable `GITHUB_ACTIONS_FORCE_GHES` is set; all others are GitHub Enterprise
    /// Server.
    pub fn parse(text: &str) -> Result<Self, ConfigUrlError> {
        Self::parse_with(text, std::env::var_os(FORCE_GHES_ENV).is_some())
    }

    /// A scope (`org`, `owner/repo`) at a GitHub whose own address may have a path, as behind a gateway: everything
    /// that is asked of it goes under that path.
    ///
    /// # Errors
    /// If the two make no URL.
    pub fn under(base: &str, scope: &str) -> Result<Self, ConfigUrlError> {
        let base = base.trim_end_matches('/');
        let whole = format!("{base}/{scope}");
        let prefix = match base.split_once("://").and_then(|(_, rest)| rest.split_once('/')) {
            None => return Self::parse(&whole),
            Some((_, path)) => format!("/{path}"),
        };
        let root = base.strip_suffix(&prefix).unwrap_or(base);
        let mut at = Self::parse(&format!("{root}/{scope}"))?;
        if !at.hosted {
            at = at.with_api_base(&format!("{base}/api/v3"))?;
        }
        at.url.set_path(&format!("{prefix}/{scope}"));
        (at.text, at.prefix) = (whole, prefix);
        Ok(at)
    }

    fn parse_with(given: &str, force_ghes: bool) -> Result<Self, ConfigUrlError> {
        let text = given.strip_suffix('/').unwrap_or(given);
        if let Some(reason) = syntax_problem(text) {
            return Err(ConfigUrlError::Syntax { reason: format!("parse {text:?}: {reason}") });
        }
        let Some((_, rest)) = text.split_once("://") else {
            return Err(scheme_problem(given, text));
        };
        // Split the text, not the parsed URL: the parser would quietly remove `.` and `..` parts.
        let path_end = rest.find(['?', '#']).unwrap_or(rest.len());
        let path = rest[..path_end].split_once('/').map_or("", |(_, path)| path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let url = Url::parse(text).map_err(|error| ConfigUrlError::Syntax {
            reason: format!("parse {text:?}: {error}"),
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(scheme_problem(given, text));
        }
        let scope =
            Scope::parse(path).ok_or_else(|| ConfigUrlError::Path { url: given.to_owned() })?;
        let host = url.host_str().unwrap_or_default();
        if host.is_empty() {
            return Err(ConfigUrlError::Syntax { reason: format!("parse {text:?}: no host") });
        }
        if url.scheme() == "http" && is_github_host(host) && !is_localhost(host) {
            let (url, host) = (given.to_owned(), host.to_owned());
            return Err(ConfigUrlError::Insecure { url, host });
        }
        let hosted = !force_ghes && is_github_host(host);
        Ok(Self { text: text.to_owned(), scope, hosted, url, api: None, prefix: String::new() })
    }

    /// The URL as given, less one trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it points to.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The host, without its port.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    /// The same with its REST API at another address than the one that follows from its host: behind a
    /// path or a gateway. What the API says of further addresses holds as it is.
    pub fn with_api_base(mut self, base: &str) -> Result<Self, ConfigUrlError> {
        let wrong = |reason: &str| ConfigUrlError::ApiBase {
            url: base.to_owned(),
            reason: reason.to_owned(),
        };
        let mut api = Url::parse(base.trim()).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(api.scheme(), "http" | "https") || api.host_str().is_none() {
            return Err(wrong("it must begin with https://"));
        }
        if api.query().is_some() || api.fragment().is_some() || !api.username().is_empty() {
            return Err(wrong("it must end with its path, and hold no user"));
        }
        if api.scheme() == "http" && self.is_secure() && !is_this_machine(&api) {
            return Err(wrong(
                "it needs https:// as the url has it, a token must not travel in the clear",
            ));
        }
        let path = api.path().trim_end_matches('/').to_owned();
        api.set_path(&path);
        self.api = Some(api).filter(|api| api.as_str().trim_end_matches('/') != self.api_base());
        Ok(self)
    }

    /// Whether its tokens must not travel in the clear, wherever the service sends us.
    pub(crate) fn is_hosted_securely(&self) -> bool {
        self.hosted && self.is_secure()
    }

    /// Whether this is a GitHub Enterprise Server, which offers jobs instead of assigning them.
    #[must_use]
    pub fn is_ghes(&self) -> bool {
        !self.hosted
    }

    /// Whether it is reached over TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The page of a workflow run.
    #[must_use]
    pub fn run_page(&self, owner: &str, repository: &str, run_id: i64) -> String {
        let mut page = self.url.clone();
        page.set_query(None);
        page.set_fragment(None);
        page.set_path(&format!("{}/{owner}/{repository}/actions/runs/{run_id}", self.prefix));
        page.to_string()
    }

    /// Where its REST API is, without a final slash.
    #[must_use]
    pub fn api_base(&self) -> String {
        self.api("/").as_str().trim_end_matches('/').to_owned()
    }

    /// The address of a REST call; `path` begins with a slash.
    pub(crate) fn api(&self, path: &str) -> Url {
        if let Some(base) = &self.api {
            let mut api = base.clone();
            api.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
            return api;
        }
        let mut api = self.url.clone();
        api.set_query(None);
        api.set_fragment(None);
        if self.hosted {
            let host = self.host();
            let host = host.strip_prefix("www.").unwrap_or(host);
            // Cannot fail: `api.` before a valid domain name is a valid domain name.
            let _ = api.set_host(Some(&format!("api.{host}")));
            api.set_path(path);
        } else {
            api.set_path(&format!("/api/v3{path}"));
        }
        api
    }
}

impl fmt::Display for ConfigUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::str::FromStr for ConfigUrl {
    type Err = ConfigUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Scope {
    fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| part.is_empty() || *part == "." || *part == "..") {
            return None;
        }
        match parts.as_slice() {
            [organization] => Some(Self::Organization { organization: (*organization).to_owned() }),
            [first, enterprise] if first.eq_ignore_ascii_case("enterprises") => {
                Some(Self::Enterprise { enterprise: (*enterprise).to_owned() })
            }
            [owner, repository] => Some(Self::Repository {
                owner: (*owner).to_owned(),
                repository: (*repository).to_owned(),
            }),
            _ => None,
        }
    }

    /// Where its runners live in the REST API.
    pub(crate) fn rest_path(&self) -> String {
        match self {
            Self::Organization { organization } => format!("/orgs/{organization}"),
            Self::Repository { owner, repository } => format!("/repos/{owner}/{repository}"),
            Self::Enterprise { enterprise } => format!("/enterprises/{enterprise}"),
        }
    }

    /// The permissions that managing its runners needs, for people.
    pub(crate) fn permission(&self) -> &'static str {
        match self {
            Self::Organization { .. } => {
                "organization permission `Self-hosted runners: read and write`, or `admin:org` for a classic token"
            }
            Self::Repository { .. } => {
                "repository permission `Administration: read and write`, or `repo` for a classic token"
            }
            Self::Enterprise { .. } => "`manage_runners:enterprise` for a classic token",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organization { organization } => write!(f, "organization {organization}"),
            Self::Repository { owner, repository } => write!(f, "repository {owner}/{repository}"),
            Self::Enterprise { enterprise } => write!(f, "enterprise {enterprise}"),
        }
    }
}

fn scheme_problem(given: &str, text: &str) -> ConfigUrlError {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
    let example = match bare.split_once('/') {
        Some((host, path)) if host.contains('.') => path,
        _ => bare,
    };
    ConfigUrlError::Scheme { url: given.to_owned(), example: example.to_owned() }
}

/// What Go's parser refuses, in its words; a browser's parser would repair some of it.
fn syntax_problem(text: &str) -> Option<String> {
    if text.chars().any(|c| c.is_ascii_control()) {
        return Some("net/url: invalid control character in URL".to_owned());
    }
    let first = text.split('/').next().unwrap_or_default();
    if text.starts_with(char::is_whitespace) && first.contains(':') {
        return Some("first path segment in URL cannot contain colon".to_owned());
    }
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.contains(' ') {
        return Some("invalid character \" \" in host name".to_owned());
    }
    let port = match host.rsplit_once(']') {
        Some((_, behind)) => behind.strip_prefix(':'),
        None => host.rsplit_once(':').map(|(_, port)| port),
    };
    if let Some(port) = port.filter(|port| !port.bytes().all(|it| it.is_ascii_digit())) {
        return Some(format!("invalid port {:?} after host", format!(":{port}")));
    }
    // A query is not looked into.
    let mut rest = text.split('?').next().unwrap_or_default();
    while let Some(at) = rest.find('%') {
        let escape: String = rest[at..].chars().take(3).collect();
        if escape.len() != 3 || !escape.bytes().skip(1).all(|it| it.is_ascii_hexdigit()) {
            return Some(format!("invalid URL escape {escape:?}"));
        }
        rest = &rest[at + 3..];
    }
    None
}

fn is_github_host(host: &str) -> bool {
    // `github.com.` (a fully qualified name) is the same host.
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    matches!(host.as_str(), "github.com" | "www.github.com" | "github.localhost")
        || host.ends_with(".ghe.com")
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_localhost(host: &str) -> bool {
    host.strip_suffix('.').unwrap_or(host).eq_ignore_ascii_case("github.localhost")
}

#[cfg(test)]
#[path = "config_url_tests.rs"]
mod tests;
