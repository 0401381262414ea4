//! A proxy before an engine's socket: it freezes, cuts a list in its middle, and breaks event streams.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

pub struct Proxy {
    pub socket: PathBuf,
    state: Arc<State>,
    server: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

struct State {
    upstream: PathBuf,
    frozen: watch::Sender<bool>,
    breaks: watch::Sender<u64>,
    cut_list: AtomicBool,
}

impl Proxy {
    pub fn start(upstream: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("p.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (frozen, _) = watch::channel(false);
        let (breaks, _) = watch::channel(0);
        let state = State {
            upstream: upstream.to_owned(),
            frozen,
            breaks,
            cut_list: AtomicBool::new(false),
        };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, Arc::clone(&shared)));
            }
        });
        Self { socket, state, server, _directory: directory }
    }

    pub fn set_frozen(&self, frozen: bool) {
        self.state.frozen.send_replace(frozen);
    }

    pub fn cut_next_list(&self) {
        self.state.cut_list.store(true, Ordering::SeqCst);
    }

    pub fn break_events(&self) {
        self.state.breaks.send_modify(|count| *count += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn carry(client: UnixStream, state: Arc<State>) {
    let mut frozen = state.frozen.subscribe();
    let mut breaks = state.breaks.subscribe();
    let Ok(engine) = UnixStream::connect(&state.upstream).await else { return };
    let (mut client_read, mut client_write) = client.into_split();
    let (mut engine_read, mut engine_write) = engine.into_split();
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut is_events, mut cut) = (false, false);
    loop {
        tokio::select! {
            biased;
            Ok(()) = breaks.changed() => if is_events { return },
            read = client_read.read(&mut up) => {
                let Ok(count @ 1..) = read else { return };
                let _ = frozen.wait_for(|frozen| !frozen).await;
                let text = String::from_utf8_lossy(&up[..count]).into_owned();
                is_events |= text.contains("/events?");
                if text.contains("/containers/json?") {
                    cut = state.cut_list.swap(false, Ordering::SeqCst);
                }
                if engine_write.write_all(&up[..count]).await.is_err() { return }
            }
            read = engine_read.read(&mut down) => {
                let Ok(count @ 1..) = read else { return };
                let _ = frozen.wait_for(|frozen| !frozen).await;
                let bytes = &down[..count];
                if cut {
                    let head = bytes.windows(4).position(|it| it == b"\r\n\r\n").map_or(count, |at| at + 4);
                    let _ = client_write.write_all(&bytes[..(head + 3).min(count - 1)]).await;
                    return;
                }
                if client_write.write_all(bytes).await.is_err() { return }
            }
        }
    }
}
