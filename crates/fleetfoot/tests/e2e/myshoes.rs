//! The binary as `myshoes`: targets from their creation to their end, their jobs, limits and modes.

use std::os::unix::fs::PermissionsExt as _;

use fleetfoot_sim::{BoxState, QueueJobs};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::harness::{BOUND, ORG, Shoes, eventually, plugin};

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
    assert!(lines.contains(" start webserver on 0.0.0.0:"), "{lines}");
    is_access_log(lines.lines().find(|line| line.contains("POST /target ")).unwrap());
    let completed = lines.lines().find(|line| line.contains("[scaleset] job completed")).unwrap();
    assert!(completed.contains(" gh_run_id=") && completed.contains(" gh_job_id="), "{completed}");
    assert!(!lines.contains("ghs_"), "no token is logged");
    daemon.stop().await;
}

/// Local time, then who asked, when in UTC, and what.
fn is_access_log(line: &str) {
    let (at, rest) = line.split_at(19);
    jiff::civil::DateTime::strptime("%Y/%m/%d %H:%M:%S", at).expect(line);
    let (port, rest) =
        rest.strip_prefix(" HTTP - 127.0.0.1:").unwrap().split_once(" - - ").unwrap();
    assert!(port.parse::<u16>().is_ok(), "{line}");
    let (at, rest) = rest.split_at(26);
    jiff::Timestamp::strptime("%d/%b/%Y:%H:%M:%S %z", at).expect(line);
    assert!(at.ends_with(" +0000"), "{line}");
    assert_eq!(rest, " \"POST /target HTTP/1.1\"", "{line}");
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

/// SIGTERM while the plugin makes a machine: sessions are closed, and it ends in time. The next start leaves a machine
/// alone that has its job by then, and replaces one that has none, though nobody knows what became of the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_of_a_creation_is_made_up_for() {
    let Some(plugin) = plugin() else { return };
    for (boots, adds) in [(true, 1), (false, 2)] {
        let shoes = Shoes::new(plugin.clone()).await.with_variable("TEST_CALL_MS", "30000");
        let wrapper = shoes.bed.path("wrapper.sh");
        let wait = if boots { "" } else { "sleep 90" };
        std::fs::write(&wrapper, format!("#!/bin/sh\n{wait}\nexec \"$1\"\n")).unwrap();
        std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let shoes = shoes.with_variable("TEST_WRAPPER", &wrapper.display().to_string());
        let (daemon, api) = shoes.started().await;
        api.create(ORG, "nano").await;
        shoes.queue(ORG, "myshoes-acme", 1, 12_000);
        eventually("a machine", BOUND, || async { (shoes.machines() == 1).then_some(()) }).await;
        if boots {
            shoes.bed.running(1).await;
        }
        daemon.stop().await;
        let summary = shoes.bed.github.summary();
        assert_eq!((summary.sessions, summary.jobs_completed), (0, 0));
        std::fs::write(&wrapper, "#!/bin/sh\nexec \"$1\"\n").unwrap();
        let shoes = shoes.with_variable("TEST_CALL_MS", "0");
        let (daemon, _) = shoes.started().await;
        shoes.bed.all_succeeded(1, 2 * BOUND).await;
        shoes.sets("no runner at GitHub", |state| state.runners.is_empty()).await;
        // What the first call made has a name of its own that nobody was told: an operator is.
        eventually("the warning", 2 * BOUND, || async {
            daemon.stderr().contains("look whether its machine is left").then_some(())
        })
        .await;
        assert_eq!(shoes.machines(), 1);
        assert_eq!(shoes.count("add"), adds, "{:?}", shoes.calls());
        daemon.stop().await;
    }
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
    assert_eq!(shoes.count("add"), 6, "a machine a job, and none besides: {:?}", shoes.calls());
    daemon.stop().await;
    let sessions = shoes.bed.github.state().sessions.len();
    let shoes = shoes.with_variable("SCALESET_MAX_RUNNERS", "0");
    let (daemon, api) = shoes.started().await;
    // Its change is synchronized like the others, and none is polled.
    api.create("acme/app", "nano").await;
    let state = shoes.bed.github.state();
    assert_eq!((state.sessions.len(), state.scale_sets.len()), (sessions, 1));
    daemon.stop().await;
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
async fn extra_labels_are_the_scale_sets_and_the_plugins() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await.with_variable("SCALESET_EXTRA_LABELS", "linux, gpu");
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    let polls = |state: &BoxState| state.summary.polls == 1;
    let state = shoes.sets("a poll", polls).await;
    let labels = state.scale_sets[0].labels.iter();
    let labels: Vec<_> = labels.map(|it| (it.name.as_str(), it.label_type.as_str())).collect();
    let wanted = ["self-hosted", "myshoes-acme", "linux", "gpu"].map(|name| (name, "System"));
    assert_eq!(labels, wanted);
    // A job that names no scale set finds it by them.
    let words = ["self-hosted", "gpu"].map(str::to_owned).to_vec();
    shoes.bed.github.queue_jobs(&QueueJobs {
        scope: ORG.to_owned(),
        labels: words,
        count: 1,
        duration_ms: 20,
        ..QueueJobs::default()
    });
    shoes.bed.all_succeeded(1, BOUND).await;
    shoes.nothing_left().await;
    let calls = shoes.calls();
    let told = |call: &str| {
        let line = calls.iter().find(|line| line.contains(&format!(" {call} "))).unwrap();
        line.ends_with(" scaleset,acme,linux,gpu")
    };
    assert!(told("add") && told("delete"), "{calls:?}");
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
async fn with_the_switch_off_targets_are_moved_one_by_one() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    for word in [None, Some("yes"), Some("True")] {
        let output = shoes.ends("SCALESET_ENABLED", word).await;
        let text = String::from_utf8(output.stderr).unwrap();
        let told = text.contains("SCALESET_ENABLED: webhook mode is not in this version");
        assert!(told && output.status.code() == Some(1), "{word:?}: {text}");
    }
    let shoes = shoes.with_variable("SCALESET_ENABLED", "false");
    let (daemon, api) = shoes.started().await;
    let target = api.create(ORG, "nano").await;
    let first = json!({ "scope": "acme/first", "resource_type": "nano", "mode": "scaleset" });
    assert_eq!(api.post("/target", &first).await.0, 201);
    let app = |state: &BoxState| state.scale_set("acme/first", "myshoes-acme-first").is_some();
    let state = shoes.sets("the one scale set", app).await;
    assert_eq!(state.scale_sets.len(), 1, "{:?}", state.scale_sets);
    shoes.queue("acme/first", "myshoes-acme-first", 1, 50);
    shoes.bed.all_succeeded(1, BOUND).await;
    // The other one is listed as ever, and one line says why it gets nothing.
    let list = api.http.get(format!("{}/target", api.base)).send().await.unwrap();
    let list: serde_json::Value = list.json().await.unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
    let told = "[scaleset] target acme gets no machines: SCALESET_ENABLED is false";
    assert_eq!(daemon.stderr().matches(told).count(), 1, "{}", daemon.stderr());
    assert!(!daemon.stderr().contains("Starting in webhook mode"), "that would not be true");
    let path = format!("/target/{}", target["id"].as_str().unwrap());
    api.post(&path, &json!({ "scope": ORG, "mode": "scaleset" })).await;
    shoes.sets("its scale set", |state| state.scale_sets.len() == 2).await;
    api.post(&path, &json!({ "scope": ORG, "mode": "" })).await;
    shoes.sets("it goes again", |state| state.scale_sets.len() == 1).await;
    daemon.stop().await;
    // With the switch on every target that says nothing has one.
    let shoes = shoes.with_variable("SCALESET_ENABLED", "true");
    let (daemon, _) = shoes.started().await;
    shoes.sets("both scale sets", |state| state.scale_sets.len() == 2).await;
    shoes.queue(ORG, "myshoes-acme", 1, 50);
    shoes.bed.all_succeeded(2, BOUND).await;
    shoes.nothing_left().await;
    daemon.stop().await;
}
