//! One process of a plugin: start, handshake, connection, and its end.
//!
//! A task of its own holds the child. It stops it when the [`Plugin`] is dropped, and reaps it whatever happens:
//! there is never a zombie, and a socket that a killed plugin left is removed.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::calls;
use crate::handshake::{self, Address, Handshake, HandshakeError};
use crate::host::HostSettings;
use crate::leftovers;
use crate::output::{PluginOutput, Stream, drain};
use crate::tasks;
use crate::tls::{self, Offer};

/// The cookie by which a plugin knows that it was not started by hand.
const COOKIE: (&str, &str) = ("SHOES_PLUGIN_MAGIC_COOKIE", "are_you_a_shoes?");
/// The ports of a plugin that uses TCP.
const PORTS: [(&str, &str); 2] = [("PLUGIN_MIN_PORT", "10000"), ("PLUGIN_MAX_PORT", "25000")];
/// Our certificate, for a plugin that is to use TLS.
const CERTIFICATE: &str = "PLUGIN_CLIENT_CERT";
/// Variables that would ask for what we do not do.
const UNASKED: [&str; 2] = [CERTIFICATE, "PLUGIN_MULTIPLEX_GRPC"];
/// So long may the first line be.
const HANDSHAKE_MAX: u64 = 64 * 1024;
/// The last lines of standard error that explain a start that failed, and their length.
const LAST_LINES: usize = 5;
const LAST_LINE_MAX: usize = 400;
/// A socket that was announced answers at once.
const CONNECT_BOUND: Duration = Duration::from_secs(10);
/// What a dying program wrote is read to its end within this.
const LAST_WORDS_BOUND: Duration = Duration::from_millis(300);

/// A plugin could not be started.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartError {
    /// The program cannot be run at all.
    #[error("cannot run `{}`: {cause}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why not.
        cause: Arc<io::Error>,
    },
    /// It ended before its handshake.
    #[error("`{}` ended ({status}) before its handshake{}", program.display(), words(last_words))]
    Ended {
        /// The program.
        program: PathBuf,
        /// How.
        status: ExitStatus,
        /// The last that it wrote to standard error.
        last_words: Vec<String>,
    },
    /// It said nothing in time.
    #[error("`{}` gave no handshake within {} s{}", program.display(), bound.as_secs(), words(last_words))]
    Silent {
        /// The program.
        program: PathBuf,
        /// How long it had.
        bound: Duration,
        /// The last that it wrote to standard error.
        last_words: Vec<String>,
    },
    /// It said something else.
    #[error("`{}`: {cause}{}", program.display(), words(last_words))]
    Handshake {
        /// The program.
        program: PathBuf,
        /// What is wrong with its line.
        cause: HandshakeError,
        /// The last that it wrote to standard error.
        last_words: Vec<String>,
    },
    /// It does not answer where it says that it listens.
    #[error("`{}` does not answer at its address: {cause}", program.display())]
    Connect {
        /// The program.
        program: PathBuf,
        /// Why not.
        cause: String,
    },
}

fn words(last_words: &[String]) -> String {
    if last_words.is_empty() {
        String::new()
    } else {
        format!("; it said: {}", last_words.join(" / "))
    }
}

/// A plugin that runs. Dropped, it is stopped.
#[derive(Debug)]
pub(crate) struct Plugin {
    pub(crate) channel: Channel,
    pub(crate) began: Instant,
    ended: watch::Receiver<bool>,
    /// Its task waits for this to go.
    _wanted: oneshot::Sender<()>,
}

impl Plugin {
    /// Starts the program, reads its handshake and connects. `running` is held until the process is reaped.
    pub(crate) async fn start(
        settings: &HostSettings,
        running: mpsc::Sender<()>,
    ) -> Result<Self, StartError> {
        let program = settings.program.clone();
        let spawn = |cause: io::Error| StartError::Spawn {
            program: program.clone(),
            cause: Arc::new(cause),
        };
        let sockets =
            tempfile::Builder::new().prefix(leftovers::PREFIX).tempdir().map_err(spawn)?;
        let offer = settings.auto_mtls.then(Offer::new).transpose();
        let offer = offer.map_err(|error| spawn(io::Error::other(error)))?;
        let mut child = command(settings, sockets.path(), offer.as_ref()).spawn().map_err(spawn)?;
        leftovers::note(sockets.path(), child.id()).map_err(spawn)?;
        let name = settings.name();
        let last_words = LastWords::default();
        let (silent_tx, silent) = oneshot::channel::<()>();
        if let Some(stderr) = child.stderr.take() {
            let (output, name, heard) = (settings.output, name.clone(), last_words.clone());
            tasks::start(async move {
                drain(stderr, |line| {
                    heard.push(line);
                    output.tell(&name, Stream::Error, line);
                })
                .await;
                drop(silent_tx);
            });
        }
        let stdout = child.stdout.take();
        let shaking = shake_hands(&mut child, stdout, offer.is_some());
        let handshake = match timeout(settings.start_bound, shaking).await {
            Ok(Ok((handshake, rest))) => {
                let (output, name) = (settings.output, name.clone());
                tasks::start(async move {
                    drain(rest, |line| output.tell(&name, Stream::Out, line)).await;
                });
                handshake
            }
            Ok(Err(refused)) => {
                // It may be in the middle of saying why.
                let _ = timeout(LAST_WORDS_BOUND, silent).await;
                end(&mut child, Duration::ZERO).await;
                return Err(refused.about(program, last_words.take()));
            }
            Err(_) => {
                end(&mut child, Duration::ZERO).await;
                let bound = settings.start_bound;
                return Err(StartError::Silent { program, bound, last_words: last_words.take() });
            }
        };
        let connecting = async {
            let tls = offer.zip(handshake.certificate);
            let tls = tls.map(|(offer, certificate)| offer.connector(certificate)).transpose();
            connect(&handshake.address, tls.map_err(|error| error.to_string())?).await
        };
        let channel = match timeout(CONNECT_BOUND, connecting).await {
            Ok(Ok(channel)) => channel,
            failed => {
                end(&mut child, Duration::ZERO).await;
                let cause = failed.map_or_else(
                    |_| "no answer".to_owned(),
                    |it| it.map_or_else(|it| it, |_| String::new()),
                );
                return Err(StartError::Connect { program, cause });
            }
        };
        let address = handshake.address;
        let (wanted_tx, wanted) = oneshot::channel();
        let (ended_tx, ended) = watch::channel(false);
        let (grace, output) = (settings.exit_grace, settings.output);
        let life = Life { child, channel: channel.clone(), grace, output, name, address, running };
        tasks::start(async move {
            life.until(wanted, ended_tx).await;
            drop(sockets);
        });
        Ok(Self { channel, began: Instant::now(), ended, _wanted: wanted_tx })
    }

    /// Its process is gone.
    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }
}

#[expect(clippy::disallowed_methods, reason = "a backend starts programs; this one does it here")]
fn command(settings: &HostSettings, sockets: &Path, offer: Option<&Offer>) -> Command {
    let mut command = Command::new(&settings.program);
    command
        .envs(settings.environment.iter().map(|(name, value)| (name, value)))
        .envs([COOKIE, ("PLUGIN_PROTOCOL_VERSIONS", handshake::APPLICATION)])
        .envs(PORTS)
        .env("PLUGIN_UNIX_SOCKET_DIR", sockets)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A terminal's Ctrl-C is for us.
        .process_group(0)
        .kill_on_drop(true);
    for name in UNASKED {
        command.env_remove(name);
    }
    if let Some(offer) = offer {
        command.env(CERTIFICATE, offer.pem());
    }
    command
}

/// The handshake, before a program has a name in an error.
enum Refused {
    Ended(ExitStatus),
    Lost(io::Error),
    Line(HandshakeError),
}

impl Refused {
    fn about(self, program: PathBuf, last_words: Vec<String>) -> StartError {
        match self {
            Self::Ended(status) => StartError::Ended { program, status, last_words },
            Self::Lost(cause) => StartError::Spawn { program, cause: Arc::new(cause) },
            Self::Line(cause) => StartError::Handshake { program, cause, last_words },
        }
    }
}

/// Reads the first line. A program that ends without one is known by its end.
async fn shake_hands<R: AsyncRead + Unpin>(
    child: &mut Child,
    stdout: Option<R>,
    offered: bool,
) -> Result<(Handshake, BufReader<R>), Refused> {
    let Some(stdout) = stdout else {
        return Err(Refused::Lost(io::Error::other("it has no standard output")));
    };
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    let read = (&mut reader).take(HANDSHAKE_MAX).read_until(b'\n', &mut line).await;
    if read.map_err(Refused::Lost)? == 0 {
        return Err(child.wait().await.map_or_else(Refused::Lost, Refused::Ended));
    }
    let line = String::from_utf8_lossy(&line);
    let handshake = handshake::parse(&line, offered).map_err(Refused::Line)?;
    Ok((handshake, reader))
}

/// A way to a plugin, with TLS or without.
trait Way: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Way for T {}

async fn connect(address: &Address, tls: Option<TlsConnector>) -> Result<Channel, String> {
    let name = ServerName::try_from(tls::NAME).map_err(|error| error.to_string())?;
    let address = address.clone();
    let connected = Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let (address, tls, name) = (address.clone(), tls.clone(), name.clone());
            async move {
                let plain: Box<dyn Way> = match address {
                    Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                    Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
                };
                let way: Box<dyn Way> = match tls {
                    Some(tls) => Box::new(tls.connect(name, plain).await?),
                    None => plain,
                };
                Ok::<_, io::Error>(TokioIo::new(way))
            }
        }))
        .await;
    connected.map_err(|error| calls::chain(&error))
}

/// What the task of a running plugin holds.
struct Life {
    child: Child,
    channel: Channel,
    grace: Duration,
    output: PluginOutput,
    name: String,
    address: Address,
    /// Whoever ends the host waits until all of these are gone.
    running: mpsc::Sender<()>,
}

impl Life {
    /// Waits until the process ends by itself or nobody wants it any more, and says so at once.
    async fn until(mut self, wanted: oneshot::Receiver<()>, ended: watch::Sender<bool>) {
        let (output, name) = (self.output, self.name.clone());
        let stdio = calls::stdio(self.channel.clone(), move |data| {
            let stream = if data.channel == 1 { Stream::Out } else { Stream::Error };
            output.tell(&name, stream, &data.data);
        });
        tokio::pin!(stdio);
        tokio::pin!(wanted);
        let mut stdio_is_open = true;
        loop {
            tokio::select! {
                status = self.child.wait() => {
                    let status = status.map_or_else(|error| error.to_string(), |it| it.to_string());
                    tracing::warn!(plugin = self.name, status, "plugin ended by itself");
                    break;
                }
                () = &mut stdio, if stdio_is_open => stdio_is_open = false,
                _ = &mut wanted => {
                    // Its answer is often a broken connection: it stops its server in the middle of the call.
                    let _ = timeout(self.grace, calls::shut_down(self.channel.clone())).await;
                    end(&mut self.child, self.grace).await;
                    break;
                }
            }
        }
        ended.send_replace(true);
        if let Address::Unix(path) = &self.address {
            // A plugin that was killed leaves it, and an older one does not put it where we say.
            let _ = tokio::fs::remove_file(path).await;
        }
        drop(self.running);
    }
}

/// Gives it time, then kills it; reaped either way.
async fn end(child: &mut Child, grace: Duration) {
    if !grace.is_zero() && timeout(grace, child.wait()).await.is_ok() {
        return;
    }
    // It may be gone by now, which is what is wanted.
    let _ = child.start_kill();
    let _ = child.wait().await;
}

/// The last lines of a standard error.
#[derive(Debug, Clone, Default)]
struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    fn push(&self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text: String = text.trim_end().chars().take(LAST_LINE_MAX).collect();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }

    fn take(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }
}
