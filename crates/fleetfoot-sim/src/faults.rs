//! Faults by request: which requests are answered wrongly, how, and how often.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Every kind of request the box tells apart. The JSON name is the snake case of the variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// In a fault: every request except control calls and runners' calls.
    Any,
    /// `POST /app/installations/{id}/access_tokens`.
    AccessToken,
    /// `POST .../actions/runners/registration-token` (and `remove-token`).
    RegistrationToken,
    /// `POST /actions/runner-registration`.
    AdminConnection,
    /// `GET _apis/runtime/runnergroups`.
    RunnerGroups,
    /// `GET _apis/runtime/runnerscalesets[/{id}]`.
    GetScaleSet,
    /// `POST _apis/runtime/runnerscalesets`.
    CreateScaleSet,
    /// `PATCH _apis/runtime/runnerscalesets/{id}`.
    UpdateScaleSet,
    /// `DELETE _apis/runtime/runnerscalesets/{id}`.
    DeleteScaleSet,
    /// `POST .../runnerscalesets/{id}/generatejitconfig`.
    GenerateJitConfig,
    /// `POST .../runnerscalesets/{id}/sessions`.
    CreateSession,
    /// `PATCH .../sessions/{id}`.
    RefreshSession,
    /// `DELETE .../sessions/{id}`.
    DeleteSession,
    /// `GET` on the message queue URL.
    GetMessage,
    /// `DELETE` of a message.
    DeleteMessage,
    /// `POST .../acquirejobs`.
    AcquireJobs,
    /// `GET _apis/distributedtask/pools/0/agents[/{id}]`.
    GetRunner,
    /// `DELETE _apis/distributedtask/pools/0/agents/{id}`.
    RemoveRunner,
    /// `GET .../actions/runners[/{id}]` (REST).
    RestGetRunners,
    /// `DELETE .../actions/runners/{id}` (REST).
    RestRemoveRunner,
    /// `POST .../actions/runners/generate-jitconfig` (REST).
    RestGenerateJitConfig,
    /// `GET .../actions/runners/downloads`, the notes of a release, and the archives themselves.
    RunnerReleases,
    /// Other REST calls.
    RestOther,
    /// A runner connects.
    RunnerConnect,
    /// A runner waits for a job.
    RunnerPoll,
    /// A runner's other calls.
    RunnerJob,
    /// Calls of the box's own control API. No fault or latency applies to them.
    Control,
    /// A path that nothing serves.
    Unknown,
}

impl Endpoint {
    pub(crate) fn is_runner(self) -> bool {
        matches!(self, Self::RunnerConnect | Self::RunnerPoll | Self::RunnerJob)
    }

    pub(crate) fn is_control(self) -> bool {
        self == Self::Control
    }
}

/// How a chosen request is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FaultAction {
    /// An error instead of the work.
    Status {
        /// HTTP status.
        status: u16,
        /// Exception type name, such as `RunnerScaleSetSessionExpiredException`.
        #[serde(default)]
        exception: Option<String>,
        /// Message.
        #[serde(default)]
        message: Option<String>,
        /// `Retry-After` in seconds.
        #[serde(default)]
        retry_after_s: Option<u64>,
        /// Further headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// A body as it stands (an empty queue URL, broken JSON) instead of the work.
    Body {
        /// HTTP status.
        status: u16,
        /// The body.
        body: String,
    },
    /// The work is done, after so long.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// No answer, ever.
    Hang,
    /// The connection is closed without an answer and without the work.
    Cut,
    /// 200 with an empty body, without the work.
    EmptyBody,
    /// The work is done, then the connection is closed without an answer.
    LoseAnswer,
    /// For removals: if the runner is online and idle, a job is offered to it first, so the
    /// removal finds it busy.
    OfferJob {
        /// How long that job runs.
        duration_ms: u64,
    },
}

/// Which requests, how often, and what happens to them. The first match wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// Which kind of request.
    pub endpoint: Endpoint,
    /// Only of this scope.
    #[serde(default)]
    pub scope: Option<String>,
    /// Only of this scale set, by name.
    #[serde(default)]
    pub scale_set: Option<String>,
    /// Only of the runner with this name.
    #[serde(default)]
    pub runner: Option<String>,
    /// Matching requests to let pass first (`skip: 2` strikes the third).
    #[serde(default)]
    pub skip: u64,
    /// How many requests it strikes; `None` all, until the faults are cleared.
    #[serde(default)]
    pub times: Option<u64>,
    /// What happens.
    pub response: FaultAction,
    /// How many it struck.
    #[serde(default)]
    pub struck: u64,
}

impl Fault {
    /// Strikes the next request of an endpoint, once.
    #[must_use]
    pub fn once(endpoint: Endpoint, response: FaultAction) -> Self {
        Self {
            endpoint,
            scope: None,
            scale_set: None,
            runner: None,
            skip: 0,
            times: Some(1),
            response,
            struck: 0,
        }
    }

    /// Strikes every request of an endpoint.
    #[must_use]
    pub fn always(endpoint: Endpoint, response: FaultAction) -> Self {
        Self { times: None, ..Self::once(endpoint, response) }
    }

    /// Only requests of this scope.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Only requests of this scale set.
    #[must_use]
    pub fn scale_set(mut self, name: impl Into<String>) -> Self {
        self.scale_set = Some(name.into());
        self
    }

    /// Strikes so many requests.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Lets so many requests pass first.
    #[must_use]
    pub fn skip(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }
}

impl FaultAction {
    /// A plain status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status {
            status,
            exception: None,
            message: None,
            retry_after_s: None,
            headers: BTreeMap::new(),
        }
    }

    /// A status with the service's exception name.
    #[must_use]
    pub fn exception(status: u16, exception: impl Into<String>) -> Self {
        Self::Status {
            status,
            exception: Some(exception.into()),
            message: None,
            retry_after_s: None,
            headers: BTreeMap::new(),
        }
    }

    /// A rate limit with `Retry-After`.
    #[must_use]
    pub fn rate_limited(status: u16, retry_after_s: u64) -> Self {
        Self::Status {
            status,
            exception: None,
            message: Some("You have exceeded a secondary rate limit".to_owned()),
            retry_after_s: Some(retry_after_s),
            headers: BTreeMap::new(),
        }
    }
}

/// What a request is about, as far as faults can choose by it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Subject {
    pub(crate) scope: Option<String>,
    pub(crate) scale_set: Option<String>,
    pub(crate) runner: Option<String>,
}

/// Faults in force; what is added beyond replaces a spent one, or the oldest.
const FAULTS_MAX: usize = 1_000;

/// The faults in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    list: Vec<Fault>,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        // What has struck as often as it may is of no more use than to be looked at.
        while self.list.len() >= FAULTS_MAX {
            let spent = |fault: &Fault| fault.times.is_some_and(|times| fault.struck >= times);
            let at = self.list.iter().position(spent).unwrap_or(0);
            self.list.remove(at);
        }
        self.list.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    pub(crate) fn list(&self) -> &[Fault] {
        &self.list
    }

    /// The fault that strikes this request, if one does; `fits` has the last word.
    pub(crate) fn strike(
        &mut self,
        endpoint: Endpoint,
        subject: &Subject,
        fits: impl Fn(&FaultAction) -> bool,
    ) -> Option<FaultAction> {
        for fault in &mut self.list {
            let spent = fault.times.is_some_and(|times| fault.struck >= times);
            let kind = fault.endpoint == endpoint
                || (fault.endpoint == Endpoint::Any && !endpoint.is_runner());
            if spent || !kind || !fault.concerns(subject) || !fits(&fault.response) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.struck += 1;
            return Some(fault.response.clone());
        }
        None
    }
}

impl Fault {
    fn concerns(&self, subject: &Subject) -> bool {
        let same = |want: &Option<String>, have: &Option<String>| {
            want.as_ref().is_none_or(|want| {
                have.as_ref().is_some_and(|have| want.eq_ignore_ascii_case(have))
            })
        };
        same(&self.scope, &subject.scope)
            && same(&self.scale_set, &subject.scale_set)
            && same(&self.runner, &subject.runner)
    }
}
