//! What an idle message session costs: opens 1, 100, 500 and 2000 of them against a server in a
//! process of its own, and prints memory and time once all polls are open.
//!
//! `cargo run -p fleetfoot-github --example idle_sessions`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use fleetfoot_github::{ConfigUrl, Connection, Credentials, Http, HttpSettings, TokenSource};
use serde_json::json;

static POLLS: AtomicUsize = AtomicUsize::new(0);

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("serve") => runtime.block_on(serve()),
        Some(count) => runtime.block_on(measure(count.parse().unwrap())),
        None => {
            let this = std::env::current_exe().unwrap();
            for count in ["1", "100", "500", "2000"] {
                assert!(Command::new(&this).arg(count).status().unwrap().success());
            }
        }
    }
}

async fn measure(count: usize) {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut base = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut base).unwrap();
    let base = base.trim();
    let (before, _) = memory_kib();
    let http = Http::new(HttpSettings::default()).unwrap();
    let url = ConfigUrl::parse(&format!("{base}/acme")).unwrap();
    let token = TokenSource::fixed("example", "ghp_example".into());
    let connection = Connection::new(&http, &url, &Credentials::Token(token)).unwrap();
    connection.scale_set(1, "x").await.unwrap();
    let begun = Instant::now();
    for number in 0..count {
        let connection = connection.clone();
        tokio::spawn(async move {
            let session = connection.open_session(number as i64 + 1, "example").await.unwrap();
            while session.poll(None, 2).await.is_ok() {}
        });
    }
    let polls = Http::new(HttpSettings::default()).unwrap();
    let counter =
        Connection::new(&polls, &url, &Credentials::Token(TokenSource::fixed("c", "c".into())))
            .unwrap();
    loop {
        // The stub reports its open polls as a runner's number.
        let open = counter.runner_by_id(1).await.unwrap().unwrap().id;
        if usize::try_from(open).unwrap() >= count {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let opened = begun.elapsed();
    // Idle connections of the opening burst are gone after 20 s.
    tokio::time::sleep(Duration::from_secs(25)).await;
    let (rss, pss) = memory_kib();
    println!(
        "{count:5} sessions: all polls open after {opened:?}; RSS {rss} KiB (before {before}), Pss {pss} KiB, {} KiB each",
        (rss - before) / count
    );
    server.kill().unwrap();
    server.wait().unwrap();
}

fn memory_kib() -> (usize, usize) {
    let find = |file: &str, key: &str| -> usize {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (find("/proc/self/status", "VmRSS:"), find("/proc/self/smaps_rollup", "Pss:"))
}

async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    println!("{base}");
    let app = axum::Router::new().fallback(answer).with_state(base);
    axum::serve(listener, app).await.unwrap();
}

async fn answer(State(base): State<String>, method: Method, uri: Uri) -> (StatusCode, String) {
    let end = uri.path().rsplit('/').next().unwrap_or_default();
    let body = match (method.as_str(), end) {
        ("POST", "registration-token") => {
            return (StatusCode::CREATED, json!({"token": "t"}).to_string());
        }
        ("POST", "runner-registration") => {
            let key = jsonwebtoken::EncodingKey::from_secret(b"example");
            let header = jsonwebtoken::Header::default();
            let token =
                jsonwebtoken::encode(&header, &json!({"exp": 4_000_000_000u64}), &key).unwrap();
            json!({"url": base, "token": token})
        }
        ("POST", "sessions") => json!({
            "sessionId": "s", "messageQueueUrl": format!("{base}/queue"),
            "messageQueueAccessToken": "e".repeat(1000), "statistics": {"totalAssignedJobs": 0},
        }),
        ("GET", "queue") => {
            POLLS.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(50)).await;
            POLLS.fetch_sub(1, Ordering::Relaxed);
            return (StatusCode::ACCEPTED, String::new());
        }
        ("GET", "1") => json!({"id": POLLS.load(Ordering::Relaxed)}),
        _ => json!({"count": 0, "value": []}),
    };
    (StatusCode::OK, body.to_string())
}
