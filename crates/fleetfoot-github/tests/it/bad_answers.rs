//! Lost answers, and the way in when it is blocked.

use std::time::{Duration, Instant};

use fleetfoot_github::ErrorKind;
use tokio::io::AsyncReadExt;

use crate::stub::{Reply, Stub, reply};

/// A service that reads a request and hangs up.
async fn hangs_up() -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/svc", listener.local_addr().unwrap());
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    (base, count)
}

#[tokio::test]
async fn a_lost_answer_is_not_asked_for_again_where_that_would_register_twice() {
    let (service, count) = hangs_up().await;
    let stub = Stub::start_with(Some(service), 0, |_, _| None).await;
    let error = stub.connection().jit_config(7, "r1").await.unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Unreachable, "{}", error.chain());
    assert!(error.may_have_landed());
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test]
async fn two_thousand_callers_hear_of_an_outage_quickly() {
    let stub = Stub::start(|asked, _| {
        let slow = reply(500, "").after(Duration::from_millis(100));
        asked.is("POST", "/registration-token").then_some(slow)
    })
    .await;
    let connection = stub.connection();
    let begun = Instant::now();
    let calls: Vec<_> = (0..2000)
        .map(|number| {
            let connection = connection.clone();
            tokio::spawn(async move {
                match number % 2 {
                    0 => connection.scale_set(1, "linux").await.map(|_| ()),
                    _ => connection.open_session(7, "here").await.map(|_| ()),
                }
            })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Server(500), "{}", error.chain());
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let requests = stub.count("POST", "/registration-token");
    assert!(requests < 100, "{requests} token requests");
}

#[tokio::test(start_paused = true)]
async fn a_hung_way_in_holds_nobody_for_long() {
    let stub =
        Stub::start(|asked, _| asked.is("POST", "/registration-token").then(Reply::hang)).await;
    let connection = stub.connection();
    let begun = tokio::time::Instant::now();
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { connection.jit_config(7, "r1").await })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Timeout, "{}", error.chain());
    }
    assert!(begun.elapsed() <= Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn after_an_outage_everything_goes_on() {
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let is_broken = std::sync::Arc::clone(&broken);
    let stub = Stub::start(move |asked, _| {
        let is_way_in = asked.path.starts_with("/api/v3");
        (is_way_in && is_broken.load(std::sync::atomic::Ordering::Relaxed)).then(|| reply(503, ""))
    })
    .await;
    let connection = stub.connection();
    for _ in 0..3 {
        connection.scale_set(1, "linux").await.unwrap_err();
    }
    broken.store(false, std::sync::atomic::Ordering::Relaxed);
    let begun = Instant::now();
    while connection.scale_set(1, "linux").await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
}
