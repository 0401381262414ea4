//! Under the original's name: its command line, its file, its texts, its log lines.

use std::time::Duration;

use bollard::query_parameters::InspectContainerOptions;
use fleetfoot_sim::{DEFAULT_TOKEN, Endpoint, Fault, FaultAction, Flavor, Settings, Token};
use rustix::process::Signal;

use crate::harness::{BOUND, Bed, Daemon, Engine, ORG, eventually, unique};

/// Runs it to its end: exit status, standard output, standard error.
async fn run(bed: &Bed, words: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = bed.outrunner();
    command.args(words).envs(env.iter().copied());
    let output = tokio::time::timeout(BOUND, command.output()).await.expect("it ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn start(bed: &Bed, words: &[&str], env: &[(&str, &str)]) -> Daemon {
    let mut command = bed.outrunner();
    command.args(words).envs(env.iter().copied());
    bed.daemon(command)
}

fn original(bed: &Bed, pool: &str, lines: &str) -> String {
    format!(
        "url: {}\ntoken_file: {}\nrunners:\n  {pool}:\n    labels: [self-hosted, {pool}]\n{lines}",
        bed.github.config_url(ORG),
        bed.path("token").display()
    )
}

/// `2026-01-02 03:04:05 LEVEL message`
fn is_line(line: &str) -> bool {
    let shape: String =
        line.chars().take(20).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let rest = line.get(20..).unwrap_or_default();
    shape == "0000-00-00 00:00:00 "
        && ["INFO ", "WARN ", "ERROR "].iter().any(|level| rest.starts_with(level))
        && !rest.ends_with(' ')
}

/// Items 1 to 6, 11, 15 and 16: what is printed, and the exit status.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_and_exit_codes() {
    let bed = Bed::new().await;
    let (code, out, err) = run(&bed, &["--version"], &[]).await;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("outrunner version ") && out.lines().count() == 1, "{out}");
    let (code, out, _) = run(&bed, &["--help"], &[]).await;
    assert!(code == Some(0) && out.contains("--max-runners int"), "{out}");
    let (code, out, err) = run(&bed, &["--nope"], &[]).await;
    assert_eq!((code, out.as_str(), err.as_str()), (Some(1), "", "Error: unknown flag: --nope\n"));
    // The first word does the same as the name.
    let output = bed.cli(&["outrunner", "--version"]).await;
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("outrunner version "));

    let (code, _, err) = run(&bed, &[], &[]).await;
    let path = "/etc/outrunner/config.yml";
    let missing =
        format!("Error: load config: read config: open {path}: no such file or directory\n");
    assert_eq!((code, err), (Some(1), missing));

    let file = bed.path("o.yml").display().to_string();
    let good = original(&bed, "a", "    docker:\n      image: x\n");
    let token = format!("token_file: {}\n", bed.path("token").display());
    let no_url = good.replace(&format!("url: {}\n", bed.github.config_url(ORG)), "");
    let no_token = good.replace(&token, "");
    std::fs::write(bed.path("empty"), "\n").unwrap();
    let empty = bed.path("empty").display().to_string();
    let own = good.replace("    labels", "    token_file: /nowhere/t\n    labels");
    let none = format!(
        "Error: load config: no runners configured (uncomment the runners section in {file})\n"
    );
    let table: Vec<(&str, String, String)> = vec![
        ("{}", "runners: {}\n".to_owned(), none.clone()),
        ("absent", "url: https://github.com/a\n".to_owned(), none),
        ("labels", good.replace("    labels: [self-hosted, a]\n", ""), "Error: load config: runner \"a\": labels are required\n".to_owned()),
        ("backend", good.replace("    docker:\n      image: x\n", ""), "Error: load config: runner \"a\": must specify docker, libvirt, or tart\n".to_owned()),
        ("null", good.replace("    docker:\n      image: x\n", "    docker:\n"), "Error: load config: runner \"a\": must specify docker, libvirt, or tart\n".to_owned()),
        ("URL", no_url, "Error: runner a: no URL provided (use --url flag or url in config)\n".to_owned()),
        ("token", no_token, "Error: runner a: no token provided (use --token, GITHUB_TOKEN env var, systemd-creds, or token_file in config)\n".to_owned()),
        ("own file", own, "Error: runner a: read runner token_file \"/nowhere/t\": open /nowhere/t: no such file or directory\n".to_owned()),
    ];
    for (what, text, expected) in table {
        std::fs::write(bed.path("o.yml"), text).unwrap();
        let words: &[&str] = if what == "own file" {
            &["--config", &file, "--token", "x"]
        } else {
            &["--config", &file]
        };
        let (code, _, err) = run(&bed, words, &[]).await;
        assert_eq!((code, err.as_str()), (Some(1), expected.as_str()), "{what}");
        assert!(!bed.state_dir().join("store.sqlite").exists(), "{what} leaves nothing behind");
    }
    // What comes before the failing one is told of, as the original does.
    let second = format!(
        "{good}  b:\n    labels: [b]\n    url: https://github.com\n    docker:\n      image: x\n"
    );
    std::fs::write(bed.path("o.yml"), second).unwrap();
    let (code, out, err) = run(&bed, &["--config", &file], &[]).await;
    let url = bed.github.config_url(ORG);
    assert!(
        out.lines().last().unwrap().ends_with(&format!(" INFO Created scaleset client url={url}")),
        "{out}"
    );
    let odd = "invalid config URL, should point to an enterprise, org, or repository";
    let line = format!(
        "Error: runner b: create scaleset client: failed to parse githubConfigURL: \"https://github.com\": {odd}\n"
    );
    assert_eq!((code, err), (Some(1), line));
    // What completion scripts of the original ask.
    let (code, out, _) = run(&bed, &["__complete", "--max"], &[]).await;
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "--max-runners\tlimit for runners that set none\n:4\n")
    );
    std::fs::write(bed.path("o.yml"), &good).unwrap();
    let (code, _, err) = run(&bed, &["--config", &file], &[("DOCKER_HOST", "nowhere")]).await;
    assert!(code == Some(1) && err.starts_with("Error: runner a: docker client: "), "{err}");
    for (text, part) in [
        ("runners: [".to_owned(), "Error: load config: parse config: yaml: "),
        (good.replace(&token, &format!("token_file: {empty}\n")), &empty),
    ] {
        std::fs::write(bed.path("o.yml"), &text).unwrap();
        let (code, _, err) = run(&bed, &["--config", &file], &[]).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(
            err.starts_with("Error: ") && err.contains(part) && err.lines().count() == 1,
            "{err}"
        );
    }
    assert_eq!(bed.github.summary().scale_sets, 0, "nothing was touched");
}

/// A file of the original, a container engine found by `DOCKER_HOST`: what GitHub and the engine see, and
/// each line of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_original_with_containers() {
    let Some(engine) = Engine::shared().await else { return };
    let bed = Bed::new().await;
    let pool = unique("linux");
    // The box is on this host's loopback interface: that is the one line that no original file has.
    let lines = "    max_runners: 3\n    some_later_key: 1\n    docker:\n      image: fleetfoot-e2e:runner\n      network: host\n    tart:\n      image: y\n";
    let file = bed.path("o.yml").display().to_string();
    std::fs::write(bed.path("o.yml"), original(&bed, &pool, lines)).unwrap();
    let env = [("DOCKER_HOST", engine.address.as_str())];
    let mut daemon = start(&bed, &["--config", &file], &env);
    daemon.says("Listening for jobs").await;
    let job = bed.queue(&pool, 1, 3000)[0];
    bed.running(1).await;
    let name = bed.github.state().job(job).unwrap().runner.clone().unwrap();
    let inspect =
        engine.docker.inspect_container(&name, None::<InspectContainerOptions>).await.unwrap();
    let config = inspect.config.unwrap();
    let cmd = config.cmd.unwrap();
    assert_eq!((cmd.len(), cmd[0].as_str(), cmd[1].as_str()), (3, "./run.sh", "--jitconfig"));
    let labels = config.labels.unwrap();
    assert_eq!(labels["outrunner"], "true");
    assert_eq!(labels["outrunner.name"], name);
    assert_eq!(inspect.host_config.unwrap().auto_remove, Some(false), "removed by us");
    let state = bed.github.state();
    let set = state.scale_set(ORG, &pool).unwrap();
    assert_eq!(set.runner_group_id, 1);
    assert!(set.disable_update);
    let types: Vec<_> =
        set.labels.iter().map(|l| (l.name.as_str(), l.label_type.as_str())).collect();
    assert_eq!(types, [("self-hosted", "User"), (pool.as_str(), "User")]);
    assert_eq!(set.capacity, Some(3));
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(state.session(set.id).unwrap().owner, host);
    bed.all_succeeded(1, BOUND).await;
    engine.no_containers(&[&pool]).await;
    daemon.says("Job completed").await;
    daemon.says("Stopping runner").await;
    daemon.signal(Signal::INT);
    assert!(daemon.ended(Duration::from_secs(10)).await.success());
    assert_eq!(bed.github.summary().sessions, 0);

    let out = daemon.stdout();
    for line in out.lines() {
        assert!(is_line(line), "{line:?}");
    }
    let url = bed.github.config_url(ORG);
    let runner = state.job(job).unwrap().runner.clone().unwrap();
    let (_, digits) = runner.rsplit_once('-').unwrap();
    assert!(
        digits.len() == 8 && digits.chars().all(|c| "0123456789abcdef".contains(c)),
        "{runner}"
    );
    let id = set.id;
    for part in [
        "INFO Loaded config runners=1".to_owned(),
        format!("INFO Created scaleset client url={url}"),
        format!("INFO Looking for scale set scaleSet={pool}"),
        format!("INFO Creating scale set scaleSet={pool}"),
        format!("INFO Scale set ready scaleSet={pool} id={id}"),
        format!("INFO Listening for jobs scaleSet={pool} maxRunners=3"),
        format!(
            "INFO Spawning runner scaler.scaleSet={pool} scaler.name={runner} scaler.runnerID="
        ),
        format!(
            "INFO Container started docker.scaleSet={pool} docker.name={runner} docker.image=fleetfoot-e2e:runner docker.id="
        ),
        format!(" scaler.scaleSet={pool} scaler.name={runner}\n"),
        "INFO Runner provisioned".to_owned(),
        "several backends are given: docker, tart; `docker` is used".to_owned(),
        format!(
            "INFO Job started scaler.scaleSet={pool} scaler.runnerName={runner} scaler.requestId="
        ),
        format!(
            "INFO Job completed scaler.scaleSet={pool} scaler.runnerName={runner} scaler.result=succeeded"
        ),
        format!("INFO Stopping runner scaler.scaleSet={pool} scaler.name={runner}\n"),
        "INFO Shut down cleanly".to_owned(),
    ] {
        assert!(out.contains(&part), "no `{part}` in:\n{out}");
    }
    assert!(out.contains("some_later_key"), "an unknown key warns:\n{out}");
    assert_eq!(daemon.stderr(), "");
}

/// The next start finds its scale set again; other labels are one update, the same ones in another order
/// none; nothing is ever deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scale_set_is_kept_and_relabelled() {
    let bed = Bed::new().await;
    let file = bed.path("o.yml").display().to_string();
    let text = original(&bed, "mine", &bed.process());
    let mut ids = Vec::new();
    for (labels, updates) in
        [("self-hosted, mine", 0), ("mine, self-hosted", 0), ("mine, extra", 1), ("mine, extra", 1)]
    {
        std::fs::write(bed.path("o.yml"), text.replace("self-hosted, mine", labels)).unwrap();
        let mut daemon = start(&bed, &["--config", &file], &[]);
        daemon.says("Listening for jobs").await;
        // The default limit, in the first poll of each start.
        let polled = |state: &fleetfoot_sim::BoxState| {
            let set = state.scale_set(ORG, "mine");
            state.summary.polls > 0 && set.is_some_and(|set| set.capacity == Some(2))
        };
        bed.github.wait_until(BOUND, polled).await.unwrap();
        let state = bed.github.state();
        let set = state.scale_set(ORG, "mine").unwrap();
        ids.push(set.id);
        let asked = |endpoint| state.requests.get(&endpoint).copied().unwrap_or(0);
        assert_eq!(asked(Endpoint::UpdateScaleSet), updates, "{labels}");
        assert_eq!(asked(Endpoint::CreateScaleSet), 1);
        assert_eq!(asked(Endpoint::DeleteScaleSet), 0);
        daemon.stop().await;
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let state = bed.github.state();
    let names: Vec<_> = state.scale_sets[0].labels.iter().map(|label| &label.name).collect();
    assert_eq!(names, ["mine", "extra"]);
}

/// Signals: a clean end is logged and exits 0; the session is closed each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals() {
    let bed = Bed::new().await;
    let file = bed.path("o.yml").display().to_string();
    std::fs::write(bed.path("o.yml"), original(&bed, "mine", &bed.process())).unwrap();
    for signal in [Signal::INT, Signal::TERM] {
        let mut daemon = start(&bed, &["--config", &file], &[]);
        daemon.says("Listening for jobs").await;
        assert_eq!(bed.github.summary().sessions, 1);
        daemon.signal(signal);
        assert_eq!(daemon.ended(Duration::from_secs(10)).await.code(), Some(0));
        let out = daemon.stdout();
        assert!(out.lines().last().unwrap().ends_with(" INFO Shut down cleanly"), "{out}");
        assert!(out.contains(" INFO All runners shut down scaler.scaleSet=mine\n"), "{out}");
        assert_eq!(bed.github.summary().sessions, 0);
    }
    let hang = Fault::always(Endpoint::DeleteSession, FaultAction::Hang);
    let mut daemon = start(&bed, &["--config", &file], &[]);
    daemon.says("Listening for jobs").await;
    let before = bed.github.state().requests[&Endpoint::DeleteSession];
    bed.github.inject(hang);
    daemon.signal(Signal::TERM);
    eventually("the session is being closed", BOUND, || async {
        (bed.github.state().requests[&Endpoint::DeleteSession] > before).then_some(())
    })
    .await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(Duration::from_secs(2)).await.code(), Some(1));
}

/// What cannot be ended in time is told of in the original's words, and not as a clean end of its runners.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_runs_out_of_time() {
    let bed = Bed::new().await;
    let file = bed.path("o.yml").display().to_string();
    std::fs::write(bed.path("o.yml"), original(&bed, "mine", &bed.process())).unwrap();
    bed.github.inject(Fault::always(Endpoint::GenerateJitConfig, FaultAction::Hang));
    let mut daemon = start(&bed, &["--config", &file], &[]);
    daemon.says("Listening for jobs").await;
    bed.queue("mine", 1, 100);
    eventually("a JIT config is asked for", BOUND, || async {
        bed.github.state().requests.get(&Endpoint::GenerateJitConfig).map(|_| ())
    })
    .await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(Duration::from_secs(10)).await.code(), Some(0));
    let out = daemon.stdout();
    let line =
        " WARN Shutdown timed out, some runners may not be fully cleaned up scaler.scaleSet=mine\n";
    assert!(out.contains(line) && !out.contains("All runners shut down"), "{out}");
    // The next start ends what it left: the job is served, and nothing stays.
    bed.github.clear_faults();
    let daemon = start(&bed, &["--config", &file], &[]);
    bed.all_succeeded(1, BOUND).await;
    daemon.stop().await;
}

/// What the original's worker would have ended with stands in the line of ours that goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_worker_is_told_of_in_the_originals_words() {
    let bed = Bed::new().await;
    let file = bed.path("o.yml").display().to_string();
    let text = original(&bed, "mine", &bed.process());
    let refuse = |endpoint| bed.github.inject(Fault::once(endpoint, FaultAction::status(400)));
    let rounds: [(String, &[(Endpoint, &str)]); 2] = [
        (
            text.clone(),
            &[
                (Endpoint::GetScaleSet, "get scale set"),
                (Endpoint::CreateScaleSet, "create scale set"),
                (Endpoint::CreateSession, "create message session"),
                (Endpoint::GetMessage, "listener"),
            ],
        ),
        (
            text.replace("[self-hosted, mine]", "[other, mine]"),
            &[(Endpoint::UpdateScaleSet, "update scale set labels")],
        ),
    ];
    for (text, steps) in rounds {
        std::fs::write(bed.path("o.yml"), text).unwrap();
        steps.iter().for_each(|(endpoint, _)| refuse(*endpoint));
        let mut daemon = start(&bed, &["--config", &file], &[]);
        for (_, words) in steps {
            let line = daemon.says(&format!(" error=runner mine: {words}: ")).await;
            assert!(is_line(&line) && line.contains(" scaleSet=mine "), "{line}");
        }
        daemon.says("Listening for jobs").await;
        daemon.stop().await;
    }
}

/// The token's order: the runner's own file, the flag, the variable, the systemd credential, the file's
/// key; each taken away gives the next. The box knows one token at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_in_their_order() {
    let bed = Bed::new().await;
    let file = bed.path("o.yml").display().to_string();
    let credentials = bed.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("github-token"), " ghp_systemd\n").unwrap();
    std::fs::write(bed.path("own"), "\tghp_own \n").unwrap();
    std::fs::write(bed.path("token"), "ghp_global\n").unwrap();
    let directory = credentials.display().to_string();
    let env = [("GITHUB_TOKEN", "ghp_variable"), ("CREDENTIALS_DIRECTORY", directory.as_str())];
    let text = original(&bed, "mine", &bed.process());
    let own = format!("    token_file: {}\n    labels", bed.path("own").display());
    type Environment<'a> = &'a [(&'a str, &'a str)];
    let table: [(&str, bool, bool, Environment<'_>); 5] = [
        ("ghp_own", true, true, &env),
        ("ghp_flag", false, true, &env),
        ("ghp_variable", false, false, &env),
        ("ghp_systemd", false, false, &env[1..]),
        ("ghp_global", false, false, &[]),
    ];
    for (token, has_own, has_flag, env) in table {
        bed.github.change(|settings| settings.tokens = vec![Token::new(token)]);
        let text = if has_own { text.replacen("    labels", &own, 1) } else { text.clone() };
        std::fs::write(bed.path("o.yml"), text).unwrap();
        let mut words = vec!["--config", &file];
        if has_flag {
            words.extend(["--token", "ghp_flag"]);
        }
        let mut daemon = start(&bed, &words, env);
        daemon.says("Listening for jobs").await;
        assert!(!daemon.stdout().contains("ghp_"), "no token is logged");
        daemon.stop().await;
    }
}

/// The URL's order: the runner's own, the flag, the file's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urls_in_their_order() {
    let bed = Bed::new().await;
    let file = bed.path("o.yml").display().to_string();
    let text = original(&bed, "mine", &bed.process());
    let own = format!("    url: {}\n    labels", bed.github.config_url("own"));
    let flag = bed.github.config_url("flag");
    for (scope, has_own, has_flag) in
        [("own", true, true), ("flag", false, true), (ORG, false, false)]
    {
        let text = if has_own { text.replacen("    labels", &own, 1) } else { text.clone() };
        std::fs::write(bed.path("o.yml"), text).unwrap();
        let mut words = vec!["--config", &file, "--max-runners", "0x5"];
        if has_flag {
            words.extend(["--url", &flag]);
        }
        let mut daemon = start(&bed, &words, &[]);
        daemon.says("Listening for jobs").await;
        assert!(bed.github.state().scale_set(scope, "mine").is_some(), "{scope}");
        assert!(daemon.stdout().contains("maxRunners=5"), "the flag is the default limit");
        daemon.stop().await;
    }
}

/// Two runners with the same URL and token ask for as many registration tokens as one; with another
/// token there is one more connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_runners_share_a_connection() {
    let other = Token::new("ghp_other");
    let mut counts = Vec::new();
    for (second, own) in [(false, false), (true, false), (true, true)] {
        let settings = Settings {
            tokens: vec![Token::new(DEFAULT_TOKEN), other.clone()],
            ..Settings::default()
        };
        let bed = Bed::with(settings).await;
        std::fs::write(bed.path("other"), "ghp_other").unwrap();
        let mut text = original(&bed, "a", &bed.process());
        if second {
            text.push_str(&format!("  b:\n    labels: [b]\n{}", bed.process()));
        }
        if own {
            text.push_str(&format!("    token_file: {}\n", bed.path("other").display()));
        }
        let file = bed.path("o.yml").display().to_string();
        std::fs::write(bed.path("o.yml"), text).unwrap();
        let mut daemon = start(&bed, &["--config", &file], &[]);
        let wanted = if second { 2 } else { 1 };
        let polls = |state: &fleetfoot_sim::BoxState| state.summary.polls == wanted;
        bed.github.wait_until(BOUND, polls).await.unwrap();
        counts.push(bed.github.state().requests[&Endpoint::RegistrationToken]);
        let clients = daemon.stdout().matches("Created scaleset client").count();
        assert_eq!(clients, if own { 2 } else { 1 });
        daemon.says("Listening").await;
        daemon.stop().await;
    }
    assert_eq!(counts, [1, 1, 2]);
}

/// An enterprise server offers jobs: each offer is acquired, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offered_jobs_are_acquired() {
    let bed = Bed::with(Settings { flavor: Flavor::Ghes, ..Settings::default() }).await;
    let file = bed.path("o.yml").display().to_string();
    std::fs::write(bed.path("o.yml"), original(&bed, "mine", &bed.process())).unwrap();
    let mut daemon = start(&bed, &["--config", &file], &[]);
    daemon.says("Listening for jobs").await;
    bed.queue("mine", 1, 100);
    bed.all_succeeded(1, BOUND).await;
    assert_eq!(bed.github.state().requests[&Endpoint::AcquireJobs], 1);
    bed.queue("mine", 5, 100);
    bed.all_succeeded(6, BOUND).await;
    daemon.stop().await;
}

/// Another session holds the scale set: it is logged, and waited for, and nothing ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_conflict_is_waited_out() {
    let bed = Bed::new().await;
    let file = bed.path("o.yml").display().to_string();
    std::fs::write(bed.path("o.yml"), original(&bed, "mine", &bed.process())).unwrap();
    let mut first = start(&bed, &["--config", &file], &[]);
    first.says("Listening for jobs").await;
    let other = bed.path("other").display().to_string();
    let mut second = start(&bed, &["--config", &file], &[("STATE_DIRECTORY", &other)]);
    let line = second.says("another session holds the scale set").await;
    assert!(is_line(&line) && line.contains(" WARN "), "{line}");
    assert!(second.is_running());
    first.stop().await;
    second.says("Listening for jobs").await;
    second.stop().await;
}
