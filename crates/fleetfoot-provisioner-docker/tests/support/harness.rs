//! The conformance suite's view of an engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleetfoot_provisioner::conformance::proxy::{Asked, Dialect, Proxy};
use fleetfoot_provisioner::conformance::{Foreign, Harness, Play};
use fleetfoot_provisioner::{InstallationId, InstanceName, JitConfig, PoolName, Provisioner};
use fleetfoot_provisioner_docker::{DockerEngine, DockerPool, DockerProvisioner};
use serde_json::json;

use super::{IMAGE, engine, installation, pool, pool_name, raw, script};

/// What of Docker's language the proxy has to know.
const DOCKER: Dialect = Dialect { asked, cut };

fn asked(words: &[u8]) -> Asked {
    let words = String::from_utf8_lossy(words);
    match () {
        () if words.contains("/events?") => Asked::Watch,
        () if words.contains("/containers/json?") => Asked::List,
        () => Asked::Other,
    }
}

/// A little after the head, in the middle of the first chunk.
fn cut(answer: &[u8]) -> usize {
    let head = answer.windows(4).position(|it| it == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    (head + 3).min(answer.len() - 1)
}

pub struct Engine {
    kind: &'static str,
    socket: PathBuf,
    proxy: Proxy,
    _directory: tempfile::TempDir,
    engine: Arc<DockerEngine>,
    waits: bool,
}

impl Engine {
    pub async fn new(kind: &'static str, socket: PathBuf) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let proxy = Proxy::start(directory.path().join("p.sock"), &socket, DOCKER).unwrap();
        let engine = engine(proxy.socket()).await;
        super::import(&engine).await;
        Self { kind, socket, proxy, _directory: directory, engine, waits: false }
    }

    /// The same with containers that wait for their jobs.
    pub async fn waiting(kind: &'static str, socket: PathBuf) -> Self {
        Self { waits: true, ..Self::new(kind, socket).await }
    }
}

#[async_trait]
impl Harness for Engine {
    fn backend(&self) -> String {
        self.kind.to_owned()
    }

    fn installation(&self) -> InstallationId {
        installation()
    }

    fn pool(&self) -> PoolName {
        pool_name()
    }

    async fn provisioner(&self) -> Arc<dyn Provisioner> {
        let pool = DockerPool { waits: self.waits, ..pool() };
        Arc::new(DockerProvisioner::new(Arc::clone(&self.engine), pool, installation()))
    }

    fn jit(&self, play: &Play) -> JitConfig {
        script(&play.shell())
    }

    async fn create_foreign(&self, name: &InstanceName, foreign: Foreign) -> Option<()> {
        let labels = match foreign {
            Foreign::Unlabelled => json!({}),
            Foreign::OtherInstallation => json!({
                "outrunner": "true", "outrunner.name": name.as_str(),
                "fleetfoot.installation": "somebody-else", "fleetfoot.instance": name.as_str(),
            }),
        };
        let body = json!({
            "Image": IMAGE, "Cmd": ["/bin/sh", "-c", "while :; do sleep 1; done"], "Labels": labels,
            "HostConfig": { "NetworkMode": "none" },
        });
        let path = format!("/v1.41/containers/create?name={name}");
        let (status, made) = raw(&self.socket, "POST", &path, &body.to_string()).await;
        assert_eq!(status, 201, "{made}");
        let (status, told) =
            raw(&self.socket, "POST", &format!("/v1.41/containers/{name}/start"), "").await;
        assert_eq!(status, 204, "{told}");
        Some(())
    }

    async fn foreign_intact(&self, name: &InstanceName) -> bool {
        let (status, it) =
            raw(&self.socket, "GET", &format!("/v1.41/containers/{name}/json"), "").await;
        status == 200 && it["State"]["Running"] == true
    }

    async fn remove_foreign(&self, name: &InstanceName) {
        raw(&self.socket, "DELETE", &format!("/v1.41/containers/{name}?force=1&v=1"), "").await;
    }

    async fn leftovers(&self, names: &[InstanceName]) -> Vec<String> {
        let (_, all) = raw(&self.socket, "GET", "/v1.41/containers/json?all=1", "").await;
        let all = all.as_array().cloned().unwrap_or_default();
        let named = |it: &serde_json::Value| {
            names.iter().any(|name| it["Names"].to_string().contains(&format!("\"/{name}\"")))
        };
        all.iter()
            .filter(|it| named(it))
            .map(|it| format!("{} {}", it["Names"], it["Status"]))
            .collect()
    }

    async fn freeze(&self) -> bool {
        self.proxy.set_frozen(true);
        true
    }

    async fn thaw(&self) {
        self.proxy.set_frozen(false);
    }

    async fn cut_next_list(&self) -> bool {
        self.proxy.cut_next_list();
        true
    }

    async fn break_watch(&self) -> bool {
        self.proxy.break_watch();
        true
    }

    fn landing_time(&self) -> Duration {
        Duration::from_millis(1500)
    }
}
