//! One engine: its address, the API version it speaks, and what several pools share of it.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use fleetfoot_provisioner::{Exit, InstallationId};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::endpoint::Endpoint;
use crate::http::{Answer, Call, CallError, Conversation};
use crate::pull::Pulls;
use crate::resolve::{EngineSettings, ResolveError, find_program, resolve};
use crate::watch::Hub;

/// The oldest API that is spoken, and the newest that was looked at.
const API_MIN: (u32, u32) = (1, 41);
const API_MAX: (u32, u32) = (1, 51);
/// Waits that are open at one time; beyond them exits are found by events and lists.
const WAITS_MAX: usize = 512;
/// Exits remembered; those of containers that others removed are never forgotten one by one. Asked again
/// of the engine when they are needed.
const EXITS_MAX: usize = 20_000;

/// An engine (dockerd, Podman's service), shared by all pools that use it.
pub struct DockerEngine {
    endpoint: Endpoint,
    connection: String,
    detected: Option<String>,
    fixed_version: Option<String>,
    version: Mutex<Option<Arc<Version>>>,
    pub(crate) settings: EngineSettings,
    pub(crate) pulls: Pulls,
    pub(crate) waits: Arc<Semaphore>,
    pub(crate) root_directory: OnceLock<PathBuf>,
    hubs: Mutex<HashMap<InstallationId, Weak<Hub>>>,
    exits: Mutex<HashMap<String, Exit>>,
}

impl fmt::Debug for DockerEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DockerEngine({})", self.endpoint)
    }
}

/// What `/version` said.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) api: String,
    pub(crate) podman: bool,
    pub(crate) engine: String,
}

#[derive(Deserialize)]
struct VersionAnswer {
    #[serde(rename = "ApiVersion", default)]
    api: String,
    #[serde(rename = "MinAPIVersion", default)]
    api_min: String,
    #[serde(rename = "Version", default)]
    version: String,
    #[serde(rename = "Components", default)]
    components: Option<Vec<Component>>,
}

#[derive(Deserialize)]
struct Component {
    #[serde(rename = "Name", default)]
    name: String,
}

/// What `/info` says, as far as it matters.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Info {
    #[serde(rename = "ID", default)]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) docker_root_dir: String,
    #[serde(default)]
    pub(crate) runtimes: Option<HashMap<String, serde_json::Value>>,
    #[serde(default)]
    pub(crate) memory_limit: bool,
    #[serde(default)]
    pub(crate) cpu_cfs_quota: bool,
    #[serde(default)]
    pub(crate) pids_limit: bool,
}

impl Info {
    /// Docker's id is kept on its disk, but outside its data: engines of one host may share it, so the data's
    /// place belongs to the identity. Podman makes a new id for each answer.
    pub(crate) fn identity(&self, podman: bool) -> String {
        if podman || self.id.is_empty() {
            format!("podman:{}:{}", self.name, self.docker_root_dir)
        } else {
            format!("docker:{}:{}", self.id, self.docker_root_dir)
        }
    }
}

impl DockerEngine {
    /// Finds the engine's address. Speaks with nobody yet: an engine that is down now may be up later.
    pub async fn connect(settings: EngineSettings) -> Result<Arc<Self>, ResolveError> {
        let found = resolve(&settings).await?;
        let endpoint =
            Endpoint::parse(&found.address, found.tls.as_ref(), find_program(&settings, "ssh"))?;
        Ok(Arc::new(Self {
            connection: format!("docker:{endpoint}"),
            endpoint,
            detected: found.detected.then_some(found.address),
            fixed_version: settings.variable("DOCKER_API_VERSION").map(str::to_owned),
            version: Mutex::new(None),
            settings,
            pulls: Pulls::default(),
            waits: Arc::new(Semaphore::new(WAITS_MAX)),
            root_directory: OnceLock::new(),
            hubs: Mutex::new(HashMap::new()),
            exits: Mutex::new(HashMap::new()),
        }))
    }

    /// The engine's address, as `DOCKER_HOST` would have it.
    #[must_use]
    pub fn address(&self) -> String {
        self.endpoint.to_string()
    }

    /// The address, if a context of the `docker` command named it, as it stands there.
    #[must_use]
    pub fn detected(&self) -> Option<&str> {
        self.detected.as_deref()
    }

    pub(crate) fn connection(&self) -> &str {
        &self.connection
    }

    pub(crate) fn is_local(&self) -> bool {
        self.endpoint.is_local()
    }

    /// A conversation, and the version to speak in it.
    pub(crate) async fn talk(&self) -> Result<Talk<'_>, CallError> {
        let version = self.version().await?;
        let conversation =
            Conversation::open(&self.endpoint).await.inspect_err(|_| self.forget_version())?;
        Ok(Talk { engine: self, version, conversation })
    }

    /// One call in a conversation of its own.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, CallError> {
        self.talk().await?.call(call).await
    }

    /// The version that was agreed on; asks again after the engine was away.
    pub(crate) async fn version(&self) -> Result<Arc<Version>, CallError> {
        if let Some(version) = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(version);
        }
        let mut conversation = Conversation::open(&self.endpoint).await?;
        let answer: VersionAnswer = conversation.send(Call::get("/version")).await?.json().await?;
        let api = match &self.fixed_version {
            Some(version) => version.clone(),
            None => agreed(&answer.api, &answer.api_min)?,
        };
        let components = answer.components.unwrap_or_default();
        let podman = components.iter().any(|component| component.name.contains("Podman"));
        let version = Arc::new(Version { api, podman, engine: answer.version });
        tracing::debug!(
            engine = version.engine,
            api = version.api,
            podman,
            "docker api version negotiated"
        );
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&version));
        Ok(version)
    }

    /// The engine was away: when it comes back it may be another one.
    pub(crate) fn forget_version(&self) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The watch of one installation at this engine, shared by its pools.
    pub(crate) fn hub(self: &Arc<Self>, installation: &InstallationId) -> Arc<Hub> {
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hub) = hubs.get(installation).and_then(Weak::upgrade) {
            return hub;
        }
        let hub = Arc::new(Hub::new(Arc::clone(self), installation.clone()));
        hubs.retain(|_, hub| hub.strong_count() > 0);
        hubs.insert(installation.clone(), Arc::downgrade(&hub));
        hub
    }

    /// How a container ended never changes: it is asked for once.
    pub(crate) fn known_exit(&self, id: &str) -> Option<Exit> {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(crate) fn remember_exit(&self, id: &str, exit: &Exit) {
        let mut exits = self.exits.lock().unwrap_or_else(PoisonError::into_inner);
        if exits.len() >= EXITS_MAX {
            exits.clear();
        }
        exits.insert(id.to_owned(), exit.clone());
    }

    /// Forgets the exit of a container that was removed.
    pub(crate) fn forget_exit(&self, id: &str) {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// A conversation that adds the version to each path.
pub(crate) struct Talk<'a> {
    engine: &'a DockerEngine,
    pub(crate) version: Arc<Version>,
    conversation: Conversation,
}

impl Talk<'_> {
    pub(crate) async fn call(&mut self, mut call: Call) -> Result<Answer, CallError> {
        call.path = format!("/v{}{}", self.version.api, call.path);
        self.conversation.send(call).await.inspect_err(|error| {
            let version_refused = matches!(error, CallError::Refused { status: 400, message } if message.contains("client version"));
            if version_refused || matches!(error, CallError::Lost(_)) {
                self.engine.forget_version();
            }
        })
    }
}

fn number(version: &str) -> Option<(u32, u32)> {
    let (major, minor) = version.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The newest version that both sides speak.
fn agreed(theirs: &str, theirs_min: &str) -> Result<String, CallError> {
    let odd = || CallError::Odd(format!("API version `{theirs}`"));
    let newest = number(theirs).ok_or_else(odd)?;
    if newest < API_MIN {
        let (major, minor) = API_MIN;
        return Err(CallError::Version(format!(
            "the engine speaks API {theirs}; {major}.{minor} or newer is needed"
        )));
    }
    let (major, minor) = newest.min(API_MAX);
    if number(theirs_min).is_some_and(|oldest| oldest > (major, minor)) {
        return Err(CallError::Version(format!(
            "the engine speaks only API {theirs_min} and newer, newer than this program"
        )));
    }
    Ok(format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_agreed_on() {
        for (theirs, theirs_min, wanted) in [
            ("1.41", "1.12", Some("1.41")),
            ("1.47", "1.24", Some("1.47")),
            ("1.60", "1.44", Some("1.51")),
            ("1.60", "1.55", None),
            ("1.40", "1.12", None),
            ("x", "", None),
        ] {
            assert_eq!(agreed(theirs, theirs_min).ok().as_deref(), wanted, "{theirs} {theirs_min}");
        }
    }
}
