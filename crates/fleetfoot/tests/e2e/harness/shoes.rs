//! The binary as `myshoes`: its variables, its REST API, a shoes plugin made with the real go-plugin whose machines
//! are processes that run the setup script, the box as GitHub with an App.

use std::path::PathBuf;
use std::process::Output;

use base64::Engine as _;
use fleetfoot_sim::{App, BoxState, Installation, QueueJobs, Settings};
use serde_json::{Value, json};

use super::{BOUND, Bed, Daemon, ORG, PROGRAM, component, eventually};

/// A key of an App, as PEM.
pub(crate) fn private_key() -> String {
    use aws_lc_rs::encoding::AsDer as _;
    use base64::Engine as _;
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der = base64::engine::general_purpose::STANDARD.encode(key.as_der().unwrap().as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n")
}

/// The plugin's program, or `None` with a note.
pub(crate) fn plugin() -> Option<String> {
    component("shoes-plugin", "FLEETFOOT_TEST_SHOES_PLUGIN")
}

pub(crate) struct Shoes {
    pub(crate) bed: Bed,
    plugin: String,
    key: String,
    pub(crate) modes: &'static str,
    pub(crate) more: Vec<(String, String)>,
}

impl Shoes {
    pub(crate) async fn new(plugin: String) -> Self {
        Self::with(plugin, vec![Installation::new(77, ORG)]).await
    }

    pub(crate) async fn with(plugin: String, installations: Vec<Installation>) -> Self {
        Self::on(plugin, installations, Settings::default()).await
    }

    /// With a GitHub of its own kind.
    pub(crate) async fn on(
        plugin: String,
        installations: Vec<Installation>,
        settings: Settings,
    ) -> Self {
        let settings = Settings {
            app: Some(App {
                id: 4711,
                client_id: "Iv1.test".to_owned(),
                public_key_pem: None,
                installations,
            }),
            ..settings
        };
        let bed = Bed::with(settings).await;
        // A machine's runner is there already: a program of ours under the runner's name.
        let image = bed.path("image").join("runner");
        std::fs::create_dir_all(&image).unwrap();
        let run = image.join("run.sh");
        // It finds its JIT config in its environment.
        std::fs::write(&run, format!("#!/bin/bash\nexec {PROGRAM} __runner\n")).unwrap();
        let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&run, mode).unwrap();
        let key = base64::engine::general_purpose::STANDARD.encode(private_key());
        Self { bed, plugin, key, modes: "opaque-ids", more: Vec::new() }
    }

    pub(crate) fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.more.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The binary by the original's name, with an environment file of the original.
    pub(crate) fn command(&self) -> tokio::process::Command {
        let program = self.bed.path("myshoes");
        if !program.exists() {
            std::os::unix::fs::symlink(PROGRAM, &program).unwrap();
        }
        let mut command = tokio::process::Command::new(program);
        let plain = self.bed.command();
        command.current_dir(self.bed.path("."));
        command.env_clear();
        for (name, value) in plain.as_std().get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.envs([
            ("PORT", "0"),
            ("GITHUB_APP_ID", "4711"),
            ("GITHUB_APP_SECRET", "webhook"),
            ("GITHUB_PRIVATE_KEY_BASE64", &self.key),
            ("GITHUB_URL", &self.bed.github.url()),
            ("PLUGIN", &self.plugin),
            ("RUNNER_USER", "root"),
            ("RUNNER_BASE_DIRECTORY", "."),
            ("RUNNER_VERSION", "v2.330.0"),
            ("SCALESET_ENABLED", "true"),
            ("TEST_MODES", self.modes),
        ]);
        command.env("STATE_DIRECTORY", self.bed.state_dir());
        command.env("TEST_DIR", self.plugin_dir());
        command.env("TEST_IMAGE", self.bed.path("image"));
        command.envs(self.more.iter().cloned());
        command
    }

    pub(crate) fn plugin_dir(&self) -> PathBuf {
        let dir = self.bed.path("shoes");
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub(crate) fn start(&self) -> Daemon {
        self.bed.daemon(self.command())
    }

    /// A daemon, and where its API is.
    pub(crate) async fn started(&self) -> (Daemon, Api) {
        let daemon = self.start();
        let api = Api::of(&daemon).await;
        (daemon, api)
    }

    pub(crate) async fn ends(&self, name: &str, value: Option<&str>) -> Output {
        let mut command = self.command();
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
        let output = command.output();
        tokio::time::timeout(BOUND, output).await.expect("it ends").unwrap()
    }

    /// What the plugin was called for.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.plugin_dir().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn count(&self, word: &str) -> usize {
        self.calls().iter().filter(|line| line.split(' ').nth(1) == Some(word)).count()
    }

    pub(crate) fn machines(&self) -> usize {
        std::fs::read_dir(self.plugin_dir().join("machines")).map_or(0, Iterator::count)
    }

    pub(crate) fn queue(&self, scope: &str, set: &str, count: usize, duration_ms: u64) {
        self.bed.github.queue_jobs(&QueueJobs::for_scale_set(scope, set, count, duration_ms));
    }

    pub(crate) async fn sets(&self, what: &str, holds: impl Fn(&BoxState) -> bool) -> BoxState {
        let waited = self.bed.github.wait_until(BOUND, holds).await;
        waited.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Every machine is deleted, and GitHub knows no runner.
    pub(crate) async fn nothing_left(&self) {
        self.sets("no runner at GitHub", |state| state.runners.is_empty()).await;
        eventually("no machine", BOUND, || async { (self.machines() == 0).then_some(()) }).await;
    }
}

/// The REST API of a daemon.
pub(crate) struct Api {
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
}

impl Api {
    pub(crate) async fn of(daemon: &Daemon) -> Self {
        let port = eventually("the line of the web server", BOUND, || async {
            let text = daemon.stderr();
            let line = text.lines().find(|line| line.contains("start webserver on "))?;
            line.rsplit_once(':').map(|(_, port)| port.trim().to_owned())
        })
        .await;
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base: format!("http://127.0.0.1:{port}"), http }
    }

    /// The same of a daemon that logs as ours does.
    pub(crate) async fn told_by(daemon: &Daemon) -> Self {
        let base = eventually("the line of the web server", BOUND, || async {
            daemon.lines().iter().find_map(|line| {
                let address = line["message"].as_str()?.strip_prefix("start webserver on ")?;
                Some(format!("http://{address}"))
            })
        })
        .await;
        Self { base, http: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer =
            self.http.post(format!("{}{path}", self.base)).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    pub(crate) async fn create(&self, scope: &str, size: &str) -> Value {
        let (status, target) =
            self.post("/target", &json!({ "scope": scope, "resource_type": size })).await;
        assert_eq!(status, 201, "{target}");
        target
    }

    pub(crate) async fn refused(&self, scope: &str) -> String {
        let (status, answer) =
            self.post("/target", &json!({ "scope": scope, "resource_type": "nano" })).await;
        assert_eq!(status, 400, "{answer}");
        answer["error"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn delete(&self, target: &Value) {
        let path = format!("{}/target/{}", self.base, target["id"].as_str().unwrap());
        let answer = self.http.delete(path).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 204);
    }
}
