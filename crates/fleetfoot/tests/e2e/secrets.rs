//! Invariant 10 with real processes: tokens and JIT configs are in no answer of the API, in no argument list, in no
//! file of ours and in no log. What hands a runner its JIT config is the environment of that runner, which nobody
//! but its own user can read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetfoot_sim::DEFAULT_TOKEN;
use memchr::memmem::find;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::harness::Bed;

/// How a JIT config begins, and what the box calls its tokens of sessions and of the service.
const JIT: &str = "eyIuY3Jl";
const TOKENS: [&str; 5] =
    [DEFAULT_TOKEN, "admin_000000", "queue_000000", "ghs_000000", "jit_000000"];
/// The token of the API itself.
const LISTEN_TOKEN: &str = "canary-of-the-api-0123456789";

/// Every route that can be read, and some that cannot.
const ROUTES: [&str; 14] = [
    "/api/v1/status",
    "/api/v1/pools",
    "/api/v1/pools/one",
    "/api/v1/pools/none",
    "/api/v1/instances",
    "/api/v1/instances/INSTANCE",
    "/api/v1/instances/INSTANCE/logs",
    "/api/v1/instances/none",
    "/api/v1/why/one",
    "/api/v1/why/INSTANCE",
    "/healthz",
    "/readyz",
    "/metrics",
    "/nothing",
];

fn secret_in(bytes: &[u8]) -> Option<&'static str> {
    let all = TOKENS.iter().chain(&[JIT, LISTEN_TOKEN]);
    all.copied().find(|secret| find(bytes, secret.as_bytes()).is_some())
}

/// The whole answer of the control socket, head and body; of a stream what comes within a moment.
async fn get(socket: &Path, route: &str) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("GET {route} HTTP/1.1\r\nhost: fleetfoot\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let whole = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(2), whole).await;
    assert!(answer.starts_with(b"HTTP/1.1 "), "{route}: {}", String::from_utf8_lossy(&answer));
    answer
}

/// Reads every route as it is now.
async fn answers_are_clean(bed: &Bed) -> Option<String> {
    let socket = bed.state_dir().join("control.sock");
    let status = bed.status().await;
    let instance = status["instances"][0]["name"].as_str().map(str::to_owned);
    let name = instance.as_deref().unwrap_or("gone");
    for route in ROUTES.into_iter().chain(["/api/v1/events"]) {
        let answer = get(&socket, &route.replace("INSTANCE", name)).await;
        assert_eq!(secret_in(&answer), None, "{route} of {name}");
    }
    instance
}

/// What one process was started with.
struct Started {
    words: Vec<u8>,
    environment: Vec<u8>,
}

/// Every process of this bed: what works in it or names it.
fn started(dir: &Path) -> Vec<Started> {
    let needle = dir.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let path = process.path();
        let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let environment = std::fs::read(path.join("environ")).unwrap_or_default();
        let work = std::fs::read_link(path.join("cwd")).unwrap_or_default();
        let named = |bytes: &[u8]| find(bytes, needle.as_bytes()).is_some();
        if named(&words) || named(&environment) || work.starts_with(dir) {
            found.push(Started { words, environment });
        }
    }
    found
}

fn processes_are_clean(dir: &Path) -> usize {
    let all = started(dir);
    for Started { words, environment } in &all {
        let shown = String::from_utf8_lossy(words).replace('\0', " ");
        assert_eq!(secret_in(words), None, "arguments: {shown}");
        let is_runner = shown.contains("run.sh");
        let secret = secret_in(environment).filter(|secret| !(is_runner && *secret == JIT));
        assert_eq!(secret, None, "environment of {shown}");
    }
    all.len()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        // A runner's own directory holds what it was given, and goes with it.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !path.ends_with("instances") => found.extend(files(&path)),
            Ok(kind) if kind.is_file() => found.push(path),
            Ok(_) | Err(_) => {}
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn are_in_no_answer_no_argument_no_file_and_no_log() {
    let bed = Bed::new().await;
    let token = bed.path("listen-token");
    std::fs::write(&token, LISTEN_TOKEN).unwrap();
    let top = format!("listen: 127.0.0.1:0\nlisten_token_file: {}\n", token.display());
    bed.write(&bed.config(&top, &[("one", 2)], &bed.process()));
    let daemon = bed.start_ready().await;
    answers_are_clean(&bed).await;
    bed.queue("one", 2, 10_000);
    bed.running(2).await;
    let instance = answers_are_clean(&bed).await;
    assert!(instance.is_some(), "an instance was asked about");
    let dir = token.parent().unwrap();
    assert!(processes_are_clean(dir) >= 5, "the daemon, two shims and two runners");
    bed.all_succeeded(2, Duration::from_secs(60)).await;
    bed.nothing_left().await;
    answers_are_clean(&bed).await;
    daemon.stop().await;
    let given = [bed.path("token"), token.clone()];
    let files: Vec<PathBuf> = files(dir).into_iter().filter(|file| !given.contains(file)).collect();
    assert!(files.iter().any(|file| file.ends_with("store.sqlite")), "{files:?}");
    assert!(files.iter().any(|file| file.ends_with("log.1")), "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(secret_in(&bytes), None, "{}", file.display());
    }
}
