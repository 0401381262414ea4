//! Items 62 to 68 of the original's checklist, and what the backend does beyond them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod common;

use std::cell::RefCell;
use std::fs;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use common::{Bench, ended, jit, name, spec, state_of, until};
use fleetfoot_provisioner::conformance::Play;
use fleetfoot_provisioner::{
    EnvironmentState, ErrorKind, Handle, InstallationId, PoolName, Provisioner, Severity,
};
use fleetfoot_provisioner_tart::{JitDelivery, TartHost, TartMount, TartProvisioner};

thread_local! {
    static SAID: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is logged on this thread. One subscriber serves all of them: with one for each, a place that logs on two
/// threads at once may ask only the other's whether anybody listens.
#[derive(Clone, Copy)]
struct OfThisThread;

impl std::io::Write for OfThisThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        SAID.with_borrow_mut(|said| said.extend_from_slice(bytes));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged() -> OfThisThread {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let all = tracing_subscriber::fmt().with_ansi(false).with_writer(|| OfThisThread);
        tracing::subscriber::set_global_default(all.finish()).unwrap();
    });
    OfThisThread
}

fn text(_: &OfThisThread) -> String {
    SAID.with_borrow(|said| String::from_utf8(said.clone()).unwrap())
}

fn handle() -> Handle {
    Handle(String::new())
}

/// Item 62, and 63's options.
#[tokio::test]
async fn the_invocations_are_the_originals_in_order() {
    let bench = Bench::new();
    let mut pool = bench.pool();
    pool.jit = JitDelivery::Argument;
    let spec = spec("macos-0123abcd");
    let provisioner = bench.with(pool.clone());
    provisioner.create(&spec, None).await.unwrap();
    let credential = jit(&Play::wait().shell());
    provisioner.launch(&spec, &handle(), &credential).await.unwrap();
    until("the runner is executed", || {
        bench.calls().iter().any(|call| call.get(3).is_some_and(|word| word == "--jitconfig"))
    })
    .await;
    provisioner.delete(&spec.name).await.unwrap();
    let mut calls = bench.calls();
    // `run` and the first `exec` begin at the same time.
    calls[2..4].sort_by(|left, right| right.cmp(left));
    calls.dedup();
    let name = "macos-0123abcd";
    let wanted: [&[&str]; 7] = [
        &["clone", "base", name],
        &["set", name, "--cpu", "4", "--memory", "8192"],
        &["run", "--no-graphics", name],
        &["exec", name, "echo", "ok"],
        &["exec", name, &pool.runner_cmd, "--jitconfig", credential.expose()],
        &["stop", name],
        &["delete", name],
    ];
    assert_eq!(calls, wanted);
    assert_eq!(bench.leftovers(&[spec.name]), Vec::<String>::new());
}

#[tokio::test]
async fn by_standard_input_no_argument_holds_the_credential() {
    let bench = Bench::new();
    let spec = spec("macos-0123abcd");
    let provisioner = bench.provisioner();
    provisioner.create(&spec, None).await.unwrap();
    let credential = jit(&Play::exit(0).shell());
    provisioner.launch(&spec, &handle(), &credential).await.unwrap();
    let state = state_of(&*provisioner, &spec.name, ended).await;
    assert_eq!(
        state,
        EnvironmentState::Ended(fleetfoot_provisioner::Exit {
            code: Some(0),
            ..Default::default()
        })
    );
    let calls = format!("{:?}", bench.calls());
    assert!(!calls.contains(credential.expose()), "{calls}");
    // What ended uses nothing any more: the machine was stopped with its runner.
    assert_eq!(
        bench
            .processes_of("linux-")
            .into_iter()
            .chain(bench.processes_of("macos-"))
            .collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    provisioner.delete(&spec.name).await.unwrap();
}

/// `run.sh` ends with 0 whatever happened, unless it is told to say that it is too old.
#[tokio::test]
async fn a_runner_that_is_too_old_says_so() {
    let bench = Bench::new();
    let spec = spec("macos-0123abcd");
    let provisioner = bench.provisioner();
    provisioner.create(&spec, None).await.unwrap();
    let old = "[ \"$ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE\" = 1 ] && exit 7; exit 0";
    provisioner.launch(&spec, &handle(), &jit(old)).await.unwrap();
    let state = state_of(&*provisioner, &spec.name, ended).await;
    let EnvironmentState::Ended(exit) = state else { panic!("{state:?}") };
    assert!(exit.is_of_old_runner(), "{exit:?}");
    provisioner.delete(&spec.name).await.unwrap();
}

/// Item 63.
#[tokio::test]
async fn mounts_come_before_the_name_in_their_order() {
    let bench = Bench::new();
    let mut pool = bench.pool();
    let (one, other) = (bench.path("tmp"), bench.path("root"));
    pool.mounts = vec![
        TartMount { name: "a".into(), source: one.display().to_string(), read_only: false },
        TartMount { name: "b".into(), source: other.display().to_string(), read_only: true },
    ];
    let spec = spec("macos-0123abcd");
    let provisioner = bench.with(pool);
    provisioner.create(&spec, None).await.unwrap();
    let run = bench.calls().into_iter().find(|call| call[0] == "run").unwrap();
    let wanted = [
        "run",
        "--no-graphics",
        &format!("--dir=a:{}", one.display()),
        &format!("--dir=b:{}:ro", other.display()),
        "macos-0123abcd",
    ];
    assert_eq!(run, wanted);
    provisioner.delete(&spec.name).await.unwrap();
}

/// Item 64.
#[tokio::test]
async fn a_failing_set_deletes_the_clone() {
    let bench = Bench::new();
    bench.tell("fail-once/set", "1 Error: below the minimum");
    let spec = spec("macos-0123abcd");
    let error = bench.provisioner().create(&spec, None).await.unwrap_err();
    assert_eq!(error.message, "tart set: exit status 1: Error: below the minimum");
    assert_eq!(error.kind, ErrorKind::Instance);
    assert!(bench.calls().iter().any(|call| call[0] == "delete"));
    assert_eq!(bench.leftovers(&[spec.name]), Vec::<String>::new());
}

#[tokio::test]
async fn every_failing_command_is_named_and_leaves_nothing() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let cases = [
        ("clone", "1 Error: no such image", "tart clone: exit status 1: Error: no such image"),
        ("set", "1 Error: no", "tart set: exit status 1: Error: no"),
        ("run", "1 Error: no keychain", "tart vm exited: exit status 1: Error: no keychain"),
        (
            "exec",
            "1 Error: no agent",
            "guest agent not ready: timeout after 0s (exit status 1: Error: no agent)",
        ),
    ];
    for (index, (command, told, wanted)) in cases.into_iter().enumerate() {
        bench.tell(&format!("fail/{command}"), told);
        let spec = spec(&format!("macos-0000000{index}"));
        let host = bench.host().with_times(
            Duration::from_millis(20),
            Duration::from_millis(300),
            Duration::from_secs(5),
        );
        let failing = TartProvisioner::new(Arc::new(host), bench.pool());
        let error = failing.create(&spec, None).await.unwrap_err();
        assert_eq!(error.message, wanted);
        bench.untell(&format!("fail/{command}"));
        assert_eq!(bench.leftovers(&[spec.name]), Vec::<String>::new());
    }
    // A delete that fails is an error, and its repetition succeeds.
    let spec = spec("macos-0000000a");
    provisioner.create(&spec, None).await.unwrap();
    for command in ["stop", "delete"] {
        bench.tell(&format!("fail-once/{command}"), "1 Error: busy");
    }
    let error = provisioner.delete(&spec.name).await.unwrap_err();
    assert_eq!(error.message, "tart delete: exit status 1: Error: busy");
    assert!(provisioner.list().await.unwrap().environments.iter().any(|it| it.name == spec.name));
    provisioner.delete(&spec.name).await.unwrap();
    // One that did its work and says it did not.
    provisioner.create(&common::spec("macos-0000000b"), None).await.unwrap();
    bench.tell("fail-once-late/delete", "1 Error: late");
    provisioner.delete(&name("macos-0000000b")).await.unwrap_err();
    provisioner.delete(&name("macos-0000000b")).await.unwrap();
    assert_eq!(bench.leftovers(&[spec.name, name("macos-0000000b")]), Vec::<String>::new());
}

/// Item 65.
#[tokio::test]
async fn a_machine_that_fails_is_logged_with_its_last_words_and_a_file() {
    let lines = logged();
    let bench = Bench::new();
    bench.tell("noise", "3000");
    let spec = spec("macos-0123abcd");
    let provisioner = bench.provisioner();
    provisioner.create(&spec, None).await.unwrap();
    fs::write(bench.machine("macos-0123abcd").join("crash"), "out of luck").unwrap();
    let state = state_of(&*provisioner, &spec.name, ended).await;
    let EnvironmentState::Ended(exit) = state else { panic!("{state:?}") };
    assert_eq!(exit.code, Some(1));
    assert!(exit.message.unwrap().ends_with("out of luck"));
    let kept = bench.kept_logs();
    let [log] = kept.as_slice() else { panic!("{kept:?}") };
    let file_name = log.file_name().unwrap().to_string_lossy().into_owned();
    assert!(file_name.starts_with("outrunner-vm-macos-0123abcd-"), "{file_name}");
    let all = fs::read_to_string(log).unwrap();
    assert!(all.len() > 3000 && all.starts_with("starting") && all.trim().ends_with("out of luck"));
    let text = text(&lines);
    let line = text.lines().find(|line| line.contains("tart vm exited with error")).expect(&text);
    let tail = &all.trim()[all.trim().len() - 1000..];
    assert!(line.contains("error=\"exit status 1\"") && line.contains(tail), "{line}");
    assert!(!line.contains("starting"), "{line}");
    assert!(line.contains(&log.display().to_string()), "{line}");
    // Once, whoever looks.
    bench.provisioner().list().await.unwrap();
    provisioner.list().await.unwrap();
    assert_eq!(text.matches("exited with error").count(), 1);
    provisioner.delete(&spec.name).await.unwrap();
}

/// Item 65, the runner's part.
#[tokio::test]
async fn a_runner_that_fails_is_logged_and_a_success_leaves_no_file() {
    let lines = logged();
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    for (text, script) in
        [("macos-00000000", "echo fine >&2"), ("macos-00000003", "echo sad >&2; exit 3")]
    {
        let spec = spec(text);
        provisioner.create(&spec, None).await.unwrap();
        provisioner.launch(&spec, &handle(), &jit(script)).await.unwrap();
        state_of(&*provisioner, &spec.name, ended).await;
        provisioner.delete(&spec.name).await.unwrap();
    }
    let kept = bench.kept_logs();
    let [log] = kept.as_slice() else { panic!("{kept:?}") };
    assert!(log.display().to_string().contains("outrunner-runner-macos-00000003-"));
    let text = text(&lines);
    let line =
        text.lines().find(|line| line.contains("tart runner exited with error")).expect(&text);
    assert!(line.contains("instance=macos-00000003") && line.contains("stderr=\"sad\""), "{line}");
    assert_eq!(text.matches("exited with error").count(), 1);
}

/// Item 67.
#[tokio::test]
async fn without_a_temporary_directory_it_warns_and_runs() {
    let lines = logged();
    let bench = Bench::new();
    let host = bench.host().with_temporary_directory(bench.path("nowhere"));
    let provisioner = TartProvisioner::new(Arc::new(host), bench.pool());
    let spec = spec("macos-0123abcd");
    provisioner.create(&spec, None).await.unwrap();
    assert!(text(&lines).contains("failed to create stderr log, running without capture"));
    state_of(&provisioner, &spec.name, |state| *state == EnvironmentState::Created).await;
    provisioner.delete(&spec.name).await.unwrap();
}

/// Item 68.
#[tokio::test]
async fn only_exact_leftovers_of_the_original_are_taken_over() {
    let bench = Bench::new();
    for other in [
        "macos-0123abcd",
        "macos-runner",
        "macos-other",
        "macos-arm64-0123abcd",
        "macos-deadbeef",
        "macos-cafecafe",
    ] {
        bench.image(other, "darwin");
    }
    let host = Arc::new(bench.host());
    let mut macos = bench.pool();
    macos.image = "macos-runner".to_owned();
    let mut arm64 = bench.pool();
    // An image of that form is still an image.
    arm64.image = "macos-deadbeef".to_owned();
    let provisioner = TartProvisioner::new(Arc::clone(&host), macos);
    let _other = TartProvisioner::new(Arc::clone(&host), arm64);
    let mark = r#"{"version":1,"installation":"else","instance":"macos-cafecafe","pool":"macos"}"#;
    fs::write(bench.machine("macos-cafecafe").join("fleetfoot.json"), mark).unwrap();

    let found = provisioner.legacy(&PoolName::new("macos").unwrap()).await.unwrap();
    let names: Vec<_> = found.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["macos-0123abcd"]);
    for other in ["macos-runner", "macos-deadbeef", "macos-cafecafe", "macos-0123abcd"] {
        provisioner.delete_legacy(&name(other)).await.unwrap();
    }
    let mut left: Vec<_> = fs::read_dir(bench.home().join("vms"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let kept = [
        "base",
        "macos-arm64-0123abcd",
        "macos-cafecafe",
        "macos-deadbeef",
        "macos-other",
        "macos-runner",
    ];
    assert_eq!(left, kept);
    let others = provisioner.others().await.unwrap();
    assert_eq!(others.len(), 1);
    assert_eq!(others[0].name.as_str(), "macos-cafecafe");
}

#[tokio::test]
async fn a_third_macos_guest_is_a_matter_of_room() {
    let bench = Bench::new();
    bench.image("mac", "darwin");
    let mut pool = bench.pool();
    pool.image = "mac".to_owned();
    let provisioner = bench.with(pool);
    let specs = ["macos-00000001", "macos-00000002", "macos-00000003"].map(spec);
    for spec in &specs[..2] {
        provisioner.create(spec, None).await.unwrap();
    }
    // Known beforehand: nothing is cloned.
    let calls = bench.calls().len();
    let error = provisioner.create(&specs[2], None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoRoom, "{error}");
    assert_eq!(bench.calls().len(), calls);
    // Other guests are not counted.
    bench.provisioner().create(&spec("linux-00000001"), None).await.unwrap();
    provisioner.delete(&specs[0].name).await.unwrap();
    // A machine that is not ours takes the room: the framework says so.
    bench.image("somebodys", "darwin");
    let mut theirs = std::process::Command::new(bench.path("tart"))
        .args(["run", "--no-graphics", "somebodys"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until("it runs", || bench.machine("somebodys").join("agent").exists()).await;
    let error = provisioner.create(&specs[2], None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoRoom, "{error}");
    assert!(error.message.contains("exceeds the system limit"), "{error}");
    assert_eq!(bench.leftovers(&[specs[2].name.clone()]), Vec::<String>::new());
    bench.tart(&["stop", "somebodys"]);
    theirs.wait().unwrap();
    provisioner.create(&specs[2], None).await.unwrap();
    for name in ["macos-00000002", "macos-00000003", "linux-00000001"].map(name) {
        provisioner.delete(&name).await.unwrap();
    }
}

#[tokio::test]
async fn a_machine_lives_and_ends_without_its_daemon() {
    let bench = Bench::new();
    let (one, other) = (spec("linux-00000001"), spec("linux-00000002"));
    {
        let before = bench.provisioner();
        for spec in [&one, &other] {
            before.create(spec, None).await.unwrap();
            before.launch(spec, &handle(), &jit(&Play::wait().shell())).await.unwrap();
        }
    }
    let after = bench.provisioner();
    state_of(&*after, &one.name, |state| *state == EnvironmentState::Running).await;
    // The guest shuts itself down.
    fs::write(bench.machine("linux-00000001").join("poweroff"), "").unwrap();
    state_of(&*after, &one.name, ended).await;
    // Both keepers are killed: nobody knows any more how it ends, so it is ended.
    for job in ["vm", "runner"] {
        let pid = fs::read_to_string(bench.path("root").join(format!("linux-00000002/{job}.pid")))
            .unwrap();
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    let state = state_of(&*after, &other.name, ended).await;
    let EnvironmentState::Ended(exit) = state else { panic!("{state:?}") };
    assert!(exit.message.unwrap().contains("keeper was killed"));
    assert!(bench.tart(&["stop", "linux-00000002"]).status.code() == Some(2));
    for name in [&one.name, &other.name] {
        after.delete(name).await.unwrap();
    }
    assert_eq!(bench.leftovers(&[one.name, other.name]), Vec::<String>::new());
}

#[tokio::test]
async fn a_machine_that_does_not_listen_is_ended_by_force() {
    let bench = Bench::new();
    bench.tell("deaf", "");
    bench.tell("fail/stop", "1 Error: no");
    let host = bench.host().with_times(
        Duration::from_millis(20),
        Duration::from_secs(20),
        Duration::from_millis(300),
    );
    let provisioner = TartProvisioner::new(Arc::new(host), bench.pool());
    let spec = spec("linux-00000001");
    provisioner.create(&spec, None).await.unwrap();
    provisioner.delete(&spec.name).await.unwrap();
    assert_eq!(bench.leftovers(&[spec.name]), Vec::<String>::new());
}

#[tokio::test]
async fn a_clone_that_lands_late_is_deleted() {
    let bench = Bench::new();
    bench.tell("clone_ms", "30000");
    let spec = spec("linux-00000001");
    let provisioner = bench.provisioner();
    let created =
        tokio::time::timeout(Duration::from_millis(700), provisioner.create(&spec, None)).await;
    assert!(created.is_err());
    // As after a crash of the daemon: the clone goes on in its keeper's hands, and the list shows it.
    let after = bench.provisioner();
    state_of(&*after, &spec.name, |state| *state == EnvironmentState::Created).await;
    let begun = Instant::now();
    after.delete(&spec.name).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(bench.leftovers(&[spec.name]), Vec::<String>::new());
}

#[tokio::test]
async fn a_slow_guest_is_waited_for_and_a_frozen_program_is_no_end() {
    let bench = Bench::new();
    bench.tell("boot_ms", "400");
    let provisioner = bench.provisioner();
    provisioner.create(&spec("linux-00000001"), None).await.unwrap();
    let asked = bench.calls().iter().filter(|call| call[0] == "exec").count();
    assert!(asked > 2, "{asked}");
    bench.tell("frozen", "");
    let late = spec("linux-00000002");
    let created =
        tokio::time::timeout(Duration::from_millis(500), provisioner.create(&late, None)).await;
    assert!(created.is_err());
    bench.untell("frozen");
    provisioner.create(&late, None).await.unwrap();
    for name in ["linux-00000001", "linux-00000002"].map(name) {
        provisioner.delete(&name).await.unwrap();
    }
}

#[tokio::test]
async fn records_that_are_lost_leave_the_mark() {
    let bench = Bench::new();
    let spec = spec("linux-00000001");
    let first = bench.provisioner();
    first.create(&spec, None).await.unwrap();
    let kept = bench.path("root").join("linux-00000001");
    let aside = bench.path("aside");
    fs::rename(&kept, &aside).unwrap();
    let after = bench.provisioner();
    let listing = after.list().await.unwrap();
    assert_eq!(listing.environments.len(), 1);
    assert_eq!(listing.environments[0].state, EnvironmentState::Running);
    after.delete(&spec.name).await.unwrap();
    assert!(after.list().await.unwrap().environments.is_empty());
    assert!(!bench.machine("linux-00000001").exists());
    until("the keeper is gone", || bench.processes_of("linux-00000001").is_empty()).await;
    fs::remove_dir_all(aside).unwrap();
}

#[tokio::test]
async fn an_image_of_a_registry_is_pulled_before_it_is_needed() {
    let bench = Bench::new();
    let mut pool = bench.pool();
    pool.image = "ghcr.io/cirruslabs/ubuntu:24.04".to_owned();
    let provisioner = bench.with(pool.clone());
    let found = provisioner.check().await;
    assert!(
        found.iter().any(|it| it.severity == Severity::Warning && it.hint.contains("tart pull"))
    );
    provisioner.prepare().await.unwrap();
    provisioner.prepare().await.unwrap();
    assert_eq!(bench.calls().iter().filter(|call| call[0] == "pull").count(), 1);
    assert!(!provisioner.check().await.iter().any(|it| it.hint.contains("tart pull")));
    let spec = spec("linux-00000001");
    provisioner.create(&spec, None).await.unwrap();
    provisioner.delete(&spec.name).await.unwrap();
    pool.image = "ghcr.io/cirruslabs/missing:1".to_owned();
    let error = bench.with(pool).prepare().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Instance);
}

#[tokio::test]
async fn check_names_what_is_missing_and_the_remedy() {
    let bench = Bench::new();
    let keeper = env!("CARGO_BIN_EXE_fleetfoot-tart-keeper").into();
    let host =
        TartHost::open(&bench.path("root"), InstallationId::new("i").unwrap(), keeper, "fleetfoot")
            .unwrap()
            .with_tart("no-such-tart".into(), bench.home());
    let mut pool = bench.pool();
    pool.image = "nothing".to_owned();
    pool.jit = JitDelivery::Argument;
    pool.mounts =
        vec![TartMount { name: "m".into(), source: "/nowhere/at/all".into(), read_only: false }];
    let found = TartProvisioner::new(Arc::new(host), pool).check().await;
    let text: Vec<String> = found.iter().map(|it| format!("{}: {}", it.message, it.hint)).collect();
    assert_eq!(found.len(), 4, "{text:#?}");
    assert!(text[0].contains("`tart` is not in PATH") && text[0].contains("brew install"));
    assert!(text[1].contains("no local machine `nothing`"));
    assert!(text[2].contains("/nowhere/at/all"));
    assert!(text[3].contains("jit: stdin"));
}
