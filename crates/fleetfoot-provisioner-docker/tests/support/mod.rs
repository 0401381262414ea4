//! Engines for the tests: found by the environment, spoken to beside the room's own client, and broken by a
//! proxy in front of their socket.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

pub mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetfoot_provisioner::{EnvironmentSpec, InstallationId, InstanceName, JitConfig, PoolName};
use fleetfoot_provisioner_docker::image::{self, ImageContent, ImageFile};
use fleetfoot_provisioner_docker::{DockerEngine, DockerPool, EngineSettings, PullPolicy};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub const IMAGE: &str = "localhost/fleetfoot-test-runner:1";
pub const BOUND: Duration = Duration::from_secs(60);

/// The socket of an engine; `None` after it said that the test is skipped.
pub fn socket(kind: &str) -> Option<PathBuf> {
    let variable = format!("FLEETFOOT_TEST_{}_SOCKET", kind.to_uppercase());
    if let Some(path) = std::env::var_os(&variable).filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    skip(kind, kind);
    None
}

/// Skips, or panics where the tool is required.
pub fn skip(kind: &str, tool: &str) {
    let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|it| it.trim() == kind), "{tool} is required, but not there");
    println!("SKIPPED: needs {tool}");
}

pub async fn engine(socket: &Path) -> Arc<DockerEngine> {
    let host = Some(format!("unix://{}", socket.display()));
    DockerEngine::connect(EngineSettings { host, variables: BTreeMap::new() }).await.unwrap()
}

/// Makes an image with a shell that runs the JIT config as a script, once an engine.
pub async fn import(engine: &DockerEngine) {
    static MADE: tokio::sync::Mutex<std::collections::BTreeSet<String>> =
        tokio::sync::Mutex::const_new(std::collections::BTreeSet::new());
    let mut made = MADE.lock().await;
    if !made.insert(engine.address()) {
        return;
    }
    let mut files = image::program_files(Path::new("/bin/sh"), Path::new("/bin/sh")).unwrap();
    files.extend(image::program_files(Path::new("/bin/sleep"), Path::new("/bin/sleep")).unwrap());
    let script = b"#!/bin/sh\neval \"$ACTIONS_RUNNER_INPUT_JITCONFIG\"\n".to_vec();
    // `--jitconfig JIT`, as the original's images take it.
    let argument = b"#!/bin/sh\neval \"$2\"\n".to_vec();
    for (path, bytes) in [("/runner/run.sh", script), ("/runner/argument.sh", argument)] {
        let content = ImageContent::Bytes(bytes);
        files.push(ImageFile { path: path.into(), mode: 0o755, content });
    }
    let changes = ["WORKDIR /runner".to_owned(), "ENV PATH=/bin".to_owned()];
    image::import(engine, IMAGE, &files, &changes).await.unwrap();
}

/// Containers of the test image without a network: what the tests need, and nothing left in the host's.
pub fn pool() -> DockerPool {
    let mut pool = DockerPool::new(IMAGE);
    pool.network = Some("none".to_owned());
    pool.pull = PullPolicy::Never;
    pool.stop_grace_s = 5;
    pool
}

pub fn installation() -> InstallationId {
    InstallationId::new(&format!("test-{:08x}", std::process::id())).unwrap()
}

pub fn pool_name() -> PoolName {
    PoolName::new("fftest").unwrap()
}

pub fn spec(suffix: u32) -> EnvironmentSpec {
    let unique = suffix.wrapping_mul(0x0100_0193) ^ std::process::id().rotate_left(12);
    let name = InstanceName::of_pool(&pool_name(), unique);
    EnvironmentSpec { name, pool: pool_name(), installation: installation() }
}

pub fn script(text: &str) -> JitConfig {
    JitConfig::new(text.to_owned().into())
}

/// One call to the engine, with nothing of the room in it.
pub async fn raw(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split_ascii_whitespace().nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Looks until `holds`, within the bound.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + BOUND;
    while !holds().await {
        assert!(Instant::now() < end, "not within {} s: {what}", BOUND.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
