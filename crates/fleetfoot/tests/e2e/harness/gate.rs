//! A gate before an engine's socket that can refuse to delete.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::Engine;

pub(crate) struct Gate {
    pub(crate) address: String,
    refuses: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Gate {
    pub(crate) fn start(engine: &Engine, socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let upstream = engine.address.trim_start_matches("unix://").to_owned();
        let refuses = Arc::new(AtomicBool::new(false));
        let shared = refuses.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, upstream.clone(), shared.clone()));
            }
        });
        Self { address: format!("unix://{}", socket.display()), refuses, task }
    }

    pub(crate) fn refuse_deletes(&self, refuse: bool) {
        self.refuses.store(refuse, Ordering::SeqCst);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection. A request begins a read of its own, for the client waits for each answer.
async fn carry(client: UnixStream, upstream: String, refuses: Arc<AtomicBool>) {
    let Ok(engine) = UnixStream::connect(upstream).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_engine, mut to_engine) = engine.into_split();
    let (refused, mut refusal) = tokio::sync::mpsc::channel::<()>(1);
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_client.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            if buffer.starts_with(b"DELETE ") && refuses.load(Ordering::SeqCst) {
                let _ = refused.send(()).await;
                return;
            }
            if to_engine.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            tokio::select! {
                Some(()) = refusal.recv() => {
                    let body = r#"{"message":"the disk is on fire"}"#;
                    let answer = format!(
                        "HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = to_client.write_all(answer.as_bytes()).await;
                    return;
                }
                read = from_engine.read(&mut buffer) => {
                    let read = read.unwrap_or(0);
                    if read == 0 || to_client.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    tokio::join!(requests, answers);
}
