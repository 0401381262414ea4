//! A proxy before a backend's socket: it freezes, cuts a list in its middle, and breaks whoever watches.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fleetfoot_ordered::watch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

const BUFFER: usize = 64 << 10;

/// What a client asks for with one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The list of everything.
    List,
    /// To be told of changes, from now on.
    Watch,
    /// Something that the proxy leaves alone.
    Other,
}

/// The language that is spoken at the socket, as far as the proxy needs it.
#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    /// What these bytes of a client ask for.
    pub asked: fn(&[u8]) -> Asked,
    /// How many of an answer's first bytes reach the client when a list is cut.
    pub cut: fn(&[u8]) -> usize,
}

/// Stands between a provisioner and its backend until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    socket: PathBuf,
    state: Arc<State>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    upstream: PathBuf,
    dialect: Dialect,
    frozen: watch::Sender<bool>,
    breaks: watch::Sender<u64>,
    cut_list: AtomicBool,
}

impl Proxy {
    /// Listens at `socket` and carries everything to `upstream` and back.
    ///
    /// # Errors
    /// Nothing can be bound there.
    pub fn start(
        socket: PathBuf,
        upstream: impl Into<PathBuf>,
        dialect: Dialect,
    ) -> io::Result<Self> {
        let listener = UnixListener::bind(&socket)?;
        let state = Arc::new(State {
            upstream: upstream.into(),
            dialect,
            frozen: watch::channel(false).0,
            breaks: watch::channel(0).0,
            cut_list: AtomicBool::new(false),
        });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { socket, state, _server: server })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Holds everything back, or lets it go again.
    pub fn set_frozen(&self, frozen: bool) {
        self.state.frozen.send_replace(frozen);
    }

    /// Ends the next list in its middle, and the connection with it.
    pub fn cut_next_list(&self) {
        self.state.cut_list.store(true, Ordering::SeqCst);
    }

    /// Ends every connection that watches.
    pub fn break_watch(&self) {
        self.state.breaks.send_modify(|count| *count += 1);
    }
}

async fn serve(listener: UnixListener, state: Arc<State>) {
    let mut clients = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while clients.try_join_next().is_some() {}
        clients.spawn(carry(client, Arc::clone(&state)));
    }
}

async fn carry(client: UnixStream, state: Arc<State>) {
    let mut frozen = state.frozen.subscribe();
    let mut breaks = state.breaks.subscribe();
    let Ok(backend) = UnixStream::connect(&state.upstream).await else { return };
    let (mut client_read, mut client_write) = client.into_split();
    let (mut backend_read, mut backend_write) = backend.into_split();
    let (mut up, mut down) = (vec![0; BUFFER], vec![0; BUFFER]);
    let (mut watches, mut cut) = (false, false);
    loop {
        tokio::select! {
            biased;
            Ok(()) = breaks.changed() => if watches { return },
            read = client_read.read(&mut up) => {
                let Ok(count @ 1..) = read else { return };
                let _ = frozen.wait_for(|frozen| !frozen).await;
                match (state.dialect.asked)(&up[..count]) {
                    Asked::Watch => watches = true,
                    Asked::List => cut = state.cut_list.swap(false, Ordering::SeqCst),
                    Asked::Other => {}
                }
                if backend_write.write_all(&up[..count]).await.is_err() { return }
            }
            read = backend_read.read(&mut down) => {
                let Ok(count @ 1..) = read else { return };
                let _ = frozen.wait_for(|frozen| !frozen).await;
                let answer = &down[..count];
                if cut {
                    let _ = client_write.write_all(&answer[..(state.dialect.cut)(answer)]).await;
                    return;
                }
                if client_write.write_all(answer).await.is_err() { return }
            }
        }
    }
}
