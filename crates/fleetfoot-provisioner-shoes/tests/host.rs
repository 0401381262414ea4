//! The host against a plugin made with the real go-plugin and grpc-go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

#[allow(dead_code)]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Bench, END, is_there, jit, program, provisioner, script, spec, until};
use fleetfoot_provisioner::{Deletion, ErrorKind, Handle, Provisioner};
use fleetfoot_provisioner_shoes::{HostSettings, Machine, PluginHost, ProcessModel};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_machine_is_made_and_deleted_by_its_cloud_id() {
    let Some(program) = program() else { return };
    for (package, modes, size) in
        [("new", "opaque-ids,echo-size", "micro"), ("old", "opaque-ids", "micro")]
    {
        let bench = Bench::new(program.clone(), modes).with("TEST_PACKAGE", package);
        let host = bench.host();
        let provisioner = provisioner(host.clone(), script(bench.directory.path()));
        let spec = spec(1);
        let handle = provisioner.create(&spec, Some(&jit())).await.unwrap();
        let machine = Machine::of(&handle).unwrap();
        assert!(machine.cloud_id.starts_with("i-"), "{machine:?}");
        assert_eq!(
            (machine.shoes_type.as_str(), machine.ip_address.as_str()),
            ("test", "127.0.0.1")
        );
        assert_eq!(
            machine.resource_type, size,
            "a plugin that says nothing made what was asked for"
        );
        assert!(bench.machine(&machine.cloud_id).exists());
        for _ in 0..2 {
            let deleted = provisioner.delete_by_handle(&spec.name, &handle).await.unwrap();
            assert_eq!(deleted, Deletion::Removed, "what is gone is deleted");
        }
        assert!(!bench.machine(&machine.cloud_id).exists());
        let calls = bench.calls();
        let added = format!("add {} 2 scaleset,acme", spec.name);
        assert_eq!(calls.iter().filter(|line| line.ends_with(&added)).count(), 1, "{calls:?}");
        assert_eq!(bench.started().len(), 1, "one process answers all calls");
        host.end(END).await;
    }
}

#[tokio::test]
async fn no_process_and_no_socket_is_left() {
    let Some(program) = program() else { return };
    for bench in [Bench::new(program.clone(), ""), Bench::new(program, "").per_call()] {
        let is_per_call = bench.settings.model == ProcessModel::PerCall;
        let host = bench.host();
        let provisioner = provisioner(host.clone(), script(bench.directory.path()));
        for number in 0..20 {
            let spec = spec(number);
            provisioner.create(&spec, Some(&jit())).await.unwrap();
            provisioner.delete(&spec.name).await.unwrap();
        }
        let started = bench.started();
        assert_eq!(started.len(), if is_per_call { 40 } else { 1 });
        let sockets = |pid: &i32| {
            let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
            let directory = environment
                .split('\0')
                .find_map(|it| it.strip_prefix("PLUGIN_UNIX_SOCKET_DIR="))?;
            Some(std::path::PathBuf::from(directory))
        };
        let sockets: Vec<_> = started.iter().filter_map(sockets).collect();
        host.end(END).await;
        assert!(started.iter().all(|pid| !is_there(*pid)), "reaped, every one of {started:?}");
        assert!(sockets.iter().all(|directory| !directory.exists()), "{sockets:?}");
        let refused = provisioner.create(&spec(99), Some(&jit())).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Backend, "nothing is started after the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_thousand_calls_nothing_is_left() {
    const WORKERS: u32 = 16;
    let Some(program) = program() else { return };
    for bench in [Bench::new(program.clone(), ""), Bench::new(program, "").per_call()] {
        let is_per_call = bench.settings.model == ProcessModel::PerCall;
        let host = bench.host();
        let provisioner = provisioner(host.clone(), script(bench.directory.path()));
        // A machine that is not there: a whole call, and no process but the plugin's.
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..WORKERS {
            let provisioner = provisioner.clone();
            workers.spawn(async move {
                for number in (worker..1_000).step_by(WORKERS as usize) {
                    provisioner.delete(&spec(number).name).await.unwrap();
                }
            });
        }
        workers.join_all().await;
        let started = bench.started();
        assert_eq!(started.len(), if is_per_call { 1_000 } else { 1 });
        let sockets = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        host.end(END).await;
        assert!(started.iter().all(|pid| !is_there(*pid)), "each is reaped");
        assert!(sockets() < 200, "descriptors stay: {}", sockets());
    }
}

#[tokio::test]
async fn a_call_that_is_never_answered_is_its_callers_to_give_up() {
    let Some(program) = program() else { return };
    let bench = Bench::new(program, "hang");
    let host = bench.host();
    let provisioner = provisioner(host.clone(), script(bench.directory.path()));
    let (spec, jit) = (spec(1), jit());
    let create = provisioner.create(&spec, Some(&jit));
    assert!(tokio::time::timeout(Duration::from_millis(500), create).await.is_err());
    assert!(bench.machine(spec.name.as_str()).exists(), "it had made it");
    // Nor does it hold up the end: it is killed when its grace is over.
    let began = std::time::Instant::now();
    host.end(END).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(bench.started().iter().all(|pid| !is_there(*pid)));
}

#[tokio::test]
async fn a_plugin_that_dies_in_a_call_loses_the_answer_and_the_next_call_has_a_new_one() {
    let Some(program) = program() else { return };
    let bench = Bench::new(program, "die-once");
    let host = bench.host();
    let provisioner = provisioner(host.clone(), script(bench.directory.path()));
    let lost = provisioner.create(&spec(1), Some(&jit())).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::Unanswered, "{lost}");
    assert!(bench.machine(spec(1).name.as_str()).exists(), "it had made it");
    provisioner.delete(&spec(1).name).await.unwrap();
    assert!(
        !bench.machine(spec(1).name.as_str()).exists(),
        "this one names machines by their runners"
    );
    assert_eq!(bench.started().len(), 2);
    host.end(END).await;
}

#[tokio::test]
async fn a_killed_plugin_is_replaced_before_the_next_call() {
    let Some(program) = program() else { return };
    let bench = Bench::new(program, "");
    let host = bench.host();
    let provisioner = provisioner(host.clone(), script(bench.directory.path()));
    provisioner.create(&spec(1), Some(&jit())).await.unwrap();
    let [first] = bench.started()[..] else { panic!("one was started") };
    kill(first, "KILL");
    until("the killed one to be reaped", || !is_there(first)).await;
    provisioner.create(&spec(2), Some(&jit())).await.unwrap();
    assert_eq!(bench.started().len(), 2);
    host.end(END).await;
}

/// Whoever answers is asked again and again and never replaced, but for one that says itself that it does not serve.
#[tokio::test]
async fn a_plugin_that_knows_no_health_is_not_ill() {
    const CALLS: usize = 5;
    let Some(program) = program() else { return };
    for (says, is_well) in [
        ("serving", true),
        ("not-found", true),
        ("unknown", true),
        ("unimplemented", true),
        ("not-serving", false),
    ] {
        let mut bench = Bench::new(program.clone(), "").with("TEST_HEALTH", says);
        bench.settings.fresh = Duration::ZERO;
        let host = bench.host();
        let provisioner = provisioner(host.clone(), script(bench.directory.path()));
        for number in 0..CALLS {
            // A machine that is not there: a whole call all the same.
            provisioner.delete(&spec(u32::try_from(number).unwrap()).name).await.unwrap();
        }
        let calls = bench.calls();
        let asked = calls.iter().filter(|line| line.ends_with(" health plugin")).count();
        assert_eq!(asked, CALLS - 1, "{says}: before each call but the first: {calls:?}");
        let started = if is_well { 1 } else { CALLS };
        assert_eq!(bench.started().len(), started, "{says}: {calls:?}");
        host.end(END).await;
    }
}

/// Calls that come at once after a silence wait for one question, not for one each.
#[tokio::test]
async fn one_question_serves_all_calls_of_a_moment() {
    const CALLS: u32 = 20;
    let Some(program) = program() else { return };
    for (says, started) in [("serving", 1), ("not-serving", 2)] {
        let mut bench = Bench::new(program.clone(), "").with("TEST_HEALTH", says);
        bench.settings.fresh = Duration::from_secs(2);
        let host = bench.host();
        let provisioner = provisioner(host.clone(), script(bench.directory.path()));
        provisioner.delete(&spec(0).name).await.unwrap();
        tokio::time::sleep(bench.settings.fresh).await;
        let provisioner = Arc::new(provisioner);
        let mut deletes = JoinSet::new();
        for number in 1..=CALLS {
            let provisioner = Arc::clone(&provisioner);
            deletes.spawn(async move { provisioner.delete(&spec(number).name).await });
        }
        for deleted in deletes.join_all().await {
            deleted.unwrap();
        }
        let calls = bench.calls();
        let asked = calls.iter().filter(|line| line.ends_with(" health plugin")).count();
        assert_eq!(asked, 1, "{says}: {calls:?}");
        let deleted = calls.iter().filter(|line| line.contains(" delete ")).count();
        assert_eq!(deleted, CALLS as usize + 1, "{says}: {calls:?}");
        assert_eq!(bench.started().len(), started, "{says}: {calls:?}");
        host.end(END).await;
    }
}

#[tokio::test]
async fn one_that_hangs_holds_up_nobody_else_and_is_replaced_when_it_is_old() {
    let Some(program) = program() else { return };
    let mut bench = Bench::new(program, "").with("TEST_CALL_MS", "1500");
    bench.settings.model = ProcessModel::LongLived { max_age: Duration::from_millis(200) };
    let host = bench.host();
    let provisioner = provisioner(host.clone(), script(bench.directory.path()));
    let (one, two) = (spec(1), spec(2));
    let slow = provisioner.create(&one, None);
    assert_eq!(slow.await.unwrap_err().kind, ErrorKind::Instance, "it needs a credential");
    let jit = jit();
    let slow = tokio::time::timeout(Duration::from_secs(30), provisioner.create(&one, Some(&jit)));
    let later = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        provisioner.create(&two, Some(&jit)).await
    };
    let (slow, later) = tokio::join!(slow, later);
    slow.unwrap().unwrap();
    later.unwrap();
    assert_eq!(bench.started().len(), 2, "the first was too old, and yet answered its call");
    host.end(END).await;
}

#[tokio::test]
async fn refusals_are_said_as_what_they_are() {
    let Some(program) = program() else { return };
    for (mode, kind) in [
        ("invalid", ErrorKind::Instance),
        ("internal", ErrorKind::Backend),
        ("full", ErrorKind::NoRoom),
    ] {
        let bench = Bench::new(program.clone(), mode);
        let host = bench.host();
        let provisioner = provisioner(host.clone(), script(bench.directory.path()));
        let refused = provisioner.create(&spec(1), Some(&jit())).await.unwrap_err();
        assert_eq!(refused.kind, kind, "{refused}");
        assert!(refused.to_string().contains("as it was told to"), "{refused}");
        host.end(END).await;
    }
    let bench = Bench::new(program, "missing-is-internal");
    let host = bench.host();
    let provisioner = provisioner(host.clone(), script(bench.directory.path()));
    let handle = Handle(
        "{\"cloud_id\":\"i-1\",\"shoes_type\":\"\",\"ip_address\":\"\",\"resource_type\":\"nano\"}"
            .to_owned(),
    );
    let refused = provisioner.delete_by_handle(&spec(1).name, &handle).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Backend, "{refused}");
    host.end(END).await;
}

#[tokio::test]
async fn what_is_no_plugin_is_said_in_one_line() {
    let Some(program) = program() else { return };
    for (modes, words) in [
        (
            "rubbish",
            "`Hello! I am no plugin at all.` is no handshake of a go-plugin program; it said: usage: none",
        ),
        ("dead", "ended (exit status: 4) before its handshake; it said: TEST_TOKEN must be set"),
    ] {
        let bench = Bench::new(program.clone(), modes);
        let error = bench.host().check().await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
    }
    let mut bench = Bench::new(program, "").with("TEST_START_MS", "60000");
    bench.settings.start_bound = Duration::from_millis(300);
    let error = bench.host().check().await.unwrap_err().to_string();
    assert!(error.contains("gave no handshake within"), "{error}");
    let settings = HostSettings::new("/does/not/exist".into());
    let bounds = (settings.start_bound, settings.exit_grace);
    assert_eq!(bounds, (Duration::from_secs(60), Duration::from_secs(2)), "as the original's");
    let missing = PluginHost::new(settings);
    let error = missing.check().await.unwrap_err().to_string();
    assert!(error.starts_with("cannot run `/does/not/exist`: No such file"), "{error}");
}

/// A program that says this and lives on: it is ended and reaped, whatever it said.
#[tokio::test]
async fn whoever_gives_no_handshake_is_ended_and_reaped() {
    for (line, words) in [
        ("1|1|unix|/nowhere|netrpc|", "it speaks netrpc"),
        ("1|1|unix|/nowhere", "it speaks netrpc"),
        ("2|1|unix|/nowhere|grpc|", "it speaks version 2 of go-plugin"),
        ("1|2|unix|/nowhere|grpc|", "it speaks version 2 of the shoes protocol"),
        ("1|1|unix", "is no handshake of a go-plugin program"),
        ("1|1|unix|/nowhere|grpc|", "does not answer at its address"),
        ("", "gave no handshake within"),
    ] {
        let directory = tempfile::TempDir::new().unwrap();
        let (program, pid) = (directory.path().join("plain"), directory.path().join("pid"));
        let say = if line.is_empty() { String::new() } else { format!("echo '{line}'\n") };
        let text = format!("#!/bin/sh\necho $$ > '{}'\n{say}exec sleep 600\n", pid.display());
        std::fs::write(&program, text).unwrap();
        let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        let mut settings = HostSettings::new(program);
        if line.is_empty() {
            settings.start_bound = Duration::from_secs(1);
        }
        let error = PluginHost::new(settings).check().await.unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{line}: {error}");
        let pid = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        assert!(!is_there(pid), "{line}: it is there, or a zombie is");
    }
}

#[tokio::test]
async fn a_plugin_is_told_to_end_and_killed_if_it_does_not() {
    let Some(program) = program() else { return };
    for (modes, ended) in [("", 1), ("stay", 0)] {
        for bench in
            [Bench::new(program.clone(), modes), Bench::new(program.clone(), modes).per_call()]
        {
            let host = bench.host();
            let provisioner = provisioner(host.clone(), script(bench.directory.path()));
            provisioner.delete(&spec(1).name).await.unwrap();
            host.end(END).await;
            let calls = bench.calls();
            let count = |what: &str| calls.iter().filter(|line| line.ends_with(what)).count();
            assert_eq!((count(" start"), count(" shutdown"), count(" end")), (1, 1, ended));
            assert!(bench.started().iter().all(|pid| !is_there(*pid)), "{calls:?}");
        }
    }
}

#[tokio::test]
async fn a_slow_start_is_waited_for_once_for_everybody() {
    let Some(program) = program() else { return };
    let bench = Bench::new(program, "").with("TEST_START_MS", "1500");
    let host = bench.host();
    let provisioner = provisioner(host.clone(), script(bench.directory.path()));
    let (one, two, jit) = (spec(1), spec(2), jit());
    let (first, second) =
        tokio::join!(provisioner.create(&one, Some(&jit)), provisioner.create(&two, Some(&jit)));
    first.unwrap();
    second.unwrap();
    assert_eq!(bench.started().len(), 1);
    host.end(END).await;
}

#[tokio::test]
async fn a_script_of_megabytes_goes_through() {
    let Some(program) = program() else { return };
    let bench = Bench::new(program, "");
    let host = bench.host();
    let mut long = script(bench.directory.path());
    // Chance does not compress.
    long.checksums = (0..3_000_000).map(|_| fastrand::alphanumeric()).collect();
    let provisioner = provisioner(host.clone(), long);
    let spec = spec(1);
    provisioner.create(&spec, Some(&jit())).await.unwrap();
    let written = std::fs::metadata(bench.machine(spec.name.as_str()).join("script")).unwrap();
    assert!(written.len() > 2_500_000, "{}", written.len());
    provisioner.delete(&spec.name).await.unwrap();
    host.end(END).await;
}

fn kill(pid: i32, signal: &str) {
    let pid = pid.to_string();
    let status = std::process::Command::new("kill").args([&format!("-{signal}"), &pid]).status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn both_sides_have_certificates_where_that_is_asked_for() {
    let Some(program) = program() else { return };
    for package in ["new", "old"] {
        let mut bench = Bench::new(program.clone(), "opaque-ids").with("TEST_PACKAGE", package);
        bench.settings.auto_mtls = true;
        let host = bench.host();
        let provisioner = provisioner(host.clone(), script(bench.directory.path()));
        let spec = spec(1);
        let handle = provisioner.create(&spec, Some(&jit())).await.unwrap();
        let deleted = provisioner.delete_by_handle(&spec.name, &handle).await.unwrap();
        assert_eq!(deleted, Deletion::Removed);
        assert_eq!(bench.started().len(), 1);
        host.end(END).await;
    }
}

#[tokio::test]
async fn a_plugin_without_a_certificate_is_refused_where_one_is_asked_for() {
    let directory = tempfile::TempDir::new().unwrap();
    let program = directory.path().join("plain");
    std::fs::write(&program, "#!/bin/sh\necho '1|1|unix|/nowhere|grpc|'\nexec sleep 60\n").unwrap();
    let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let mut settings = HostSettings::new(program);
    settings.auto_mtls = true;
    let host = PluginHost::new(settings);
    let provisioner = provisioner(host.clone(), script(directory.path()));
    let error = provisioner.create(&spec(1), Some(&jit())).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("it gives no certificate, and TLS is asked for"), "{text}");
    host.end(END).await;
}
