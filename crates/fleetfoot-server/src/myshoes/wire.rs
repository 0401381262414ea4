//! Serving with heads of answers as Go's server writes them: names of headers in its spelling, and in its order.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, DATE, HeaderName, HeaderValue};
use axum::middleware::map_response;
use axum::serve::Listener;
use fleetfoot_core::Timestamp;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::answer::Answer;
use crate::listen::GRACE;
use crate::state::wall_clock;

/// A head comes within this, and a connection that has nothing to say is kept for as long.
const HEAD_BOUND: Duration = Duration::from_secs(120);

/// Serves until `stop` completes; requests under way then get a moment to end. Handlers are told who asks.
///
/// # Errors
/// None in practice: a failed accept is retried.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    serve_within(HEAD_BOUND, listener, router, stop).await
}

async fn serve_within(
    head_bound: Duration,
    mut listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let router = router.layer(map_response(in_gos_order));
    let (ending, ended) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = Listener::accept(&mut listener) => accepted,
        };
        let known = axum::Extension(ConnectInfo::<SocketAddr>(peer));
        let service = TowerToHyperService::new(router.clone().layer(known));
        let mut ended = ended.clone();
        connections.spawn(async move {
            let mut builder = http1::Builder::new();
            let serving = builder
                .title_case_headers(true)
                .timer(TokioTimer::new())
                .header_read_timeout(head_bound);
            let mut serving = pin!(serving.serve_connection(TokioIo::new(stream), service));
            let told = tokio::select! {
                biased;
                // What goes wrong on a connection is its client's business.
                _ = serving.as_mut() => false,
                _ = ended.wait_for(|ended| *ended) => true,
            };
            if told {
                serving.as_mut().graceful_shutdown();
                let _ = serving.await;
            }
        });
    }
    drop(listener);
    ending.send_replace(true);
    let last = async { while connections.join_next().await.is_some() {} };
    // Whoever takes longer is cut off with the set.
    let _ = tokio::time::timeout(GRACE, last).await;
    Ok(())
}

/// Its own headers in the order of their names, then the date, then the length.
async fn in_gos_order(mut answer: Answer) -> Answer {
    let mut all: Vec<(HeaderName, HeaderValue)> =
        answer.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    all.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
    let (length, own): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|(name, _)| *name == CONTENT_LENGTH);
    let date = HeaderValue::try_from(date(wall_clock())).map(|date| (DATE, date));
    let mut ordered = HeaderMap::new();
    for (name, value) in own.into_iter().chain(date).chain(length) {
        ordered.append(name, value);
    }
    *answer.headers_mut() = ordered;
    answer
}

fn date(now: Timestamp) -> String {
    let at = jiff::Timestamp::from_second(now.0.div_euclid(1000)).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_says_nothing_is_left() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        let bound = Duration::from_millis(50);
        serving.spawn(serve_within(bound, listener, Router::new(), std::future::pending()));
        for said in ["", "GET /healthz HTTP/1.1\r\nhost: "] {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            // It ends, or this test does not.
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await.is_ok();
        }
    }

    #[test]
    fn the_date_has_the_form_of_http() {
        assert_eq!(date(Timestamp(784_111_777_999)), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
