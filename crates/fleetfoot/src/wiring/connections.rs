//! From resolved runners to connections: runners with one URL and one credential share one.

use std::collections::BTreeMap;

use fleetfoot_github::{
    ConfigUrl, Connection, Credentials, Http, HttpSettings, Shared, TokenSource,
};

use crate::config::credentials::{
    ConnectionKey, Credential, CredentialSource, ResolveError, Resolved,
};
use crate::config::{Config, RunnerConfig};

use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};

use super::WiringError;

/// Makes connections, each once.
#[derive(Debug, Default)]
pub(super) struct Connections {
    https: BTreeMap<HttpKey, Http>,
    connections: BTreeMap<ConnectionKey, (Digest, Connection)>,
    shared: Shared,
}

/// Of a credential, to know when it was replaced.
type Digest = [u8; 32];

/// Runners that reach GitHub the same way share connections of the wire, too.
type HttpKey = (Option<std::path::PathBuf>, Option<String>, Option<String>);

impl Connections {
    /// From now on with what others of this process share, before the first connection.
    pub(super) fn share(&mut self, shared: Shared) {
        self.shared = shared;
    }

    /// The connection of a resolved runner.
    pub(super) fn connection(&mut self, resolved: &Resolved) -> Result<Connection, WiringError> {
        let digest = digest(&resolved.credential);
        let known = self.connections.get(&resolved.connection);
        if let Some((_, connection)) = known.filter(|(of, _)| *of == digest) {
            return Ok(connection.clone());
        }
        let replaced = known.is_some();
        let failed = |source| WiringError::Connection { runner: resolved.runner.clone(), source };
        let url = config_url(resolved)?;
        let key = &resolved.connection;
        let http_key = (key.ca_file.clone(), key.proxy.clone(), key.api_url.clone());
        let http = match self.https.get(&http_key) {
            Some(http) => http.clone(),
            None => {
                let settings = HttpSettings {
                    proxy: key.proxy.clone(),
                    extra_ca: key.ca_file.clone(),
                    shared: self.shared.clone(),
                    ..HttpSettings::default()
                };
                let http = Http::new(settings).map_err(failed)?;
                self.https.insert(http_key, http.clone());
                http
            }
        };
        let connection = Connection::new(&http, &url, &credentials(resolved)?).map_err(failed)?;
        if replaced {
            tracing::info!(url = resolved.url, source = %resolved.source, "credential was replaced");
        } else {
            tracing::info!(url = resolved.url, "connection created");
        }
        self.connections.insert(resolved.connection.clone(), (digest, connection.clone()));
        Ok(connection)
    }

    /// Forgets what these runners do not use.
    pub(super) fn keep(&mut self, runners: &[Resolved]) {
        self.connections.retain(|key, _| runners.iter().any(|it| it.connection == *key));
    }
}

/// A runner, what was found out about it, and its way to GitHub.
type Way<'a> = (&'a RunnerConfig, &'a Resolved, Connection);

/// The ways of all runners, in the order of their names.
///
/// # Errors
/// The first that has none; what comes before it is connected, and told of.
pub(super) fn ways<'a>(
    connections: &mut Connections,
    config: &'a Config,
    runners: &'a [Resolved],
    failures: Vec<(String, ResolveError)>,
) -> Result<Vec<Way<'a>>, WiringError> {
    let mut failures: BTreeMap<String, ResolveError> = failures.into_iter().collect();
    let resolved: BTreeMap<&str, &Resolved> =
        runners.iter().map(|it| (it.runner.as_str(), it)).collect();
    let mut ways = Vec::new();
    for runner in &config.runners {
        if let Some(source) = failures.remove(&runner.name) {
            return Err(WiringError::Resolve { runner: runner.name.clone(), source });
        }
        if let Some(resolved) = resolved.get(runner.name.as_str()) {
            ways.push((runner, *resolved, connections.connection(resolved)?));
        }
    }
    Ok(ways)
}

/// Whether a runner's URL cannot be used.
pub(super) fn is_odd(resolved: &Resolved) -> bool {
    config_url(resolved).is_err()
}

fn digest(credential: &Credential) -> Digest {
    let secret = match credential {
        Credential::Token(secret) | Credential::App { key: secret, .. } => secret,
    };
    Sha256::digest(secret.expose_secret().as_bytes()).into()
}

/// Its URL, with the API where the configuration says that it is.
fn config_url(resolved: &Resolved) -> Result<ConfigUrl, WiringError> {
    let failed = |source| WiringError::Url { runner: resolved.runner.clone(), source };
    let url = ConfigUrl::parse(&resolved.url).map_err(failed)?;
    match &resolved.connection.api_url {
        Some(base) => url.with_api_base(base).map_err(failed),
        None => Ok(url),
    }
}

fn credentials(resolved: &Resolved) -> Result<Credentials, WiringError> {
    Ok(match (&resolved.credential, &resolved.source) {
        (Credential::App { app, key }, _) => Credentials::App {
            app_id_or_client_id: app.issuer.clone(),
            installation_id: i64::try_from(app.installation_id)
                .map_err(|_| WiringError::Installation { runner: resolved.runner.clone() })?,
            private_key_pem: key.clone(),
        },
        // Files are read again when GitHub refuses the token.
        (
            Credential::Token(_),
            CredentialSource::RunnerFile(path)
            | CredentialSource::File(path)
            | CredentialSource::SystemdCredential(path),
        ) => Credentials::Token(TokenSource::file(path)),
        (
            Credential::Token(token),
            source @ (CredentialSource::Flag
            | CredentialSource::Environment
            | CredentialSource::App { .. }),
        ) => Credentials::Token(TokenSource::fixed(source.to_string(), token.clone())),
    })
}
