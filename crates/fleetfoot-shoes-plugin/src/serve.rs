//! The life of a plugin's process: a socket, calls side by side, and an end that waits for them.

use std::convert::Infallible;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Shoes;
use crate::answer::answer;
use crate::handshake::{self, ServeError, Socket};

/// A host that was killed says nothing: so often it is looked for.
const LOOK_FOR_HOST: Duration = Duration::from_secs(1);

/// Serves calls until the host ends the plugin, or is gone; what was begun is finished before.
///
/// # Errors
/// [`ServeError`] if no host started this program, or it cannot be reached.
pub async fn serve(shoes: impl Shoes) -> Result<(), ServeError> {
    let said = |name: &str| std::env::var(name).ok();
    handshake::check(said)?;
    let host = rustix::process::getppid();
    // Ctrl-C goes to everybody in the terminal: the host decides what becomes of its plugin.
    let mut interrupts = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let directory = said("PLUGIN_UNIX_SOCKET_DIR").filter(|it| !it.is_empty()).map(PathBuf::from);
    let socket = Socket::open(directory)?;
    socket.tell()?;
    let (end, mut ending) = watch::channel(false);
    let (shoes, mut connections) = (Arc::new(shoes), JoinSet::new());
    loop {
        tokio::select! {
            // A connection that could not be taken is the host's to open again.
            taken = socket.listener.accept() => if let Ok((stream, _)) = taken {
                connections.spawn(connection(stream, shoes.clone(), end.clone()));
            },
            Some(_) = connections.join_next() => {}
            _ = interrupts.recv() => {}
            _ = terminations.recv() => break,
            _ = ending.wait_for(|end| *end) => break,
            () = tokio::time::sleep(LOOK_FOR_HOST) => if rustix::process::getppid() != host {
                break;
            },
        }
    }
    end.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection<S: Shoes>(stream: UnixStream, shoes: Arc<S>, end: watch::Sender<bool>) {
    let mut ending = end.subscribe();
    let service = service_fn(move |request| {
        let (shoes, end) = (shoes.clone(), end.clone());
        let tell = move || {
            end.send_replace(true);
        };
        async move { Ok::<_, Infallible>(answer(shoes, tell, request).await) }
    });
    let serving =
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        // A host that is gone took its calls with it.
        _ = serving.as_mut() => return,
        _ = ending.wait_for(|end| *end) => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ = serving.await.is_ok();
}

/// The exit status of a plugin; an error is one line on standard error.
#[must_use]
pub fn exit(served: Result<(), ServeError>) -> ExitCode {
    let Err(error) = served else { return ExitCode::SUCCESS };
    let mut line = format!("error: {error}");
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    // Nobody else is there to be told.
    let _ = writeln!(std::io::stderr(), "{line}").is_ok();
    ExitCode::FAILURE
}
