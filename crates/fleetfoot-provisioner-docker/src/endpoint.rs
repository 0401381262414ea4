//! Where an engine is reached: a socket of this host, TCP with or without TLS, or `ssh`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::resolve::{ResolveError, Tls};

/// A byte stream to the engine.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[derive(Clone)]
pub(crate) enum Endpoint {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
    Tls { host: String, port: u16, config: Arc<rustls::ClientConfig> },
    Ssh { program: PathBuf, user: Option<String>, host: String, port: Option<u16> },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => {
                write!(f, "tcp://{host}:{port}")
            }
            Self::Ssh { user: Some(user), host, .. } => write!(f, "ssh://{user}@{host}"),
            Self::Ssh { user: None, host, .. } => write!(f, "ssh://{host}"),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Endpoint {
    /// Takes an address as `DOCKER_HOST` has it.
    pub(crate) fn parse(
        address: &str,
        tls: Option<&Tls>,
        ssh_program: Option<PathBuf>,
    ) -> Result<Self, ResolveError> {
        let odd =
            |why: &str| ResolveError::Address { address: address.to_owned(), why: why.to_owned() };
        let Some((scheme, rest)) = address.split_once("://") else {
            return Err(odd("no scheme; unix:///var/run/docker.sock is one"));
        };
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(PathBuf::from(rest))),
            "unix" => Err(odd("the path of a unix socket begins with `/`")),
            "tcp" | "http" | "https" => {
                let port = if tls.is_some() || scheme == "https" { 2376 } else { 2375 };
                let (host, port) = host_and_port(rest.trim_end_matches('/'), port)
                    .ok_or_else(|| odd("no host and port"))?;
                match tls {
                    Some(tls) => Ok(Self::Tls { host, port, config: tls.client_config()? }),
                    None if scheme == "https" => Err(odd("TLS needs DOCKER_CERT_PATH")),
                    None => Ok(Self::Tcp { host, port }),
                }
            }
            "ssh" => {
                let (user, rest) = match rest.rsplit_once('@') {
                    Some((user, rest)) => (Some(user.to_owned()), rest),
                    None => (None, rest),
                };
                let (host, port) =
                    host_and_port(rest.trim_end_matches('/'), 0).ok_or_else(|| odd("no host"))?;
                let plain = |text: &str| !text.is_empty() && !text.starts_with('-');
                if !plain(&host) || !user.as_deref().is_none_or(plain) {
                    return Err(odd("no host, or one that looks like an option"));
                }
                let program = ssh_program.ok_or_else(|| odd("there is no `ssh` in PATH"))?;
                Ok(Self::Ssh { program, user, host, port: Some(port).filter(|port| *port != 0) })
            }
            _ => Err(odd("only unix, tcp, http, https and ssh are supported")),
        }
    }

    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    pub(crate) async fn open(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Self::Tcp { host, port } => Ok(Box::new(tcp(host, *port).await?)),
            Self::Tls { host, port, config } => {
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
                Ok(Box::new(connector.connect(name, tcp(host, *port).await?).await?))
            }
            Self::Ssh { program, user, host, port } => ssh(program, user.as_deref(), host, *port),
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// As the CLI does: HTTP through the pipes of `ssh … docker system dial-stdio`.
#[expect(
    clippy::disallowed_methods,
    reason = "ssh is how a distant engine is reached; backends start programs"
)]
fn ssh(
    program: &Path,
    user: Option<&str>,
    host: &str,
    port: Option<u16>,
) -> io::Result<Box<dyn Stream>> {
    let mut command = tokio::process::Command::new(program);
    command.args(["-o", "ConnectTimeout=30", "-o", "BatchMode=yes", "-T"]);
    if let Some(user) = user {
        command.args(["-l", user]);
    }
    if let Some(port) = port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", host, "docker", "system", "dial-stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::Error::other("no pipes to ssh"));
    };
    Ok(Box::new(Piped { joined: tokio::io::join(stdout, stdin), _child: child }))
}

struct Piped {
    joined: tokio::io::Join<tokio::process::ChildStdout, tokio::process::ChildStdin>,
    _child: tokio::process::Child,
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.joined).poll_read(context, buffer)
    }
}

impl AsyncWrite for Piped {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.joined).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.joined).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.joined).poll_shutdown(context)
    }
}

/// `host`, `host:port`, `[v6]`, `[v6]:port`.
fn host_and_port(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok()?,
        None => default_port,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        for (address, shown) in [
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("tcp://10.0.0.1:2375", "tcp://10.0.0.1:2375"),
            ("tcp://engine", "tcp://engine:2375"),
            ("http://[::1]:99/", "tcp://::1:99"),
            ("ssh://me@far", "ssh://me@far"),
            ("ssh://far:2222", "ssh://far"),
        ] {
            assert_eq!(
                Endpoint::parse(address, None, Some("ssh".into())).unwrap().to_string(),
                shown,
                "{address}"
            );
        }
        for bad in [
            "",
            "docker.sock",
            "unix://x",
            "npipe:////./pipe/x",
            "tcp://",
            "https://a:1",
            "ssh://-oProxy=x",
            "tcp://a:b",
        ] {
            assert!(Endpoint::parse(bad, None, Some("ssh".into())).is_err(), "{bad}");
        }
    }
}
