//! Mistakes and broken surroundings: one line that says what, where and what to do, the right exit code,
//! nothing left behind.

use fleetfoot_sim::{App, DEFAULT_TOKEN, Endpoint, Installation, Settings, Token};

use crate::harness::{BOUND, Bed, Engine, ORG, eventually, unique};

/// Runs `fleetfoot run` on the bed's configuration, which must refuse.
async fn refused(bed: &Bed, words: &[&str], exit: i32, parts: &[&str]) {
    let config = bed.config_file();
    let run = ["run", "--config", config.to_str().unwrap()];
    let words = if words.is_empty() { &run[..] } else { words };
    let output = bed.cli(words).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{words:?}: {stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("fleetfoot: ")).collect();
    assert_eq!(lines.len(), 1, "{words:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{words:?}: no `{part}` in: {stderr}");
    }
    for trace in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
        assert!(!stderr.contains(trace), "{stderr}");
    }
    assert!(!stderr.contains(DEFAULT_TOKEN), "{stderr}");
    let summary = bed.github.summary();
    assert_eq!((summary.sessions, summary.runners), (0, 0), "{summary:?}");
    assert!(!bed.state_dir().join("control.sock").exists(), "no socket is left");
}

/// Each of these files is refused with 78 and a line that has these words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration() {
    let bed = Bed::new().await;
    let good = bed.config("", &[("one", 1)], &bed.process());
    let token = bed.path("token").display().to_string();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replace(from, to)
    };
    let url = bed.github.config_url(ORG);
    std::fs::write(bed.path("empty"), " \n").unwrap();
    let table: Vec<(&str, String, &[&str])> = vec![
        ("not YAML", "runners: [".to_owned(), &["fleetfoot.yml"]),
        ("no runners", "url: https://github.com/acme\n".to_owned(), &["runners"]),
        ("null runners", with("runners:\n", "runners: {}\nx:\n"), &["runners"]),
        ("no labels", with("    labels: [one]\n", ""), &["labels", "one"]),
        ("negative limit", with("max_runners: 1", "max_runners: -1"), &["max_runners", "^"]),
        ("wrong type", with("max_runners: 1", "max_runners: [1]"), &["max_runners", "^"]),
        ("odd name", with("  one:\n", "  \"o/n e\":\n"), &["o/n e"]),
        ("two backends", format!("{good}    docker:\n      image: x\n"), &["docker", "process"]),
        ("no URL", with(&url, ""), &["no url: set `url`"]),
        ("URL too long", with(&url, "https://github.com/a/b/c/d"), &["https://github.com/a/b/c/d"]),
        ("URL is none", with(&url, "https://:x:y/"), &["https://:x:y"]),
        ("token file missing", with(&token, "/nowhere/token"), &["/nowhere/token", "no such file"]),
        ("token file empty", with(&token, &bed.path("empty").display().to_string()), &["empty"]),
        ("token file is a directory", with(&token, "/tmp"), &["/tmp"]),
        (
            "key missing",
            with(
                "runners:\n",
                "github:\n  app:\n    id: 1\n    installation_id: 2\n    private_key_file: /nowhere/key\nrunners:\n",
            ),
            &["/nowhere/key"],
        ),
        (
            "key is none",
            with(
                "runners:\n",
                &format!(
                    "github:\n  app:\n    id: 1\n    installation_id: 2\n    private_key_file: {token}\nrunners:\n"
                ),
            ),
            &["key"],
        ),
        (
            "CA file missing",
            with("runners:\n", "github:\n  ca_file: /nowhere/ca.pem\nrunners:\n"),
            &["/nowhere/ca.pem"],
        ),
        ("listen everywhere", with("runners:\n", "listen: 0.0.0.0:0\nrunners:\n"), &["listen"]),
        ("listen nowhere", with("runners:\n", "listen: nowhere\nrunners:\n"), &["listen"]),
    ];
    for (what, text, parts) in table {
        bed.write(&text);
        eprintln!("case: {what}");
        refused(&bed, &[], 78, parts).await;
    }
}

/// Unknown keys warn; `--strict` refuses them with a suggestion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_keys() {
    let bed = Bed::new().await;
    let text = bed.config("", &[("one", 1)], &bed.process());
    bed.write(&text.replace("max_runners: 1", "max_runner: 1"));
    let config = bed.config_file();
    let words = ["run", "--strict", "--config", config.to_str().unwrap()];
    refused(&bed, &words, 78, &["max_runner", "max_runners"]).await;
    let daemon = bed.start_ready().await;
    let warned = daemon.stderr();
    assert!(warned.contains("max_runner") && warned.contains("WARN"), "{warned}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_file_and_usage() {
    let bed = Bed::new().await;
    refused(&bed, &[], 78, &["fleetfoot.yml", "o such file"]).await;
    refused(&bed, &["run", "--config", "/tmp"], 78, &["/tmp"]).await;
    refused(&bed, &["run", "--nope"], 64, &["--nope"]).await;
    refused(&bed, &["rnu"], 64, &["rnu"]).await;
    refused(&bed, &["why"], 64, &["usage"]).await;
    refused(&bed, &["why", "x", "--state-dir", "/nowhere"], 1, &["/nowhere"]).await;
    refused(&bed, &["drain", "x", "--state-dir", "/nowhere"], 1, &["/nowhere"]).await;
}

/// The state directory: not to be made, of a newer version, damaged, in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_directory() {
    let bed = Bed::new().await;
    let good = bed.config("", &[("one", 1)], &bed.process());
    let state = bed.state_dir().display().to_string();
    bed.write(&good.replace(&state, "/dev/null/state"));
    refused(&bed, &[], 1, &["/dev/null/state", "state_dir"]).await;
    bed.write(&good.replace(&state, "/proc/state"));
    refused(&bed, &[], 1, &["/proc/state", "state_dir"]).await;

    bed.write(&good);
    let first = bed.start_ready().await;
    let config = bed.config_file();
    let output = bed.cli(&["run", "--config", config.to_str().unwrap()]).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("in use by") && stderr.contains("--takeover"), "{stderr}");
    bed.queue("one", 1, 100);
    bed.all_succeeded(1, BOUND).await;
    bed.nothing_left().await;
    first.stop().await;

    let file = bed.state_dir().join("store.sqlite");
    let store = rusqlite::Connection::open(&file).unwrap();
    let newer =
        "update fleetfoot_meta set content = '9999' where name in ('schema', 'min_version')";
    let changed = store.execute(newer, []).unwrap();
    assert!(changed > 0, "the schema's rows");
    drop(store);
    let before = std::fs::read(&file).unwrap();
    refused(&bed, &[], 1, &["9999", "store.sqlite"]).await;
    assert!(before == std::fs::read(&file).unwrap(), "a newer store is not touched");

    std::fs::write(&file, "this is no database, however long it may be".repeat(100)).unwrap();
    refused(&bed, &[], 1, &["store.sqlite", "damaged"]).await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("this is no database"), "a damaged store is not overwritten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn port_in_use() {
    let bed = Bed::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    bed.write(&bed.config(&format!("listen: {address}\n"), &[("one", 1)], &bed.process()));
    refused(&bed, &[], 1, &[&address, "in use"]).await;
}

/// Starts a daemon that cannot reach GitHub as it should; the line that says so.
async fn told(bed: &Bed) -> String {
    let mut daemon = bed.start();
    let line = daemon.logs("listener failed").await;
    assert!(daemon.is_running(), "one pool's trouble ends nobody");
    eventually("the cause in status", BOUND, || async {
        let pool = bed.pool("one").await;
        let causes = pool["causes"].as_array().unwrap();
        causes.iter().any(|cause| cause["code"] == "github_unavailable").then_some(())
    })
    .await;
    let stderr = daemon.stderr();
    assert!(!stderr.contains(DEFAULT_TOKEN) && !stderr.contains("ghp_"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    daemon.stop().await;
    assert_eq!(bed.github.summary().sessions, 0);
    line["error"].as_str().unwrap().to_owned()
}

/// A token that GitHub does not know, and one that may not administer runners.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_token() {
    let settings = Settings {
        tokens: vec![Token { insufficient: true, ..Token::new("ghp_weak") }],
        ..Settings::default()
    };
    let bed = Bed::with(settings).await;
    bed.process_pools(&[("one", 1)]);
    let line = told(&bed).await;
    assert!(line.contains("401") && line.contains("token"), "{line}");
    std::fs::write(bed.path("token"), "ghp_weak").unwrap();
    let line = told(&bed).await;
    assert!(line.contains("403") && line.contains("permission"), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_refuses() {
    let bed = Bed::new().await;
    // Nobody listens there any more.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let top = format!("github:\n  proxy: http://{closed}\n");
    let text = bed.config(&top, &[("one", 1)], &bed.process());
    bed.write(&text.replace(&bed.github.url(), "https://ghes.example"));
    let line = told(&bed).await;
    assert!(line.contains(&format!("the proxy {closed} refuses the connection")), "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there() {
    let bed = Bed::new().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = bed.config("", &[("one", 1)], &bed.process());
    bed.write(&text.replace(&bed.github.url(), &format!("http://{closed}")));
    let line = told(&bed).await;
    assert!(line.contains(&closed.port().to_string()), "{line}");
}

/// A server whose certificate nobody here has signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_untrusted_certificate() {
    let bed = Bed::new().await;
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Nobody ever gets beyond the handshake.
            drop(acceptor.accept(stream).await);
        }
    });
    let text = bed.config("", &[("one", 1)], &bed.process());
    bed.write(&text.replace(&bed.github.url(), &format!("https://localhost:{port}")));
    let line = told(&bed).await;
    assert!(line.contains("certificate") && line.contains("github.ca_file"), "{line}");
}

/// An App whose machine's clock is a little off works all the same; an hour off is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_off() {
    let app = App {
        id: 7,
        client_id: "Iv1.seven".to_owned(),
        public_key_pem: None,
        installations: vec![Installation::new(42, ORG)],
    };
    let settings = Settings { app: Some(app), clock_skew_s: 240, ..Settings::default() };
    let bed = Bed::with(settings).await;
    std::fs::write(bed.path("key.pem"), crate::harness::private_key()).unwrap();
    let top = format!(
        "github:\n  app:\n    id: 7\n    installation_id: 42\n    private_key_file: {}\n",
        bed.path("key.pem").display()
    );
    let text = bed.config(&top, &[("one", 1)], &bed.process());
    let token = format!("token_file: {}\n", bed.path("token").display());
    bed.write(&text.replace(&token, ""));
    let daemon = bed.start_ready().await;
    bed.queue("one", 2, 100);
    bed.all_succeeded(2, BOUND).await;
    bed.nothing_left().await;
    daemon.stop().await;
    bed.github.change(|settings| settings.clock_skew_s = 3600);
    let line = told(&bed).await;
    assert!(line.contains("clock is 60 min behind") && line.contains("set it right"), "{line}");
}

/// The runner's directory is not there, the engine's socket is not, the image is not: the pool says so,
/// nothing ends and nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_not_there() {
    let bed = Bed::new().await;
    let process = "    process:\n      runner_dir: /nowhere/runner\n";
    let nowhere = bed.path("no.sock").display().to_string();
    let socket = format!("    docker:\n      image: x:1\n      host: unix://{nowhere}\n");
    let mut table = vec![(process.to_owned(), "/nowhere/runner")];
    if let Some(engine) = Engine::shared().await {
        let lines = engine.lines().replace("fleetfoot-e2e:runner", "fleetfoot-e2e:nosuch");
        table.push((lines, "fleetfoot-e2e:nosuch"));
    }
    // The last one: its row may outlive its daemon.
    table.push((socket, "no.sock"));
    for (lines, part) in table {
        let pool = unique("absent");
        bed.write(&bed.config("", &[(&pool, 1)], &lines));
        let mut daemon = bed.start_ready().await;
        let job = bed.queue(&pool, 1, 100)[0];
        eventually("the cause in status", BOUND, || async {
            let pool = bed.pool(&pool).await;
            pool["causes"]
                .as_array()
                .unwrap()
                .iter()
                .find(|cause| {
                    let code = cause["code"].as_str().unwrap();
                    let known = ["circuit_open", "backend_unavailable"].contains(&code);
                    known && cause["message"].as_str().unwrap().contains(part)
                })
                .map(|_| ())
        })
        .await;
        assert!(daemon.is_running());
        assert!(bed.github.cancel_job(job));
        // While an engine is away, a row waits for the proof that nothing of it is there.
        let gone = |state: &fleetfoot_sim::BoxState| state.runners.is_empty();
        bed.github.wait_until(BOUND, gone).await.unwrap();
        if part != "no.sock" {
            bed.nothing_left().await;
            // What was registered for a start that failed was removed again, each once.
            let state = bed.github.state();
            let removals = state.requests.get(&Endpoint::RemoveRunner).copied().unwrap_or(0);
            assert_eq!(removals, state.summary.runners_registered_total, "{part}");
        }
        let lines = daemon.lines();
        let told = lines.iter().find(|line| {
            line["level"] != "INFO" && line["error"].as_str().unwrap_or_default().contains(part)
        });
        assert!(told.is_some(), "no line of the log names {part}");
        daemon.stop().await;
    }
}

/// The runner's program is not there: the failure has its name, the pool waits longer each time, nothing
/// is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_is_not_there() {
    let bed = Bed::new().await;
    let lines = format!("{}      runner_cmd: ./nosuch.sh\n", bed.process());
    bed.write(&bed.config("", &[("one", 1)], &lines));
    let mut daemon = bed.start_ready().await;
    bed.queue("one", 1, 100);
    let line = daemon.logs("instance start failed").await;
    assert!(line["error"].as_str().unwrap().contains("nosuch.sh"), "{line}");
    bed.github.cancel_job(1);
    bed.nothing_left().await;
    daemon.stop().await;
}
