//! Listeners of targets under trouble: messages that are not for us, plugins that refuse, sessions that end, groups
//! that are not there, a GitHub that does not answer; and what the plugin's process is told and says.

use std::time::Duration;

use fleetfoot_sim::{
    BoxState, Endpoint, Expire, ExpireRequest, Fault, FaultAction, Group, Installation,
    RunnerRelease, Seen, Session, Settings, Told,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Api, BOUND, Daemon, ORG, PROGRAM, Shoes, eventually, plugin};

const SET: &str = "myshoes-acme";
/// Calls of a creation are over within ten seconds; the rest is for a busy machine.
const HANGING: Duration = Duration::from_secs(20);

async fn with_acme(shoes: &Shoes) -> (Daemon, Api, Value) {
    let (daemon, api) = shoes.started().await;
    let target = api.create(ORG, "nano").await;
    polled(shoes, 1).await;
    (daemon, api, target)
}

async fn polled(shoes: &Shoes, count: u64) {
    shoes.sets(&format!("{count} polls"), |state| state.summary.polls == count).await;
}

async fn completed(shoes: &Shoes, count: u64) -> BoxState {
    let done = |state: &BoxState| state.summary.jobs_completed == count;
    shoes.sets(&format!("{count} jobs done"), done).await
}

async fn page(api: &Api) -> String {
    let answer = api.http.get(format!("{}/metrics", api.base)).send().await.unwrap();
    answer.text().await.unwrap()
}

/// A test's word to the plugin.
fn refuse(shoes: &Shoes, call: &str, on: bool) {
    let word = shoes.plugin_dir().join(format!("refuse-{call}"));
    if on {
        std::fs::write(word, "").unwrap();
    } else {
        std::fs::remove_file(word).unwrap();
    }
}

async fn lines(daemon: &Daemon, part: &str) {
    eventually(&format!("a line with `{part}`"), BOUND, || async {
        daemon.stderr().contains(part).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plugin_inherits_what_it_needs_and_its_words_are_passed_on() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await.with_variable("TEST_WORD", "its-own");
    let (daemon, _, _) = with_acme(&shoes).await;
    shoes.queue(ORG, SET, 1, 50);
    completed(&shoes, 1).await;
    shoes.nothing_left().await;
    let calls = shoes.calls();
    let told = calls.iter().find(|line| line.contains(" told ")).unwrap();
    let directory = shoes.bed.path(".");
    let working = std::fs::canonicalize(directory).unwrap();
    let wanted = format!("told are_you_a_shoes? 1 10000-25000 [] its-own {}", working.display());
    assert!(told.ends_with(&wanted), "{told} is not {wanted}");
    // Through go-plugin's own stream, to where the plugin meant it to go.
    eventually("the plugin's words", BOUND, || async {
        let is_said = |text: String, words: &str| text.lines().any(|line| line.starts_with(words));
        let both =
            is_said(daemon.stdout(), "made i-") && is_said(daemon.stderr(), "and says so of i-");
        both.then_some(())
    })
    .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_runner_is_looked_up_at_its_scope_and_comes_from_there() {
    let Some(plugin) = plugin() else { return };
    let settings = Settings {
        runner_releases: vec![RunnerRelease::new("2.336.0", PROGRAM)],
        ..Settings::default()
    };
    let shoes = Shoes::on(plugin, vec![Installation::new(77, ORG)], settings).await;
    // Nothing is there already: the machine downloads what it was told of.
    let empty = shoes.bed.path("nothing");
    std::fs::create_dir(&empty).unwrap();
    let downloads = format!("{}/actions/runner/releases/download", shoes.bed.github.url());
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = asked.clone();
    shoes.bed.github.observe(move |seen| {
        if let Seen::Asked { endpoint: Endpoint::RunnerReleases, scope, .. } = seen {
            heard.lock().unwrap().push(scope.clone());
        }
    });
    let shoes = shoes
        .with_variable("RUNNER_VERSION", "latest")
        .with_variable("RUNNER_DOWNLOAD_URL", &downloads)
        .with_variable("TEST_IMAGE", &empty.display().to_string());
    let (daemon, _, _) = with_acme(&shoes).await;
    lines(&daemon, "runner release version=v2.336.0").await;
    shoes.queue(ORG, SET, 1, 50);
    completed(&shoes, 1).await;
    shoes.nothing_left().await;
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().any(|scope| scope.as_deref() == Some(ORG)), "{asked:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_github_that_hangs_fails_a_creation_in_time() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api) = shoes.started().await;
    let hang = |endpoint, scope: &str| {
        shoes.bed.github.inject(Fault::always(endpoint, FaultAction::Hang).scope(scope));
    };
    hang(Endpoint::RestOther, "acme/one");
    hang(Endpoint::RestGetRunners, "acme/two");
    let body = |scope: &str| json!({ "scope": scope, "resource_type": "nano" });
    let (one, two) = (body("acme/one"), body("acme/two"));
    let began = Instant::now();
    let (one, two) = tokio::join!(api.post("/target", &one), api.post("/target", &two));
    assert!(began.elapsed() < HANGING, "{:?}", began.elapsed());
    assert_eq!(one.1["error"], "github scope is invalid (maybe, repository is not found)");
    assert_eq!(
        two.1["error"],
        "failed to get list of registered runners (maybe, invalid scope or token?)"
    );
    assert_eq!((one.0, two.0), (400, 400));
    // Nobody says where the App is installed, which was asked before.
    shoes.bed.github.inject(Fault::always(Endpoint::RestOther, FaultAction::Hang));
    let began = Instant::now();
    let error = api.refused("acme/three").await;
    assert!(began.elapsed() < HANGING, "{:?}", began.elapsed());
    assert_eq!(error, "failed to check to install GitHub Apps. Are you installed?");
    // What was known is forgotten by then, as far as creations are concerned.
    shoes.bed.github.clear_faults();
    shoes.bed.github.inject(Fault::always(Endpoint::RestOther, FaultAction::Cut));
    let (status, answer) = api.post("/target", &body("acme/three")).await;
    assert_eq!((status, &answer["error"]), (500, &json!("failed to purge installation cache")));
    let health = api.http.get(format!("{}/healthz", api.base)).send().await.unwrap();
    assert_eq!(health.status().as_u16(), 200);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_set_that_is_there_is_used_and_left_there() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, _, _) = with_acme(&shoes).await;
    daemon.stop().await;
    let before = shoes.bed.github.state().scale_sets[0].id;
    // Another host with a store of its own: it did not make this one.
    let shoes = shoes.with_variable("STATE_DIRECTORY", "other");
    std::fs::create_dir(shoes.bed.path("other")).unwrap();
    // A look-up that fails is no reason to make another one.
    let failing = FaultAction::status(500);
    shoes.bed.github.inject(Fault::once(Endpoint::GetScaleSet, failing).times(3));
    let (daemon, api, target) = with_acme(&shoes).await;
    let state = shoes.bed.github.state();
    assert_eq!((state.scale_sets.len(), state.scale_sets[0].id), (1, before));
    let created = state.requests[&Endpoint::CreateScaleSet];
    assert_eq!(created, 1, "by the first one");
    shoes.queue(ORG, SET, 1, 50);
    completed(&shoes, 1).await;
    shoes.nothing_left().await;
    api.delete(&target).await;
    polled(&shoes, 0).await;
    shoes.sets("no session", |state| state.summary.sessions == 0).await;
    assert_eq!(shoes.bed.github.state().scale_sets.len(), 1, "it is not ours to delete");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completions_of_nobody_stop_no_listener() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await.with_variable("SCALESET_MAX_RUNNERS", "1");
    let (daemon, _, _) = with_acme(&shoes).await;
    let queue = |ms| {
        let jobs = fleetfoot_sim::QueueJobs::for_scale_set(ORG, SET, 1, ms);
        shoes.bed.github.queue_jobs(&jobs)[0]
    };
    let long = queue(3_000);
    shoes.bed.running(1).await;
    // Cancelled before any runner had it: a completion without a runner's name.
    let waiting = queue(50);
    shoes.sets("it is ours", |state| state.job(waiting).unwrap().assigned_us.is_some()).await;
    assert!(shoes.bed.github.cancel_job(waiting));
    completed(&shoes, 2).await;
    shoes.nothing_left().await;
    // A completion of a runner that is long gone, and one of a job that nobody knows.
    for _ in 0..2 {
        let told = Told::Completed { result: "succeeded".to_owned() };
        assert!(shoes.bed.github.tell(long, &told));
    }
    let last = queue(50);
    completed(&shoes, 3).await;
    shoes.nothing_left().await;
    let state = shoes.bed.github.state();
    assert_eq!(state.job(last).unwrap().result.as_deref(), Some("succeeded"));
    assert_eq!(state.sessions.len(), 1, "one listener all the time: {:?}", state.sessions);
    assert_eq!(shoes.count("add"), 2, "{:?}", shoes.calls());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_fails_is_repeated_while_the_listener_goes_on() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api, _) = with_acme(&shoes).await;
    refuse(&shoes, "delete", true);
    shoes.queue(ORG, SET, 1, 50);
    completed(&shoes, 1).await;
    eventually("two attempts", BOUND, || async { (shoes.count("delete") >= 2).then_some(()) })
        .await;
    shoes.queue(ORG, SET, 1, 50);
    completed(&shoes, 2).await;
    assert_eq!(shoes.machines(), 2, "both wait for their end");
    let page = page(&api).await;
    assert!(page.contains("myshoes_memory_runner_delete_retry_count{runner="), "{page}");
    refuse(&shoes, "delete", false);
    shoes.nothing_left().await;
    assert_eq!(shoes.bed.github.state().sessions.len(), 1);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_that_fails_leaves_no_registration() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api, _) = with_acme(&shoes).await;
    refuse(&shoes, "add", true);
    shoes.queue(ORG, SET, 1, 50);
    eventually("a creation", BOUND, || async { (shoes.count("add") > 0).then_some(()) }).await;
    let failed = |state: &BoxState| !state.jit_calls.is_empty() && state.runners.is_empty();
    shoes.sets("no runner at GitHub", failed).await;
    eventually("a failure that is counted", BOUND, || async {
        let name = "myshoes_scaleset_provision_errors_total{target_scope=\"acme\"} ";
        let page = page(&api).await;
        let value = page.lines().find_map(|line| line.strip_prefix(name))?.to_owned();
        (value.parse::<f64>().unwrap() >= 1.0).then_some(())
    })
    .await;
    refuse(&shoes, "add", false);
    completed(&shoes, 1).await;
    shoes.nothing_left().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_size_holds_for_the_next_machine_and_makes_no_duplicates() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api, target) = with_acme(&shoes).await;
    shoes.queue(ORG, SET, 2, 3_000);
    shoes.bed.running(2).await;
    let path = format!("/target/{}", target["id"].as_str().unwrap());
    let body = json!({ "scope": ORG, "resource_type": "xlarge", "provider_url": "https://shoes" });
    assert_eq!(api.post(&path, &body).await.0, 200);
    // Its listener is started again, with the session closed first, and what runs goes on.
    let again = |state: &BoxState| state.sessions.len() == 2 && state.summary.sessions == 1;
    let state = shoes.sets("another session", again).await;
    assert_eq!(state.summary.jobs_running, 2);
    shoes.queue(ORG, SET, 1, 50);
    completed(&shoes, 3).await;
    shoes.nothing_left().await;
    let adds: Vec<String> = shoes.calls().into_iter().filter(|it| it.contains(" add ")).collect();
    let sizes: Vec<_> = adds.iter().map(|line| line.split(' ').nth(3).unwrap()).collect();
    assert_eq!(sizes, ["1", "1", "6"], "{adds:?}");
    let state = shoes.bed.github.state();
    assert_eq!((state.sessions.len(), state.summary.jobs_started_twice), (2, 0));
    // The same again changes nothing, and a limit is told in the poll.
    assert_eq!(api.post(&path, &body).await.0, 200);
    let limit = json!({ "scope": ORG, "max_runners": 3 });
    assert_eq!(api.post(&path, &limit).await.0, 200);
    let told = |state: &BoxState| state.scale_sets[0].capacity == Some(3);
    let state = shoes.sets("the limit", told).await;
    assert_eq!(state.sessions.len(), 2, "{:?}", state.sessions);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_dies_comes_back() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api, _) = with_acme(&shoes).await;
    for round in 1..=2 {
        let all = ExpireRequest { what: Expire::Sessions, scope: None, scale_set: None };
        assert!(shoes.bed.github.expire(&all));
        let state = shoes.sets("another session", |state| state.sessions.len() > round).await;
        let owned = |it: &Session| it.owner.len() > 16 && it.owner.starts_with("myshoes-manager-");
        assert!(state.sessions.iter().all(owned), "{:?}", state.sessions);
        polled(&shoes, 1).await;
        shoes.queue(ORG, SET, 1, 50);
        completed(&shoes, u64::try_from(round).unwrap()).await;
    }
    shoes.nothing_left().await;
    eventually("the gauge of its listener", BOUND, || async {
        let up = "myshoes_scaleset_listener_running{target_scope=\"acme\"} 1\n";
        page(&api).await.contains(up).then_some(())
    })
    .await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_missing_holds_up_nobody_else() {
    let Some(plugin) = plugin() else { return };
    let group = |scope: &str| Group { scope: Some(scope.to_owned()), ..Group::new("special") };
    let settings = Settings { groups: vec![group(ORG)], ..Settings::default() };
    let installations = vec![Installation::new(77, ORG), Installation::new(78, "beta")];
    let shoes = Shoes::on(plugin, installations, settings)
        .await
        .with_variable("SCALESET_RUNNER_GROUP", "special");
    let (daemon, api) = shoes.started().await;
    api.create("beta", "nano").await;
    api.create(ORG, "nano").await;
    polled(&shoes, 1).await;
    shoes.queue(ORG, SET, 1, 50);
    completed(&shoes, 1).await;
    assert_eq!(shoes.bed.github.state().scale_sets.len(), 1);
    eventually("a line about the group", BOUND, || async {
        let said = daemon.stderr();
        let of_beta = |line: &&str| line.contains("myshoes-beta") && line.contains("special");
        said.lines().find(|line| of_beta(line)).map(|_| ())
    })
    .await;
    shoes.bed.github.change(|settings| settings.groups.push(group("beta")));
    polled(&shoes, 2).await;
    shoes.queue("beta", "myshoes-beta", 1, 50);
    completed(&shoes, 2).await;
    shoes.nothing_left().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_told_while_github_is_away() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, _, _) = with_acme(&shoes).await;
    daemon.stop().await;
    shoes.bed.github.inject(Fault::always(Endpoint::Any, FaultAction::Cut));
    let (daemon, api) = shoes.started().await;
    let began = Instant::now();
    let away = page(&api).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for line in [
        "myshoes_last_scrape_error 1",
        "myshoes_scrape_errors_total{collector=\"collect.github\"} 1",
        "myshoes_datastore_targets{resource_type=\"nano\"} 1",
        "myshoes_datastore_jobs{target_id=\"none\",runs_on=\"none\"} 0",
    ] {
        assert!(away.lines().any(|it| it == line), "{line} is not in {away}");
    }
    shoes.bed.github.clear_faults();
    polled(&shoes, 1).await;
    eventually("GitHub is back", BOUND, || async {
        page(&api).await.contains("myshoes_last_scrape_error 0\n").then_some(())
    })
    .await;
    // It goes away while we run: the same.
    shoes.bed.github.inject(Fault::always(Endpoint::Any, FaultAction::Cut));
    shoes.bed.github.cut_connections();
    eventually("GitHub is away again", BOUND, || async {
        page(&api).await.contains("myshoes_last_scrape_error 1\n").then_some(())
    })
    .await;
    shoes.bed.github.clear_faults();
    polled(&shoes, 1).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debug_lines_come_and_go_with_the_switch() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api, _) = with_acme(&shoes).await;
    shoes.queue(ORG, SET, 1, 20);
    completed(&shoes, 1).await;
    shoes.nothing_left().await;
    assert!(!daemon.stderr().contains("[DEBUG]"), "{}", daemon.stderr());
    let (status, _) = api.post("/config/debug", &json!({ "debug": true })).await;
    assert_eq!(status, 204);
    lines(&daemon, "switch debug mode to true").await;
    shoes.queue(ORG, SET, 1, 20);
    completed(&shoes, 2).await;
    shoes.nothing_left().await;
    let debug = || {
        let said = daemon.stderr();
        said.lines().filter(|line| line.contains("[DEBUG]")).map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("a debug line", BOUND, || async { (!debug().is_empty()).then_some(()) }).await;
    // After the time, which has 19 characters.
    assert!(debug().iter().all(|line| line[19..].starts_with(" [DEBUG] ")), "{:?}", debug());
    assert_eq!(api.post("/config/debug", &json!({})).await.0, 204);
    lines(&daemon, "switch debug mode to false").await;
    let before = debug().len();
    shoes.queue(ORG, SET, 1, 20);
    completed(&shoes, 3).await;
    shoes.nothing_left().await;
    assert_eq!(debug().len(), before);
    daemon.stop().await;
}
