//! The binary as `myshoes`: its variables, its REST API, a shoes plugin made with the real go-plugin whose machines
//! are processes that run the setup script, the box as GitHub with an App.

use std::path::PathBuf;
use std::process::Output;

use base64::Engine as _;
use fleetfoot_sim::{App, BoxState, Installation, QueueJobs, Settings};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bad_input::private_key;
use crate::harness::{BOUND, Bed, Daemon, ORG, PROGRAM, component, eventually, unique};

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
    async fn told_by(daemon: &Daemon) -> Self {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_run_jobs_until_they_are_deleted() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api) = shoes.started().await;
    let organization = api.create(ORG, "nano").await;
    let repository = api.create("acme/app.one", "large").await;
    let state = shoes.sets("two scale sets", |state| state.scale_sets.len() == 2).await;
    for (set, name) in state.scale_sets.iter().zip(["myshoes-acme", "myshoes-acme-app-one"]) {
        assert_eq!((set.name.as_str(), set.disable_update), (name, true));
        let labels: Vec<_> =
            set.labels.iter().map(|it| (it.name.as_str(), it.label_type.as_str())).collect();
        assert_eq!(labels, [("self-hosted", "System"), (name, "System")]);
    }
    shoes.queue(ORG, "myshoes-acme", 4, 50);
    shoes.queue("acme/app.one", "myshoes-acme-app-one", 3, 50);
    shoes.bed.all_succeeded(7, BOUND).await;
    shoes.nothing_left().await;
    let adds: Vec<String> =
        shoes.calls().into_iter().filter(|line| line.contains(" add ")).collect();
    assert_eq!(adds.len(), 7, "{adds:?}");
    for add in &adds {
        let words: Vec<&str> = add.split(' ').collect();
        let uuid: uuid::Uuid = words[2].strip_prefix("myshoes-").unwrap().parse().unwrap();
        assert_eq!(uuid.get_version_num(), 4);
        let wanted = [("1", "scaleset,acme"), ("5", "scaleset,acme/app.one")];
        assert!(wanted.contains(&(words[3], words[4])), "{add}");
    }
    api.delete(&organization).await;
    let state = shoes.sets("one scale set", |state| state.scale_sets.len() == 1).await;
    assert_eq!(state.scale_sets[0].name, "myshoes-acme-app-one");
    api.delete(&repository).await;
    shoes.sets("no scale set", |state| state.scale_sets.is_empty()).await;
    let (status, again) =
        api.post("/target", &json!({ "scope": "ACME", "resource_type": "micro" })).await;
    assert_eq!((status, &again["id"]), (201, &organization["id"]));
    shoes.sets("the scale set again", |state| state.scale_sets.len() == 1).await;
    shoes.queue(ORG, "myshoes-acme", 1, 50);
    shoes.bed.all_succeeded(8, BOUND).await;
    shoes.nothing_left().await;
    let lines = daemon.stderr();
    assert!(lines.contains("Starting in scale set mode"), "{lines}");
    assert!(lines.contains("\"POST /target HTTP/1.1\""), "{lines}");
    assert!(!lines.contains("ghs_"), "no token is logged");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemon_and_plugin_are_killed_in_the_middle() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    shoes.sets("the scale set", |state| state.scale_sets.len() == 1).await;
    shoes.queue(ORG, "myshoes-acme", 3, 4_000);
    shoes.bed.running(3).await;
    daemon.kill().await;
    let (daemon, _) = shoes.started().await;
    // The plugin that serves now, the last one that was started, dies too.
    shoes.queue(ORG, "myshoes-acme", 2, 200);
    shoes.bed.running(4).await;
    let starts = shoes.calls();
    let last = starts.iter().rev().find_map(|line| line.strip_suffix(" start")).unwrap();
    let pid = Pid::from_raw(last.parse().unwrap()).unwrap();
    let _ = kill_process(pid, Signal::KILL).is_ok();
    shoes.bed.all_succeeded(5, BOUND).await;
    shoes.nothing_left().await;
    assert_eq!(shoes.count("add"), 5, "{:?}", shoes.calls());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn github_decides_what_may_be_a_target() {
    let Some(plugin) = plugin() else { return };
    let mut selected = Installation::new(78, "some");
    selected.repositories = Some(vec!["some/app".to_owned()]);
    let mut suspended = Installation::new(79, "asleep");
    suspended.is_suspended = true;
    let mut person = Installation::new(80, "person");
    person.is_user = true;
    let mut powerless = Installation::new(81, "powerless");
    powerless.permissions = Some([("actions".to_owned(), "read".to_owned())].into());
    // The first one's name begins as another one's.
    let all = vec![
        Installation::new(76, "acm"),
        Installation::new(77, ORG),
        selected,
        suspended,
        person,
        powerless,
    ];
    let shoes = Shoes::with(plugin, all).await;
    let (daemon, api) = shoes.started().await;
    let not_installed = "failed to check to install GitHub Apps. Are you installed?";
    let invalid = "github scope is invalid (maybe, repository is not found)";
    assert_eq!(api.refused("nobody").await, not_installed);
    assert_eq!(api.refused("some/other").await, not_installed);
    assert_eq!(api.refused("asleep").await, not_installed);
    assert_eq!(api.refused("person").await, invalid);
    assert_eq!(api.refused("acme/a/b").await, invalid);
    let runners = "failed to get list of registered runners (maybe, invalid scope or token?)";
    assert_eq!(api.refused("powerless").await, runners);
    assert!(daemon.stderr().contains("permission=organization_self_hosted_runners"));
    for scope in ["acme/app", "Some/App"] {
        api.create(scope, "nano").await;
    }
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_is_one_line_that_names_its_variable() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    for (name, value, part) in [
        ("PORT", Some("abc"), "PORT: `abc` is no port"),
        ("GITHUB_APP_ID", None, "GITHUB_APP_ID: is not set"),
        ("GITHUB_APP_SECRET", Some(""), "GITHUB_APP_SECRET: is not set"),
        ("GITHUB_PRIVATE_KEY_BASE64", Some("%%"), "GITHUB_PRIVATE_KEY_BASE64: is not base64"),
        ("GITHUB_URL", Some("ftp://x"), "GITHUB_URL: `ftp://x` is no address"),
        ("PLUGIN", Some("/does/not/exist"), "unsupported fetch schema (scheme: )"),
        ("SCALESET_MAX_RUNNERS", Some("x"), "SCALESET_MAX_RUNNERS: `x` is no whole number"),
        ("PLUGIN_SHA256", Some(&"0".repeat(64)), "PLUGIN_SHA256: "),
        ("STANDBY_PORT", Some("x"), "STANDBY_PORT: `x` is no port"),
        ("MYSQL_URL", Some("u@/d?tls=my-own"), "MYSQL_URL: `tls=my-own` cannot be used"),
    ] {
        let output = shoes.ends(name, value).await;
        let text = String::from_utf8(output.stderr).unwrap();
        let errors: Vec<&str> = text.lines().filter(|line| line.contains(part)).collect();
        assert_eq!((output.status.code(), errors.len()), (Some(1), 1), "{name}: {text}");
        assert!(!text.contains("panicked") && text.lines().count() <= 4, "{text}");
    }
    assert_eq!(shoes.calls(), Vec::<String>::new());
}

/// A server that gives out a plugin, and what it was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_downloaded_whole() {
    let Some(plugin) = plugin() else { return };
    let bytes = std::fs::read(&plugin).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut line = vec![0; 4096];
            let read = tokio::io::AsyncReadExt::read(&mut stream, &mut line).await.unwrap();
            let there = line[..read].starts_with(b"GET /files/my-shoes ");
            let status = if there { "200 OK" } else { "404 Not Found" };
            let length = if there { bytes.len() } else { 0 };
            let head = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
            );
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes[..length]).await;
        }
    });
    let shoes = Shoes::new(format!("http://{address}/files/my-shoes")).await;
    let output = shoes.ends("PLUGIN", Some(&format!("http://{address}/none"))).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("PLUGIN: failed to download") && text.contains("404"), "{text}");
    let shoes = shoes.with_variable("PLUGIN_OUTPUT", "plugins");
    std::fs::create_dir(shoes.bed.path("plugins")).unwrap();
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    shoes.sets("the scale set", |state| state.scale_sets.len() == 1).await;
    shoes.queue(ORG, "myshoes-acme", 1, 20);
    shoes.bed.all_succeeded(1, BOUND).await;
    assert!(shoes.bed.path("plugins").join("my-shoes").is_file());
    daemon.stop().await;
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_holds_and_with_none_nothing_is_polled() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await.with_variable("SCALESET_MAX_RUNNERS", "2");
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    let state = shoes
        .sets("a poll", |state| state.scale_sets.first().is_some_and(|set| set.capacity.is_some()))
        .await;
    assert_eq!(state.scale_sets[0].capacity, Some(2));
    shoes.queue(ORG, "myshoes-acme", 6, 100);
    let most = std::sync::atomic::AtomicU64::new(0);
    let done = |state: &BoxState| {
        most.fetch_max(state.summary.jobs_running, std::sync::atomic::Ordering::Relaxed);
        state.summary.jobs_completed == 6
    };
    shoes.sets("six jobs", done).await;
    assert!(most.into_inner() <= 2);
    shoes.nothing_left().await;
    daemon.stop().await;
    let sessions = shoes.bed.github.state().sessions.len();
    let shoes = Shoes { more: vec![("SCALESET_MAX_RUNNERS".to_owned(), "0".to_owned())], ..shoes };
    let (daemon, api) = shoes.started().await;
    // Its change is synchronized like the others, and none is polled.
    api.create("acme/app", "nano").await;
    let state = shoes.bed.github.state();
    assert_eq!((state.sessions.len(), state.scale_sets.len()), (sessions, 1));
    daemon.stop().await;
}

/// The original's tables, as its operator applied them.
const SCHEMA: [&str; 5] = [
    "CREATE TABLE targets (uuid VARCHAR(36) NOT NULL PRIMARY KEY, scope VARCHAR(255) NOT NULL, \
     ghe_domain VARCHAR(255), github_token TEXT NOT NULL, token_expired_at TIMESTAMP NOT NULL, \
     resource_type ENUM('nano','micro','small','medium','large','xlarge','2xlarge','3xlarge','4xlarge') NOT NULL, \
     provider_url VARCHAR(255), status VARCHAR(255) NOT NULL DEFAULT 'active', status_description VARCHAR(255), \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, \
     updated_at TIMESTAMP NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp, \
     UNIQUE KEY ghe_domain_scope (ghe_domain, scope))",
    "CREATE TABLE runners (uuid VARCHAR(36) NOT NULL PRIMARY KEY, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp)",
    "CREATE TABLE runner_detail (runner_id VARCHAR(36) NOT NULL, shoes_type VARCHAR(255) NOT NULL, \
     ip_address VARCHAR(255) NOT NULL, target_id VARCHAR(36) NOT NULL, cloud_id TEXT NOT NULL, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, \
     updated_at TIMESTAMP NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp, \
     resource_type ENUM('nano','micro','small','medium','large','xlarge','2xlarge','3xlarge','4xlarge') NOT NULL, \
     runner_user VARCHAR(255), provider_url VARCHAR(255), repository_url VARCHAR(255) NOT NULL, \
     request_webhook TEXT NOT NULL, FOREIGN KEY (runner_id) REFERENCES runners(uuid) ON DELETE RESTRICT, \
     FOREIGN KEY (target_id) REFERENCES targets(uuid) ON DELETE RESTRICT)",
    "CREATE TABLE runners_running (runner_id VARCHAR(36) NOT NULL PRIMARY KEY, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, \
     FOREIGN KEY (runner_id) REFERENCES runners(uuid) ON DELETE CASCADE)",
    "CREATE TABLE runners_deleted (runner_id VARCHAR(36) NOT NULL PRIMARY KEY, \
     created_at TIMESTAMP NOT NULL DEFAULT current_timestamp, reason VARCHAR(255) NOT NULL, \
     FOREIGN KEY (runner_id) REFERENCES runners(uuid) ON DELETE CASCADE)",
];

/// A database with the original's schema, on a server that the run has.
pub(crate) struct Database {
    pub(crate) admin: sqlx::mysql::MySqlPool,
    pub(crate) name: String,
    /// As the original's environment file has it.
    pub(crate) dsn: String,
}

impl Database {
    pub(crate) async fn new() -> Option<Self> {
        let url = component("mariadb", "FLEETFOOT_TEST_MARIADB_URL")?;
        Some(Self::at(&url).await)
    }

    /// At this server.
    pub(crate) async fn at(url: &str) -> Self {
        let name = unique("shoes_");
        let server = sqlx::mysql::MySqlPool::connect(url).await.unwrap();
        let make = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(make).execute(&server).await.unwrap();
        let (base, _) = url.rsplit_once('/').unwrap();
        let admin = sqlx::mysql::MySqlPool::connect(&format!("{base}/{name}")).await.unwrap();
        for table in SCHEMA {
            sqlx::query(table).execute(&admin).await.unwrap();
        }
        let (user, place) = base.strip_prefix("mysql://").unwrap().rsplit_once('@').unwrap();
        let dsn = format!("{user}@tcp({place})/{name}");
        Self { admin, name, dsn }
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let row = sqlx::query(sql).fetch_one(&self.admin).await.unwrap();
        sqlx::Row::get_unchecked(&row, 0)
    }

    pub(crate) async fn done(self) {
        let sql = sqlx::AssertSqlSafe(format!("DROP DATABASE {}", self.name));
        sqlx::query(sql).execute(&self.admin).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_its_own_database_one_works_and_the_next_takes_over() {
    let Some(plugin) = plugin() else { return };
    let Some(database) = Database::new().await else { return };
    let shoes = Shoes::new(plugin).await.with_variable("MYSQL_URL", &database.dsn);
    // A row that the original made, with its token.
    sqlx::query(
        "INSERT INTO targets (uuid, scope, github_token, token_expired_at, resource_type) VALUES \
         ('3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1', 'acme', 'ghs_x', '2024-01-02 03:04:05', 'small')",
    )
    .execute(&database.admin)
    .await
    .unwrap();
    let (mut first, api) = shoes.started().await;
    let target = api.create("acme/app", "nano").await;
    assert_eq!(target["token_expired_at"], "2000-01-01T00:00:00Z");
    shoes.sets("two scale sets", |state| state.scale_sets.len() == 2).await;
    shoes.queue(ORG, "myshoes-acme", 2, 30_000);
    shoes.queue("acme/app", "myshoes-acme-app", 2, 50);
    let done =
        |state: &BoxState| state.summary.jobs_completed == 2 && state.summary.jobs_running == 2;
    shoes.sets("two of four jobs", done).await;
    eventually("rows of the original", BOUND, || async {
        let alive = database.number("SELECT COUNT(*) FROM runners_running").await;
        let gone = "SELECT COUNT(*) FROM runners_deleted WHERE reason = 'completed'";
        ((alive, database.number(gone).await) == (2, 2)).then_some(())
    })
    .await;
    let small = "SELECT COUNT(*) FROM runner_detail JOIN runners_running USING (runner_id) \
         WHERE resource_type = 'small' AND cloud_id LIKE 'i-%' AND runner_user = 'root'";
    assert_eq!(database.number(small).await, 2);
    // Another one on the same database waits, on another host's state.
    let other = shoes.bed.path("other");
    let mut command = shoes.command();
    command.env("STATE_DIRECTORY", &other).env("STANDBY_PORT", "0");
    let second = shoes.bed.daemon(command);
    let health = eventually("the standby's port", BOUND, || async {
        let text = second.stderr();
        let line = text.lines().find(|line| line.contains("standby tells its health on "))?;
        let port = line.rsplit_once(':')?.1.trim().to_owned();
        Some(format!("http://127.0.0.1:{port}/healthz"))
    })
    .await;
    let answer = api.http.get(&health).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "{\"health\":\"standby\"}\n");
    eventually("the second one's wait", BOUND, || async {
        let lines = second.stderr();
        (lines.matches("start getting lock...").count() > 2).then_some(())
    })
    .await;
    assert!(!second.stderr().contains("start webserver"));
    // The lock's connection dies, as a server's restart would have it.
    let holder = format!("SELECT CAST(IS_USED_LOCK('{}') AS SIGNED)", database.name);
    let kill = format!("KILL {}", database.number(&holder).await);
    sqlx::query(sqlx::AssertSqlSafe(kill)).execute(&database.admin).await.unwrap();
    let status = first.ended(BOUND).await;
    assert_eq!(status.code(), Some(1));
    assert!(first.stderr().contains("the named lock of the database is lost"));
    let api = Api::of(&second).await;
    assert!(api.http.get(&health).send().await.is_err(), "it stands by no longer");
    let page = api.http.get(format!("{}/metrics", api.base)).send().await.unwrap();
    let page = page.text().await.unwrap();
    let running =
        "myshoes_datastore_runners_running{target_id=\"3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1\"} 2";
    assert!(page.contains(running) && page.contains("fleetfoot_info"), "{page}");
    api.delete(&target).await;
    shoes.sets("one scale set", |state| state.scale_sets.len() == 1).await;
    let running = |state: &BoxState| state.summary.jobs_running == 2;
    shoes.sets("nothing that ran was touched", running).await;
    second.stop().await;
    // What runs on is left to the next start, or to the original.
    assert_eq!(database.number("SELECT COUNT(*) FROM runners_running").await, 2);
    assert_eq!(shoes.count("add"), 4, "{:?}", shoes.calls());
    database.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_has_a_limit_and_a_mode_of_its_own() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await.with_variable("SCALESET_MAX_RUNNERS", "1");
    let (daemon, api) = shoes.started().await;
    let body = json!({ "scope": ORG, "resource_type": "nano", "max_runners": 3 });
    let (status, target) = api.post("/target", &body).await;
    assert_eq!((status, &target["max_runners"]), (201, &json!(3)), "{target}");
    let hook = json!({ "scope": "acme/hook", "resource_type": "nano", "mode": "webhook" });
    let (status, hook) = api.post("/target", &hook).await;
    assert_eq!(status, 201, "{hook}");
    let own =
        |state: &BoxState| state.scale_sets.first().is_some_and(|set| set.capacity == Some(3));
    shoes.sets("its own limit", own).await;
    shoes.queue(ORG, "myshoes-acme", 3, 2_000);
    shoes.bed.running(3).await;
    // The other one has no scale set, and both tell why.
    for words in [vec!["status"], vec!["why", "myshoes-acme-hook"]] {
        let mut command = shoes.bed.command();
        command.args(&words).env("STATE_DIRECTORY", shoes.bed.state_dir());
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("its mode is webhook"), "{words:?}: {text}");
    }
    assert_eq!(shoes.bed.github.state().scale_sets.len(), 1);
    // What was asked of GitHub is counted, by shapes of paths and by what it was for.
    let page = api.http.get(format!("{}/metrics", api.base)).send().await.unwrap();
    let page = page.text().await.unwrap();
    let path = "path=\"/api/v3/orgs/{name}/actions/runners/registration-token\"";
    for part in [
        format!("myshoes_github_api_requests_total{{{path},method=\"POST\",status_class=\"2xx\"}}"),
        "fleetfoot_github_requests_total{operation=\"get a JIT config\",method=\"POST\",status_class=\"2xx\"}"
            .to_owned(),
        "myshoes_scaleset_listener_running{target_scope=\"acme\"} 1".to_owned(),
        "fleetfoot_target_deletions_failing 0".to_owned(),
    ] {
        assert!(page.lines().any(|line| line.starts_with(&part)), "{part}\n{page}");
    }
    // Moved to a scale set and back, it gets one and loses it.
    let path = format!("/target/{}", hook["id"].as_str().unwrap());
    api.post(&path, &json!({ "scope": "acme/hook", "mode": "scaleset" })).await;
    shoes.sets("two scale sets", |state| state.scale_sets.len() == 2).await;
    api.post(&path, &json!({ "scope": "acme/hook", "mode": "webhook" })).await;
    shoes.sets("one scale set", |state| state.scale_sets.len() == 1).await;
    shoes.bed.all_succeeded(3, BOUND).await;
    shoes.nothing_left().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_set_whose_making_a_kill_cut_off_goes_with_its_target() {
    use fleetfoot_sim::{Endpoint, Fault, FaultAction};
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let github = &shoes.bed.github;
    github.inject(Fault::once(Endpoint::CreateScaleSet, FaultAction::LoseAnswer));
    github.inject(Fault::always(Endpoint::GetScaleSet, FaultAction::Cut).skip(1));
    let (daemon, api) = shoes.started().await;
    let target = api.create(ORG, "nano").await;
    shoes.sets("the scale set", |state| state.scale_sets.len() == 1).await;
    daemon.kill().await;
    // GitHub says nothing of sets when it comes back, and its target is deleted before it does.
    let (daemon, api) = shoes.started().await;
    api.delete(&target).await;
    shoes.bed.github.clear_faults();
    shoes.sets("no scale set", |state| state.scale_sets.is_empty()).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_stored_for_who_wants_them() {
    let Some(plugin) = plugin() else { return };
    let Some(database) = Database::new().await else { return };
    let shoes = Shoes::new(plugin)
        .await
        .with_variable("MYSQL_URL", &database.dsn)
        .with_variable("MYSHOES_STORE_TOKENS", "true");
    sqlx::query(
        "INSERT INTO targets (uuid, scope, github_token, token_expired_at, resource_type) VALUES \
         ('3d3ab4cd-98d8-4d2b-8a1c-0d2b44b2b0a1', 'acme', '', '2000-01-01 00:00:00', 'small')",
    )
    .execute(&database.admin)
    .await
    .unwrap();
    let (daemon, api) = shoes.started().await;
    let target = api.create("acme/app", "nano").await;
    assert_ne!(target["token_expired_at"], "2000-01-01T00:00:00Z");
    let fresh = "SELECT COUNT(*) FROM targets WHERE github_token LIKE 'ghs%' AND \
         token_expired_at > NOW() + INTERVAL 20 MINUTE";
    eventually("both tokens", BOUND, || async {
        (database.number(fresh).await == 2).then_some(())
    })
    .await;
    assert!(!daemon.stderr().contains("ghs"), "no token is logged");
    daemon.stop().await;
    database.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_reached_by_socket_and_with_parameters() {
    let Some(plugin) = plugin() else { return };
    let Some(database) = Database::new().await else { return };
    let run = async |sql: String| {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&database.admin).await.unwrap();
    };
    // Who comes by the socket is another user to the server.
    let user = unique("u");
    run(format!("CREATE USER '{user}'@'localhost' IDENTIFIED BY 'p/w@d'")).await;
    run(format!("GRANT ALL ON {}.* TO '{user}'@'localhost'", database.name)).await;
    let socket = sqlx::query("SELECT @@socket").fetch_one(&database.admin).await.unwrap();
    let socket: String = sqlx::Row::get_unchecked(&socket, 0);
    let dsn = format!(
        "{user}:p/w@d@unix({socket})/{}?parseTime=true&loc=Asia%2FTokyo&timeout=5s&tls=false",
        database.name
    );
    let shoes = Shoes::new(plugin).await.with_variable("MYSQL_URL", &dsn);
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    assert_eq!(database.number("SELECT COUNT(*) FROM targets").await, 1);
    let lines = daemon.stderr();
    assert!(lines.contains("MYSQL_URL: timeout is not used"), "{lines}");
    assert!(!lines.contains("p/w@d"), "no password is logged");
    daemon.stop().await;
    run(format!("DROP USER '{user}'@'localhost'")).await;
    database.done().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_of_a_file_and_targets_are_served_by_one_daemon() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let bed = &shoes.bed;
    // The original's environment file, but for what is written in the configuration.
    let mut lines = String::new();
    for (name, value) in shoes.command().as_std().get_envs() {
        let (name, value) = (name.to_str().unwrap(), value.unwrap_or_default().to_str().unwrap());
        let is_ours = matches!(name, "PATH" | "HOME" | "TMPDIR" | "STATE_DIRECTORY");
        if !is_ours && name != "SCALESET_ENABLED" {
            lines.push_str(&format!("{name}=\"{value}\"\n"));
        }
    }
    std::fs::write(bed.path("myshoes.env"), lines).unwrap();
    let top = format!(
        "myshoes:\n  env_file: {}\n  variables:\n    SCALESET_ENABLED: true\n    SCALESET_MAX_RUNNERS: 3\n",
        bed.path("myshoes.env").display()
    );
    let text = |limit: u32| bed.config(&top, &[("linux", limit)], &bed.process());
    bed.write(&text(1));
    let file = bed.config_file();
    let output = bed.cli(&["check", "--offline", "--config", file.to_str().unwrap()]).await;
    let checked = String::from_utf8(output.stdout).unwrap();
    let plan = "targets of myshoes: REST API on 127.0.0.1:0, plugin ";
    assert!(checked.contains(plan) && checked.contains("up to 3 each"), "{checked}");
    let start = || {
        let mut command = bed.command();
        command.current_dir(bed.path(".")).args(["run", "--config"]).arg(bed.config_file());
        bed.daemon(command)
    };
    let mut daemon = start();
    daemon.ready().await;
    let api = Api::told_by(&daemon).await;
    let target = api.create(ORG, "nano").await;
    bed.queue("linux", 1, 3_000);
    shoes.queue(ORG, "myshoes-acme", 1, 3_000);
    bed.running(2).await;
    assert_eq!(shoes.count("add"), 1);
    let session = |state: &BoxState| {
        let set = state.scale_set(ORG, "myshoes-acme").unwrap();
        state.sessions.iter().find(|it| it.scale_set_id == set.id).map(|it| it.id.clone())
    };
    let before = session(&bed.github.state());
    // Read again with another limit: the targets do not notice, and a change of a target leaves the file's alone.
    bed.write(&text(2));
    daemon.logs("configuration applied").await;
    assert_eq!(session(&bed.github.state()), before);
    let path = format!("/target/{}", target["id"].as_str().unwrap());
    api.post(&path, &json!({ "scope": ORG, "resource_type": "large" })).await;
    bed.queue("linux", 2, 50);
    shoes.queue(ORG, "myshoes-acme", 2, 50);
    bed.all_succeeded(6, BOUND).await;
    assert_eq!(session(&bed.github.state()), before);
    // A target that would have the name of a pool of the file is told of.
    let both = bed.config(&top, &[("linux", 1), ("myshoes-acme-app", 1)], &bed.process());
    bed.write(&both);
    daemon.logs_where("pool is added", |line| line["pool"] == "myshoes-acme-app").await;
    let (status, app) =
        api.post("/target", &json!({ "scope": "acme/app", "resource_type": "nano" })).await;
    assert_eq!(status, 201, "{app}");
    eventually("the reason", BOUND, || async {
        let status = bed.status().await;
        let aside = status["set_aside"].as_array()?.clone();
        aside.iter().any(|it| it["name"] == "myshoes-acme-app").then_some(())
    })
    .await;
    // Both go on after a restart.
    daemon.kill().await;
    let mut daemon = start();
    daemon.ready().await;
    bed.queue("linux", 1, 50);
    shoes.queue(ORG, "myshoes-acme", 1, 50);
    bed.all_succeeded(8, BOUND).await;
    shoes.nothing_left().await;
    daemon.stop().await;
}
