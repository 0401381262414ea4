//! A Unix socket before an engine's own, that notes when each create request passes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::figure::now_us;

type Creates = Arc<Mutex<BTreeMap<String, u64>>>;

/// The socket. Dropping it closes what passes through.
pub(super) struct Proxy {
    creates: Creates,
    path: PathBuf,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// Binds `path` and passes everything on to the engine's socket.
    pub(super) fn start(path: PathBuf, engine: PathBuf) -> Result<Self> {
        let listener =
            UnixListener::bind(&path).context("cannot bind a socket before the engine's")?;
        let creates = Creates::default();
        let noted = creates.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (engine, noted) = (engine.clone(), noted.clone());
                connections.spawn(async move { pass(client, &engine, &noted).await });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { creates, path, _serving: serving })
    }

    /// Its address, as `DOCKER_HOST` would have it.
    pub(super) fn address(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// When the request to create this container passed.
    pub(super) fn create_sent_us(&self, name: &str) -> Option<u64> {
        self.creates.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }
}

async fn pass(client: UnixStream, engine: &Path, creates: &Creates) {
    let Ok(engine) = UnixStream::connect(engine).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let requests = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
            let chunk = buffer.get(..count).unwrap_or_default();
            if let Some(name) = created_name(chunk) {
                creates
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(name)
                    .or_insert_with(now_us);
            }
            if to_engine.write_all(chunk).await.is_err() {
                break;
            }
        }
        let _ = to_engine.shutdown().await;
    };
    let answers = async {
        let _ = tokio::io::copy(&mut from_engine, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(requests, answers);
}

/// The name in `POST /…/containers/create?name=…`, with which a request begins.
fn created_name(chunk: &[u8]) -> Option<String> {
    let line = chunk.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let (path, query) = line.strip_prefix("POST ")?.split_once('?')?;
    if !path.ends_with("/containers/create") {
        return None;
    }
    let query = query.split(' ').next()?;
    query.split('&').find_map(|pair| pair.strip_prefix("name=")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_requests_are_recognized() {
        let name = |text: &str| created_name(text.as_bytes());
        let create =
            "POST /v1.47/containers/create?platform=&name=linux-00c0ffee HTTP/1.1\r\nhost: x\r\n";
        assert_eq!(name(create), Some("linux-00c0ffee".to_owned()));
        assert_eq!(name("POST /v1.47/containers/abc/start HTTP/1.1\r\n"), None);
        assert_eq!(name("GET /containers/json?name=x HTTP/1.1\r\n"), None);
    }
}
