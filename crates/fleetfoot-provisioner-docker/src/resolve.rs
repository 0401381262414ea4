//! Finding the engine: the configuration, Docker's environment variables, the `docker` command, contexts on
//! disk, and at last the default socket.
//!
//! ```text
//! configured host ─▶ DOCKER_HOST ─▶ `docker context inspect` ─▶ (no such command) contexts on disk ─▶ default
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
const CLI_TIMEOUT: Duration = Duration::from_secs(10);

/// How an engine is to be found.
#[derive(Debug, Clone, Default)]
pub struct EngineSettings {
    /// Its address; without one it is looked for as the `docker` command does.
    pub host: Option<String>,
    /// Docker's own variables (`DOCKER_HOST`, `DOCKER_CONTEXT`, `DOCKER_CONFIG`, `DOCKER_CERT_PATH`,
    /// `DOCKER_TLS_VERIFY`, `DOCKER_API_VERSION`, `HOME`, `PATH`), as they were found.
    pub variables: std::collections::BTreeMap<String, String>,
}

impl EngineSettings {
    /// An address from the configuration, if there is one, and this process's environment.
    #[must_use]
    pub fn from_environment(host: Option<String>) -> Self {
        let names = [
            "DOCKER_HOST",
            "DOCKER_CONTEXT",
            "DOCKER_CONFIG",
            "DOCKER_CERT_PATH",
            "DOCKER_TLS_VERIFY",
            "DOCKER_API_VERSION",
            "HOME",
            "PATH",
        ];
        let variables =
            names.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        Self { host, variables: variables.collect() }
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// `DOCKER_CONFIG`, or `.docker` in the home directory.
    pub(crate) fn config_directory(&self) -> Option<PathBuf> {
        let home = || self.variable("HOME").map(|home| Path::new(home).join(".docker"));
        self.variable("DOCKER_CONFIG").map(PathBuf::from).or_else(home)
    }
}

/// The engine's address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The address is odd.
    #[error("docker host `{address}` cannot be used: {why}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A context is named that is not there.
    #[error("docker context `{0}` is not found")]
    Context(String),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS material cannot be used.
    #[error("TLS material in {} cannot be used: {why}", path.display())]
    Tls {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Where TLS material lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) directory: PathBuf,
}

impl Tls {
    pub(crate) fn client_config(&self) -> Result<Arc<rustls::ClientConfig>, ResolveError> {
        let odd = |why: String| ResolveError::Tls { path: self.directory.clone(), why };
        let certificates = |name: &str| -> Result<Vec<CertificateDer<'static>>, ResolveError> {
            let all = CertificateDer::pem_file_iter(self.directory.join(name));
            let all = all.and_then(Iterator::collect::<Result<Vec<_>, _>>);
            all.map_err(|error| odd(format!("{name}: {error}")))
        };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in certificates("ca.pem")? {
            roots.add(certificate).map_err(|error| odd(format!("ca.pem: {error}")))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| odd(error.to_string()))?
            .with_root_certificates(roots);
        if !self.directory.join("cert.pem").exists() {
            return Ok(Arc::new(builder.with_no_client_auth()));
        }
        let key = PrivateKeyDer::from_pem_file(self.directory.join("key.pem"));
        let key = key.map_err(|error| odd(format!("key.pem: {error}")))?;
        let config = builder.with_client_auth_cert(certificates("cert.pem")?, key);
        Ok(Arc::new(config.map_err(|error| odd(error.to_string()))?))
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: String,
    pub(crate) tls: Option<Tls>,
    /// A context of the `docker` command named it.
    pub(crate) detected: bool,
}

pub(crate) async fn resolve(settings: &EngineSettings) -> Result<Found, ResolveError> {
    let named = settings
        .host
        .as_deref()
        .filter(|host| !host.is_empty())
        .or(settings.variable("DOCKER_HOST"));
    if let Some(address) = named {
        let tls = variable_tls(settings, address);
        return Ok(Found { address: address.to_owned(), tls, detected: false });
    }
    let default = || Found { address: DEFAULT_HOST.to_owned(), tls: None, detected: false };
    match context_of_cli(settings).await {
        Cli::Host(address) => {
            let tls = disk_tls_of(settings, &address).or_else(|| variable_tls(settings, &address));
            Ok(Found { address, tls, detected: true })
        }
        Cli::NoAnswer => Ok(default()),
        Cli::NoCommand => match context_on_disk(settings)? {
            Some(found) => Ok(Found { detected: true, ..found }),
            None => Ok(default()),
        },
    }
}

fn variable_tls(settings: &EngineSettings, address: &str) -> Option<Tls> {
    let over_network =
        ["tcp://", "http://", "https://"].iter().any(|scheme| address.starts_with(scheme));
    let directory = settings.variable("DOCKER_CERT_PATH").map(PathBuf::from);
    let verify =
        settings.variable("DOCKER_TLS_VERIFY").is_some() || address.starts_with("https://");
    if !over_network || !(verify || directory.is_some()) {
        return None;
    }
    directory.or_else(|| settings.config_directory()).map(|directory| Tls { directory })
}

enum Cli {
    Host(String),
    NoAnswer,
    NoCommand,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the original asks the docker command too; backends start programs"
)]
async fn context_of_cli(settings: &EngineSettings) -> Cli {
    let Some(program) = find_program(settings, "docker") else { return Cli::NoCommand };
    let mut command = tokio::process::Command::new(program);
    command.args(["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]);
    for name in ["DOCKER_CONTEXT", "DOCKER_CONFIG", "HOME"] {
        match settings.variables.get(name) {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let Ok(Ok(output)) = tokio::time::timeout(CLI_TIMEOUT, command.output()).await else {
        return Cli::NoAnswer;
    };
    let address = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || address.is_empty() || address == "<no value>" {
        return Cli::NoAnswer;
    }
    match address.strip_prefix("unix://") {
        Some(path) if !Path::new(path).exists() => Cli::NoAnswer,
        Some(_) | None => Cli::Host(address),
    }
}

pub(crate) fn find_program(settings: &EngineSettings, name: &str) -> Option<PathBuf> {
    let path = settings.variable("PATH")?;
    std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints", default)]
    endpoints: std::collections::BTreeMap<String, MetaEndpoint>,
}

#[derive(Deserialize)]
struct MetaEndpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

fn current_context(settings: &EngineSettings) -> Option<String> {
    if let Some(name) = settings.variable("DOCKER_CONTEXT") {
        return Some(name.to_owned()).filter(|name| name != "default");
    }
    let text = std::fs::read_to_string(settings.config_directory()?.join("config.json")).ok()?;
    let file: ConfigFile = serde_json::from_str(&text).ok()?;
    file.current_context.filter(|name| !name.is_empty() && name != "default")
}

fn context_on_disk(settings: &EngineSettings) -> Result<Option<Found>, ResolveError> {
    let Some(name) = current_context(settings) else { return Ok(None) };
    let Some(directory) = settings.config_directory() else { return Ok(None) };
    let id = hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes()).as_ref());
    let path = directory.join("contexts/meta").join(&id).join("meta.json");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ResolveError::Context(name));
        }
        Err(source) => return Err(ResolveError::File { path, source }),
    };
    let meta: Option<Meta> = serde_json::from_str(&text).ok();
    let endpoint =
        meta.and_then(|mut meta| meta.endpoints.remove("docker")).filter(|it| !it.host.is_empty());
    let Some(endpoint) = endpoint else { return Err(ResolveError::Context(name)) };
    let tls = directory.join("contexts/tls").join(&id).join("docker");
    if endpoint.skip_tls_verify {
        let why = "the context skips TLS verification; give it a ca.pem instead".to_owned();
        return Err(ResolveError::Tls { path: tls, why });
    }
    let tls = tls.join("ca.pem").exists().then_some(Tls { directory: tls });
    Ok(Some(Found { address: endpoint.host, tls, detected: false }))
}

fn disk_tls_of(settings: &EngineSettings, address: &str) -> Option<Tls> {
    context_on_disk(settings).ok().flatten().filter(|found| found.address == address)?.tls
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        }

        /// A `docker` that notes that it was run, then does this.
        fn docker(&self, body: &str) {
            use std::os::unix::fs::PermissionsExt as _;
            let ran = self.path("ran");
            let path = self.write(
                "bin/docker",
                &format!("#!/bin/sh\necho \"$@\" >{}\n{body}\n", ran.display()),
            );
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn context(&self, name: &str, host: &str) {
            let id = hex(
                aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes()).as_ref()
            );
            let meta = format!(
                r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
            );
            self.write(&format!(".docker/contexts/meta/{id}/meta.json"), &meta);
        }

        async fn resolve(&self, variables: &[(&str, &str)]) -> Result<Found, ResolveError> {
            let mut settings = EngineSettings::default();
            let set = |settings: &mut EngineSettings, name: &str, value: &str| {
                settings.variables.insert(name.to_owned(), value.to_owned());
            };
            set(&mut settings, "HOME", self.0.path().to_str().unwrap());
            set(&mut settings, "PATH", self.path("bin").to_str().unwrap());
            for (name, value) in variables {
                set(&mut settings, name, value);
            }
            resolve(&settings).await
        }

        async fn address(&self, variables: &[(&str, &str)]) -> String {
            self.resolve(variables).await.unwrap().address
        }
    }

    #[tokio::test]
    async fn docker_host_is_used_and_no_command_is_run() {
        let home = Home::new();
        home.docker("echo tcp://elsewhere:1");
        assert_eq!(home.address(&[("DOCKER_HOST", "tcp://here:2375")]).await, "tcp://here:2375");
        assert!(!home.path("ran").exists());
    }

    #[tokio::test]
    async fn the_command_names_the_context_s_host() {
        let home = Home::new();
        home.docker("echo ' tcp://elsewhere:1 '");
        assert_eq!(home.address(&[("DOCKER_HOST", "")]).await, "tcp://elsewhere:1");
        let ran = std::fs::read_to_string(home.path("ran")).unwrap();
        assert_eq!(ran, "context inspect --format {{.Endpoints.docker.Host}}\n");
        let socket = home.write("some.sock", "");
        home.docker(&format!("echo unix://{}", socket.display()));
        assert_eq!(home.address(&[]).await, format!("unix://{}", socket.display()));
    }

    #[tokio::test]
    async fn odd_answers_of_the_command_mean_the_default() {
        for body in [
            "exit 1",
            "echo '<no value>'",
            "true",
            "echo unix:///nowhere/docker.sock",
            "echo tcp://x:1; exit 3",
        ] {
            let home = Home::new();
            home.docker(body);
            home.context("other", "tcp://disk:1");
            assert_eq!(home.address(&[("DOCKER_CONTEXT", "other")]).await, DEFAULT_HOST, "{body}");
        }
    }

    #[tokio::test]
    async fn without_the_command_contexts_are_read_from_disk() {
        let home = Home::new();
        assert_eq!(home.address(&[]).await, DEFAULT_HOST);
        home.context("one", "tcp://one:1");
        home.context("two", "unix:///two.sock");
        home.write(".docker/config.json", r#"{"currentContext":"one","auths":{}}"#);
        assert_eq!(home.address(&[]).await, "tcp://one:1");
        assert_eq!(home.address(&[("DOCKER_CONTEXT", "two")]).await, "unix:///two.sock");
        assert_eq!(home.address(&[("DOCKER_CONTEXT", "default")]).await, DEFAULT_HOST);
        assert_eq!(
            home.address(&[("DOCKER_CONTEXT", "two"), ("DOCKER_HOST", "tcp://h:1")]).await,
            "tcp://h:1"
        );
        let missing = home.resolve(&[("DOCKER_CONTEXT", "three")]).await.unwrap_err();
        assert_eq!(missing.to_string(), "docker context `three` is not found");
    }

    #[tokio::test]
    async fn tls_material_comes_from_the_variables() {
        let home = Home::new();
        let found = home
            .resolve(&[("DOCKER_HOST", "tcp://h:2376"), ("DOCKER_CERT_PATH", "/certs")])
            .await
            .unwrap();
        assert_eq!(found.tls, Some(Tls { directory: PathBuf::from("/certs") }));
        let found = home
            .resolve(&[("DOCKER_HOST", "tcp://h:2376"), ("DOCKER_TLS_VERIFY", "1")])
            .await
            .unwrap();
        assert_eq!(found.tls, Some(Tls { directory: home.path(".docker") }));
        let found = home
            .resolve(&[("DOCKER_HOST", "unix:///x"), ("DOCKER_TLS_VERIFY", "1")])
            .await
            .unwrap();
        assert_eq!(found.tls, None);
    }
}
