//! HTTP/1 to the engine: one connection a conversation, whole answers or streams.
//!
//! A conversation ends when its [`Conversation`] and its answers are dropped, and with it the connection:
//! dropping a call at any await leaves nothing open. Nothing is pooled, so a restarted engine never meets a
//! stale connection; connecting to a local socket costs about a tenth of a millisecond.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::endpoint::Endpoint;
use crate::tasks::{self, Owned};
use fleetfoot_provisioner::{BackendError, ErrorKind, InstanceName};

/// Answers longer than this are not believed.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// A call to the engine failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("cannot reach the engine at {endpoint}: {cause}: {}", remedy(cause))]
    Connect { endpoint: String, cause: std::io::Error },
    #[error("the connection to the engine broke: {0}")]
    Lost(String),
    #[error("{message}")]
    Refused { status: u16, message: String },
    #[error("the engine's answer is not understood: {0}")]
    Odd(String),
    #[error("{0}")]
    Version(String),
}

/// What to do about an engine that nobody could connect to.
pub(crate) fn remedy(cause: &std::io::Error) -> &'static str {
    let kind = cause.kind();
    if kind == std::io::ErrorKind::NotFound {
        "install and start Docker, or set `host` to the engine's address"
    } else if kind == std::io::ErrorKind::PermissionDenied {
        "add the user to the group `docker` and log in again"
    } else if kind == std::io::ErrorKind::ConnectionRefused {
        "start the engine: `systemctl start docker`"
    } else {
        "check the engine's address"
    }
}

impl CallError {
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Connect { .. } | Self::Lost(_) | Self::Odd(_) | Self::Version(_) => None,
        }
    }

    /// Podman says 500 where Docker says 409.
    pub(crate) fn is_name_conflict(&self) -> bool {
        match self {
            Self::Refused { status: 409, .. } => true,
            Self::Refused { status: 500, message } => message.contains("already in use"),
            Self::Refused { .. }
            | Self::Connect { .. }
            | Self::Lost(_)
            | Self::Odd(_)
            | Self::Version(_) => false,
        }
    }

    /// There is no such container (any more). Podman says 500 of one that goes while it is looked at.
    pub(crate) fn is_no_container(&self) -> bool {
        matches!(self, Self::Refused { status: 500, message } if message.contains("no such container"))
            || self.status() == Some(404)
    }

    /// Whose failure it is. `changes`: the call may have happened although its answer was lost.
    pub(crate) fn kind(&self, changes: bool) -> ErrorKind {
        match self {
            Self::Connect { .. } | Self::Version(_) | Self::Odd(_) => ErrorKind::Backend,
            Self::Lost(_) if changes => ErrorKind::Unanswered,
            Self::Lost(_) => ErrorKind::Backend,
            Self::Refused { status, message } => {
                let full =
                    ["no space left on device", "disk quota exceeded", "cannot allocate memory"];
                if full.iter().any(|words| message.to_lowercase().contains(words)) {
                    ErrorKind::NoRoom
                } else if (400..500).contains(status) || is_of_the_instance(message) {
                    ErrorKind::Instance
                } else {
                    ErrorKind::Backend
                }
            }
        }
    }

    pub(crate) fn of(
        self,
        operation: &'static str,
        name: Option<&InstanceName>,
        changes: bool,
    ) -> BackendError {
        let error = BackendError::new(operation, self.kind(changes), one_line(&self.to_string()));
        match name {
            Some(name) => error.about(name),
            None => error,
        }
    }
}

/// Engines say 500 for what is wrong with one container's description, too.
fn is_of_the_instance(message: &str) -> bool {
    let words = [
        "oci runtime",
        "runtime create failed",
        "executable file not found",
        "no such image",
        "no such file or directory",
        "image not known",
        "invalid",
        "unknown",
        "not found",
        "permission denied",
        "docker-init",
        "catatonit",
    ];
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}

pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One connection, for one or more calls behind each other.
pub(crate) struct Conversation {
    sender: SendRequest<Full<Bytes>>,
    driver: Arc<Owned>,
    host: Arc<str>,
}

impl Conversation {
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, CallError> {
        let unreachable = |cause| CallError::Connect { endpoint: endpoint.to_string(), cause };
        let stream = endpoint.open().await.map_err(unreachable)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        let driver = tasks::owned(async move {
            // Its failure shows in the call that waits for it.
            let _ = connection.await;
        });
        let host = match endpoint {
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => {
                format!("{host}:{port}")
            }
            Endpoint::Unix(_) | Endpoint::Ssh { .. } => "docker".to_owned(),
        };
        Ok(Self { sender, driver: Arc::new(driver), host: Arc::from(host) })
    }

    /// Sends one request and waits for the head of its answer; an error status becomes `Refused`.
    pub(crate) async fn send(&mut self, call: Call) -> Result<Answer, CallError> {
        let mut request =
            Request::builder().method(call.method).uri(&call.path).header("Host", &*self.host);
        if let Some(kind) = call.content_type {
            request = request.header("Content-Type", kind);
        }
        if let Some(auth) = &call.registry_auth {
            request = request.header("X-Registry-Auth", auth);
        }
        let request = request
            .body(Full::new(call.body))
            .map_err(|error| CallError::Odd(error.to_string()))?;
        self.sender.ready().await.map_err(lost)?;
        let response = self.sender.send_request(request).await.map_err(lost)?;
        let (head, body) = response.into_parts();
        let answer = Answer { body, _driver: Arc::clone(&self.driver) };
        if head.status.is_success() || head.status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        let status = head.status.as_u16();
        let bytes = answer.bytes().await?;
        Err(CallError::Refused { status, message: refusal(&bytes, status) })
    }
}

fn lost(error: hyper::Error) -> CallError {
    CallError::Lost(error.to_string())
}

fn refusal(bytes: &[u8], status: u16) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        #[serde(default)]
        message: String,
        #[serde(default)]
        cause: String,
    }
    match serde_json::from_slice::<Refusal>(bytes) {
        Ok(it) if !it.message.is_empty() => it.message,
        Ok(it) if !it.cause.is_empty() => it.cause,
        Ok(_) | Err(_) => match one_line(&String::from_utf8_lossy(bytes)) {
            text if text.is_empty() => format!("status {status}"),
            text => text,
        },
    }
}

/// A request, without the version in its path until the engine adds it. No `Debug`: it may hold secrets.
pub(crate) struct Call {
    method: Method,
    pub(crate) path: String,
    body: Bytes,
    content_type: Option<&'static str>,
    registry_auth: Option<String>,
}

impl Call {
    fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: Bytes::new(),
            content_type: None,
            registry_auth: None,
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn head(path: impl Into<String>) -> Self {
        Self::new(Method::HEAD, path)
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    pub(crate) fn put(path: impl Into<String>) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path)
    }

    pub(crate) fn json(mut self, body: &serde_json::Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self.content_type = Some("application/json");
        self
    }

    pub(crate) fn tar(mut self, body: Vec<u8>) -> Self {
        self.body = Bytes::from(body);
        self.content_type = Some("application/x-tar");
        self
    }

    pub(crate) fn registry_auth(mut self, auth: Option<String>) -> Self {
        self.registry_auth = auth;
        self
    }
}

/// The head of an answer and what still comes. Keeps its connection open.
pub(crate) struct Answer {
    body: Incoming,
    _driver: Arc<Owned>,
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(lost(error)),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// The whole body.
    pub(crate) async fn bytes(mut self) -> Result<Bytes, CallError> {
        let mut whole = BytesMut::new();
        while let Some(bytes) = self.piece().await? {
            if whole.len() + bytes.len() > ANSWER_BYTES_MAX {
                return Err(CallError::Odd("it is too long".to_owned()));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }

    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, CallError> {
        let bytes = self.bytes().await?;
        serde_json::from_slice(&bytes).map_err(|error| CallError::Odd(error.to_string()))
    }
}

/// A stream of JSON messages, one line each; engines end lines with CR LF, LF or nothing at all.
pub(crate) struct Messages {
    answer: Answer,
    pending: BytesMut,
}

impl Messages {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { answer, pending: BytesMut::new() }
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CallError> {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.pending).into_iter::<T>();
            match values.next() {
                Some(Ok(value)) => {
                    let used = values.byte_offset();
                    let _ = self.pending.split_to(used);
                    return Ok(Some(value));
                }
                Some(Err(error)) if !error.is_eof() => {
                    return Err(CallError::Odd(error.to_string()));
                }
                Some(Err(_)) | None => {}
            }
            match self.answer.piece().await? {
                Some(bytes) => self.pending.extend_from_slice(&bytes),
                None if self.pending.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => return Err(CallError::Lost("in the middle of a message".to_owned())),
            }
            if self.pending.len() > ANSWER_BYTES_MAX {
                return Err(CallError::Odd("a message is too long".to_owned()));
            }
        }
    }
}

/// Percent-encodes a value for a query or a path segment.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_belong_to_someone() {
        let refused =
            |status, message: &str| CallError::Refused { status, message: message.to_owned() };
        for (error, kind) in [
            (refused(404, "No such image: x"), ErrorKind::Instance),
            (refused(400, "invalid mount config"), ErrorKind::Instance),
            (refused(500, "OCI runtime create failed: exec: \"./x\""), ErrorKind::Instance),
            (refused(500, "write /x: no space left on device"), ErrorKind::NoRoom),
            (refused(500, "server error"), ErrorKind::Backend),
            (refused(503, "shutting down"), ErrorKind::Backend),
            (CallError::Lost("reset".to_owned()), ErrorKind::Unanswered),
        ] {
            assert_eq!(error.kind(true), kind, "{error}");
        }
        assert_eq!(CallError::Lost("reset".to_owned()).kind(false), ErrorKind::Backend);
        let taken = "creating container storage: the container name \"x\" is already in use";
        assert!(refused(500, taken).is_name_conflict());
        let going = "container 5454 does not exist in database: no such container";
        assert!(refused(500, going).is_no_container() && !refused(500, taken).is_no_container());
    }

    #[test]
    fn values_are_encoded() {
        assert_eq!(encoded(r#"{"label":["a=b"]}"#), "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D");
    }
}
