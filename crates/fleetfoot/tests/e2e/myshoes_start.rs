//! The binary as `myshoes`: what it is started with, by its own variables or beside the pools of a file.

use fleetfoot_sim::{BoxState, Endpoint, Fault, FaultAction, Installation};
use serde_json::json;

use crate::harness::{Api, BOUND, Gateway, ORG, Shoes, eventually, plugin};

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
    shoes.bed.github.inject(Fault::once(Endpoint::AccessToken, FaultAction::status(500)));
    let body = json!({ "scope": ORG, "resource_type": "nano" });
    let (status, answer) = api.post("/target", &body).await;
    assert_eq!((status, &answer["error"]), (500, &json!("failed to generate GitHub Apps token")));
    let not_installed = "failed to check to install GitHub Apps. Are you installed?";
    let invalid = "github scope is invalid (maybe, repository is not found)";
    assert_eq!(api.refused("nobody").await, not_installed);
    assert_eq!(api.refused("some/other").await, not_installed);
    assert_eq!(api.refused("asleep").await, not_installed);
    assert_eq!(api.refused("person").await, invalid);
    assert_eq!(api.refused("acme/a/b").await, invalid);
    assert_eq!(api.refused("acme/").await, invalid);
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
        ("GITHUB_PRIVATE_KEY_BASE64", Some(NO_KEY), "GITHUB_PRIVATE_KEY_BASE64: could not sign"),
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
    let requests = shoes.bed.github.state().requests;
    assert!(requests.values().all(|count| *count == 0), "GitHub was asked: {requests:?}");
    let held = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = held.local_addr().unwrap().port();
    let output = shoes.ends("PORT", Some(&port.to_string())).await;
    let text = String::from_utf8(output.stderr).unwrap();
    let last = text.lines().last().unwrap_or_default();
    let words = format!("PORT: {port} is in use: stop the program that has it");
    assert!(output.status.code() == Some(1) && last.contains(&words), "{text}");
    // Where nothing is said it is the original's port: taken by us now, or by whoever has it on this host.
    let _taken = tokio::net::TcpListener::bind("0.0.0.0:8080").await;
    let output = shoes.ends("PORT", None).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("PORT: 8080 is in use"), "{text}");
    assert_eq!(shoes.calls(), Vec::<String>::new());
}

/// A PEM with the right name and no key in it.
const NO_KEY: &str =
    "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQpBQUFBCi0tLS0tRU5EIFJTQSBQUklWQVRFIEtFWS0tLS0tCg==";

/// A server that gives out a plugin, and what it was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_downloaded_whole() {
    let Some(plugin) = plugin() else { return };
    let bytes = std::fs::read(&plugin).unwrap();
    let whole = bytes.clone();
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
    assert_eq!(output.status.code(), Some(1), "{text}");
    let shoes = shoes.with_variable("PLUGIN_OUTPUT", "plugins");
    let plugins = shoes.bed.path("plugins");
    std::fs::create_dir(&plugins).unwrap();
    let files = || {
        let all = std::fs::read_dir(&plugins).unwrap();
        all.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let output = shoes.ends("PLUGIN_SHA256", Some(&"0".repeat(64))).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("PLUGIN_SHA256: "), "{text}");
    assert_eq!(files(), Vec::<String>::new(), "another program is not kept");
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    shoes.sets("the scale set", |state| state.scale_sets.len() == 1).await;
    shoes.queue(ORG, "myshoes-acme", 1, 20);
    shoes.bed.all_succeeded(1, BOUND).await;
    assert_eq!(files(), ["my-shoes"], "nothing is left beside it");
    let file = plugins.join("my-shoes");
    assert!(std::fs::read(&file).unwrap() == whole);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o7777, 0o755);
    daemon.stop().await;
    serving.abort();
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
    let session = |state: &BoxState, set: &str| {
        let set = state.scale_set(ORG, set).unwrap();
        let of_set = state.sessions.iter().filter(|it| it.scale_set_id == set.id);
        of_set.map(|it| (it.id.clone(), it.owner.clone())).next_back().unwrap()
    };
    let now = |set: &str| session(&bed.github.state(), set);
    let (before, of_file) = (now("myshoes-acme"), now("linux"));
    let owner = before.1.strip_prefix("myshoes-manager-");
    assert_eq!(owner, Some(of_file.1.as_str()), "each has its own habit");
    // Read again with another limit: the targets do not notice, and a change of a target leaves the file's alone.
    bed.write(&text(2));
    daemon.logs("configuration applied").await;
    assert_eq!(now("myshoes-acme"), before);
    let path = format!("/target/{}", target["id"].as_str().unwrap());
    api.post(&path, &json!({ "scope": ORG, "resource_type": "large" })).await;
    bed.queue("linux", 2, 50);
    shoes.queue(ORG, "myshoes-acme", 2, 50);
    bed.all_succeeded(6, BOUND).await;
    assert_eq!(now("linux").0, of_file.0);
    assert_ne!(now("myshoes-acme").0, before.0, "its listener was started again");
    // Debug lines come with the API's switch, whatever the file says.
    let debug = || daemon.lines().iter().any(|line| line["level"] == "DEBUG");
    assert!(!debug());
    assert_eq!(api.post("/config/debug", &json!({ "debug": true })).await.0, 204);
    shoes.queue(ORG, "myshoes-acme", 1, 20);
    bed.all_succeeded(7, BOUND).await;
    eventually("a debug line", BOUND, || async { debug().then_some(()) }).await;
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
    bed.all_succeeded(9, BOUND).await;
    shoes.nothing_left().await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_github_under_a_path_is_asked_under_it_and_nowhere_else() {
    let Some(plugin) = plugin() else { return };
    let mut selected = Installation::new(78, "some");
    selected.repositories = Some(vec!["some/app".to_owned()]);
    let shoes = Shoes::with(plugin, vec![Installation::new(77, ORG), selected]).await;
    let gateway = Gateway::start(&shoes.bed.github.url(), "/dev/git").await;
    // A slash at its end is no other address.
    let shoes = shoes.with_variable("GITHUB_URL", &format!("{}/", gateway.url));
    let (daemon, api) = shoes.started().await;
    let organization = api.create(ORG, "nano").await;
    api.create("some/app", "micro").await;
    shoes.queue(ORG, "myshoes-acme", 2, 50);
    shoes.queue("some/app", "myshoes-some-app", 1, 50);
    shoes.bed.all_succeeded(3, BOUND).await;
    shoes.nothing_left().await;
    api.delete(&organization).await;
    shoes.sets("one scale set", |state| state.scale_sets.len() == 1).await;
    assert_eq!(gateway.beside(), Vec::<String>::new());
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_and_targets_of_one_app_have_one_token() {
    use base64::Engine as _;
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let bed = &shoes.bed;
    let key = shoes.command().as_std().get_envs().find_map(|(name, value)| {
        (name == "GITHUB_PRIVATE_KEY_BASE64").then(|| value.unwrap().to_owned())
    });
    let key = base64::engine::general_purpose::STANDARD.decode(key.unwrap().as_encoded_bytes());
    std::fs::write(bed.path("app.pem"), key.unwrap()).unwrap();
    let app = format!(
        "    github:\n      app:\n        id: 4711\n        installation_id: 77\n        private_key_file: {}\n",
        bed.path("app.pem").display()
    );
    bed.write(&bed.config("", &[("linux", 1)], &format!("{app}{}", bed.process())));
    let mut command = shoes.command();
    command.arg("--config").arg(bed.config_file());
    let daemon = bed.daemon(command);
    let api = Api::of(&daemon).await;
    api.create(ORG, "nano").await;
    bed.queue("linux", 1, 50);
    shoes.queue(ORG, "myshoes-acme", 1, 50);
    bed.all_succeeded(2, BOUND).await;
    let tokens = bed.github.state().requests[&fleetfoot_sim::Endpoint::AccessToken];
    assert_eq!(tokens, 1, "both sides share it");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_needs_most_of_a_minute_is_waited_for() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await.with_variable("TEST_START_MS", "50000");
    let (daemon, api) = shoes.started().await;
    api.create(ORG, "nano").await;
    shoes.queue(ORG, "myshoes-acme", 3, 50);
    // Nobody waits with it: the API answers, and the listener polls.
    shoes.sets("a poll", |state| state.summary.polls == 1).await;
    api.create("acme/app", "nano").await;
    assert_eq!(shoes.calls(), Vec::<String>::new());
    shoes.bed.all_succeeded(3, 2 * BOUND).await;
    shoes.nothing_left().await;
    let starts = shoes.calls().iter().filter(|line| line.ends_with(" start")).count();
    assert_eq!((starts, shoes.count("add")), (1, 3), "{:?}", shoes.calls());
    daemon.stop().await;
}

/// What our API changes while the first look is under way is served as it is by then, from the first machine on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_change_during_the_first_look_are_served_as_they_are_then() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api) = shoes.started().await;
    let changed = api.create(ORG, "nano").await;
    let gone = api.create("acme/gone", "nano").await;
    shoes.sets("two polls", |state| state.summary.polls == 2).await;
    daemon.stop().await;
    let before = shoes.bed.github.state();
    let asked = |state: &BoxState| state.requests.get(&Endpoint::RestOther).copied();
    // The look reads the targets, and then it asks where the App is installed.
    shoes.bed.github.inject(Fault::always(Endpoint::Any, FaultAction::Hang));
    let (daemon, api) = shoes.started().await;
    eventually("the question", BOUND, || async {
        (asked(&shoes.bed.github.state()) > asked(&before)).then_some(())
    })
    .await;
    let path = format!("/target/{}", changed["id"].as_str().unwrap());
    let body = json!({ "scope": ORG, "resource_type": "large", "provider_url": "https://shoes" });
    assert_eq!(api.post(&path, &body).await.0, 200);
    api.delete(&gone).await;
    shoes.queue(ORG, "myshoes-acme", 1, 50);
    assert_eq!(shoes.bed.github.state().sessions.len(), before.sessions.len());
    shoes.bed.github.clear_faults();
    shoes.bed.all_succeeded(1, BOUND).await;
    shoes.nothing_left().await;
    let adds: Vec<String> = shoes.calls().into_iter().filter(|it| it.contains(" add ")).collect();
    let sizes: Vec<_> = adds.iter().map(|line| line.split(' ').nth(3).unwrap()).collect();
    assert_eq!(sizes, ["5"], "{adds:?}");
    let state = shoes.sets("one scale set", |state| state.scale_sets.len() == 1).await;
    assert_eq!(state.scale_sets[0].name, "myshoes-acme");
    // Nothing was begun for what they had been: one session, and none for the deleted one.
    let sessions = &state.sessions[before.sessions.len()..];
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(sessions[0].scale_set_id, state.scale_sets[0].id);
    daemon.stop().await;
}

/// The API is there as soon as the database is, whatever GitHub does, and a signal ends the wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_github_that_hangs_at_the_start() {
    let Some(plugin) = plugin() else { return };
    let shoes = Shoes::new(plugin).await;
    let (daemon, api) = shoes.started().await;
    let target = api.create(ORG, "nano").await;
    daemon.stop().await;
    shoes.bed.github.inject(Fault::always(Endpoint::Any, FaultAction::Hang));
    let (daemon, api) = shoes.started().await;
    let health = api.http.get(format!("{}/healthz", api.base)).send().await.unwrap();
    assert_eq!(health.status().as_u16(), 200);
    // What needs no GitHub is done.
    let path = format!("/target/{}", target["id"].as_str().unwrap());
    let (status, changed) =
        api.post(&path, &json!({ "scope": ORG, "resource_type": "large" })).await;
    assert_eq!((status, &changed["resource_type"]), (200, &json!("large")));
    assert!(!daemon.stderr().contains("failed to start listener"), "it was waited for");
    assert!(!daemon.stderr().contains("/healthz"), "probes are not in the access log");
    daemon.stop().await;
    let (daemon, api) = shoes.started().await;
    shoes.bed.github.clear_faults();
    shoes.sets("a poll", |state| state.summary.polls == 1).await;
    let page = api.http.get(format!("{}/metrics", api.base)).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("fleetfoot_info"));
    daemon.stop().await;
}
