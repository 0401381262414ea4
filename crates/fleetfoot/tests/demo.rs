//! The real binary's demonstration, box and measurements, as a visitor or a script would start them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test"
)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fleetfoot_sim::{ControlClient, QueueJobs, Ready};
use serde_json::Value;

/// What `variable` says, or `None` with a note if this run does without the component.
fn component(word: &str, variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok();
    let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|one| one == word);
    assert!(value.is_some() || !is_required, "{word} is required but {variable} is not set");
    if value.is_none() {
        eprintln!("SKIPPED: needs {word}");
    }
    value
}

/// The binary with a temporary directory of the test's own.
fn fleetfoot(temporary: &Path) -> Command {
    binary(Path::new(env!("CARGO_BIN_EXE_fleetfoot")), temporary)
}

fn binary(program: &Path, temporary: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("TMPDIR", temporary).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Processes that name this directory in their command line or environment, but for the test itself.
fn processes_of(directory: &Path) -> BTreeSet<String> {
    let mark = directory.display().to_string();
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    numbers
        .filter(|pid| pid.parse::<u32>().is_ok() && *pid != own)
        .filter_map(|pid| {
            let read = |file: &str| {
                text(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default())
            };
            let command = read("cmdline");
            (command.contains(&mark) || read("environ").contains(&mark))
                .then(|| format!("{pid} {command}"))
        })
        .collect()
}

fn assert_nothing_left(temporary: &Path) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes_of(temporary).is_empty() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(processes_of(temporary), BTreeSet::new());
    let left: Vec<_> =
        std::fs::read_dir(temporary).unwrap().flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

fn last_line(output: &Output) -> Value {
    let out = text(&output.stdout);
    let line = out.lines().last().unwrap_or_else(|| panic!("no output: {}", text(&output.stderr)));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

fn assert_good(output: &Output, jobs: u64) {
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    let line = last_line(output);
    let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["completed", "controller_kills", "jobs", "left_over", "lost", "start_ms"]);
    for (key, value) in [
        ("jobs", jobs),
        ("completed", jobs),
        ("lost", 0),
        ("left_over", 0),
        ("controller_kills", 1),
    ] {
        assert_eq!(line[key], value, "{key} of {line}");
    }
    let (p50, p95) =
        (line["start_ms"]["p50"].as_f64().unwrap(), line["start_ms"]["p95"].as_f64().unwrap());
    assert!(p50 > 0.0 && p95 >= p50, "{line}");
}

#[test]
fn the_demonstration_loses_nothing_and_leaves_nothing() {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let output = fleetfoot(temporary.path())
        .args(["demo", "--jobs", "9", "--output", "json"])
        .output()
        .unwrap();
    assert_good(&output, 9);
    assert_eq!(text(&output.stdout).lines().count(), 1, "only the result is on standard output");
    assert_nothing_left(temporary.path());
}

#[test]
fn the_demonstration_tells_people_what_it_does_in_plain_lines() {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let output = fleetfoot(temporary.path()).args(["demo", "--jobs", "4"]).output().unwrap();
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", text(&output.stderr));
    for part in [
        "GitHub in a box",
        "kill -9",
        "started again as pid",
        "lost                  0",
        "left over             0",
        "runs-on: linux",
    ] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "codes for a terminal where there is none");
}

#[test]
fn an_interrupted_demonstration_leaves_nothing() {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let mut command = fleetfoot(temporary.path());
    let mut child = command.args(["demo", "--jobs", "40"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Instances are alive once something runs.
    let running = lines.by_ref().map(Result::unwrap).any(|line| line.contains('●'));
    assert!(running, "nothing ever ran");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.starts_with("interrupted")), "{rest:?}");
    assert_nothing_left(temporary.path());
}

/// Directories that simulated worlds of a process have.
fn worlds_of(pid: u32, temporary: &Path) -> usize {
    let prefix = format!("fleetfoot-world-{pid}-");
    let found = [Path::new("/dev/shm"), temporary].into_iter().filter_map(|at| at.read_dir().ok());
    let names = found.flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&prefix)).count()
}

#[test]
fn interrupted_worlds_end_at_once_and_leave_nothing() {
    use rustix::process::{Pid, Signal, kill_process};
    for signal in [Signal::INT, Signal::TERM] {
        let temporary = tempfile::tempdir_in("/tmp").unwrap();
        let mut command = fleetfoot(temporary.path());
        // Such worlds do not end by themselves in a test's time.
        command.args(["simulate", "--threads", "2", "--hours", "5000", "--jobs", "100000"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while worlds_of(child.id(), temporary.path()) < 2 {
            assert!(Instant::now() < until, "no world ever began");
            std::thread::sleep(Duration::from_millis(20));
        }
        let pid = child.id();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        let out = text(&output.stdout);
        assert!(out.starts_with("interrupted after 0 of 100 worlds, 0 jobs"), "{out}");
        assert_eq!(out.lines().count(), 1, "{out}");
        assert_eq!(worlds_of(pid, temporary.path()), 0);
        assert_nothing_left(temporary.path());
    }
}

#[test]
fn the_demonstration_runs_in_containers_and_pulls_nothing() {
    let Some(socket) = component("docker", "FLEETFOOT_TEST_DOCKER_SOCKET") else { return };
    runs_in_containers(Path::new(env!("CARGO_BIN_EXE_fleetfoot")), &socket);
}

/// What a visitor has. The gate runs this by itself, once the release is built.
#[test]
fn the_release_build_runs_the_demonstration_in_containers() {
    let Some(program) = component("release", "FLEETFOOT_TEST_RELEASE") else { return };
    let Some(socket) = component("docker", "FLEETFOOT_TEST_DOCKER_SOCKET") else { return };
    runs_in_containers(Path::new(&program), &socket);
}

fn runs_in_containers(program: &Path, socket: &str) {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let mut command = binary(program, temporary.path());
    command.env("DOCKER_HOST", format!("unix://{socket}"));
    let output =
        command.args(["demo", "--docker", "--jobs", "8", "--output", "json"]).output().unwrap();
    assert_good(&output, 8);
    assert_nothing_left(temporary.path());
}

#[test]
fn a_demonstration_without_an_engine_says_so_in_one_line() {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let mut command = fleetfoot(temporary.path());
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let output = command.args(["demo", "--docker"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    let line = error.lines().last().unwrap_or_default();
    assert!(line.contains("/nowhere/docker.sock") && !error.contains("panicked"), "{error}");
    assert_nothing_left(temporary.path());
}

#[test]
fn a_demonstration_of_no_jobs_is_refused_as_usage() {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let output = fleetfoot(temporary.path()).args(["demo", "--jobs", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
    assert_nothing_left(temporary.path());
}

/// A `sim serve` that is ended with the test.
struct Serving(Child, Ready);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(temporary: &Path, args: &[&str]) -> Serving {
    let mut command = fleetfoot(temporary);
    let mut child =
        command.args(["sim", "serve"]).args(args).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
    Serving(child, ready)
}

#[tokio::test]
async fn a_served_box_says_where_it_is_and_answers() {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let mut serving = serve(temporary.path(), &["--org", "octo", "--lapse", "5s", "--ghes"]);
    let ready = serving.1.clone();
    assert_eq!(ready.config_url, format!("{}/octo", ready.url));
    assert_eq!(ready.pid, serving.0.id());
    let client = ControlClient::new(&ready.url);
    let settings = client.settings().await.unwrap();
    assert_eq!((settings.session_lapse_ms, settings.flavor), (5_000, fleetfoot_sim::Flavor::Ghes));
    client.queue_jobs(&QueueJobs::for_scale_set("octo", "linux", 2, 10)).await.unwrap();

    let say = |args: &[&str]| {
        let output = fleetfoot(temporary.path())
            .env("FLEETFOOT_SIM_URL", &ready.url)
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let queued: Value = serde_json::from_str(&say(&[
        "sim", "job", "--org", "octo", "--pool", "linux", "--count", "3", "--output", "json",
    ]))
    .unwrap();
    assert_eq!(queued["ids"], serde_json::json!([3, 4, 5]));
    let state: Value =
        serde_json::from_str(&say(&["sim", "state", "--summary", "--output", "json"])).unwrap();
    assert_eq!(state["jobs_queued_total"], 5);
    let fault =
        r#"{"endpoint":"generate_jit_config","times":1,"response":{"kind":"status","status":500}}"#;
    assert!(say(&["sim", "fault", fault]).contains("generate_jit_config"));
    assert_eq!(say(&["sim", "fault", "--clear"]), "no faults\n");
    say(&["sim", "expire", "admin_tokens"]);

    let pid = rustix::process::Pid::from_child(&serving.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(serving.0.wait().unwrap().success());
    let mut rest = String::new();
    serving.0.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "one line and nothing else");
}

#[test]
fn words_for_a_box_that_is_not_there_end_in_one_line() {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    for (args, part) in [
        (&["sim", "state"][..], "--box"),
        (&["sim", "state", "--box", "http://127.0.0.1:9"][..], "http://127.0.0.1:9"),
        (&["sim", "job", "--box", "http://127.0.0.1:9"][..], "--pool"),
    ] {
        let output = fleetfoot(temporary.path())
            .env_remove("FLEETFOOT_SIM_URL")
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let error = text(&output.stderr);
        assert!(error.contains(part) && error.lines().count() <= 2, "{args:?}: {error}");
    }
}

fn bench(args: &[&str]) -> Vec<Value> {
    let temporary = tempfile::tempdir_in("/tmp").unwrap();
    let mut command = fleetfoot(temporary.path());
    let output =
        command.arg("bench").args(args).args(["--quick", "--output", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let figures: Value = serde_json::from_slice(&output.stdout).expect("a list and nothing else");
    assert_nothing_left(temporary.path());
    let figures = figures.as_array().unwrap().clone();
    for figure in &figures {
        let keys: BTreeSet<&str> = figure.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, BTreeSet::from(["row", "metric", "unit", "value", "bare", "ratio", "n"]));
        assert!(
            figure["row"].is_string() && figure["metric"].is_string() && figure["unit"].is_string()
        );
        assert!(figure["value"].is_f64() && figure["n"].is_u64(), "{figure}");
        assert_eq!(figure["bare"].is_null(), figure["ratio"].is_null(), "{figure}");
    }
    figures
}

fn figure<'a>(figures: &'a [Value], metric: &str) -> &'a Value {
    figures
        .iter()
        .find(|figure| figure["metric"] == metric)
        .unwrap_or_else(|| panic!("no {metric} in {figures:?}"))
}

#[test]
fn the_start_is_measured_beside_bare_code() {
    let figures = bench(&["start", "binary"]);
    let start = figure(&figures, "queued_to_create_p50");
    assert!(
        start["value"].as_f64().unwrap() > 0.0 && start["bare"].as_f64().unwrap() > 0.0,
        "{start}"
    );
    assert_eq!(start["n"], 20);
    assert!(figure(&figures, "size")["bare"].is_null());
}

#[test]
fn a_second_start_adopts_what_runs_and_polls_soon() {
    let figures = bench(&["again"]);
    for (metric, value) in [("adopted", 5.0), ("most_at_once", 5.0), ("leaked_registrations", 0.0)]
    {
        assert_eq!(figure(&figures, metric)["value"], value, "{metric}");
    }
    // The release build has a second; a debug build among other tests only shows that nobody waits for the old session.
    assert!(figure(&figures, "first_poll")["value"].as_f64().unwrap() < 15_000.0);
}
