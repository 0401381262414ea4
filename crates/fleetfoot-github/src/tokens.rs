//! The tokens, one from the other: credential, installation token, registration token, admin token.

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::admin::{Admin, AdminToken, Bearer, GITHUB_JSON, JSON, bounded};
use crate::app::AppSigner;
use crate::backoff::backoff;
use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::error::{ErrorKind, GithubError, Result, Subject, detail, refused};
use crate::http::{Answer, authorization};
use crate::wire;

/// A token is renewed this long before its end.
const MARGIN: Duration = Duration::from_secs(60);
/// For a token that does not say when it ends.
const LIFETIME_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// As other calls of a target's creation.
const ISSUE_MAX: Duration = Duration::from_secs(10);
/// A fresh registration token is not usable everywhere at once.
const REGISTRATION_TRIES: u32 = 3;

impl Connection {
    /// A new token of the App's installation, for a program that keeps one itself; and when it ends, in seconds
    /// since 1970.
    pub async fn issue_token(&self) -> Result<(SecretString, Option<i64>)> {
        const OPERATION: &str = "get an installation token";
        let issued = bounded(OPERATION, ISSUE_MAX, self.admin().new_bearer(OPERATION)).await?;
        Ok((issued.token, issued.ends_at))
    }

    /// Makes sure that there is a token to ask with: the one that holds, or a new one.
    pub async fn ensure_token(&self) -> Result<()> {
        const OPERATION: &str = "get an installation token";
        bounded(OPERATION, ISSUE_MAX, self.admin().bearer(OPERATION)).await.map(drop)
    }
}

impl Admin {
    pub(crate) async fn new_bearer(&self, operation: &'static str) -> Result<Bearer> {
        match (&self.credentials, self.signer()) {
            (Credentials::App { installation_id, .. }, Some(signer)) => {
                self.installation_token(operation, *installation_id, signer).await
            }
            (Credentials::Token(source), _) => {
                Ok(Bearer { token: source.read()?, fresh_until: None, ends_at: None })
            }
            (Credentials::App { .. }, None) => {
                Err(GithubError::new(operation, ErrorKind::Credentials, "no key"))
            }
        }
    }

    async fn installation_token(
        &self,
        operation: &'static str,
        installation: i64,
        signer: &AppSigner,
    ) -> Result<Bearer> {
        let path = format!("/app/installations/{installation}/access_tokens");
        let corrected = self.clock.ahead_seconds().is_some();
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.token.installation.before");
        let mut answer = self.signed(operation, &path, signer).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.token.installation.after");
        if answer.status == 401 && !corrected {
            // The answer has told GitHub's time: signing again corrects a small difference and
            // reports a large one.
            answer = self.signed(operation, &path, signer).await?;
        }
        if answer.status == 201 || answer.status == 200 {
            let token: wire::Token = wire::read(operation, &answer)?;
            let ends_at = token.expires_at.map(|end| end.as_second());
            let left = ends_at.map(|end| end - self.clock.github_seconds());
            let fresh_until = Some(fresh_until(left));
            return Ok(Bearer { token: token.token, fresh_until, ends_at });
        }
        let explain = match answer.status {
            401 => "the App's id or private key is wrong",
            404 => "the App has no such installation",
            _ => return Err(refused(operation, &answer, Subject::Other)),
        };
        let said = detail(answer.status, &wire::Exception::read(&answer.body), answer.request_id());
        let kind = ErrorKind::Unauthorized;
        Err(GithubError::new(operation, kind, format!("{explain} ({said})")))
    }

    async fn signed(
        &self,
        operation: &'static str,
        path: &str,
        signer: &AppSigner,
    ) -> Result<Answer> {
        let statement = SecretString::from(signer.sign()?);
        self.rest_once(operation, Method::POST, path, &statement).await
    }

    pub(crate) async fn connect(&self, operation: &'static str) -> Result<AdminToken> {
        let registration = self.registration_token(operation).await?;
        let mut attempt = 1;
        let answer = loop {
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.token.admin.before");
            let answer = self.register(operation, &registration).await;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.token.admin.after");
            let is_early = match &answer {
                Ok(answer) => {
                    matches!(answer.status, 401 | 403 | 500..=599)
                        && answer.rate_limit("").is_none()
                }
                Err(error) => *error.kind() == ErrorKind::Unreachable,
            };
            if !is_early || attempt == REGISTRATION_TRIES {
                break answer?;
            }
            tokio::time::sleep(backoff(
                Duration::from_millis(300),
                Duration::from_secs(2),
                attempt,
            ))
            .await;
            attempt += 1;
        };
        if !answer.is_success() {
            return Err(refused(operation, &answer, Subject::Other));
        }
        let connection: wire::AdminConnection = wire::read(operation, &answer)?;
        self.admin_token(operation, connection)
    }

    fn admin_token(
        &self,
        operation: &'static str,
        connection: wire::AdminConnection,
    ) -> Result<AdminToken> {
        let token = connection.token.expose_secret();
        if connection.url.is_empty() || token.is_empty() {
            let detail = "the registration names no service address or no token";
            return Err(GithubError::new(operation, ErrorKind::Unusable, detail));
        }
        let service = Url::parse(&connection.url).map_err(|source| {
            let detail = "the registration names no valid service address";
            GithubError::with_source(operation, ErrorKind::Unusable, detail, source)
        })?;
        if service.scheme() != "https" && self.url.is_secure() {
            let detail = "the registration names a service address without https";
            return Err(GithubError::new(operation, ErrorKind::Unusable, detail));
        }
        let left = expiry(token).map(|end| end - self.clock.github_seconds());
        tracing::debug!(url = %self.url, seconds_left = left, "connected to the scale set service");
        Ok(AdminToken {
            authorization: authorization(operation, "Bearer", token)?,
            service: connection.url,
            fresh_until: fresh_until(left),
        })
    }

    async fn registration_token(&self, operation: &'static str) -> Result<SecretString> {
        let path = format!("{}/actions/runners/registration-token", self.url.scope().rest_path());
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.token.registration.before");
        let answer = self.rest_twice(operation, Method::POST, &path).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.token.registration.after");
        if answer.is_success() {
            return Ok(wire::read::<wire::Token>(operation, &answer)?.token);
        }
        let exception = wire::Exception::read(&answer.body);
        if matches!(answer.status, 403 | 404) && answer.rate_limit(&exception.message).is_none() {
            return Err(self.no_permission(operation, &answer, &exception));
        }
        if answer.status == 401 {
            let said = detail(answer.status, &exception, answer.request_id());
            let detail = match &self.credentials {
                Credentials::Token(source) => format!("{} ({said})", source.name()),
                Credentials::App { .. } => said,
            };
            return Err(GithubError::new(operation, ErrorKind::Unauthorized, detail));
        }
        Err(refused(operation, &answer, Subject::Other))
    }

    /// GitHub hides with 404 what a token may not see.
    fn no_permission(
        &self,
        operation: &'static str,
        answer: &Answer,
        exception: &wire::Exception,
    ) -> GithubError {
        let scope = self.url.scope();
        let stated = answer.header("x-accepted-github-permissions").filter(|it| !it.is_empty());
        let permission = Some(stated.unwrap_or(scope.permission()).to_owned());
        let said = detail(answer.status, exception, answer.request_id());
        let detail = match answer.status {
            404 => format!("or {scope} does not exist ({said})"),
            _ => format!("for {scope} ({said})"),
        };
        GithubError::new(operation, ErrorKind::Forbidden { permission }, detail)
    }

    async fn register(
        &self,
        operation: &'static str,
        registration: &SecretString,
    ) -> Result<Answer> {
        let body = wire::RegistrationBody { url: self.url.as_str(), runner_event: "register" };
        let body = wire::write(operation, &body)?;
        let mut request = Request::new(Method::POST, self.url.api("/actions/runner-registration"));
        let headers = request.headers_mut();
        let value = authorization(operation, "RemoteAuth", registration.expose_secret())?;
        headers.insert(AUTHORIZATION, value);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(ACCEPT, GITHUB_JSON);
        *request.body_mut() = Some(body.into());
        self.send(request, operation).await
    }
}

fn fresh_until(seconds_left: Option<i64>) -> Instant {
    let left = seconds_left
        .map_or(LIFETIME_DEFAULT, |left| Duration::from_secs(u64::try_from(left).unwrap_or(0)));
    // A week bounds nonsense, and keeps the sum below the end of time.
    let left = left.min(Duration::from_secs(7 * 24 * 3600));
    Instant::now() + left.saturating_sub(MARGIN)
}

/// When a token says that it ends; nobody verifies it here.
fn expiry(token: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let claims = jsonwebtoken::dangerous::insecure_decode_claims::<Claims>(token).ok()?;
    Some(claims.exp)
}
