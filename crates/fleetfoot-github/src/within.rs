//! GitHub in this process, for simulated worlds: the same requests and the same answers without connections in
//! between. What is asked there is there to be answered at once, however busy the machine is.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Request};

use crate::error::{ErrorKind, GithubError, Result, place, transport};
use crate::http::{Answer, BODY_MAX, CONTROL_TIMEOUT};

/// An answer on its way: nothing, if its connection broke.
pub type Answering = Pin<Box<dyn Future<Output = Option<http::Response<Vec<u8>>>> + Send>>;

type Asked = dyn Fn(http::Request<Vec<u8>>) -> Answering + Send + Sync;

/// Who answers requests in this process, whatever host they name. Dropping an answer on its way is hanging up.
#[derive(Clone)]
pub struct Within(Arc<Asked>);

impl fmt::Debug for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Within")
    }
}

impl Within {
    /// Has every request answered by `asked`.
    pub fn new(
        asked: impl Fn(http::Request<Vec<u8>>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(asked))
    }

    async fn ask(
        &self,
        request: Request,
        operation: &'static str,
    ) -> Result<http::Response<Vec<u8>>> {
        let bound = request.timeout().copied().unwrap_or(CONTROL_TIMEOUT);
        let on_the_way = place(request.url()).map(|place| format!("on the way to {place}"));
        let failed = |kind, why: std::io::ErrorKind| {
            let detail = on_the_way.clone().unwrap_or_default();
            GithubError::with_source(operation, kind, detail, std::io::Error::from(why))
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(bound) => {
                Err(failed(ErrorKind::Timeout, std::io::ErrorKind::TimedOut))
            }
            answer = (self.0)(plain(request)) => {
                let reset = std::io::ErrorKind::ConnectionReset;
                answer.ok_or_else(|| failed(ErrorKind::Unreachable, reset))
            }
        }
    }
}

fn plain(mut request: Request) -> http::Request<Vec<u8>> {
    let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default().to_vec();
    let mut plain = http::Request::new(body);
    *plain.method_mut() = request.method().clone();
    *plain.uri_mut() = request.url().as_str().parse().unwrap_or_default();
    *plain.headers_mut() = std::mem::take(request.headers_mut());
    plain
}

/// How requests leave.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    Net(Client),
    Within(Within),
}

impl Way {
    /// Sends one request and reads its whole answer.
    pub(crate) async fn send(&self, request: Request, operation: &'static str) -> Result<Answer> {
        match self {
            Self::Net(client) => read_whole(client, request, operation).await,
            Self::Within(within) => {
                let (parts, body) = within.ask(request, operation).await?.into_parts();
                Ok(Answer::new(parts.status.as_u16(), parts.headers, body))
            }
        }
    }

    /// Sends one request; its answer can be read in parts.
    pub(crate) async fn begin(
        &self,
        request: Request,
        operation: &'static str,
        bound: Duration,
    ) -> Result<reqwest::Response> {
        let answer = async {
            match self {
                Self::Net(client) => {
                    client.execute(request).await.map_err(|error| transport(operation, error))
                }
                Self::Within(within) => within.ask(request, operation).await.map(Into::into),
            }
        };
        tokio::time::timeout(bound, answer).await.unwrap_or_else(|_| {
            let detail = format!("within {} s", bound.as_secs());
            Err(GithubError::new(operation, ErrorKind::Timeout, detail))
        })
    }
}

/// Sends one request over the network and reads its whole answer.
async fn read_whole(client: &Client, request: Request, operation: &'static str) -> Result<Answer> {
    let failed = |error| transport(operation, error);
    let mut response = client.execute(request).await.map_err(failed)?;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > BODY_MAX {
            let detail = format!("the answer is longer than {} MiB", BODY_MAX >> 20);
            return Err(GithubError::new(operation, ErrorKind::Unusable, detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer::new(status, headers, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(timeout: Option<Duration>) -> Request {
        let url = "http://127.0.0.1:1/a/b?c=d".parse().unwrap();
        let mut request = Request::new(reqwest::Method::POST, url);
        *request.body_mut() = Some("body".into());
        *request.timeout_mut() = timeout;
        request
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_comes_whole_and_a_broken_one_is_an_error() {
        let echo = Way::Within(Within::new(|request| {
            let (parts, body) = request.into_parts();
            let line = format!("\u{feff}{} {} {}", parts.method, parts.uri, body.len());
            Box::pin(async move { Some(http::Response::new(line.into_bytes())) })
        }));
        let answer = echo.send(request(None), "test").await.unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(String::from_utf8(answer.body).unwrap(), "POST http://127.0.0.1:1/a/b?c=d 4");
        let begun = echo.begin(request(None), "test", CONTROL_TIMEOUT).await.unwrap();
        assert!(begun.text().await.unwrap().ends_with("/a/b?c=d 4"));

        let cut = Way::Within(Within::new(|_| Box::pin(async { None })));
        let error = cut.send(request(None), "test").await.unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Unreachable);
        assert!(error.chain().contains("on the way to 127.0.0.1:1"), "{}", error.chain());
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_answers_is_given_up() {
        let silent = Way::Within(Within::new(|_| Box::pin(std::future::pending())));
        for (timeout, most) in
            [(None, CONTROL_TIMEOUT), (Some(Duration::from_secs(2)), Duration::from_secs(2))]
        {
            let began = tokio::time::Instant::now();
            let error = silent.send(request(timeout), "test").await.unwrap_err();
            assert_eq!((error.kind(), began.elapsed()), (&ErrorKind::Timeout, most));
        }
    }
}
