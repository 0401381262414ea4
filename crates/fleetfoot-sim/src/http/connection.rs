//! Connections that a fault can cut: nothing more is written, the peer sees the end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use fleetfoot_ordered::watch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// What a handler knows of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    local: SocketAddr,
    cut: Arc<AtomicBool>,
    spared: Arc<AtomicBool>,
}

impl Connection {
    pub(crate) fn new(local: SocketAddr) -> Self {
        Self { local, cut: Arc::default(), spared: Arc::default() }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// It carries control calls: only the end of the box ends it.
    pub(crate) fn spare(&self) {
        self.spared.store(true, Ordering::Relaxed);
    }

    /// From now on every write fails, so the answer never leaves.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

impl Connected<IncomingStream<'_, Listener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().connection.clone()
    }
}

/// What connections come in at.
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    async fn accept(&self) -> io::Result<Wire> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers must not wait for an acknowledgement.
                let _ = stream.set_nodelay(true);
                Ok(Wire::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Wire::Unix(listener.accept().await?.0)),
        }
    }
}

/// What one connection is made of.
enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same of either kind of stream.
macro_rules! of_wire {
    ($wire:expr, $method:ident($($argument:expr),*)) => {
        match $wire {
            Wire::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Wire::Unix(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

pub(crate) struct Listener {
    bound: Bound,
    address: SocketAddr,
    closing: watch::Receiver<u64>,
}

impl Listener {
    /// Connections end when `closing` changes, except those that made a control call.
    pub(crate) fn new(bound: Bound, address: SocketAddr, closing: watch::Receiver<u64>) -> Self {
        Self { bound, address, closing }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        loop {
            match self.bound.accept().await {
                Ok(wire) => {
                    let connection = Connection::new(self.address);
                    let mut closing = self.closing.clone();
                    closing.mark_unchanged();
                    let spared = Arc::clone(&connection.spared);
                    let closed = Box::pin(async move {
                        while closing.changed().await.is_ok() {
                            if *closing.borrow_and_update() == ALL
                                || !spared.load(Ordering::Relaxed)
                            {
                                return;
                            }
                        }
                    });
                    return (Stream { wire, connection, closed: Some(closed) }, self.address);
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// The value of `closing` that spares nobody: the box has ended.
pub(crate) const ALL: u64 = u64::MAX;

pub(crate) struct Stream {
    wire: Wire,
    connection: Connection,
    /// Over when the connection must end; `None` once it was.
    closed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Stream {
    fn is_cut(&self) -> bool {
        self.connection.is_cut()
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut by a fault")
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let closed = match self.closed.as_mut() {
            Some(closed) => closed.as_mut().poll(context).is_ready(),
            None => true,
        };
        if closed {
            self.closed = None;
            self.connection.cut();
            return Poll::Ready(Err(gone()));
        }
        of_wire!(&mut self.wire, poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(gone()));
        }
        of_wire!(&mut self.wire, poll_write(context, data))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut() {
            return Poll::Ready(Err(gone()));
        }
        of_wire!(&mut self.wire, poll_write_vectored(context, data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_cut() {
            return Poll::Ready(Err(gone()));
        }
        of_wire!(&mut self.wire, poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_wire!(&mut self.wire, poll_shutdown(context))
    }
}
