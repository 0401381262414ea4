//! A burst of jobs costs one round-trip, not one for each.

use std::time::Duration;

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
