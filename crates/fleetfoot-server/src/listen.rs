//! Opening the control socket and the TCP address, and serving on them until told to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UnixListener};

/// The longest path a socket address holds on Linux, without its final zero.
const SOCKET_PATH_MAX: usize = 107;

/// Requests under way get this long once serving is to end.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// A place to be reached at could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The path does not fit into a socket's address.
    #[error(
        "the path of the control socket `{path}` is longer than {SOCKET_PATH_MAX} bytes: choose a shorter `state_dir`"
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The control socket could not be made.
    #[error("failed to open the control socket `{path}`")]
    Control {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another program has the address.
    #[error(
        "the address {address} of `listen` is in use: stop the program that has it, or choose another one"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address could not be opened.
    #[error("failed to listen at {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Opens the control socket at `path`, for the owner alone. The caller holds the lock of the state
/// directory, so a socket that is there already belongs to a dead process and is replaced.
///
/// # Errors
/// [`ListenError`] when the path is too long or the socket cannot be made there.
pub fn bind_control(path: &Path) -> Result<UnixListener, ListenError> {
    // Made beside its place and moved there, so nobody meets it before its mode is set.
    let beside = path.with_extension("new");
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        return Err(ListenError::PathTooLong { path: path.to_owned() });
    }
    let failed = |source| ListenError::Control { path: path.to_owned(), source };
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&beside).map_err(failed)?;
    std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o600)).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    Ok(listener)
}

/// Opens a TCP address.
///
/// # Errors
/// [`ListenError`] when it is in use or cannot be opened.
pub async fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| {
        if source.kind() == io::ErrorKind::AddrInUse {
            ListenError::InUse { address }
        } else {
            ListenError::Tcp { address, source }
        }
    })
}

/// Serves until `stop` completes; requests under way then get a moment to end.
///
/// # Errors
/// None in practice: a failed accept is retried.
pub async fn serve<L>(
    listener: L,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()>
where
    L: axum::serve::Listener,
    L::Addr: std::fmt::Debug,
{
    let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
    let stop = async move {
        stop.await;
        // The receiver lives as long as this function.
        let _ = stopping.send(());
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop).into_future();
    until_overdue(serving, stopped).await
}

async fn until_overdue(
    serving: impl Future<Output = io::Result<()>>,
    stopped: tokio::sync::oneshot::Receiver<()>,
) -> io::Result<()> {
    let overdue = async {
        // An error means that serving ended by itself, and then so does the select below.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = serving => served,
        () = overdue => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_of_a_dead_process_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(bind_control(&path).unwrap());
        let _second = bind_control(&path).unwrap();
        assert!(tokio::net::UnixStream::connect(&path).await.is_ok());
        assert!(!path.with_extension("new").exists());
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_said_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("a".repeat(120)).join("control.sock");
        let error = bind_control(&long).unwrap_err();
        assert!(matches!(error, ListenError::PathTooLong { .. }), "{error}");
        let error = bind_control(&dir.path().join("missing/control.sock")).unwrap_err();
        assert!(matches!(error, ListenError::Control { .. }), "{error}");
        let held = bind_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = held.local_addr().unwrap();
        let error = bind_tcp(address).await.unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error}");
        let error = bind_tcp(([203, 0, 113, 1], 0).into()).await.unwrap_err();
        assert!(matches!(error, ListenError::Tcp { .. }), "{error}");
    }

    #[tokio::test]
    async fn serving_ends_when_told_even_with_a_request_under_way() {
        let listener = bind_tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived_tell, mut arrived) = tokio::sync::mpsc::channel::<()>(1);
        let hang = axum::routing::get(move || async move {
            let _ = arrived_tell.send(()).await;
            std::future::pending::<()>().await;
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = serve(listener, Router::new().route("/", hang), async {
            let _ = stopped.await;
        });
        let asking = async {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let line = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, line).await.unwrap();
            arrived.recv().await.unwrap();
            stop.send(()).unwrap();
            stream
        };
        let both = async { tokio::join!(serving, asking) };
        let (served, _stream) = tokio::time::timeout(GRACE * 5, both).await.unwrap();
        served.unwrap();
    }
}
