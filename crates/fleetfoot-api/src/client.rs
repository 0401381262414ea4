//! The typed client: one method per request, over the control socket or over TCP.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::error::{ErrorBody, ErrorCode, ErrorDetail};
use crate::types::{
    EventList, InstanceList, InstanceStatus, LogTail, PoolList, PoolStatus, Status, StopRequest,
    TakeoverAnswer,
};
use crate::why::Why;

/// One request and its answer take at most this long: `logs` asks a backend.
const REQUEST_BOUND: Duration = Duration::from_secs(30);

/// What a request can end in, besides its answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client could not be set up.
    #[error("failed to set up a client for {endpoint}")]
    Setup {
        /// Where it was to speak to.
        endpoint: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nobody answers there.
    #[error("no daemon answers at {endpoint}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer did not come in time, or was cut off.
    #[error("the daemon at {endpoint} did not answer")]
    Cut {
        /// Where.
        endpoint: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The daemon refused.
    #[error("{}", .0.message)]
    Refused(ErrorDetail),
    /// The answer is not what this version of the API says.
    #[error("the answer of {endpoint} cannot be read")]
    Unreadable {
        /// Where.
        endpoint: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl ClientError {
    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(detail) => Some(detail.code),
            Self::Setup { .. }
            | Self::Unreachable { .. }
            | Self::Cut { .. }
            | Self::Unreadable { .. } => None,
        }
    }

    /// What the daemon proposes to do about its refusal.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused(detail) => detail.hint.as_deref(),
            Self::Setup { .. }
            | Self::Unreachable { .. }
            | Self::Cut { .. }
            | Self::Unreadable { .. } => None,
        }
    }
}

/// Which part of the history to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// Only events of this pool.
    pub pool: Option<String>,
    /// Only events of this instance.
    pub instance: Option<String>,
    /// At most this many, the newest.
    pub limit: Option<usize>,
}

/// Speaks to one daemon.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    endpoint: String,
    token: Option<SecretString>,
}

impl Client {
    /// A client for the control socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::Setup`] when no HTTP client can be made.
    pub fn unix(path: &Path) -> Result<Self, ClientError> {
        let endpoint = path.display().to_string();
        let builder = reqwest::Client::builder().unix_socket(path);
        Self::build(builder, "http://control.sock/", endpoint, None)
    }

    /// A client for the daemon that listens at `url`.
    ///
    /// # Errors
    /// [`ClientError::Setup`] when the URL is none, or no HTTP client can be made.
    pub fn tcp(url: &str, token: Option<SecretString>) -> Result<Self, ClientError> {
        let base = if url.ends_with('/') { url.to_owned() } else { format!("{url}/") };
        Self::build(reqwest::Client::builder(), &base, url.to_owned(), token)
    }

    fn build(
        builder: reqwest::ClientBuilder,
        base: &str,
        endpoint: String,
        token: Option<SecretString>,
    ) -> Result<Self, ClientError> {
        let setup = |source: Box<dyn std::error::Error + Send + Sync>| ClientError::Setup {
            endpoint: endpoint.clone(),
            source,
        };
        let http = builder
            .no_proxy()
            .timeout(REQUEST_BOUND)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|source| setup(Box::new(source)))?;
        let base = Url::parse(base).map_err(|source| setup(Box::new(source)))?;
        Ok(Self { http, base, endpoint, token })
    }

    /// Everything at a glance.
    ///
    /// # Errors
    /// As every request: nobody there, no answer, refused, unreadable.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get(&["status"], &[]).await
    }

    /// All pools.
    ///
    /// # Errors
    /// As every request.
    pub async fn pools(&self) -> Result<PoolList, ClientError> {
        self.get(&["pools"], &[]).await
    }

    /// One pool.
    ///
    /// # Errors
    /// As every request.
    pub async fn pool(&self, name: &str) -> Result<PoolStatus, ClientError> {
        self.get(&["pools", name], &[]).await
    }

    /// All instances that are not closed.
    ///
    /// # Errors
    /// As every request.
    pub async fn instances(&self) -> Result<InstanceList, ClientError> {
        self.get(&["instances"], &[]).await
    }

    /// One instance, closed ones of the history among them.
    ///
    /// # Errors
    /// As every request.
    pub async fn instance(&self, name: &str) -> Result<InstanceStatus, ClientError> {
        self.get(&["instances", name], &[]).await
    }

    /// The last `lines` lines of an instance's output.
    ///
    /// # Errors
    /// As every request.
    pub async fn logs(&self, name: &str, lines: usize) -> Result<LogTail, ClientError> {
        self.get(&["instances", name, "logs"], &[("lines", lines.to_string())]).await
    }

    /// Why a pool, runner or job is as it is.
    ///
    /// # Errors
    /// As every request.
    pub async fn why(&self, subject: &str) -> Result<Why, ClientError> {
        self.get(&["why", subject], &[]).await
    }

    /// A part of the history.
    ///
    /// # Errors
    /// As every request.
    pub async fn events(&self, query: &EventQuery) -> Result<EventList, ClientError> {
        let mut pairs = Vec::new();
        pairs.extend(query.pool.clone().map(|pool| ("pool", pool)));
        pairs.extend(query.instance.clone().map(|instance| ("instance", instance)));
        pairs.extend(query.limit.map(|limit| ("limit", limit.to_string())));
        self.get(&["events"], &pairs).await
    }

    /// Takes no more jobs into a pool and lets the running ones finish.
    ///
    /// # Errors
    /// As every request.
    pub async fn drain(&self, pool: &str) -> Result<PoolStatus, ClientError> {
        self.post(&["pools", pool, "drain"], None).await
    }

    /// Takes jobs into a pool again.
    ///
    /// # Errors
    /// As every request.
    pub async fn resume(&self, pool: &str) -> Result<PoolStatus, ClientError> {
        self.post(&["pools", pool, "resume"], None).await
    }

    /// Ends an instance; one that runs a job only with `force`.
    ///
    /// # Errors
    /// As every request; [`ErrorCode::Busy`] when it runs a job.
    pub async fn stop(&self, instance: &str, force: bool) -> Result<InstanceStatus, ClientError> {
        self.post(&["instances", instance, "stop"], Some(&StopRequest { force })).await
    }

    /// Asks the daemon to leave the state directory to the caller.
    ///
    /// # Errors
    /// As every request.
    pub async fn takeover(&self) -> Result<TakeoverAnswer, ClientError> {
        self.post(&["takeover"], None).await
    }

    /// The numbers, in Prometheus' text format.
    ///
    /// # Errors
    /// As every request.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("metrics");
        }
        let body = self.answer(self.http.request(Method::GET, url)).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, ClientError> {
        let mut url = self.url(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(self.http.request(Method::GET, url)).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: Option<&StopRequest>,
    ) -> Result<T, ClientError> {
        let request = self.http.request(Method::POST, self.url(path));
        self.send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// The address of `path`, each part of it one segment whatever characters it has.
    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Only a URL that cannot have a path refuses, and `build` made one that can.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        url
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ClientError> {
        let body = self.answer(request).await?;
        serde_json::from_slice(&body)
            .map_err(|source| ClientError::Unreadable { endpoint: self.endpoint.clone(), source })
    }

    /// The body of an answer that is no refusal.
    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, ClientError> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
        let endpoint = || self.endpoint.clone();
        let answer = request.send().await.map_err(|source| {
            if source.is_connect() {
                ClientError::Unreachable { endpoint: endpoint(), source }
            } else {
                ClientError::Cut { endpoint: endpoint(), source }
            }
        })?;
        let status = answer.status();
        let body = answer
            .bytes()
            .await
            .map_err(|source| ClientError::Cut { endpoint: endpoint(), source })?;
        if status.is_success() {
            return Ok(body.into());
        }
        Err(ClientError::Refused(refusal(status, &body)))
    }
}

/// What a refusal says; something between us and the daemon may have answered in its own words.
fn refusal(status: StatusCode, body: &[u8]) -> ErrorDetail {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => ErrorDetail {
            code: ErrorCode::Unknown,
            message: format!("the answer was HTTP status {}", status.as_u16()),
            hint: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_path_is_one_segment() {
        let client = Client::tcp("http://127.0.0.1:8080", None).unwrap();
        let url = client.url(&["why", "octo/repo 7?"]);
        assert_eq!(url.as_str(), "http://127.0.0.1:8080/api/v1/why/octo%2Frepo%207%3F");
        let url = Client::tcp("http://h/prefix", None).unwrap().url(&["status"]);
        assert_eq!(url.as_str(), "http://h/prefix/api/v1/status");
    }

    #[test]
    fn a_foreign_refusal_is_told_by_its_status() {
        let detail = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(detail.message, "the answer was HTTP status 502");
        assert!(Client::tcp("not a url", None).is_err());
    }

    #[tokio::test]
    async fn a_missing_socket_is_unreachable() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::unix(&dir.path().join("control.sock")).unwrap();
        let error = client.status().await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
        assert!(error.to_string().starts_with("no daemon answers at /"), "{error}");
    }

    #[test]
    fn a_token_is_not_printed() {
        let token = SecretString::from("s3cret");
        let client = Client::tcp("http://127.0.0.1:1", Some(token)).unwrap();
        assert!(!format!("{client:?}").contains("s3cret"));
    }
}
