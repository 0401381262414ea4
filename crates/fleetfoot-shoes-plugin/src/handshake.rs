//! How a plugin begins: what its host says by the environment, and the one line that it answers.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::net::UnixListener;

/// The host says by this variable that it is one.
const COOKIE: (&str, &str) = ("SHOES_PLUGIN_MAGIC_COOKIE", "are_you_a_shoes?");
/// The version of the shoes protocol, the only one there is.
const VERSION: &str = "1";

/// A plugin cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody started it by hand.
    #[error(
        "this is a shoes plugin: it is not started by hand, but by `fleetfoot myshoes` with PLUGIN={0}"
    )]
    NoHost(String),
    /// The host speaks another version.
    #[error("the host speaks version {0} of the shoes protocol, this plugin speaks {VERSION}")]
    Version(String),
    /// The host wants TLS on the socket.
    #[error(
        "the host asks for TLS (AutoMTLS), which this plugin does not have: switch it off there"
    )]
    Tls,
    /// There is no socket.
    #[error("failed to listen in {}", directory.display())]
    Listen {
        /// Where.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host reads nothing.
    #[error("failed to tell the host where this plugin listens")]
    Tell(#[source] io::Error),
    /// Signals cannot be received.
    #[error("failed to listen for signals")]
    Signals(#[source] io::Error),
}

/// Reads what the host says.
pub(crate) fn check(said: impl Fn(&str) -> Option<String>) -> Result<(), ServeError> {
    if said(COOKIE.0).as_deref() != Some(COOKIE.1) {
        let program = std::env::current_exe().unwrap_or_default();
        return Err(ServeError::NoHost(program.display().to_string()));
    }
    if let Some(versions) = said("PLUGIN_PROTOCOL_VERSIONS").filter(|it| !it.is_empty())
        && !versions.split(',').any(|version| version == VERSION)
    {
        return Err(ServeError::Version(versions));
    }
    if said("PLUGIN_CLIENT_CERT").is_some_and(|certificate| !certificate.is_empty()) {
        return Err(ServeError::Tls);
    }
    Ok(())
}

/// A socket in a directory of its own, which only this user may enter and which goes with the value.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    _directory: TempDir,
}

impl Socket {
    /// In the directory that the host named, else in that for temporary files.
    pub(crate) fn open(directory: Option<PathBuf>) -> Result<Self, ServeError> {
        let directory = directory.unwrap_or_else(std::env::temp_dir);
        let opened = || {
            let own = tempfile::Builder::new().prefix("plugin").tempdir_in(&directory)?;
            let path = own.path().join("socket");
            Ok(Self { listener: UnixListener::bind(&path)?, path, _directory: own })
        };
        opened().map_err(|source| ServeError::Listen { directory: directory.clone(), source })
    }

    /// The line that the host waits for.
    pub(crate) fn tell(&self) -> Result<(), ServeError> {
        let mut out = io::stdout().lock();
        let told = out.write_all(line(&self.path).as_bytes()).and_then(|()| out.flush());
        told.map_err(ServeError::Tell)
    }
}

fn line(path: &Path) -> String {
    format!("1|{VERSION}|unix|{}|grpc|\n", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(said: &[(&str, &str)]) -> Result<(), String> {
        let value = |name: &str| {
            said.iter().find(|(said, _)| *said == name).map(|(_, value)| (*value).to_owned())
        };
        check(value).map_err(|error| error.to_string())
    }

    #[test]
    fn only_a_host_of_this_protocol_is_served() {
        assert_eq!(checked(&[COOKIE]), Ok(()));
        assert_eq!(checked(&[COOKIE, ("PLUGIN_PROTOCOL_VERSIONS", "2,1")]), Ok(()));
        assert!(checked(&[]).unwrap_err().starts_with("this is a shoes plugin: "));
        assert!(checked(&[(COOKIE.0, "no")]).unwrap_err().contains("PLUGIN=/"));
        let other = checked(&[COOKIE, ("PLUGIN_PROTOCOL_VERSIONS", "11,2")]).unwrap_err();
        assert!(other.starts_with("the host speaks version 11,2 "), "{other}");
        let tls = checked(&[COOKIE, ("PLUGIN_CLIENT_CERT", "-----BEGIN")]).unwrap_err();
        assert!(tls.contains("AutoMTLS"), "{tls}");
    }

    #[test]
    fn the_line_is_that_of_go_plugin() {
        assert_eq!(line(Path::new("/tmp/p/socket")), "1|1|unix|/tmp/p/socket|grpc|\n");
    }
}
