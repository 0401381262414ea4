//! A client of the control API, for other processes.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;
use tokio::time::Instant;

use crate::config::Settings;
use crate::faults::Fault;
use crate::model::{BoxState, Job, Summary};
use crate::request::{Expire, ExpireRequest, QueueJobs, Queued, ScaleSetRef, Told};

/// A control call that failed.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No answer, or one that cannot be read.
    #[error("failed to reach the box at {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// The reason.
        #[source]
        source: reqwest::Error,
    },
    /// The box refused.
    #[error("the box refused {path}: {status} {message}")]
    Refused {
        /// The call.
        path: String,
        /// HTTP status.
        status: u16,
        /// The box's words.
        message: String,
    },
    /// A wait was over before it saw what it waited for.
    #[error("waited {waited:?} in vain, last seen {summary:?}")]
    WaitedInVain {
        /// How long.
        waited: Duration,
        /// What was there at the end.
        summary: Summary,
    },
}

impl ControlError {
    /// The status the box refused with.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable { .. } | Self::WaitedInVain { .. } => None,
        }
    }
}

/// How long one control call may take.
const CALL_MAX: Duration = Duration::from_secs(30);
/// How often a wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Speaks with a box over its control API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ControlClient {
    base: String,
    http: reqwest::Client,
}

impl ControlClient {
    /// A client for the box at this URL (`http://host:port`, with or without `/_box`).
    #[must_use]
    pub fn new(url: &str) -> Self {
        let base = url.trim_end_matches('/').trim_end_matches("/_box").to_owned();
        // Plain HTTP to a machine nearby: no roots to load, no proxy to ask.
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(CALL_MAX)
            .build()
            .unwrap_or_default();
        Self { base, http }
    }

    /// The box's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// The configuration URL of a scope.
    #[must_use]
    pub fn config_url(&self, scope: &str) -> String {
        format!("{}/{scope}", self.base)
    }

    /// Everything.
    ///
    /// # Errors
    /// When the box cannot be reached or refuses; so for all calls.
    pub async fn state(&self) -> Result<BoxState, ControlError> {
        self.get("state").await
    }

    /// The counts.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn summary(&self) -> Result<Summary, ControlError> {
        self.get("summary").await
    }

    /// One job.
    ///
    /// # Errors
    /// See [`Self::state`]; 404 if it is unknown.
    pub async fn job(&self, id: u64) -> Result<Job, ControlError> {
        self.get(&format!("jobs/{id}")).await
    }

    /// Queues jobs; their numbers.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn queue_jobs(&self, jobs: &QueueJobs) -> Result<Vec<u64>, ControlError> {
        let queued: Queued = self.send(Method::POST, "jobs", Some(jobs)).await?;
        Ok(queued.ids)
    }

    /// Cancels a job.
    ///
    /// # Errors
    /// See [`Self::state`]; 404 if it is unknown or has ended.
    pub async fn cancel_job(&self, id: u64) -> Result<(), ControlError> {
        self.send(Method::POST, &format!("jobs/{id}/cancel"), None::<&()>).await
    }

    /// Sends a job message that need not be true.
    ///
    /// # Errors
    /// See [`Self::state`]; 404 if the job is unknown or has no scale set.
    pub async fn tell(&self, job: u64, told: &Told) -> Result<(), ControlError> {
        self.send(Method::POST, &format!("jobs/{job}/tell"), Some(told)).await
    }

    /// Makes a scale set vanish, as the service does after idle days.
    ///
    /// # Errors
    /// See [`Self::state`]; 404 if it is unknown.
    pub async fn vanish(&self, scope: &str, scale_set: &str) -> Result<(), ControlError> {
        let set = ScaleSetRef { scope: scope.to_owned(), scale_set: scale_set.to_owned() };
        self.send(Method::POST, "vanish", Some(&set)).await
    }

    /// Expires everything of a kind; [`Self::expire_of`] chooses.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn expire(&self, what: Expire) -> Result<(), ControlError> {
        self.expire_of(&ExpireRequest { what, scope: None, scale_set: None }).await
    }

    /// Expires tokens or sessions.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn expire_of(&self, request: &ExpireRequest) -> Result<(), ControlError> {
        self.send(Method::POST, "expire", Some(request)).await
    }

    /// Adds a fault.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn inject(&self, fault: &Fault) -> Result<(), ControlError> {
        self.send(Method::POST, "faults", Some(fault)).await
    }

    /// Removes all faults.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn clear_faults(&self) -> Result<(), ControlError> {
        self.send(Method::DELETE, "faults", None::<&()>).await
    }

    /// The faults in force, with how often each struck.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn faults(&self) -> Result<Vec<Fault>, ControlError> {
        self.get("faults").await
    }

    /// How the box behaves.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn settings(&self) -> Result<Settings, ControlError> {
        self.get("settings").await
    }

    /// Replaces the keys of an object in the settings, for example
    /// `json!({"control_latency_ms": 100})`.
    ///
    /// # Errors
    /// See [`Self::state`]; 400 for an unknown key.
    pub async fn change(&self, settings: &Value) -> Result<Settings, ControlError> {
        self.send(Method::PATCH, "settings", Some(settings)).await
    }

    /// Ends every open connection at once, waiting polls included, except those of this API.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn cut_connections(&self) -> Result<(), ControlError> {
        self.send(Method::POST, "cut", None::<&()>).await
    }

    /// Forgets everything but the settings.
    ///
    /// # Errors
    /// See [`Self::state`].
    pub async fn reset(&self) -> Result<(), ControlError> {
        self.send(Method::POST, "reset", None::<&()>).await
    }

    /// Looks at the counts until they are as wanted.
    ///
    /// # Errors
    /// See [`Self::state`], or when the time is over first.
    pub async fn wait_summary(
        &self,
        timeout: Duration,
        mut wanted: impl FnMut(&Summary) -> bool,
    ) -> Result<Summary, ControlError> {
        let deadline = Instant::now() + timeout;
        loop {
            let summary = self.summary().await?;
            if wanted(&summary) {
                return Ok(summary);
            }
            if Instant::now() >= deadline {
                return Err(ControlError::WaitedInVain { waited: timeout, summary });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks at everything until it is as wanted. Dear when the box is large.
    ///
    /// # Errors
    /// See [`Self::state`], or when the time is over first.
    pub async fn wait_state(
        &self,
        timeout: Duration,
        mut wanted: impl FnMut(&BoxState) -> bool,
    ) -> Result<BoxState, ControlError> {
        let deadline = Instant::now() + timeout;
        loop {
            let state = self.state().await?;
            if wanted(&state) {
                return Ok(state);
            }
            if Instant::now() >= deadline {
                return Err(ControlError::WaitedInVain { waited: timeout, summary: state.summary });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until every job ever queued has ended.
    ///
    /// # Errors
    /// See [`Self::wait_summary`].
    pub async fn wait_all_completed(&self, timeout: Duration) -> Result<Summary, ControlError> {
        self.wait_summary(timeout, |now| now.jobs_completed == now.jobs_queued_total).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ControlError> {
        self.send(Method::GET, path, None::<&()>).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ControlError> {
        let unreachable = |source| ControlError::Unreachable { url: self.base.clone(), source };
        let mut request = self.http.request(method, format!("{}/_box/{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.map_err(unreachable)?;
            let message = serde_json::from_str::<Value>(&text)
                .ok()
                .and_then(|body| body["message"].as_str().map(str::to_owned))
                .unwrap_or(text);
            return Err(ControlError::Refused {
                path: path.to_owned(),
                status: status.as_u16(),
                message,
            });
        }
        let empty = status == StatusCode::NO_CONTENT;
        let bytes = response.bytes().await.map_err(unreachable)?;
        let text: &[u8] = if empty { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|error| ControlError::Refused {
            path: path.to_owned(),
            status: status.as_u16(),
            message: format!("unreadable answer: {error}"),
        })
    }
}
