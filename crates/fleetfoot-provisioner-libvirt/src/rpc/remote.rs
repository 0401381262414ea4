//! Daemons of other hosts: the same frames through TLS, or through `ssh` to the socket over there.
//!
//! Addresses are libvirt's own: `qemu+tls://HOST[:PORT]/system?pkipath=DIR`,
//! `qemu+ssh://[USER@]HOST[:PORT]/system?socket=PATH&keyfile=PATH&command=PROGRAM`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::transport::{AddressError, Stream};

const TLS_PORT: u16 = 16514;
/// What a daemon says first through TLS, once it took our certificate.
const ACCEPTED: u8 = 1;
const SYSTEM_SOCKET: &str = "/var/run/libvirt/libvirt-sock";

/// A daemon of another host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Remote {
    text: String,
    host: String,
    way: Way,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Way {
    Tls { port: u16, pki: Option<PathBuf> },
    Ssh(Ssh),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Ssh {
    user: Option<String>,
    port: Option<u16>,
    socket: Option<String>,
    keyfile: Option<PathBuf>,
    command: Option<PathBuf>,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// User, host and port of the middle of an address.
fn authority(text: &str) -> Option<(Option<&str>, &str, Option<u16>)> {
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    // What begins like an option would be one for `ssh`.
    let plain = |text: &str| {
        !text.is_empty() && !text.starts_with('-') && !text.contains(char::is_whitespace)
    };
    if !plain(host) || user.is_some_and(|user| !plain(user)) {
        return None;
    }
    let port = port.map(str::parse).transpose().ok()?;
    Some((user, host, port))
}

impl Remote {
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        Self::read(text).ok_or_else(|| AddressError(text.to_owned()))
    }

    fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (middle, path) = rest.split_once('/')?;
        let (user, host, port) = authority(middle)?;
        let parameters = query.split('&').filter(|it| !it.is_empty());
        let parameters: Option<Vec<_>> = parameters.map(|it| it.split_once('=')).collect();
        let way = match (scheme, path) {
            ("qemu+tls", "system") if user.is_none() => {
                let mut pki = None;
                for (key, value) in parameters? {
                    match key {
                        "pkipath" => pki = Some(PathBuf::from(value)),
                        _ => return None,
                    }
                }
                Way::Tls { port: port.unwrap_or(TLS_PORT), pki }
            }
            ("qemu+ssh", "system") => {
                let mut ssh = Ssh { user: user.map(str::to_owned), port, ..Ssh::default() };
                for (key, value) in parameters? {
                    match key {
                        "socket" => ssh.socket = Some(value.to_owned()),
                        "keyfile" => ssh.keyfile = Some(PathBuf::from(value)),
                        "command" => ssh.command = Some(PathBuf::from(value)),
                        _ => return None,
                    }
                }
                Way::Ssh(ssh)
            }
            _ => return None,
        };
        Some(Self { text: text.to_owned(), host: host.to_owned(), way })
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.way {
            Way::Tls { port, pki } => self.by_tls(*port, pki.as_deref()).await,
            Way::Ssh(ssh) => Ok(Box::new(ssh.start(&self.host)?)),
        }
    }

    async fn by_tls(&self, port: u16, pki: Option<&Path>) -> io::Result<Box<dyn Stream>> {
        let config = Arc::new(client_config(&Keys::at(pki))?);
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let stream = TcpStream::connect((self.host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut stream = connector.connect(name, stream).await?;
        let mut answer = [0];
        let read = stream.read_exact(&mut answer).await;
        if read.is_err() || answer != [ACCEPTED] {
            let words = "the daemon does not take our certificate";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
        }
        Ok(Box::new(stream))
    }
}

/// Where libvirt's own clients look for certificates.
struct Keys {
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Keys {
    fn at(directory: Option<&Path>) -> Self {
        match directory {
            Some(directory) => Self {
                authority: directory.join("cacert.pem"),
                certificate: directory.join("clientcert.pem"),
                key: directory.join("clientkey.pem"),
            },
            None => Self {
                authority: "/etc/pki/CA/cacert.pem".into(),
                certificate: "/etc/pki/libvirt/clientcert.pem".into(),
                key: "/etc/pki/libvirt/private/clientkey.pem".into(),
            },
        }
    }
}

fn client_config(keys: &Keys) -> io::Result<rustls::ClientConfig> {
    let odd = |path: &Path, why: String| io::Error::other(format!("{}: {why}", path.display()));
    let certificates = |path: &Path| -> io::Result<Vec<CertificateDer<'static>>> {
        let all = CertificateDer::pem_file_iter(path);
        let all = all.and_then(Iterator::collect::<Result<Vec<_>, _>>);
        all.map_err(|error| odd(path, error.to_string()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&keys.authority)? {
        roots.add(certificate).map_err(|error| odd(&keys.authority, error.to_string()))?;
    }
    let key = PrivateKeyDer::from_pem_file(&keys.key);
    let key = key.map_err(|error| odd(&keys.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&keys.certificate)?, key)
        .map_err(|error| odd(&keys.certificate, error.to_string()))
}

/// Text as one word of a POSIX shell.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Ssh {
    /// What is run over there: libvirt's helper, which knows where the socket is, or else `nc`.
    fn over_there(&self) -> String {
        let nc = |socket: &str| format!("nc -U {}", shell_word(socket));
        match &self.socket {
            Some(socket) => nc(socket),
            None => format!(
                "if command -v virt-ssh-helper >/dev/null 2>&1; then virt-ssh-helper qemu:///system; else {}; fi",
                nc(SYSTEM_SOCKET)
            ),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a backend's own tool")]
    fn start(&self, host: &str) -> io::Result<Through> {
        let program = self.command.as_deref().unwrap_or(Path::new("ssh"));
        let mut command = tokio::process::Command::new(program);
        // It never asks anybody.
        command.args(["-T", "-e", "none", "-o", "BatchMode=yes"]);
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = &self.user {
            command.args(["-l", user]);
        }
        if let Some(keyfile) = &self.keyfile {
            command.arg("-i").arg(keyfile);
        }
        let over_there = format!("sh -c {}", shell_word(&self.over_there()));
        command.args(["--", host, &over_there]);
        // Its complaints are for whoever reads the daemon's log.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.kill_on_drop(true).spawn()?;
        let odd = || io::Error::other("no pipes to ssh");
        let input = child.stdin.take().ok_or_else(odd)?;
        let output = child.stdout.take().ok_or_else(odd)?;
        Ok(Through { input, output, _child: child })
    }
}

/// A program's standard input and output. It ends with them.
struct Through {
    input: ChildStdin,
    output: ChildStdout,
    _child: Child,
}

impl AsyncRead for Through {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl AsyncWrite for Through {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_libvirt_are_read() {
        let tls = Remote::parse("qemu+tls://kvm1.example/system").unwrap();
        assert_eq!(tls.way, Way::Tls { port: 16514, pki: None });
        assert_eq!(tls.to_string(), "qemu+tls://kvm1.example/system");
        let tls = Remote::parse("qemu+tls://[::1]:99/system?pkipath=/keys").unwrap();
        assert_eq!(
            (tls.host.as_str(), tls.way),
            ("::1", Way::Tls { port: 99, pki: Some("/keys".into()) })
        );
        let ssh = Remote::parse("qemu+ssh://me@kvm:2222/system?socket=/s&keyfile=/k&command=/c");
        let ssh = ssh.unwrap();
        let wanted = Ssh {
            user: Some("me".into()),
            port: Some(2222),
            socket: Some("/s".into()),
            keyfile: Some("/k".into()),
            command: Some("/c".into()),
        };
        assert_eq!(ssh.way, Way::Ssh(wanted));
        for odd in [
            "qemu+tls://kvm",
            "qemu+tls:///system",
            "qemu+tls://me@kvm/system",
            "qemu+tls://kvm/session",
            "qemu+tls://kvm/system?no_verify=1",
            "qemu+tcp://kvm/system",
            "qemu+ssh://-oProxyCommand=x/system",
            "qemu+ssh://-x@kvm/system",
            "qemu+ssh://kvm:port/system",
            "qemu+ssh://[::1/system",
        ] {
            assert!(Remote::parse(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_other_host_runs_one_command() {
        let plain = Ssh::default().over_there();
        assert!(plain.contains("virt-ssh-helper qemu:///system; else nc -U '/var/run/"), "{plain}");
        let own = Ssh { socket: Some("/s'q".into()), ..Ssh::default() };
        assert_eq!(own.over_there(), r"nc -U '/s'\''q'");
    }
}
