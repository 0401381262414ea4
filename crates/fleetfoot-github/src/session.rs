//! The long poll of one scale set, over the message half of crate `scaleset`.

use std::fmt;
use std::time::Duration;

use scaleset::{
    JobRequestId, MessageId, MessageSession, RateLimitPolicy, RateLimitRule, RetryPolicy,
};

use crate::admin::bounded;
use crate::connection::Connection;
use crate::error::{
    ErrorKind, GithubError, RETRY_AFTER_DEFAULT, Result, Subject, classify, detail, transport,
};
use crate::message::{Message, Statistics};
use crate::wire::Exception;

/// Above the crate's own bound of 120 s for one attempt: a refused token costs a refresh and a
/// second attempt.
const POLL_MAX: Duration = Duration::from_secs(180);
const CALL_MAX: Duration = Duration::from_secs(45);
/// Least time of a poll that brought nothing, so that a service which answers at once with nothing
/// is not asked again at once.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

/// An open message session. Only one can be open for a scale set.
///
/// Poll, commit what the message says, acknowledge it, poll again. A dropped session stays open at
/// GitHub until it lapses; [`Session::close`] it, or have its saved id deleted by
/// [`Connection::delete_session`].
pub struct Session {
    inner: MessageSession,
    connection: Connection,
    set_id: i64,
    id: String,
    statistics: Option<Statistics>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("set_id", &self.set_id).field("id", &self.id).finish()
    }
}

/// Nothing is retried inside: the listener must see every failure.
pub(crate) fn no_retries() -> RetryPolicy {
    let give_up = RateLimitPolicy::rules(RateLimitRule::give_up(), RateLimitRule::give_up());
    RetryPolicy::none().rate_limit(give_up)
}

impl Session {
    pub(crate) fn new(inner: MessageSession, connection: Connection, set_id: i64) -> Result<Self> {
        let info = inner.info();
        let id = info.session_id.as_str().to_owned();
        if id.is_empty() || info.message_queue_url.is_empty() {
            let detail = "the session has no id or no queue address";
            return Err(GithubError::new("open a message session", ErrorKind::Unusable, detail));
        }
        let statistics = info.statistics.map(Statistics::from);
        Ok(Self { inner, connection, set_id, id, statistics })
    }

    /// Its id: no secret, worth saving, so that a successor can delete it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The scale set it belongs to.
    #[must_use]
    pub fn set_id(&self) -> i64 {
        self.set_id
    }

    /// The level when it was opened; `None` if GitHub did not say.
    #[must_use]
    pub fn statistics(&self) -> Option<Statistics> {
        self.statistics
    }

    /// Waits for news, about 50 s; `None` = there was none. `last` is the last message that was
    /// acknowledged, `capacity` the number of runners that could be up at once (never 0).
    ///
    /// Dropping the future loses nothing: what is not acknowledged comes again.
    pub async fn poll(&self, last: Option<i64>, capacity: u32) -> Result<Option<Message>> {
        const OPERATION: &str = "poll for messages";
        let last = last.filter(|id| *id > 0).map(MessageId);
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.poll.before");
        let polled = bounded(OPERATION, POLL_MAX, async {
            Ok(self.inner.get_message(last, capacity).await)
        })
        .await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.poll.after");
        match polled {
            Ok(Some(message)) => Ok(Some(message.into())),
            Ok(None) => Ok(None),
            // 200 with an empty body: how github.com now and then says that there is nothing.
            Err(scaleset::Error::Decode { reason, .. }) if is_empty_body(&reason) => {
                tokio::time::sleep(IDLE_PAUSE).await;
                Ok(None)
            }
            Err(error) => Err(from_crate(OPERATION, Subject::Session, error)),
        }
    }

    /// Tells GitHub not to send a message again. One that is gone already is fine.
    pub async fn acknowledge(&self, id: i64) -> Result<()> {
        const OPERATION: &str = "acknowledge a message";
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.acknowledge.before");
        bounded(OPERATION, CALL_MAX, async {
            self.inner
                .delete_message(MessageId(id))
                .await
                .map_err(|error| from_crate(OPERATION, Subject::Session, error))
        })
        .await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.acknowledge.after");
        Ok(())
    }

    /// Takes offered jobs (GitHub Enterprise Server), by their request ids; returns those that are
    /// ours now. What is missing was taken by another or was ours already.
    pub async fn acquire(&self, request_ids: &[i64]) -> Result<Vec<i64>> {
        const OPERATION: &str = "acquire jobs";
        if request_ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<JobRequestId> = request_ids.iter().copied().map(JobRequestId).collect();
        bounded(OPERATION, CALL_MAX, async {
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.acquire.before");
            let acquired = self
                .inner
                .acquire_jobs(&ids)
                .await
                .map_err(|error| from_crate(OPERATION, Subject::Session, error))?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.acquire.after");
            Ok(acquired.into_iter().map(JobRequestId::get).collect())
        })
        .await
    }

    /// Closes it at GitHub, so that a successor can open its own at once.
    pub async fn close(&self) -> Result<()> {
        self.connection.delete_session(self.set_id, &self.id).await
    }
}

fn is_empty_body(reason: &str) -> bool {
    reason.starts_with("EOF while parsing a value at line 1 column 0")
}

/// What an error of crate `scaleset` means.
pub(crate) fn from_crate(
    operation: &'static str,
    subject: Subject,
    error: scaleset::Error,
) -> GithubError {
    if let Some(limit) = error.rate_limit() {
        let retry_after = limit.retry_after.unwrap_or(RETRY_AFTER_DEFAULT);
        let kind = ErrorKind::RateLimited { retry_after };
        return GithubError::new(operation, kind, api_detail(&limit.response));
    }
    if let Some(api) = error.api_error() {
        // What failed may be the way to the session: GitHub's own API, not the service.
        let is_way_in = ["/access_tokens", "/registration-token", "/runner-registration"]
            .iter()
            .any(|end| api.url.ends_with(end));
        let subject = if is_way_in { Subject::Other } else { subject };
        let exception = api.exception.as_ref().map_or("", |it| it.type_name.as_str());
        let kind = classify(api.status.as_u16(), exception, subject);
        return GithubError::new(operation, kind, api_detail(api));
    }
    #[expect(clippy::wildcard_enum_match_arm, reason = "the enum is foreign and open")]
    match error {
        scaleset::Error::Transport { source, .. } => transport(operation, source),
        scaleset::Error::Jwt(source) => match source.downcast::<GithubError>() {
            Ok(error) => *error,
            Err(source) => GithubError::with_source(operation, ErrorKind::Credentials, "", source),
        },
        scaleset::Error::InvalidCredentials(_) => {
            GithubError::with_source(operation, ErrorKind::Credentials, "", error)
        }
        scaleset::Error::InvalidConfigUrl { .. }
        | scaleset::Error::InvalidInput(_)
        | scaleset::Error::HttpClient(_) => {
            GithubError::with_source(operation, ErrorKind::Settings, "", error)
        }
        scaleset::Error::UnexpectedResponse(_) if subject == Subject::Session => {
            GithubError::with_source(operation, ErrorKind::SessionGone, "", error)
        }
        error => GithubError::with_source(operation, ErrorKind::Unusable, "", error),
    }
}

fn api_detail(api: &scaleset::ApiError) -> String {
    let exception = Exception {
        type_name: api.exception.as_ref().map(|it| it.type_name.clone()).unwrap_or_default(),
        message: api.message.clone(),
    };
    let id = api.activity_id.as_deref().or(api.github_request_id.as_deref());
    detail(api.status.as_u16(), &exception, id)
}
