//! Why a URL or a credential cannot be had, in the original's words where it has some.

use std::io;
use std::path::{Path, PathBuf};

/// Why a runner has no usable URL or credential. The texts are the original's where it has one.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no URL.
    #[error("no URL provided (use --url flag or url in config)")]
    NoUrl,
    /// There is no credential.
    #[error(
        "no token provided (use --token, GITHUB_TOKEN env var, systemd-creds, or token_file in config)"
    )]
    NoToken,
    /// The runner's own token file cannot be read.
    #[error("read runner token_file \"{}\": {}", path.display(), go_io_error("open", path, source))]
    RunnerFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file's `token_file` cannot be read.
    #[error("read token_file \"{}\": {}", path.display(), go_io_error("open", path, source))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The private key of an App cannot be read.
    #[error("read private_key_file \"{}\": {}", path.display(), go_io_error("open", path, source))]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An App has no key file and there is no systemd credential.
    #[error(
        "no private key for GitHub App {issuer} (set private_key_file, or the systemd credential github-app-key)"
    )]
    NoKey {
        /// The App.
        issuer: String,
    },
    /// There is a source, but nothing in it.
    #[error("{source_name} is empty")]
    Empty {
        /// The source.
        source_name: String,
    },
    /// There is a source, but not text that can be sent.
    #[error("{source_name} is not a token: {reason}")]
    Unusable {
        /// The source.
        source_name: String,
        /// What is wrong with it, without quoting any of it.
        reason: &'static str,
    },
}

impl ResolveError {
    /// The same for people who did not call us by the original's name: its flags are not ours.
    #[must_use]
    pub fn in_own_words(&self) -> String {
        match self {
            Self::NoUrl => "no url: set `url` in the configuration".to_owned(),
            Self::NoToken => "no credential: set `token_file` or `github.app` in the configuration, the variable GITHUB_TOKEN, or the systemd credential github-token".to_owned(),
            Self::RunnerFile { .. }
            | Self::File { .. }
            | Self::KeyFile { .. }
            | Self::NoKey { .. }
            | Self::Empty { .. }
            | Self::Unusable { .. } => self.to_string(),
        }
    }
}

/// An I/O error as the original's runtime writes it: `open /x: no such file or directory`.
pub(crate) fn go_io_error(operation: &str, path: &Path, error: &io::Error) -> String {
    let path = path.display();
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        format!("{operation} {path}: no such file or directory")
    } else if kind == io::ErrorKind::PermissionDenied {
        format!("{operation} {path}: permission denied")
    } else if kind == io::ErrorKind::IsADirectory {
        format!("read {path}: is a directory")
    } else {
        format!("{operation} {path}: {error}")
    }
}
