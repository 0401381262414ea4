//! The long poll of one scale set.
//!
//! A session has a queue: an address and a token that ends within the hour. A 401 from the queue means that
//! the token ended; the session is then refreshed with the admin token, once for all who wait, and asked
//! again, once. Nothing else is retried inside: the listener must see every failure.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use secrecy::ExposeSecret;
use url::Url;

use crate::admin::{Call, JSON, bounded, service_url};
use crate::connection::{Connection, SETS};
use crate::error::{ErrorKind, GithubError, Result, Subject, refused};
use crate::http::{Answer, Lane, authorization};
use crate::message::{Message, Statistics};
use crate::news::{MessageBody, SessionBody};
use crate::wire;

/// One attempt of a poll, which the service holds open for about 50 s.
const POLL_ATTEMPT_MAX: Duration = Duration::from_secs(120);
/// A refused token costs a refresh and a second attempt.
const POLL_MAX: Duration = Duration::from_secs(180);
const CALL_MAX: Duration = Duration::from_secs(45);
/// Least time of a poll that brought nothing, so that a service which answers at once with nothing
/// is not asked again at once.
const IDLE_PAUSE: Duration = Duration::from_millis(500);

const MESSAGE_JSON: HeaderValue =
    HeaderValue::from_static("application/json; api-version=6.0-preview");
const CAPACITY: &str = "x-scalesetmaxcapacity";

/// An open message session. Only one can be open for a scale set.
///
/// Poll, commit what the message says, acknowledge it, poll again. A dropped session stays open at
/// GitHub until it lapses; [`Session::close`] it, or have its saved id deleted by
/// [`Connection::delete_session`].
pub struct Session {
    connection: Connection,
    set_id: i64,
    id: String,
    statistics: Option<Statistics>,
    queue: RwLock<Arc<Queue>>,
    refreshing: tokio::sync::Mutex<()>,
}

/// Where the messages are, and what opens it.
struct Queue {
    url: Url,
    authorization: HeaderValue,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("set_id", &self.set_id).field("id", &self.id).finish()
    }
}

impl Queue {
    fn new(operation: &'static str, body: &SessionBody, must_be_secure: bool) -> Result<Self> {
        let unusable = |detail: &str| GithubError::new(operation, ErrorKind::Unusable, detail);
        let url = Url::parse(&body.message_queue_url)
            .map_err(|_| unusable("the session has no queue address"))?;
        if url.cannot_be_a_base() || (must_be_secure && url.scheme() != "https") {
            return Err(unusable("the session's queue address is not one for its token"));
        }
        let token = body.message_queue_access_token.expose_secret();
        Ok(Self { url, authorization: authorization(operation, "Bearer", token)? })
    }
}

impl Session {
    pub(crate) fn new(connection: &Connection, set_id: i64, body: SessionBody) -> Result<Self> {
        const OPERATION: &str = "open a message session";
        if body.session_id.is_empty() {
            let detail = "the session has no id";
            return Err(GithubError::new(OPERATION, ErrorKind::Unusable, detail));
        }
        let queue = Queue::new(OPERATION, &body, connection.url().is_hosted_securely())?;
        Ok(Self {
            connection: connection.clone(),
            set_id,
            id: body.session_id,
            statistics: body.statistics.map(Statistics::from),
            queue: RwLock::new(Arc::new(queue)),
            refreshing: tokio::sync::Mutex::default(),
        })
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
        let began = tokio::time::Instant::now();
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.poll.before");
        let answer = bounded(
            OPERATION,
            POLL_MAX,
            self.ask(OPERATION, move |queue| Ok(poll_request(queue, last, capacity))),
        )
        .await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.poll.after");
        match answer.status {
            202 => {
                // GitHub waits for long before it says so; a proxy that does not would be asked in a loop.
                tokio::time::sleep_until(began + IDLE_PAUSE).await;
                Ok(None)
            }
            // How github.com now and then says that there is nothing.
            200 if answer.body.trim_ascii().is_empty() => {
                tokio::time::sleep(IDLE_PAUSE).await;
                Ok(None)
            }
            200 => Ok(Some(wire::read::<MessageBody>(OPERATION, &answer)?.into())),
            _ => Err(refused(OPERATION, &answer, Subject::Session)),
        }
    }

    /// Tells GitHub not to send a message again. One that is gone already is fine.
    pub async fn acknowledge(&self, id: i64) -> Result<()> {
        const OPERATION: &str = "acknowledge a message";
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.acknowledge.before");
        let request = move |queue: &Queue| Ok(acknowledge_request(queue, id));
        let answer = bounded(OPERATION, CALL_MAX, self.ask(OPERATION, request)).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.acknowledge.after");
        match answer.status {
            // 404: an attempt before did it, and its answer was lost.
            204 | 404 => Ok(()),
            // Another success is a proxy's word: the message would come again at once, and again (seed 1764).
            status if answer.is_success() => {
                let detail = format!("status {status} instead of 204");
                Err(GithubError::new(OPERATION, ErrorKind::Unusable, detail))
            }
            _ => Err(refused(OPERATION, &answer, Subject::Session)),
        }
    }

    /// Takes offered jobs (GitHub Enterprise Server), by their request ids; returns those that are
    /// ours now. What is missing was taken by another or was ours already.
    pub async fn acquire(&self, request_ids: &[i64]) -> Result<Vec<i64>> {
        const OPERATION: &str = "acquire jobs";
        if request_ids.is_empty() {
            return Ok(Vec::new());
        }
        let body = wire::write(OPERATION, &request_ids)?;
        let path = format!("{SETS}/{}/acquirejobs", self.set_id);
        bounded(OPERATION, CALL_MAX, async {
            let service = self.connection.admin().reach(OPERATION).await?;
            let (lane, method) = (Lane::Control, Method::POST);
            let call = Call { operation: OPERATION, lane, method, path, query: &[], body: None };
            let url = service_url(&call, &service)?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.acquire.before");
            let request = |queue: &Queue| {
                let mut request = with_token(Method::POST, url.clone(), queue);
                request.headers_mut().insert(CONTENT_TYPE, JSON);
                *request.body_mut() = Some(body.clone().into());
                Ok(request)
            };
            let answer = self.ask(OPERATION, request).await?;
            #[cfg(feature = "faults")]
            fleetfoot_faults::point("github.acquire.after");
            if !answer.is_success() {
                return Err(refused(OPERATION, &answer, Subject::Session));
            }
            Ok(wire::read::<wire::List<i64>>(OPERATION, &answer)?.value)
        })
        .await
    }

    /// Closes it at GitHub, so that a successor can open its own at once.
    pub async fn close(&self) -> Result<()> {
        self.connection.delete_session(self.set_id, &self.id).await
    }

    /// Sends a request with the queue's token; one that ended is replaced once.
    async fn ask(
        &self,
        operation: &'static str,
        request: impl Fn(&Queue) -> Result<Request> + Send,
    ) -> Result<Answer> {
        let queue = self.queue();
        let answer = self.connection.admin().send_poll(request(&queue)?, operation).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        tracing::debug!(
            operation,
            session = self.id,
            "queue token refused, refreshing the session"
        );
        self.refresh(operation, &queue).await?;
        self.connection.admin().send_poll(request(&self.queue())?, operation).await
    }

    /// Gets the session another token, unless somebody else just did.
    async fn refresh(&self, operation: &'static str, ended: &Arc<Queue>) -> Result<()> {
        let _turn = self.refreshing.lock().await;
        if !Arc::ptr_eq(&self.queue(), ended) {
            return Ok(());
        }
        let call = Call {
            operation,
            lane: Lane::Control,
            method: Method::PATCH,
            path: format!("{SETS}/{}/sessions/{}", self.set_id, self.id),
            query: &[],
            body: None,
        };
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.session.refresh.before");
        let answer = self.connection.admin().call(call).await?;
        #[cfg(feature = "faults")]
        fleetfoot_faults::point("github.session.refresh.after");
        if !answer.is_success() {
            return Err(refused(operation, &answer, Subject::Session));
        }
        let body: SessionBody = wire::read(operation, &answer)?;
        let must_be_secure = self.connection.url().is_hosted_securely();
        // Without an address nothing comes of this session any more.
        let queue = Queue::new(operation, &body, must_be_secure).map_err(|error| {
            GithubError::with_source(operation, ErrorKind::SessionGone, "", error)
        })?;
        *self.queue.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(queue);
        Ok(())
    }

    fn queue(&self) -> Arc<Queue> {
        self.queue.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn with_token(method: Method, url: Url, queue: &Queue) -> Request {
    let mut request = Request::new(method, url);
    request.headers_mut().insert(AUTHORIZATION, queue.authorization.clone());
    request
}

fn poll_request(queue: &Queue, last: Option<i64>, capacity: u32) -> Request {
    let mut url = queue.url.clone();
    if let Some(last) = last.filter(|id| *id > 0) {
        url.query_pairs_mut().append_pair("lastMessageId", &last.to_string());
    }
    let mut request = with_token(Method::GET, url, queue);
    request.headers_mut().insert(ACCEPT, MESSAGE_JSON);
    request.headers_mut().insert(CAPACITY, HeaderValue::from(capacity));
    *request.timeout_mut() = Some(POLL_ATTEMPT_MAX);
    request
}

fn acknowledge_request(queue: &Queue, id: i64) -> Request {
    let mut url = queue.url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(&id.to_string());
    }
    let mut request = with_token(Method::DELETE, url, queue);
    request.headers_mut().insert(CONTENT_TYPE, JSON);
    request
}
