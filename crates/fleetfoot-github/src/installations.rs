//! A GitHub App as such: where it is installed, and what its installations may do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use reqwest::Method;
use secrecy::SecretString;
use serde::Deserialize;

use crate::admin::Admin;
use crate::config_url::{ConfigUrl, Scope};
use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::error::{ErrorKind, GithubError, Result, Subject, refused};
use crate::http::Http;
use crate::wire;

/// The operation of [`App::installations`], as calls are counted by.
pub const LIST_INSTALLATIONS: &str = "list the App's installations";
/// The operation of [`Connection::installed_repositories`].
pub const LIST_REPOSITORIES: &str = "list the installation's repositories";

const PAGE_SIZE: usize = 100;
/// More than one App is installed at.
const PAGES_MAX: usize = 1_000;
/// For the part of the connection that only installations have; no call here asks for one's token.
const NO_INSTALLATION: i64 = 1;

/// One place where an App is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Its number.
    pub id: i64,
    /// The organization or user.
    pub account: String,
    /// `Organization` or `User`.
    pub account_type: String,
    /// What it is installed at, in GitHub's word.
    pub target_type: String,
    /// Its page.
    pub html_url: String,
    /// Somebody took its rights away for a while.
    pub is_suspended: bool,
    /// It reaches every repository of the account; otherwise some.
    pub all_repositories: bool,
    /// What it may do: a permission, and `read`, `write` or `admin`.
    pub permissions: BTreeMap<String, String>,
}

impl Installation {
    /// It is installed where `scope` is: the owner's name is equal, whatever its case.
    #[must_use]
    pub fn is_of(&self, scope: &Scope) -> bool {
        let owner = match scope {
            Scope::Organization { organization } => organization,
            Scope::Repository { owner, .. } => owner,
            Scope::Enterprise { enterprise } => enterprise,
        };
        self.account.eq_ignore_ascii_case(owner)
    }

    /// The permission that managing runners of `scope` needs and that it has not; in GitHub's word. Where none is
    /// stated at all nothing is known, and GitHub says it later.
    #[must_use]
    pub fn missing_permission(&self, scope: &Scope) -> Option<&'static str> {
        let needed = match scope {
            Scope::Organization { .. } => "organization_self_hosted_runners",
            Scope::Repository { .. } => "administration",
            Scope::Enterprise { .. } => return None,
        };
        if self.permissions.is_empty() {
            return None;
        }
        let level = self.permissions.get(needed).map(String::as_str);
        (!matches!(level, Some("write" | "admin"))).then_some(needed)
    }
}

/// An App, by its own key. Cheap to clone.
#[derive(Clone)]
pub struct App {
    admin: Arc<Admin>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("admin", &self.admin).finish()
    }
}

impl App {
    /// Checks the key as far as that goes without a request. `url` is any address at the same GitHub.
    ///
    /// # Errors
    /// If the key is none.
    pub fn new(http: &Http, url: &ConfigUrl, issuer: &str, key: &SecretString) -> Result<Self> {
        let credentials = Credentials::App {
            app_id_or_client_id: issuer.to_owned(),
            installation_id: NO_INSTALLATION,
            private_key_pem: key.clone(),
        };
        Ok(Self { admin: Arc::new(Admin::new(http, url, &credentials)?) })
    }

    /// Everywhere it is installed.
    ///
    /// # Errors
    /// If GitHub does not say so whole.
    pub async fn installations(&self) -> Result<Vec<Installation>> {
        const OPERATION: &str = LIST_INSTALLATIONS;
        let mut all: Vec<Installation> = Vec::new();
        for page in 1..=PAGES_MAX {
            let path = format!("/app/installations?per_page={PAGE_SIZE}&page={page}");
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.installations.list.before");
            let listed: Vec<Listed> = self.get(OPERATION, &path).await?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.installations.list.after");
            let is_last = listed.len() < PAGE_SIZE;
            all.extend(listed.into_iter().map(Into::into));
            if is_last {
                return Ok(all);
            }
        }
        Err(GithubError::new(OPERATION, ErrorKind::Unusable, "it does not end"))
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        operation: &'static str,
        path: &str,
    ) -> Result<T> {
        let Some(signer) = self.admin.signer() else {
            return Err(GithubError::new(operation, ErrorKind::Credentials, "no key"));
        };
        let asked = async {
            let corrected = self.admin.clock.ahead_seconds().is_some();
            let statement = SecretString::from(signer.sign()?);
            let answer = self.admin.rest_once(operation, Method::GET, path, &statement).await?;
            if answer.status != 401 || corrected {
                return Ok(answer);
            }
            // The answer has told GitHub's time: sign again by it.
            let statement = SecretString::from(signer.sign()?);
            self.admin.rest_once(operation, Method::GET, path, &statement).await
        };
        let answer = crate::admin::bounded(operation, CALL_BOUND, asked).await?;
        if !answer.is_success() {
            return Err(refused(operation, &answer, Subject::Other));
        }
        wire::read(operation, &answer)
    }
}

/// As the original has it for every call to GitHub's REST API.
const CALL_BOUND: std::time::Duration = std::time::Duration::from_secs(10);

impl Connection {
    /// Whether GitHub has what the URL names. A personal account is no organization.
    ///
    /// # Errors
    /// If GitHub does not say.
    pub async fn scope_exists(&self) -> Result<bool> {
        const OPERATION: &str = "look up the organization or repository";
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scope.look_up.before");
        let answer = self.admin().rest(OPERATION, &self.url().scope().rest_path()).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.scope.look_up.after");
        match answer.status {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(refused(OPERATION, &answer, Subject::Other)),
        }
    }

    /// The full names of the repositories that the App's installation reaches.
    ///
    /// # Errors
    /// If GitHub does not say so whole.
    pub async fn installed_repositories(&self) -> Result<Vec<String>> {
        const OPERATION: &str = LIST_REPOSITORIES;
        let mut all = Vec::new();
        for page in 1..=PAGES_MAX {
            let path = format!("/installation/repositories?per_page={PAGE_SIZE}&page={page}");
            let answer = self.admin().rest(OPERATION, &path).await?;
            if !answer.is_success() {
                return Err(refused(OPERATION, &answer, Subject::Other));
            }
            let listed: Repositories = wire::read(OPERATION, &answer)?;
            let is_last = listed.repositories.len() < PAGE_SIZE;
            all.extend(listed.repositories.into_iter().map(|it| it.full_name));
            if is_last {
                return Ok(all);
            }
        }
        Err(GithubError::new(OPERATION, ErrorKind::Unusable, "it does not end"))
    }
}

#[derive(Deserialize)]
struct Listed {
    id: i64,
    account: Account,
    #[serde(default)]
    target_type: String,
    #[serde(default)]
    html_url: String,
    #[serde(default)]
    repository_selection: String,
    #[serde(default)]
    suspended_at: Option<String>,
    #[serde(default)]
    permissions: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Account {
    /// An enterprise has a slug instead.
    #[serde(default, alias = "slug")]
    login: String,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Repositories {
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
}

impl From<Listed> for Installation {
    fn from(listed: Listed) -> Self {
        Self {
            id: listed.id,
            account: listed.account.login,
            account_type: listed.account.kind,
            target_type: listed.target_type,
            html_url: listed.html_url,
            is_suspended: listed.suspended_at.is_some(),
            all_repositories: listed.repository_selection != "selected",
            permissions: listed.permissions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_is_missing_only_where_others_are_stated() {
        let of = |permissions: &str, scope: &str| {
            let text = format!(r#"{{"id":1,"account":{{"login":"acme"}}{permissions}}}"#);
            let installation: Installation = serde_json::from_str::<Listed>(&text).unwrap().into();
            let url = ConfigUrl::under("https://github.com", scope).unwrap();
            installation.missing_permission(url.scope())
        };
        let organizations = "organization_self_hosted_runners";
        for (permissions, scope, missing) in [
            ("", "acme", None),
            (r#","permissions":{}"#, "acme/app", None),
            (r#","permissions":{"metadata":"read"}"#, "acme", Some(organizations)),
            (
                r#","permissions":{"organization_self_hosted_runners":"read"}"#,
                "acme",
                Some(organizations),
            ),
            (r#","permissions":{"organization_self_hosted_runners":"write"}"#, "acme", None),
            (
                r#","permissions":{"organization_self_hosted_runners":"write"}"#,
                "acme/app",
                Some("administration"),
            ),
            (r#","permissions":{"administration":"write"}"#, "acme/app", None),
        ] {
            assert_eq!(of(permissions, scope), missing, "{permissions} {scope}");
        }
    }
}
