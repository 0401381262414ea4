//! A burst of jobs costs one round-trip, not one for each.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use fleetfoot_github::Connection;
use tokio::task::JoinSet;

use crate::stub::{Stub, reply};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_jit_calls_are_on_the_wire_at_once() {
    let stub = Stub::start(|asked, _| {
        let runner = serde_json::json!({"runner": {"id": 1}, "encodedJITConfig": "x"});
        let slow = reply(200, runner).after(Duration::from_millis(100));
        asked.is("POST", "/generatejitconfig").then_some(slow)
    })
    .await;
    let connection = stub.connection();
    connection.scale_set(1, "linux").await.unwrap();
    let begun = tokio::time::Instant::now();
    let calls: Vec<_> = (0..100)
        .map(|number| {
            let connection = connection.clone();
            tokio::spawn(async move { connection.jit_config(7, &format!("r{number}")).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let asked = stub.asked("POST", "/generatejitconfig");
    let last = asked.iter().map(|asked| asked.at - begun).max().unwrap();
    eprintln!("last of 100 JIT requests arrived after {last:?}, all done {:?}", begun.elapsed());
    assert_eq!(asked.len(), 100);
    assert!(last < Duration::from_millis(400), "{last:?}");
}

/// Connections are opened for the first burst of jobs, and kept for what the same jobs need later and for the next one.
/// What a start asks keeps few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_burst_opens_no_connections() {
    const CALLS: i64 = 40;
    let stub = Stub::start(|asked, _| {
        let slow = |body| Some(reply(200, body).after(Duration::from_millis(300)));
        match (asked.method.as_str(), asked.path.rsplit('/').next()) {
            ("POST", Some("generatejitconfig")) => {
                slow(serde_json::json!({"runner": {"id": 1}, "encodedJITConfig": "x"}))
            }
            ("GET", Some("runnerscalesets")) => slow(serde_json::json!({"count": 0, "value": []})),
            _ => None,
        }
    })
    .await;
    let connection = stub.connection();
    let from = |method: &str, path: &str| {
        stub.asked(method, path).iter().map(|asked| asked.from).collect::<Vec<SocketAddr>>()
    };
    for _ in 0..2 {
        at_once(CALLS, &connection, |connection, number| async move {
            connection.jit_config(7, &format!("r{number}")).await.unwrap();
        })
        .await;
        at_once(CALLS, &connection, |connection, number| async move {
            connection.remove_runner(100 + number).await.unwrap();
        })
        .await;
        at_once(CALLS, &connection, |connection, _| async move {
            assert!(connection.scale_set(1, "linux").await.unwrap().is_none());
        })
        .await;
    }
    let jits = from("POST", "/generatejitconfig");
    let (first, second) = jits.split_at(jits.len() / 2);
    let first: BTreeSet<&SocketAddr> = first.iter().collect();
    assert_eq!((first.len(), second.len()), (40, 40), "all at once");
    let removals = (0..CALLS).flat_map(|number| from("DELETE", &format!("/{}", 100 + number)));
    let removals: Vec<SocketAddr> = removals.collect();
    for later in [second, &removals] {
        let opened = later.iter().filter(|it| !first.contains(it)).count();
        // One may not be back yet when the next call wants it; of eight that are kept it would be thirty-two.
        assert!(opened < 10, "{opened} of {} opened a connection", later.len());
    }
    let others: BTreeSet<SocketAddr> = from("GET", "/runnerscalesets").into_iter().collect();
    assert!(others.len() > 60, "{} of what a start asks kept too many", others.len());
}

async fn at_once<F>(calls: i64, connection: &Connection, call: impl Fn(Connection, i64) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let calls: JoinSet<()> = (0..calls).map(|number| call(connection.clone(), number)).collect();
    calls.join_all().await;
}
