//! A proxy before a daemon's socket: it freezes, cuts a list in its middle, and breaks the watcher's connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

const LIST_ALL_DOMAINS: [u8; 4] = 273i32.to_be_bytes();
const EVENT_REGISTER: [u8; 4] = 316i32.to_be_bytes();

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
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            frozen: watch::channel(false).0,
            breaks: watch::channel(0).0,
            cut_list: AtomicBool::new(false),
        });
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

    pub fn break_watch(&self) {
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
    let Ok(daemon) = UnixStream::connect(&state.upstream).await else { return };
    let (mut client_read, mut client_write) = client.into_split();
    let (mut daemon_read, mut daemon_write) = daemon.into_split();
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let (mut watches, mut cut) = (false, false);
    loop {
        tokio::select! {
            biased;
            Ok(()) = breaks.changed() => if watches { return },
            read = client_read.read(&mut up) => {
                let Ok(count @ 1..) = read else { return };
                let _ = frozen.wait_for(|frozen| !frozen).await;
                // Whole frames come in one write of the client.
                let procedure = up[..count].get(12..16).unwrap_or_default();
                watches |= procedure == EVENT_REGISTER;
                if procedure == LIST_ALL_DOMAINS {
                    cut = state.cut_list.swap(false, Ordering::SeqCst);
                }
                if daemon_write.write_all(&up[..count]).await.is_err() { return }
            }
            read = daemon_read.read(&mut down) => {
                let Ok(count @ 1..) = read else { return };
                let _ = frozen.wait_for(|frozen| !frozen).await;
                if cut {
                    let _ = client_write.write_all(&down[..count.min(33)]).await;
                    return;
                }
                if client_write.write_all(&down[..count]).await.is_err() { return }
            }
        }
    }
}
