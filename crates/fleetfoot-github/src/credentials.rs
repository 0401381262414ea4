//! What we show to GitHub to be let in.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

use crate::error::{ErrorKind, GithubError, Result};

/// A credential for one organization, repository or enterprise.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A personal access token.
    Token(TokenSource),
    /// A GitHub App, installed there.
    App {
        /// The App's client id; its numeric id works as well.
        app_id_or_client_id: String,
        /// The number of the installation.
        installation_id: i64,
        /// Its private key, PKCS#1 or PKCS#8, in PEM.
        private_key_pem: SecretString,
    },
}

/// Where a token comes from. A file is read again when GitHub refuses the token, so that it can be
/// rotated without a restart.
#[derive(Clone)]
pub struct TokenSource {
    kind: SourceKind,
}

#[derive(Clone)]
enum SourceKind {
    Fixed { name: String, token: SecretString },
    File { path: PathBuf },
}

impl TokenSource {
    /// A token that was given by value; `name` says where, for messages: `--token`.
    #[must_use]
    pub fn fixed(name: impl Into<String>, token: SecretString) -> Self {
        Self { kind: SourceKind::Fixed { name: name.into(), token } }
    }

    /// A token in a file, white space around it ignored.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { kind: SourceKind::File { path: path.into() } }
    }

    /// Where it comes from, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.kind {
            SourceKind::Fixed { name, .. } => name.clone(),
            SourceKind::File { path } => format!("token file `{}`", path.display()),
        }
    }

    /// The token as it is now.
    pub fn read(&self) -> Result<SecretString> {
        const OPERATION: &str = "read the GitHub token";
        let token = match &self.kind {
            SourceKind::Fixed { token, .. } => token.clone(),
            SourceKind::File { path } => {
                let text = std::fs::read_to_string(path).map_err(|source| {
                    let kind = ErrorKind::Credentials;
                    GithubError::with_source(OPERATION, kind, self.name(), source)
                })?;
                SecretString::from(text.trim())
            }
        };
        if token.expose_secret().trim().is_empty() {
            let detail = format!("{} is empty", self.name());
            return Err(GithubError::new(OPERATION, ErrorKind::Credentials, detail));
        }
        Ok(token)
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenSource").field(&self.name()).finish()
    }
}

impl Credentials {
    /// Equal for equal credentials. Not a secret.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Token(TokenSource { kind: SourceKind::File { path } }) => {
                format!("file:{}", path.display())
            }
            Self::Token(TokenSource { kind: SourceKind::Fixed { token, .. } }) => {
                let mut hasher = DefaultHasher::new();
                token.expose_secret().hash(&mut hasher);
                format!("token:{:x}", hasher.finish())
            }
            Self::App { app_id_or_client_id, installation_id, .. } => {
                format!("app:{app_id_or_client_id}:{installation_id}")
            }
        }
    }

    /// Equal for what GitHub counts together at one server: an installation has one App, whichever of its two names the
    /// App is called by. Not a secret.
    pub(crate) fn limits(&self) -> String {
        match self {
            Self::Token(_) => self.key(),
            Self::App { installation_id, .. } => format!("installation:{installation_id}"),
        }
    }

    /// Equal for equal credentials with an equal key. Not a secret.
    pub(crate) fn identity(&self) -> String {
        let Self::App { private_key_pem, .. } = self else { return self.key() };
        let mut hasher = DefaultHasher::new();
        // A line's end more or less is the same key.
        private_key_pem.expose_secret().trim().hash(&mut hasher);
        format!("{}:{:x}", self.key(), hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_token_is_an_error_that_names_its_source() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " \n").unwrap();
        let source = TokenSource::file(file.path());
        let text = source.read().unwrap_err().to_string();
        assert!(text.contains(&file.path().display().to_string()), "{text}");
        assert!(text.ends_with("is empty"), "{text}");
        let text = TokenSource::fixed("GITHUB_TOKEN", "".into()).read().unwrap_err().to_string();
        assert!(text.contains("GITHUB_TOKEN is empty"), "{text}");
    }

    #[test]
    fn a_file_is_trimmed_and_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{2003}one\u{a0}\n").unwrap();
        let source = TokenSource::file(file.path());
        assert_eq!(source.read().unwrap().expose_secret(), "one");
        std::fs::write(file.path(), "two").unwrap();
        assert_eq!(source.read().unwrap().expose_secret(), "two");
    }

    #[test]
    fn debug_and_key_hide_the_token() {
        let credentials = Credentials::Token(TokenSource::fixed("x", "ghp_secret".into()));
        assert!(!format!("{credentials:?} {}", credentials.key()).contains("ghp_secret"));
        let app = Credentials::App {
            app_id_or_client_id: "Iv1".into(),
            installation_id: 1,
            private_key_pem: "pem".into(),
        };
        assert!(!format!("{app:?}").contains("pem\""));
    }
}
