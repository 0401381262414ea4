//! Why a URL or a credential cannot be had, in the original's words where it has some.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

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
            Self::RunnerFile { path, source } | Self::File { path, source } => {
                unreadable("token_file", path, source)
            }
            Self::KeyFile { path, source } => unreadable("private_key_file", path, source),
            Self::NoKey { .. } | Self::Empty { .. } | Self::Unusable { .. } => self.to_string(),
        }
    }
}

/// A file that a key names cannot be read: which one, why, and what to do.
fn unreadable(key: &str, path: &Path, error: &io::Error) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let remedy = if error.kind() == io::ErrorKind::NotFound {
        "write it, or set the key to another file"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "let the user that fleetfoot runs as read it"
    } else {
        "set the key to a file that can be read"
    };
    format!("{key} {}: {}: {remedy}", whole.display(), go_words(error))
}

/// An I/O error as the original's runtime writes it: `open /x: no such file or directory`.
pub(crate) fn go_io_error(operation: &str, path: &Path, error: &io::Error) -> String {
    // Opening a directory goes well there, reading it does not.
    let operation = if error.kind() == io::ErrorKind::IsADirectory { "read" } else { operation };
    format!("{operation} {}: {}", path.display(), go_words(error))
}

/// What Go says of an error of the system, whatever the C library of this build says.
fn go_words(error: &io::Error) -> String {
    let kinds = [
        (io::ErrorKind::NotFound, Errno::NOENT),
        (io::ErrorKind::PermissionDenied, Errno::ACCESS),
        (io::ErrorKind::IsADirectory, Errno::ISDIR),
    ];
    let of_kind = || kinds.iter().find(|(kind, _)| *kind == error.kind()).map(|(_, errno)| *errno);
    let words = match Errno::from_io_error(error).or_else(of_kind) {
        Some(Errno::NOENT) => "no such file or directory",
        Some(Errno::ACCESS) => "permission denied",
        Some(Errno::PERM) => "operation not permitted",
        Some(Errno::ISDIR) => "is a directory",
        Some(Errno::NOTDIR) => "not a directory",
        Some(Errno::LOOP) => "too many levels of symbolic links",
        Some(Errno::NAMETOOLONG) => "file name too long",
        Some(Errno::MFILE) => "too many open files",
        Some(Errno::NFILE) => "too many open files in system",
        Some(Errno::IO) => "input/output error",
        Some(Errno::INVAL) => "invalid argument",
        Some(Errno::NXIO) => "no such device or address",
        Some(Errno::NODEV) => "no such device",
        _ => return error.to_string(),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_has_a_remedy_in_our_words() {
        let told = |errno: Errno| {
            ResolveError::File { path: "/a/token".into(), source: errno.into() }.in_own_words()
        };
        for (errno, line) in [
            (
                Errno::NOENT,
                "token_file /a/token: no such file or directory: write it, or set the key to another file",
            ),
            (
                Errno::ACCESS,
                "token_file /a/token: permission denied: let the user that fleetfoot runs as read it",
            ),
            (
                Errno::ISDIR,
                "token_file /a/token: is a directory: set the key to a file that can be read",
            ),
        ] {
            assert_eq!(told(errno), line);
        }
    }

    #[test]
    fn errors_of_the_system_have_gos_words() {
        for (errno, line) in [
            (Errno::NOENT, "open /a: no such file or directory"),
            (Errno::ACCESS, "open /a: permission denied"),
            (Errno::ISDIR, "read /a: is a directory"),
            (Errno::NOTDIR, "open /a: not a directory"),
            (Errno::LOOP, "open /a: too many levels of symbolic links"),
            (Errno::NAMETOOLONG, "open /a: file name too long"),
        ] {
            assert_eq!(go_io_error("open", Path::new("/a"), &errno.into()), line);
        }
    }
}
