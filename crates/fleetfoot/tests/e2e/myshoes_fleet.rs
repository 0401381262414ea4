//! Forty jobs over three targets, two organizations and a repository, on the original's database, with machines that
//! are containers where there is an engine: daemon, plugin and database are killed in the middle, a size is changed and
//! a target deleted while it is busy. Every job runs once, every machine is deleted, and the books agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fleetfoot_sim::{BoxState, Flavor, Installation, JobState, Settings};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{
    Api, BOUND, Daemon, Database, Engine, IMAGE, ORG, OwnMariaDb, Shoes, eventually, plugin,
};

const LIMIT: usize = 4;
const OTHER: &str = "beta";
const REPOSITORY: &str = "acme/app";
const SETS: [(&str, &str); 3] =
    [(ORG, "myshoes-acme"), (OTHER, "myshoes-beta"), (REPOSITORY, "myshoes-acme-app")];
/// Whoever loses the lock ends within this, and a little for the machine's load.
const LOST: Duration = Duration::from_secs(15);

struct Fleet {
    shoes: Shoes,
    server: OwnMariaDb,
    database: Database,
    engine: Option<Engine>,
    targets: BTreeMap<&'static str, Value>,
    /// Runners that GitHub knew when something was killed: the answer about a machine may be lost then, and with it
    /// the name by which a row would call it.
    under_way: BTreeSet<String>,
}

impl Fleet {
    async fn new(plugin: String, server: OwnMariaDb, flavor: Flavor) -> Self {
        let database = Database::at(&server.url()).await;
        let installations = vec![Installation::new(77, ORG), Installation::new(78, OTHER)];
        let settings = Settings { flavor, ..Settings::default() };
        let mut shoes = Shoes::on(plugin, installations, settings)
            .await
            .with_variable("MYSQL_URL", &database.dsn)
            .with_variable("SCALESET_MAX_RUNNERS", &LIMIT.to_string());
        // Machines bear their runners' names, as with most published plugins: one whose answer was lost is deleted.
        shoes.modes = "";
        let engine = Engine::shared().await;
        if let Some(engine) = &engine {
            let socket = engine.address.trim_start_matches("unix://");
            shoes = shoes
                .with_variable("TEST_DOCKER", socket)
                .with_variable("TEST_DOCKER_IMAGE", IMAGE)
                .with_variable("RUNNER_BASE_DIRECTORY", "/home");
        }
        let (targets, under_way) = (BTreeMap::new(), BTreeSet::new());
        Self { shoes, server, database, engine, targets, under_way }
    }

    fn queue(&self, scope: &str, count: usize, duration_ms: u64) {
        let (_, set) = SETS.iter().find(|(of, _)| *of == scope).unwrap();
        self.shoes.queue(scope, set, count, duration_ms);
    }

    /// Waits for GitHub to be so, and looks all the while whether a target has more busy runners than its limit.
    async fn sees(&self, what: &str, holds: impl Fn(&BoxState) -> bool) -> BoxState {
        let watched = |state: &BoxState| {
            let mut busy: BTreeMap<i64, usize> = BTreeMap::new();
            for runner in state.runners.iter().filter(|runner| runner.busy) {
                *busy.entry(runner.scale_set_id.unwrap_or_default()).or_default() += 1;
            }
            assert!(busy.values().all(|busy| *busy <= LIMIT), "{busy:?}");
            holds(state)
        };
        self.shoes.sets(what, watched).await
    }

    async fn completed(&self, count: u64) {
        let done = |state: &BoxState| state.summary.jobs_completed >= count;
        self.sees(&format!("{count} jobs done"), done).await;
    }

    fn note_runners(&mut self) {
        let runners = self.shoes.bed.github.state().runners;
        self.under_way.extend(runners.into_iter().map(|runner| runner.name));
    }

    async fn daemon_is_killed(&mut self, daemon: Daemon) -> (Daemon, Api) {
        daemon.kill().await;
        self.note_runners();
        self.shoes.started().await
    }

    /// The one that serves now, which was started last.
    fn plugin_is_killed(&mut self) {
        let calls = self.shoes.calls();
        let last = calls.iter().rev().find_map(|line| line.strip_suffix(" start")).unwrap();
        let pid = Pid::from_raw(last.parse().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        self.note_runners();
    }

    /// The daemon ends with its lock, and whoever looks after it starts it again: it waits for the database.
    async fn database_is_killed(&mut self, mut daemon: Daemon) -> (Daemon, Api) {
        self.server.kill().await;
        let status = daemon.ended(LOST).await;
        self.note_runners();
        assert_eq!(status.code(), Some(1), "{}", daemon.stderr());
        assert!(daemon.stderr().contains("the named lock of the database is lost"));
        let daemon = self.shoes.start();
        eventually("a line about the database", BOUND, || async {
            daemon.stderr().contains("is not there yet").then_some(())
        })
        .await;
        self.server.start_again().await;
        let api = Api::of(&daemon).await;
        (daemon, api)
    }

    /// Every machine, GitHub's registrations, and rows that call one alive are gone.
    async fn nothing_left(&self) {
        self.shoes.nothing_left().await;
        if let Some(engine) = &self.engine {
            let label = format!("shoes-test={}", self.shoes.plugin_dir().display());
            eventually("no container of the plugin", BOUND, || async {
                engine.labelled(&label).await.is_empty().then_some(())
            })
            .await;
        }
        eventually("no runner's row", BOUND, || async {
            let alive = self.database.number("SELECT COUNT(*) FROM runners_running").await;
            (alive == 0).then_some(())
        })
        .await;
    }

    /// Each job's runner has its rows, and they say where it ran.
    async fn rows_agree(&self) {
        let state = self.shoes.bed.github.state();
        let gone: Vec<(String, String)> = sqlx::query_as(
            "SELECT runner_detail.runner_id, targets.scope FROM runners_deleted \
             JOIN runner_detail USING (runner_id) JOIN targets ON targets.uuid = target_id \
             WHERE reason = 'completed' AND cloud_id = CONCAT('myshoes-', runner_id)",
        )
        .fetch_all(&self.database.admin)
        .await
        .unwrap();
        let gone: BTreeMap<String, String> =
            gone.into_iter().map(|(id, scope)| (format!("myshoes-{id}"), scope)).collect();
        let mut runners = BTreeSet::new();
        for job in &state.jobs {
            let runner = job.runner.clone().unwrap();
            match gone.get(&runner) {
                Some(scope) => assert_eq!(scope, &job.scope, "{runner} of job {}", job.id),
                None => assert!(self.under_way.contains(&runner), "{runner} has no row"),
            }
            assert!(runners.insert(runner), "a runner has one job");
        }
        assert_eq!(runners.len(), 40);
        let made = self.database.number("SELECT COUNT(*) FROM runners").await;
        let told = self.database.number("SELECT COUNT(*) FROM runner_detail").await;
        assert_eq!((made, told), (i64::try_from(gone.len()).unwrap(), made), "none is forgotten");
    }

    async fn metric(&self, api: &Api, name: &str) -> BTreeMap<String, f64> {
        let page = api.http.get(format!("{}/metrics", api.base)).send().await.unwrap();
        let page = page.text().await.unwrap();
        let lines = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        lines
            .map(|line| {
                let (labels, value) = line.split_once("} ").unwrap();
                (labels.to_owned(), value.parse().unwrap())
            })
            .collect()
    }
}

fn scope(scope: &str) -> String {
    format!("target_scope=\"{scope}\"")
}

async fn forty_jobs(flavor: Flavor) {
    let Some(plugin) = plugin() else { return };
    let Some(server) = OwnMariaDb::start().await else { return };
    let mut fleet = Fleet::new(plugin, server, flavor).await;
    let (daemon, api) = fleet.shoes.started().await;
    for (scope, size) in [(ORG, "nano"), (OTHER, "small"), (REPOSITORY, "micro")] {
        let target = api.create(scope, size).await;
        fleet.targets.insert(scope, target);
    }
    let limit = u32::try_from(LIMIT).unwrap();
    fleet
        .sees("three sets that are polled", |state| {
            state.scale_sets.iter().filter(|set| set.capacity == Some(limit)).count() == 3
        })
        .await;
    fleet.queue(ORG, 14, 700);
    fleet.queue(OTHER, 12, 700);
    fleet.queue(REPOSITORY, 8, 700);
    fleet.sees("some that run", |state| state.summary.jobs_running >= 4).await;
    let (daemon, api) = fleet.daemon_is_killed(daemon).await;
    fleet.completed(8).await;
    fleet.plugin_is_killed();
    fleet.completed(13).await;
    let path = format!("/target/{}", fleet.targets[ORG]["id"].as_str().unwrap());
    let larger = json!({ "scope": ORG, "resource_type": "large" });
    let (status, changed) = api.post(&path, &larger).await;
    assert_eq!((status, &changed["resource_type"]), (200, &json!("large")));
    fleet.completed(18).await;
    let (daemon, api) = fleet.database_is_killed(daemon).await;
    target_is_deleted_while_busy(&fleet, &api).await;
    fleet.completed(36).await;
    fleet.nothing_left().await;
    fleet.sees("two scale sets", |state| state.scale_sets.len() == 2).await;
    numbers_agree(&fleet, &api).await;
    fleet.shoes.bed.all_succeeded(40, BOUND).await;
    fleet.nothing_left().await;
    fleet.rows_agree().await;
    let adds = fleet.shoes.calls();
    let of_acme = |line: &&String| line.contains(" add ") && line.ends_with(" scaleset,acme");
    let last: Vec<&String> = adds.iter().filter(of_acme).rev().take(2).collect();
    assert!(last.iter().all(|line| line.split(' ').nth(3) == Some("5")), "{last:?}");
    daemon.stop().await;
    fleet.database.done().await;
}

async fn target_is_deleted_while_busy(fleet: &Fleet, api: &Api) {
    fleet.queue(REPOSITORY, 2, 4_000);
    let of_repository = |state: &BoxState, wanted: JobState| {
        let of = state.jobs.iter().filter(|job| job.scope == REPOSITORY);
        of.filter(|job| job.state == wanted).count()
    };
    fleet
        .sees("its last jobs running", |state| {
            let running = of_repository(state, JobState::Running);
            running > 0 && running + of_repository(state, JobState::Completed) == 10
        })
        .await;
    api.delete(&fleet.targets[REPOSITORY]).await;
    let status = "SELECT COUNT(*) FROM targets WHERE status = 'deleted' AND scope = 'acme/app'";
    assert_eq!(fleet.database.number(status).await, 1);
}

/// What the daemon counts from now on is what GitHub counts.
async fn numbers_agree(fleet: &Fleet, api: &Api) {
    const DONE: &str = "myshoes_scaleset_jobs_completed_total";
    let before = fleet.metric(api, DONE).await;
    fleet.queue(ORG, 2, 200);
    fleet.queue(OTHER, 2, 200);
    fleet.completed(40).await;
    fleet.nothing_left().await;
    eventually("two more jobs of each", BOUND, || async {
        let now = fleet.metric(api, DONE).await;
        let more = |of: &str| now[&scope(of)] - before.get(&scope(of)).copied().unwrap_or(0.0);
        ([more(ORG), more(OTHER)] == [2.0, 2.0]).then_some(())
    })
    .await;
    eventually("gauges at rest", BOUND, || async {
        let mut all = Vec::new();
        for name in ["desired_runners", "active_runners", "listener_running"] {
            let values = fleet.metric(api, &format!("myshoes_scaleset_{name}")).await;
            all.push([values.get(&scope(ORG)).copied(), values.get(&scope(OTHER)).copied()]);
        }
        (all == [[Some(0.0); 2], [Some(0.0); 2], [Some(1.0); 2]]).then_some(())
    })
    .await;
    let running = fleet.metric(api, "myshoes_datastore_runners_running").await;
    assert!(running.values().all(|count| *count == 0.0), "{running:?}");
    let described = fleet.metric(api, "myshoes_datastore_target_describe").await;
    assert_eq!(described.len(), 2, "a deleted target is told of no more: {described:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_jobs_at_github_com() {
    forty_jobs(Flavor::Github).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_jobs_at_an_enterprise_server() {
    forty_jobs(Flavor::Ghes).await;
}
