//! What went wrong, and what to do about it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::http::Answer;
use crate::wire::Exception;

/// `Result` with this room's error.
pub type Result<T, E = GithubError> = std::result::Result<T, E>;

/// What GitHub states when it limits us without saying for how long.
pub(crate) const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(60);

/// A call to GitHub that did not succeed.
///
/// It can be cloned, so that callers who waited for the same token all hear the same reason.
#[derive(Debug, Clone)]
pub struct GithubError {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    operation: &'static str,
    kind: ErrorKind,
    detail: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What an error means, as far as callers branch on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// Another session of this scale set is open: a predecessor that was killed, or a second
    /// instance.
    Conflict,
    /// No request on this session can succeed any more; open a new one.
    SessionGone,
    /// The scale set does not exist any more (deleted by hand, or after days offline).
    ScaleSetGone,
    /// A scale set of that name is there already.
    ScaleSetExists,
    /// A runner of that name is registered already; its JIT config cannot be had again.
    RunnerExists,
    /// The runner has a job, so GitHub does not remove it.
    RunnerBusy,
    /// GitHub asks us to slow down.
    RateLimited {
        /// How long GitHub wants us to wait.
        retry_after: Duration,
    },
    /// The credential is wrong, revoked or expired.
    Unauthorized,
    /// The credential is good but may not do this.
    Forbidden {
        /// The permission that is missing, where it can be named.
        permission: Option<String>,
    },
    /// There is no such thing.
    NotFound,
    /// No answer came in time: it may still have been done.
    Timeout,
    /// No connection, or it broke: after it broke, it may still have been done.
    Unreachable,
    /// The server's certificate is not trusted here.
    Certificate,
    /// GitHub failed (5xx).
    Server(
        /// The HTTP status.
        u16,
    ),
    /// GitHub refused for a reason that has no kind of its own (other 4xx, and redirects).
    Rejected(
        /// The HTTP status.
        u16,
    ),
    /// The answer was a success but cannot be used.
    Unusable,
    /// This machine's clock is too far from GitHub's for App tokens.
    Clock {
        /// Seconds by which this machine is ahead of GitHub; negative = behind.
        ahead_seconds: i64,
    },
    /// The credential cannot even be sent: empty, unreadable, not a key.
    Credentials,
    /// A local setting is wrong: a proxy address, a CA file, a name.
    Settings,
}

/// What a caller should do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Try again, with backoff.
    Retry,
    /// Try again, but not before this long.
    Wait(Duration),
    /// The same call will not succeed; do something else.
    GiveUp,
}

impl GithubError {
    pub(crate) fn new(operation: &'static str, kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { inner: Arc::new(Inner { operation, kind, detail: detail.into(), source: None }) }
    }

    /// Names the proxy, where it was one that refused.
    pub(crate) fn through(mut self, proxy: impl FnOnce() -> Option<String>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner)
            && inner.detail == PROXY_REFUSES
            && let Some(proxy) = proxy()
        {
            inner.detail = format!("the proxy {proxy} refuses the connection");
        }
        self
    }

    pub(crate) fn with_source(
        operation: &'static str,
        kind: ErrorKind,
        detail: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                operation,
                kind,
                detail: detail.into(),
                source: Some(source.into()),
            }),
        }
    }

    /// What it means.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// What was tried, as a verb phrase: `get a JIT config`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.inner.operation
    }

    /// What to do next.
    #[must_use]
    pub fn advice(&self) -> Advice {
        match &self.inner.kind {
            ErrorKind::RateLimited { retry_after } => Advice::Wait(*retry_after),
            ErrorKind::Conflict => Advice::Wait(Duration::from_secs(2)),
            ErrorKind::Unauthorized
            | ErrorKind::Forbidden { .. }
            | ErrorKind::Certificate
            | ErrorKind::Clock { .. }
            | ErrorKind::Credentials
            | ErrorKind::Settings => Advice::Wait(Duration::from_secs(10)),
            ErrorKind::Timeout
            | ErrorKind::Unreachable
            | ErrorKind::Server(_)
            | ErrorKind::Unusable
            | ErrorKind::SessionGone
            | ErrorKind::RunnerBusy => Advice::Retry,
            ErrorKind::ScaleSetGone
            | ErrorKind::ScaleSetExists
            | ErrorKind::RunnerExists
            | ErrorKind::NotFound
            | ErrorKind::Rejected(_) => Advice::GiveUp,
        }
    }

    /// How long GitHub wants us to wait, if it limits the rate.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let ErrorKind::RateLimited { retry_after } = &self.inner.kind else {
            return None;
        };
        Some(*retry_after)
    }

    /// Whether the call may have taken effect although it failed: the answer was lost, or came from
    /// something between GitHub and us.
    #[must_use]
    pub fn may_have_landed(&self) -> bool {
        matches!(
            self.inner.kind,
            ErrorKind::Timeout
                | ErrorKind::Unreachable
                | ErrorKind::Server(_)
                | ErrorKind::Unusable
        )
    }

    /// The error with all its causes, in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = StdError::source(self);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}

impl fmt::Display for GithubError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: {}", self.inner.operation, self.inner.kind)?;
        if !self.inner.detail.is_empty() {
            write!(f, ": {}", self.inner.detail)?;
        }
        Ok(())
    }
}

impl StdError for GithubError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("another session of this scale set is open"),
            Self::SessionGone => f.write_str("the message session is gone"),
            Self::ScaleSetGone => f.write_str("the scale set does not exist any more"),
            Self::ScaleSetExists => f.write_str("a scale set of this name exists already"),
            Self::RunnerExists => f.write_str("a runner of this name exists already"),
            Self::RunnerBusy => f.write_str("the runner is busy"),
            Self::RateLimited { retry_after } => {
                write!(f, "GitHub limits the rate, wait {} s", retry_after.as_secs())
            }
            Self::Unauthorized => f.write_str("GitHub does not accept the credential"),
            Self::Forbidden { permission: Some(permission) } => {
                write!(f, "the credential lacks a permission ({permission})")
            }
            Self::Forbidden { permission: None } => {
                f.write_str("the credential lacks a permission")
            }
            Self::NotFound => f.write_str("not found"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Unreachable => f.write_str("GitHub cannot be reached"),
            Self::Certificate => f.write_str(
                "the server's certificate is not trusted here (name its authority in `github.ca_file`)",
            ),
            Self::Server(status) => write!(f, "GitHub answered {status}"),
            Self::Rejected(status) => write!(f, "GitHub refused with {status}"),
            Self::Unusable => f.write_str("GitHub's answer cannot be used"),
            Self::Clock { ahead_seconds } => write!(
                f,
                "this machine's clock is {} {} GitHub's, set it right (for example `timedatectl set-ntp true`)",
                duration_words(ahead_seconds.unsigned_abs()),
                if *ahead_seconds < 0 { "behind" } else { "ahead of" },
            ),
            Self::Credentials => f.write_str("the credential cannot be used"),
            Self::Settings => f.write_str("a setting is wrong"),
        }
    }
}

fn duration_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200.. => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// What kind of thing a path names: it decides what a bare 404 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `runnerscalesets/<id>...`: 404 = the scale set is gone.
    ScaleSet,
    /// A session's queue or the session itself: 404 = the session is gone.
    Session,
    /// Anything else.
    Other,
}

/// What an unsuccessful status means. The service names its exceptions; the status alone is only a
/// second choice (a dead session is reported with 400 as well as with 404).
pub(crate) fn classify(status: u16, exception: &str, subject: Subject) -> ErrorKind {
    const BY_NAME: [(&str, ErrorKind); 8] = [
        ("RunnerScaleSetNotFoundException", ErrorKind::ScaleSetGone),
        ("RunnerScaleSetExistsException", ErrorKind::ScaleSetExists),
        ("SessionConflictException", ErrorKind::Conflict),
        ("SessionExpiredException", ErrorKind::SessionGone),
        ("SessionNotFoundException", ErrorKind::SessionGone),
        ("AgentExistsException", ErrorKind::RunnerExists),
        ("AgentNotFoundException", ErrorKind::NotFound),
        ("JobStillRunningException", ErrorKind::RunnerBusy),
    ];
    if let Some((_, kind)) = BY_NAME.iter().find(|(name, _)| exception.contains(name)) {
        return kind.clone();
    }
    match (status, subject) {
        (401, Subject::Session) | (404 | 410, Subject::Session) => ErrorKind::SessionGone,
        (404, Subject::ScaleSet) => ErrorKind::ScaleSetGone,
        (404, Subject::Other) => ErrorKind::NotFound,
        (409, Subject::ScaleSet | Subject::Session) => ErrorKind::Conflict,
        (401, _) => ErrorKind::Unauthorized,
        (403, _) => ErrorKind::Forbidden { permission: None },
        (408, _) => ErrorKind::Timeout,
        (500.., _) => ErrorKind::Server(status),
        _ => ErrorKind::Rejected(status),
    }
}

/// The error for an unsuccessful answer.
pub(crate) fn refused(operation: &'static str, answer: &Answer, subject: Subject) -> GithubError {
    let exception = Exception::read(&answer.body);
    let kind = match answer.rate_limit(&exception.message) {
        Some(retry_after) => ErrorKind::RateLimited { retry_after },
        None => classify(answer.status, &exception.type_name, subject),
    };
    GithubError::new(operation, kind, detail(answer.status, &exception, answer.request_id()))
}

/// Status, GitHub's words and the id that GitHub's support asks for.
pub(crate) fn detail(status: u16, exception: &Exception, request_id: Option<&str>) -> String {
    let mut text = format!("status {status}");
    if !exception.type_name.is_empty() {
        text.push_str(&format!(", {}", exception.type_name));
    }
    if !exception.message.is_empty() {
        text.push_str(&format!(", {:?}", shorten(&exception.message)));
    }
    if let Some(id) = request_id {
        text.push_str(&format!(", request {id}"));
    }
    text
}

fn shorten(text: &str) -> String {
    const LENGTH_MAX: usize = 300;
    match text.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is said of a proxy whose address is not known here.
const PROXY_REFUSES: &str = "the proxy refuses the connection";

/// The error for a request that got no answer.
pub(crate) fn transport(operation: &'static str, error: reqwest::Error) -> GithubError {
    let place = error.url().and_then(place);
    let error = error.without_url();
    let kind = transport_kind(&error);
    let is_proxy = causes(&error).any(|cause| cause.to_string().starts_with("tunnel error"));
    let place = place.map(|place| format!("on the way to {place}")).unwrap_or_default();
    let detail = if is_proxy { PROXY_REFUSES.to_owned() } else { place };
    GithubError::with_source(operation, kind, detail, error)
}

/// Host and port only: path and query of a message queue's URL may hold a token.
pub(crate) fn place(url: &url::Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

fn transport_kind(error: &reqwest::Error) -> ErrorKind {
    if error.is_timeout() {
        return ErrorKind::Timeout;
    }
    if error.is_builder() {
        return ErrorKind::Settings;
    }
    if causes(error).any(is_certificate_error) {
        return ErrorKind::Certificate;
    }
    ErrorKind::Unreachable
}

/// An I/O error hides what it was made of from `source`, sometimes in another I/O error.
fn is_certificate_error(error: &(dyn StdError + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return matches!(error, rustls::Error::InvalidCertificate(_));
    }
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inner.is_some_and(|inner| is_certificate_error(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_means_what_the_service_says() {
        let expired = "GitHub.DistributedTask.WebApi.RunnerScaleSetSessionExpiredException, x";
        for (status, exception, subject, kind) in [
            (400, expired, Subject::Session, ErrorKind::SessionGone),
            (404, "", Subject::Session, ErrorKind::SessionGone),
            (401, "", Subject::Session, ErrorKind::SessionGone),
            (401, "", Subject::ScaleSet, ErrorKind::Unauthorized),
            (404, "RunnerScaleSetNotFoundException", Subject::Session, ErrorKind::ScaleSetGone),
            (404, "", Subject::ScaleSet, ErrorKind::ScaleSetGone),
            (404, "", Subject::Other, ErrorKind::NotFound),
            (409, "RunnerScaleSetSessionConflictException", Subject::Other, ErrorKind::Conflict),
            (409, "", Subject::ScaleSet, ErrorKind::Conflict),
            (409, "AgentExistsException", Subject::ScaleSet, ErrorKind::RunnerExists),
            (400, "JobStillRunningException", Subject::Other, ErrorKind::RunnerBusy),
            (403, "", Subject::Other, ErrorKind::Forbidden { permission: None }),
            (503, "", Subject::Session, ErrorKind::Server(503)),
            (422, "", Subject::Other, ErrorKind::Rejected(422)),
            (302, "", Subject::Other, ErrorKind::Rejected(302)),
        ] {
            assert_eq!(classify(status, exception, subject), kind, "{status} {exception}");
        }
    }

    #[test]
    fn texts_are_one_line_and_name_the_operation() {
        let error = GithubError::with_source(
            "get a JIT config",
            ErrorKind::Unreachable,
            "",
            std::io::Error::other("connection refused"),
        );
        assert_eq!(error.to_string(), "could not get a JIT config: GitHub cannot be reached");
        assert_eq!(
            error.chain(),
            "could not get a JIT config: GitHub cannot be reached: connection refused"
        );
        let clock = ErrorKind::Clock { ahead_seconds: -3600 };
        assert!(clock.to_string().contains("clock is 60 min behind GitHub's"));
    }
}
