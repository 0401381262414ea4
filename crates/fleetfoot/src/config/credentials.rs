//! Which URL and which credential each runner uses, and the reading of secrets.
//!
//! The rules are pure functions over [`Surroundings`], so that tests can take one source away at a
//! time. A resolved runner keeps the *source* of its credential besides its value: two runners share
//! a connection when their [`ConnectionKey`]s are equal, and a rotated token is read again from where
//! it came from ([`CredentialSource::read`]).
//!
//! URL: the runner's `url`, `--url`, the file's `url`.
//!
//! Credential, the first of: the runner's own `github.app`, the runner's `token_file`, `--token`, the
//! file's `github.app`, `GITHUB_TOKEN`, the systemd credential `github-token`, the file's `token_file`.
//! Without any `github.app` this is exactly the original's order.

mod error;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::types::{AppSettings, Config, RunnerConfig};
pub use error::ResolveError;
pub(crate) use error::go_io_error;

/// The environment and the files that resolution looks at.
pub trait Surroundings {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<OsString>;
    /// The whole content of a file.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The real environment and file system of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealSurroundings;

impl Surroundings for RealSurroundings {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

/// What the command line says; empty is as good as absent.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--url`.
    pub url: String,
    /// `--token`.
    pub token: SecretString,
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialSource {
    /// A GitHub App.
    App {
        /// The App.
        app: AppSettings,
        /// Where its private key is read from.
        key_file: PathBuf,
    },
    /// The runner's own `token_file`.
    RunnerFile(PathBuf),
    /// `--token`.
    Flag,
    /// The variable `GITHUB_TOKEN`.
    Environment,
    /// The file `github-token` in `$CREDENTIALS_DIRECTORY`.
    SystemdCredential(PathBuf),
    /// The file's `token_file`.
    File(PathBuf),
}

impl std::fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CredentialSource::App { app, .. } => {
                write!(f, "GitHub App {} (installation {})", app.issuer, app.installation_id)
            }
            CredentialSource::RunnerFile(path) | CredentialSource::File(path) => {
                write!(f, "token_file \"{}\"", path.display())
            }
            CredentialSource::Flag => f.write_str("--token"),
            CredentialSource::Environment => f.write_str("GITHUB_TOKEN"),
            CredentialSource::SystemdCredential(path) => {
                write!(f, "systemd credential \"{}\"", path.display())
            }
        }
    }
}

/// A credential as it reads now.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A personal access token.
    Token(SecretString),
    /// A GitHub App with its private key in PEM form.
    App {
        /// The App.
        app: AppSettings,
        /// The private key.
        key: SecretString,
    },
}

/// One runner with its URL and credential.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The runner's name.
    pub runner: String,
    /// Where it registers, as given.
    pub url: String,
    /// Where its credential comes from.
    pub source: CredentialSource,
    /// The credential as it reads now.
    pub credential: Credential,
    /// Everything that makes a connection to GitHub another one.
    pub connection: ConnectionKey,
}

/// Runners with equal keys share one connection to GitHub.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    /// Where to register, one trailing slash removed.
    pub url: String,
    /// The credential's source.
    pub source: CredentialSource,
    /// Base of the REST API, if set.
    pub api_url: Option<String>,
    /// Extra certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// Proxy for calls to GitHub.
    pub proxy: Option<String>,
}

/// Everything [`resolve`] found out.
#[derive(Debug, Default)]
pub struct Resolution {
    /// The usable runners, in name order.
    pub runners: Vec<Resolved>,
    /// The others: runner name and reason, in name order.
    pub failures: Vec<(String, ResolveError)>,
    /// Sources that were skipped, each one line, each once.
    pub warnings: Vec<String>,
}

/// Resolves every runner of a file.
pub fn resolve(config: &Config, flags: &Flags, surroundings: &dyn Surroundings) -> Resolution {
    let mut out = Resolution::default();
    for runner in &config.runners {
        match resolve_runner(config, runner, flags, surroundings, &mut out.warnings) {
            Ok(resolved) => out.runners.push(resolved),
            Err(error) => out.failures.push((runner.name.clone(), error)),
        }
    }
    out
}

fn resolve_runner(
    config: &Config,
    runner: &RunnerConfig,
    flags: &Flags,
    surroundings: &dyn Surroundings,
    warnings: &mut Vec<String>,
) -> Result<Resolved, ResolveError> {
    let url = resolve_url(config, runner, flags)?;
    let source = find_source(config, runner, flags, surroundings, warnings)?;
    let credential = source.read(flags, surroundings)?;
    let connection = ConnectionKey {
        url: url.strip_suffix('/').unwrap_or(&url).to_owned(),
        // One file is one token, whoever names it.
        source: match &source {
            CredentialSource::RunnerFile(path) => CredentialSource::File(path.clone()),
            CredentialSource::App { .. }
            | CredentialSource::Flag
            | CredentialSource::Environment
            | CredentialSource::SystemdCredential(_)
            | CredentialSource::File(_) => source.clone(),
        },
        api_url: runner.github.api_url.clone(),
        ca_file: runner.github.ca_file.clone(),
        proxy: runner.github.proxy.clone(),
    };
    Ok(Resolved { runner: runner.name.clone(), url, source, credential, connection })
}

/// The URL of a runner: its own, the flag's, the file's.
///
/// # Errors
/// [`ResolveError::NoUrl`] when there is none.
pub fn resolve_url(
    config: &Config,
    runner: &RunnerConfig,
    flags: &Flags,
) -> Result<String, ResolveError> {
    let flag = Some(&flags.url).filter(|url| !url.is_empty());
    let found = runner.url.as_ref().or(flag).or(config.url.as_ref());
    found.cloned().ok_or(ResolveError::NoUrl)
}

fn find_source(
    config: &Config,
    runner: &RunnerConfig,
    flags: &Flags,
    surroundings: &dyn Surroundings,
    warnings: &mut Vec<String>,
) -> Result<CredentialSource, ResolveError> {
    let app = runner.github.app.as_ref();
    if let Some(app) = app.filter(|_| runner.own_app) {
        return app_source(app, surroundings);
    }
    if let Some(path) = &runner.token_file {
        return Ok(CredentialSource::RunnerFile(path.clone()));
    }
    if !flags.token.expose_secret().is_empty() {
        return Ok(CredentialSource::Flag);
    }
    if let Some(app) = app {
        return app_source(app, surroundings);
    }
    if surroundings.variable("GITHUB_TOKEN").is_some_and(|token| !token.is_empty()) {
        return Ok(CredentialSource::Environment);
    }
    if let Some(path) = systemd_credential("github-token", surroundings) {
        match surroundings.read(&path) {
            Ok(_) => return Ok(CredentialSource::SystemdCredential(path)),
            Err(error) => {
                let what = go_io_error("open", &path, &error);
                let line = format!("systemd credential github-token is skipped: {what}");
                if !warnings.contains(&line) {
                    warnings.push(line);
                }
            }
        }
    }
    match &config.token_file {
        Some(path) => Ok(CredentialSource::File(path.clone())),
        None => Err(ResolveError::NoToken),
    }
}

fn app_source(
    app: &AppSettings,
    surroundings: &dyn Surroundings,
) -> Result<CredentialSource, ResolveError> {
    let key_file = app
        .private_key_file
        .clone()
        .or_else(|| systemd_credential("github-app-key", surroundings))
        .ok_or_else(|| ResolveError::NoKey { issuer: app.issuer.clone() })?;
    Ok(CredentialSource::App { app: app.clone(), key_file })
}

pub(super) fn systemd_credential(name: &str, surroundings: &dyn Surroundings) -> Option<PathBuf> {
    surroundings
        .variable("CREDENTIALS_DIRECTORY")
        .filter(|directory| !directory.is_empty())
        .map(|directory| Path::new(&directory).join(name))
}

impl CredentialSource {
    /// Reads the credential as it is now; called again after a 401 and on SIGHUP.
    ///
    /// # Errors
    /// [`ResolveError`] naming the source.
    pub fn read(
        &self,
        flags: &Flags,
        surroundings: &dyn Surroundings,
    ) -> Result<Credential, ResolveError> {
        let bytes = match self {
            CredentialSource::App { app, key_file } => {
                let bytes = surroundings
                    .read(key_file)
                    .map_err(|source| ResolveError::KeyFile { path: key_file.clone(), source })?;
                let name = format!("private_key_file \"{}\"", key_file.display());
                let key = private_key(&bytes, &name)?;
                return Ok(Credential::App { app: app.clone(), key });
            }
            CredentialSource::Flag => flags.token.expose_secret().as_bytes().to_vec(),
            CredentialSource::Environment => surroundings
                .variable("GITHUB_TOKEN")
                .map(OsString::into_encoded_bytes)
                .unwrap_or_default(),
            CredentialSource::RunnerFile(path) => {
                let read = surroundings.read(path);
                trimmed(
                    read.map_err(|source| ResolveError::RunnerFile { path: path.clone(), source })?,
                )
            }
            CredentialSource::File(path) | CredentialSource::SystemdCredential(path) => {
                let read = surroundings.read(path);
                trimmed(read.map_err(|source| ResolveError::File { path: path.clone(), source })?)
            }
        };
        token(bytes, &self.to_string()).map(Credential::Token)
    }
}

/// Blanks at both ends go, Unicode's too; a byte order mark is not one.
fn trimmed(bytes: Vec<u8>) -> Vec<u8> {
    match std::str::from_utf8(&bytes) {
        Ok(text) => text.trim().as_bytes().to_vec(),
        Err(_) => bytes,
    }
}

fn token(bytes: Vec<u8>, source_name: &str) -> Result<SecretString, ResolveError> {
    let unusable = |reason| ResolveError::Unusable { source_name: source_name.to_owned(), reason };
    if bytes.trim_ascii().is_empty() {
        return Err(ResolveError::Empty { source_name: source_name.to_owned() });
    }
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not text"))?;
    if text.starts_with('\u{feff}') {
        return Err(unusable("it begins with a byte order mark"));
    }
    // HTTP drops blanks at the end of a header, so such a token works as it is.
    if text.trim_end_matches([' ', '\t']).contains(|c: char| c.is_control()) {
        return Err(unusable("there is a line break or control character in it"));
    }
    Ok(SecretString::from(text))
}

fn private_key(bytes: &[u8], source_name: &str) -> Result<SecretString, ResolveError> {
    let unusable = |reason| ResolveError::Unusable { source_name: source_name.to_owned(), reason };
    let text = std::str::from_utf8(bytes).map_err(|_| unusable("it is not text"))?.trim();
    if text.is_empty() {
        return Err(ResolveError::Empty { source_name: source_name.to_owned() });
    }
    if !text.contains("PRIVATE KEY-----") {
        return Err(unusable("it is not a private key in PEM form"));
    }
    Ok(SecretString::from(text.to_owned()))
}
