//! Where a daemon is, and the bytes to and from it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::remote::Remote;

const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Where a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// A socket of this host.
    Unix(PathBuf),
    /// Another host's, by TLS or by `ssh`.
    Remote(Remote),
}

/// An address that means nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not an address of libvirt that we speak to")]
pub struct AddressError(pub(super) String);

/// Bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Address {
    /// A socket's path, `unix://PATH`, `qemu+tls://HOST/system` or `qemu+ssh://HOST/system`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.starts_with("qemu+") {
            return Remote::parse(text).map(Self::Remote);
        }
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.is_empty() || path.contains("://") {
            return Err(AddressError(text.to_owned()));
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }

    /// The socket, where it is one of this host.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Remote(_) => None,
        }
    }

    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let connected = async {
            match self {
                Self::Unix(path) => {
                    Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn Stream>)
                }
                Self::Remote(remote) => remote.connect().await,
            }
        };
        tokio::time::timeout(CONNECT_MAX, connected).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Remote(remote) => remote.fmt(f),
        }
    }
}
