//! Machines that wait for their jobs, and what is decided before the first of them, against a scripted daemon.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fleetfoot_provisioner::{EnvironmentState, ErrorKind, Provisioner, Severity};
use fleetfoot_provisioner_libvirt::{DomainType, WarmMode};
use serde_json::Value;

use support::stand::{SILENT, Stand, agent, state, until_ended};
use support::{eventually, script, spec};

const INFO: i32 = 16;
const RESUME: i32 = 28;
const SUSPEND: i32 = 34;
const SET_TIME: i32 = 338;

fn calls(stand: &Stand, procedure: i32) -> usize {
    stand.daemon.state.lock().unwrap().calls.iter().filter(|it| **it == procedure).count()
}

/// What a started process has on its command line.
fn words(command: &Value) -> String {
    command["arguments"]["arg"].to_string()
}

/// An agent whose processes end at once, but for what waits for a credential.
fn guest(command: &Value) -> Result<String, (i32, String)> {
    let pid = |pid: u32| Ok(format!("{{\"return\":{{\"pid\":{pid}}}}}"));
    match command["execute"].as_str().unwrap() {
        "guest-exec" if words(command).contains("JITCONFIG") => pid(77),
        "guest-exec" => pid(78),
        "guest-exec-status" if command["arguments"]["pid"] == 78 => {
            Ok("{\"return\":{\"exited\":true,\"exitcode\":0}}".to_owned())
        }
        _ => agent(command),
    }
}

/// The first processes that an agent starts are slow. A machine that waits starts two before its job comes: the shell
/// and tools of the launch, without a credential; one whose job is there is not kept from it.
#[tokio::test]
async fn a_machine_that_waits_rehearses_its_launch() {
    let Some(stand) = Stand::new(guest) else { return };
    let provisioner = stand.provisioner();
    let (waiting, wanted) = (spec(), spec());
    let handle = provisioner.create(&waiting, None).await.unwrap();
    eventually("the second rehearsal's end", || async {
        let asked = stand.daemon.commands("guest-exec-status");
        asked.len() == 2 && asked.iter().all(|it| it["arguments"]["pid"] == 78)
    })
    .await;
    let started = stand.daemon.commands("guest-exec");
    let [rehearsal, again] = started.as_slice() else { panic!("{started:?}") };
    assert_eq!(rehearsal, again);
    assert_eq!(rehearsal["arguments"]["path"], "/bin/sh");
    let input = BASE64.decode(rehearsal["arguments"]["input-data"].as_str().unwrap()).unwrap();
    assert_eq!(input, b"\n", "no credential is there yet");
    assert!(words(rehearsal).contains("/actions-runner/run.sh"), "{rehearsal}");
    assert_eq!(state(&provisioner, &waiting.name).await, Some(EnvironmentState::Created));
    provisioner.launch(&waiting, &handle, &script("SECRET")).await.unwrap();
    let launch = stand.daemon.commands("guest-exec").pop().unwrap();
    assert!(!words(&launch).contains("SECRET"), "{launch}");
    // The tools of the launch's script are those that were tried.
    for word in ["mkdir -p $d", "date"] {
        assert!(words(rehearsal).contains(word), "{word} in {rehearsal}");
    }
    assert!(words(&launch).contains("mkdir -p $d"), "{launch}");

    let handle = provisioner.create(&wanted, None).await.unwrap();
    let before = stand.daemon.commands("guest-exec-status").len();
    provisioner.launch(&wanted, &handle, &script("SECRET")).await.unwrap();
    // Both runners are asked for each second: by then a rehearsal would have been.
    eventually("four more looks", || async {
        stand.daemon.commands("guest-exec-status").len() >= before + 4
    })
    .await;
    assert_eq!(stand.daemon.commands("guest-exec").len(), 4, "two rehearsals and two launches");
    for spec in [waiting, wanted] {
        provisioner.delete(&spec.name).await.unwrap();
        assert!(stand.is_clean(&spec.name));
    }
}

/// A launch that comes in the middle of a rehearsal is followed by no other one.
#[tokio::test]
async fn a_machine_that_is_launched_rehearses_no_more() {
    let mut launched = false;
    let Some(stand) = Stand::new(move |command| {
        let starts = command["execute"] == "guest-exec";
        launched |= starts && words(command).contains("JITCONFIG");
        if command["arguments"]["pid"] == 78 && !launched {
            return agent(command);
        }
        guest(command)
    }) else {
        return;
    };
    let provisioner = stand.provisioner();
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    let asked = |pid: u32| {
        let all = stand.daemon.commands("guest-exec-status");
        all.iter().filter(|it| it["arguments"]["pid"] == pid).count()
    };
    eventually("a rehearsal", || async { asked(78) >= 1 }).await;
    provisioner.launch(&spec, &handle, &script("SECRET")).await.unwrap();
    // The runner is asked for each second, the rehearsal more often: by then another one would have been.
    eventually("some looks", || async { asked(77) >= 3 }).await;
    assert_eq!(stand.daemon.commands("guest-exec").len(), 2, "one rehearsal and the launch");
    provisioner.delete(&spec.name).await.unwrap();
}

/// Its agent answers while it still boots: it is suspended once it is quiet, goes on when its credential is asked for,
/// and its clock is set before its runner does anything.
#[tokio::test]
async fn a_machine_is_suspended_when_its_boot_is_over() {
    let Some(stand) = Stand::new(guest) else { return };
    let suspended = || {
        let mut pool = stand.pool();
        pool.warm_mode = WarmMode::Suspended;
        stand.with(pool)
    };
    let provisioner = suspended();
    stand.daemon.state.lock().unwrap().busy = true;
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    eventually("some looks", || async { calls(&stand, INFO) >= 4 }).await;
    assert_eq!(calls(&stand, SUSPEND), 0, "it boots");
    stand.daemon.state.lock().unwrap().busy = false;
    eventually("it stands still", || async { calls(&stand, SUSPEND) == 1 }).await;
    assert_eq!(calls(&stand, RESUME), 0);
    assert_eq!(state(&provisioner, &spec.name).await, Some(EnvironmentState::Created));
    // Another program finds it: whatever it does now, it is suspended again.
    drop(provisioner);
    let provisioner = suspended();
    assert_eq!(state(&provisioner, &spec.name).await, Some(EnvironmentState::Created));
    eventually("it stands still again", || async { calls(&stand, SUSPEND) == 2 }).await;
    // Nobody knows the other one.
    provisioner.rouse(&support::spec().name);
    provisioner.rouse(&spec.name);
    eventually("it goes on", || async { calls(&stand, RESUME) == 1 }).await;
    // Told of with its job, and once more with its credential.
    provisioner.rouse(&spec.name);
    provisioner.launch(&spec, &handle, &script("SECRET")).await.unwrap();
    assert_eq!(calls(&stand, RESUME), 1, "it went on while its credential was asked for");
    let launch = stand.daemon.commands("guest-exec").pop().unwrap();
    let script = launch["arguments"]["arg"][1].as_str().unwrap();
    let (read, rest) = script.split_once("; ").unwrap();
    assert_eq!(read, "IFS= read -r ACTIONS_RUNNER_INPUT_JITCONFIG", "{script}");
    assert!(rest.starts_with("date -s @"), "{script}");
    provisioner.rouse(&spec.name);
    provisioner.delete(&spec.name).await.unwrap();
    assert_eq!(calls(&stand, SUSPEND), 2);
    assert!(stand.is_clean(&spec.name));
}

/// The job was taken back that it was roused for: it stands still again after a minute, and goes on for the next one.
#[tokio::test]
async fn a_machine_that_was_roused_for_nothing_stands_still_again() {
    let Some(stand) = Stand::new(guest) else { return };
    let mut pool = stand.pool();
    pool.warm_mode = WarmMode::Suspended;
    let provisioner = stand.with(pool);
    let (waiting, launched) = (spec(), spec());
    let waiting_handle = provisioner.create(&waiting, None).await.unwrap();
    let launched_handle = provisioner.create(&launched, None).await.unwrap();
    eventually("both stand still", || async { calls(&stand, SUSPEND) == 2 }).await;
    provisioner.rouse(&waiting.name);
    provisioner.rouse(&launched.name);
    eventually("both go on", || async { calls(&stand, RESUME) == 2 }).await;
    provisioner.launch(&launched, &launched_handle, &script("SECRET")).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    eventually("one stands still again", || async { calls(&stand, SUSPEND) == 3 }).await;
    let state = state(&provisioner, &waiting.name).await;
    assert_eq!(state, Some(EnvironmentState::Created));
    provisioner.launch(&waiting, &waiting_handle, &script("SECRET")).await.unwrap();
    assert_eq!(calls(&stand, RESUME), 3);
    assert_eq!(calls(&stand, SUSPEND), 3, "the one with a runner goes on");
    for spec in [waiting, launched] {
        provisioner.delete(&spec.name).await.unwrap();
        assert!(stand.is_clean(&spec.name));
    }
}

/// A job that is there takes the machine as it is.
#[tokio::test]
async fn a_machine_that_still_boots_is_launched_and_not_suspended() {
    let Some(stand) = Stand::new(guest) else { return };
    let mut pool = stand.pool();
    pool.warm_mode = WarmMode::Suspended;
    let provisioner = stand.with(pool);
    stand.daemon.state.lock().unwrap().busy = true;
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    eventually("a look", || async { calls(&stand, INFO) >= 2 }).await;
    // A hint that comes to nothing: the launch lets it go on itself.
    stand.daemon.state.lock().unwrap().refuse = Some((RESUME, 38, "not now".to_owned()));
    provisioner.rouse(&spec.name);
    eventually("the hint", || async { stand.daemon.state.lock().unwrap().refuse.is_none() }).await;
    assert_eq!(calls(&stand, RESUME), 0);
    provisioner.launch(&spec, &handle, &script("SECRET")).await.unwrap();
    assert_eq!(calls(&stand, RESUME), 1);
    stand.daemon.state.lock().unwrap().busy = false;
    let looks = calls(&stand, INFO);
    let asked = stand.daemon.commands("guest-exec-status").len();
    eventually("some looks, and the runner is asked for", || async {
        calls(&stand, INFO) >= looks + 2
            && stand.daemon.commands("guest-exec-status").len() >= asked + 3
    })
    .await;
    assert_eq!(calls(&stand, SUSPEND), 0);
    provisioner.delete(&spec.name).await.unwrap();
}

/// Windows: the same calls, PowerShell for the shell, and the agent's word for the end.
#[tokio::test]
async fn a_windows_guest_is_launched_and_ends_by_the_same_calls() {
    let mut looks = 0;
    let Some(stand) = Stand::new(move |command| {
        if command["execute"] == "guest-exec-status" {
            looks += 1;
            let ended = looks > 1;
            let code = if ended { ",\"exitcode\":4" } else { "" };
            return Ok(format!("{{\"return\":{{\"exited\":{ended}{code}}}}}"));
        }
        agent(command)
    }) else {
        return;
    };
    let mut pool = stand.pool();
    pool.runner_cmd = r"C:\actions-runner\it's\run.cmd".to_owned();
    pool.warm_mode = WarmMode::Suspended;
    let provisioner = stand.with(pool);
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    eventually("it stands still", || async { calls(&stand, SUSPEND) == 1 }).await;
    assert!(stand.daemon.commands("guest-exec").is_empty(), "nothing is rehearsed in it");
    provisioner.rouse(&spec.name);
    provisioner.launch(&spec, &handle, &script("SECRET")).await.unwrap();
    assert_eq!(calls(&stand, SET_TIME), 1);
    let started = stand.daemon.commands("guest-exec");
    let [launch] = started.as_slice() else { panic!("{started:?}") };
    assert_eq!(launch["arguments"]["path"], "powershell.exe");
    let words = words(launch);
    assert!(!words.contains("SECRET") && words.contains(r"it''s\\run.cmd"), "{words}");
    let input = BASE64.decode(launch["arguments"]["input-data"].as_str().unwrap()).unwrap();
    assert_eq!(input, b"SECRET\n");
    let refused = provisioner.logs(&spec.name, 5).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Instance);
    assert_eq!(until_ended(&provisioner, &spec.name).await.code, Some(4));
    provisioner.delete(&spec.name).await.unwrap();
    assert!(stand.is_clean(&spec.name));
}

/// `auto`: what the host says it can do is not believed before the pool's own image came up with it.
#[tokio::test]
async fn whether_kvm_works_is_decided_by_a_boot() {
    const KVM: &str = "<capabilities><guest><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>";
    const PLAIN: &str = "<capabilities><guest><arch name='x86_64'><domain type='qemu'/></arch></guest></capabilities>";
    // What the host says, whether a machine comes up with it, what ours is, and what `check` says.
    for (said, comes_up, kind, told) in [
        (KVM, true, "kvm", None),
        (KVM, false, "qemu", Some("KVM does not bring the image up here")),
        (PLAIN, false, "qemu", Some("KVM does not bring the image up here")),
    ] {
        let xmls = std::sync::Arc::new(std::sync::Mutex::new(None));
        let of_daemon = std::sync::Arc::clone(&xmls);
        let Some(stand) = Stand::new(move |command| {
            // The one machine that is there answers, unless KVM runs it and does not work.
            let state: Option<std::sync::Arc<std::sync::Mutex<support::scripted::State>>> =
                of_daemon.lock().unwrap().clone();
            let state = state.unwrap();
            let state = state.lock().unwrap();
            let kvm = state.domains.iter().any(|it| it.2.contains("<domain type='kvm'"));
            drop(state);
            if kvm && !comes_up { Err((86, SILENT.to_owned())) } else { guest(command) }
        }) else {
            return;
        };
        *xmls.lock().unwrap() = Some(std::sync::Arc::clone(&stand.daemon.state));
        stand.daemon.state.lock().unwrap().capabilities = said.to_owned();
        let mut pool = stand.pool();
        pool.domain_type = DomainType::Auto;
        pool.agent_max = Duration::from_secs(1);
        let provisioner = stand.with(pool);
        let spec = spec();
        provisioner.create(&spec, None).await.unwrap();
        let domains = stand.daemon.state.lock().unwrap().domains.clone();
        let [(name, _, xml, _)] = domains.as_slice() else {
            panic!("a trial is left: {domains:?}")
        };
        assert_eq!(name, spec.name.as_str());
        assert!(xml.contains(&format!("<domain type='{kind}'")), "{xml}");
        provisioner.delete(&spec.name).await.unwrap();
        let findings = provisioner.check().await;
        let warned = findings.iter().find(|it| it.severity == Severity::Warning);
        assert_eq!(findings.len(), usize::from(told.is_some()), "{findings:?}");
        assert_eq!(warned.is_some(), told.is_some());
        if let (Some(warned), Some(told)) = (warned, told) {
            assert!(warned.message.starts_with(told), "{warned:?}");
        }
        assert!(stand.daemon.names().is_empty());
    }
}
