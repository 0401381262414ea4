//! The original's checklist, 54 to 61, and what goes wrong in between, against a scripted daemon: the real
//! client, the real `qemu-img`, no guest.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use fleetfoot_provisioner::{
    Deletion, EnvironmentState, ErrorKind, Event, InstanceName, PoolName, Provisioner,
};
use fleetfoot_provisioner_libvirt::{JitDelivery, LibvirtPool, LibvirtProvisioner, Share};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::Notify;

use support::stand::{SILENT, Stand, agent, state, until_ended};
use support::{engine, eventually, installation, script, spec};

const BOUND: Duration = Duration::from_secs(30);
const CREATE_XML: i32 = 10;
const LIST_ALL_DOMAINS: i32 = 273;

#[tokio::test]
async fn two_failed_pings_then_one_exec_with_path_and_arguments() {
    let mut pings = 0;
    let Some(stand) = Stand::new(move |command| {
        if command["execute"] == "guest-ping" {
            pings += 1;
            if pings <= 2 {
                return Err((86, SILENT.to_owned()));
            }
        }
        agent(command)
    }) else {
        return;
    };
    let mut pool = stand.pool();
    pool.jit = JitDelivery::Argument;
    let provisioner = stand.with(pool);
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    assert_eq!(state(&provisioner, &spec.name).await, Some(EnvironmentState::Created));
    assert!(stand.overlay(&spec.name).exists());
    provisioner.launch(&spec, &handle, &script("SECRET")).await.unwrap();
    assert_eq!(stand.daemon.commands("guest-ping").len(), 3);
    assert_eq!(
        stand.daemon.commands("guest-exec"),
        [json!({ "execute": "guest-exec", "arguments": {
            "path": "/actions-runner/run.sh", "arg": ["--jitconfig", "SECRET"] } })]
    );
    assert_eq!(state(&provisioner, &spec.name).await, Some(EnvironmentState::Running));
    assert_eq!(provisioner.delete(&spec.name).await.unwrap(), Deletion::Removed);
    assert_eq!(provisioner.delete(&spec.name).await.unwrap(), Deletion::WasAbsent);
    assert!(stand.is_clean(&spec.name));
}

/// D-28: before a machine with shared directories is switched off, its guest is asked to write out what it caches; one that
/// does not answer is removed all the same, and one without shares is not asked.
#[tokio::test]
async fn a_guest_with_shares_writes_its_caches_out_before_the_plug_is_pulled() {
    for (shares, answers) in [(true, true), (true, false), (false, true)] {
        let Some(stand) = Stand::new(move |command| {
            let is_sync = command["arguments"]["arg"][1] == "sync";
            match command["execute"].as_str() {
                Some("guest-exec") if is_sync && !answers => Err((86, SILENT.to_owned())),
                Some("guest-exec") if is_sync => Ok("{\"return\":{\"pid\":78}}".to_owned()),
                Some("guest-exec-status") if command["arguments"]["pid"] == 78 => {
                    Ok("{\"return\":{\"exited\":true,\"exitcode\":0}}".to_owned())
                }
                _ => agent(command),
            }
        }) else {
            return;
        };
        let mut pool = stand.pool();
        if shares {
            pool.mounts = vec![Share { source: "/srv/cache".to_owned(), tag: None }];
        }
        let provisioner = stand.with(pool);
        let spec = spec();
        let handle = provisioner.create(&spec, None).await.unwrap();
        provisioner.launch(&spec, &handle, &script("x")).await.unwrap();
        assert_eq!(provisioner.delete(&spec.name).await.unwrap(), Deletion::Removed);
        let asked = stand.daemon.commands("guest-exec");
        let asked = asked.iter().filter(|one| one["arguments"]["arg"][1] == "sync").count();
        // The agent refuses it once the domain is gone: so it was asked before.
        assert_eq!(asked, usize::from(shares), "{shares} {answers}");
        assert!(stand.is_clean(&spec.name));
    }
}

#[tokio::test]
async fn an_agent_that_never_answers_costs_the_machine() {
    let Some(stand) = Stand::new(|_| Err((86, SILENT.to_owned()))) else { return };
    let mut pool = stand.pool();
    pool.agent_max = Duration::from_secs(1);
    let spec = spec();
    let error = stand.with(pool).create(&spec, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Instance);
    assert!(error.message.starts_with("guest agent not ready: timeout after 1s"), "{error}");
    assert!(stand.is_clean(&spec.name));
}

#[tokio::test]
async fn a_malformed_exec_answer_costs_the_machine() {
    for answer in ["{\"return\":7}", "nonsense", "{\"return\":{\"pid\":\"x\"}}"] {
        let Some(stand) = Stand::new(move |command| match command["execute"].as_str() {
            Some("guest-exec") => Ok(answer.to_owned()),
            _ => agent(command),
        }) else {
            return;
        };
        let provisioner = stand.provisioner();
        let spec = spec();
        let handle = provisioner.create(&spec, None).await.unwrap();
        let error = provisioner.launch(&spec, &handle, &script("x")).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Instance);
        assert!(error.message.starts_with("guest-exec: "), "{error}");
        assert!(stand.is_clean(&spec.name), "{answer}");
    }
}

#[tokio::test]
async fn a_refused_domain_leaves_no_disk() {
    let Some(stand) = Stand::new(agent) else { return };
    stand.daemon.state.lock().unwrap().refuse =
        Some((10, 67, "unsupported: no such machine".to_owned()));
    let spec = spec();
    let error = stand.provisioner().create(&spec, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Instance);
    assert!(error.to_string().contains("no such machine"), "{error}");
    assert!(stand.is_clean(&spec.name));
}

#[tokio::test]
async fn a_missing_image_says_so_in_the_originals_words() {
    let Some(stand) = Stand::new(agent) else { return };
    let mut pool = stand.pool();
    pool.image = "/nowhere/base.qcow2".into();
    let spec = spec();
    let error = stand.with(pool).create(&spec, None).await.unwrap_err();
    assert!(error.message.starts_with("create overlay: "), "{error}");
    assert!(error.message.contains("/nowhere/base.qcow2"), "{error}");
    assert!(stand.is_clean(&spec.name));
}

#[tokio::test]
async fn the_daemon_restarts_between_jobs_and_the_next_one_works() {
    let Some(stand) = Stand::new(agent) else { return };
    let provisioner = stand.provisioner();
    let mut events = provisioner.watch().await.unwrap();
    let first = spec();
    let handle = provisioner.create(&first, None).await.unwrap();
    provisioner.launch(&first, &handle, &script("x")).await.unwrap();
    stand.daemon.stop();
    let error = provisioner.list().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Backend);
    stand.daemon.back();
    let resynced = tokio::time::timeout(BOUND, events.next()).await.unwrap();
    assert_eq!(resynced, Some(Event::Resynced));
    assert_eq!(state(&provisioner, &first.name).await, Some(EnvironmentState::Running));
    let second = spec();
    let handle = provisioner.create(&second, None).await.unwrap();
    provisioner.launch(&second, &handle, &script("x")).await.unwrap();
    assert_eq!(state(&provisioner, &second.name).await, Some(EnvironmentState::Running));
}

#[tokio::test]
async fn the_daemon_restarts_while_a_machine_boots() {
    let Some(stand) = Stand::new(|_| Err((86, SILENT.to_owned()))) else { return };
    let mut pool = stand.pool();
    pool.agent_max = Duration::from_secs(3);
    let provisioner = Arc::new(stand.with(pool));
    let spec = spec();
    let creating = tokio::spawn({
        let (provisioner, spec) = (Arc::clone(&provisioner), spec.clone());
        async move { provisioner.create(&spec, None).await }
    });
    while stand.daemon.commands("guest-ping").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stand.daemon.stop();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = stand.daemon.commands("guest-ping").len();
    stand.daemon.back();
    // It goes on asking, and gives up only at the agent's own bound.
    let error = creating.await.unwrap().unwrap_err();
    assert!(error.message.starts_with("guest agent not ready"), "{error}");
    assert!(stand.daemon.commands("guest-ping").len() > before);
    assert!(stand.is_clean(&spec.name));
}

#[tokio::test]
async fn a_machine_that_ends_is_told_with_its_way() {
    let Some(stand) = Stand::new(agent) else { return };
    let provisioner = stand.provisioner();
    let mut events = provisioner.watch().await.unwrap();
    for (detail, words) in [(0, "the machine shut down"), (2, "the machine crashed")] {
        let spec = spec();
        let handle = provisioner.create(&spec, None).await.unwrap();
        if detail == 0 {
            provisioner.launch(&spec, &handle, &script("x")).await.unwrap();
        }
        stand.daemon.end(spec.name.as_str(), detail);
        let event = tokio::time::timeout(BOUND, events.next()).await.unwrap().unwrap();
        let Event::Ended { name, exit } = event else { panic!("{event:?}") };
        assert_eq!(name, spec.name);
        assert_eq!(exit.message.as_deref(), Some(words));
        assert_eq!(until_ended(&provisioner, &spec.name).await, exit);
        provisioner.delete(&spec.name).await.unwrap();
        assert!(stand.is_clean(&spec.name));
    }
}

#[tokio::test]
async fn an_exit_status_is_asked_once_and_kept() {
    let Some(stand) = Stand::new(|command| match command["execute"].as_str() {
        Some("guest-exec-status") => Ok("{\"return\":{\"exited\":true,\"exitcode\":7}}".to_owned()),
        _ => agent(command),
    }) else {
        return;
    };
    let mut pool = stand.pool();
    pool.jit = JitDelivery::Argument;
    let provisioner = stand.with(pool.clone());
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    provisioner.launch(&spec, &handle, &script("x")).await.unwrap();
    assert_eq!(until_ended(&provisioner, &spec.name).await.code, Some(7));
    drop(provisioner);
    assert_eq!(until_ended(&stand.with(pool), &spec.name).await.code, Some(7));
}

#[tokio::test]
async fn another_agent_does_not_end_a_job() {
    // The agent was restarted: it does not know the runner, which still runs.
    let Some(stand) = Stand::new(|command| {
        match command["execute"].as_str() {
        Some("guest-exec-status") if command["arguments"]["pid"] == 77 => {
            Err((9, "internal error: unable to execute QEMU guest agent command 'guest-exec-status': Invalid parameter 'pid'".to_owned()))
        }
        Some("guest-exec-status") => {
            Ok("{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"bGl2ZXMK\"}}".to_owned())
        }
        Some("guest-exec") if command["arguments"]["capture-output"] == true => {
            Ok("{\"return\":{\"pid\":78}}".to_owned())
        }
        _ => agent(command),
    }
    }) else {
        return;
    };
    let provisioner = stand.provisioner();
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    provisioner.launch(&spec, &handle, &script("x")).await.unwrap();
    while stand.daemon.commands("guest-exec-status").len() < 4 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(state(&provisioner, &spec.name).await, Some(EnvironmentState::Running));
}

#[tokio::test]
async fn leftovers_of_the_original_and_nothing_else() {
    let Some(stand) = Stand::new(agent) else { return };
    let provisioner = stand.provisioner();
    let disk = |name: &str| {
        let path = stand.directory.path().join(format!("{name}.qcow2"));
        std::fs::write(&path, "x").unwrap();
        format!(
            "<domain><name>{name}</name><devices><disk><source file='{}'/></disk></devices></domain>",
            path.display()
        )
    };
    for (name, transient) in [
        ("windows-0123abcd", true),
        ("windows-setup", true),
        ("windows-89abcdef", false),
        ("windows-arm-0123abcd", true),
    ] {
        stand.daemon.add(name, &disk(name), transient);
    }
    stand.daemon.add(
        "windows-00000000",
        "<domain><devices><disk><source file='/images/w.qcow2'/></disk></devices></domain>",
        true,
    );
    let pool = PoolName::new("windows").unwrap();
    let found = provisioner.legacy(&pool).await.unwrap();
    let names: Vec<_> = found.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["windows-0123abcd"]);
    provisioner.delete_legacy(&found[0].name).await.unwrap();
    let setup = InstanceName::new("windows-arm").unwrap();
    assert_eq!(provisioner.delete_legacy(&setup).await.unwrap(), Deletion::WasAbsent);
    assert!(stand.is_clean(&found[0].name));
    assert!(stand.daemon.names().contains(&"windows-89abcdef".to_owned()));
    assert!(stand.directory.path().join("windows-89abcdef.qcow2").exists());
}

#[tokio::test]
async fn a_machine_whose_record_is_lost_is_still_ours() {
    let Some(stand) = Stand::new(agent) else { return };
    let provisioner = stand.provisioner();
    let spec = spec();
    provisioner.create(&spec, None).await.unwrap();
    std::fs::remove_file(
        stand.directory.path().join("records").join(format!("{}.json", spec.name)),
    )
    .unwrap();
    // It may have a job: nobody knows that it was never launched.
    assert_eq!(state(&provisioner, &spec.name).await, Some(EnvironmentState::Running));
    provisioner.delete(&spec.name).await.unwrap();
    assert!(stand.is_clean(&spec.name));
}

#[tokio::test]
async fn two_installations_see_each_other_and_leave_each_other_alone() {
    let Some(stand) = Stand::new(agent) else { return };
    let provisioner = stand.provisioner();
    let spec = spec();
    provisioner.create(&spec, None).await.unwrap();
    let address =
        fleetfoot_provisioner_libvirt::Address::parse(&stand.daemon.socket.display().to_string())
            .unwrap();
    let other = fleetfoot_provisioner::InstallationId::new("other").unwrap();
    assert_ne!(other, installation());
    let records = stand.directory.path().join("other");
    let engine =
        fleetfoot_provisioner_libvirt::LibvirtEngine::open(address, &records, other).unwrap();
    let theirs = LibvirtProvisioner::new(engine, stand.pool());
    assert!(theirs.list().await.unwrap().environments.is_empty());
    let seen = theirs.others().await.unwrap();
    assert_eq!(seen.len(), 1);
    theirs.delete(&spec.name).await.unwrap();
    assert_eq!(theirs.create(&spec, None).await.unwrap_err().kind, ErrorKind::NameTaken);
    assert_eq!(state(&provisioner, &spec.name).await, Some(EnvironmentState::Created));
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_a_finding_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("base.qcow2"), "x").unwrap();
    let mut pool = LibvirtPool::new(directory.path().join("base.qcow2"));
    pool.overlay_dir = directory.path().to_owned();
    let engine = engine(&directory.path().join("no-sock"), &directory.path().join("records"));
    let findings = LibvirtProvisioner::new(engine, pool).check().await;
    let found = findings.iter().find(|it| it.message.starts_with("there is no libvirt socket at"));
    assert!(found.is_some_and(|it| it.hint.contains("systemctl start libvirtd")), "{findings:?}");
}

#[tokio::test]
async fn check_boots_the_image_and_leaves_nothing() {
    let Some(stand) = Stand::new(agent) else { return };
    assert_eq!(stand.provisioner().check().await, []);
    assert_eq!(stand.daemon.commands("guest-ping").len(), 1);
    assert!(stand.daemon.names().is_empty());
    let left = std::fs::read_dir(stand.directory.path()).unwrap();
    let left: Vec<_> = left.map(|it| it.unwrap().file_name()).collect();
    assert!(!left.iter().any(|it| it.to_string_lossy().starts_with("fleetfoot-trial")), "{left:?}");
}

type Told = Result<String, (i32, String)>;

/// An agent whose runner, process 77, has ended with 3 and printed two lines. `output` is how the guest answers
/// whoever asks for them.
fn ended_agent(
    output: fn() -> Told,
) -> impl FnMut(&serde_json::Value) -> Result<String, (i32, String)> + Send + 'static {
    move |command| match command["execute"].as_str() {
        Some("guest-exec") if command["arguments"]["capture-output"] == true => {
            Ok("{\"return\":{\"pid\":78}}".to_owned())
        }
        Some("guest-exec-status") if command["arguments"]["pid"] == 78 => output(),
        Some("guest-exec-status") => Ok("{\"return\":{\"exited\":true,\"exitcode\":3}}".to_owned()),
        _ => agent(command),
    }
}

/// A machine has its slot until it is off, so nobody hears of its end before; its output is kept beyond.
#[tokio::test]
async fn a_machine_is_off_before_its_end_is_told() {
    // "one\ntwo\n", and a guest that is too far gone to tell.
    let guests: [fn() -> Told; 2] = [
        || {
            Ok("{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"b25lCnR3bwo=\"}}"
                .to_owned())
        },
        || Err((86, SILENT.to_owned())),
    ];
    for (guest, answers) in guests.into_iter().zip([true, false]) {
        let Some(stand) = Stand::new(ended_agent(guest)) else { return };
        let provisioner = stand.provisioner();
        let mut events = provisioner.watch().await.unwrap();
        let spec = spec();
        let handle = provisioner.create(&spec, None).await.unwrap();
        provisioner.launch(&spec, &handle, &script("x")).await.unwrap();
        let event = tokio::time::timeout(BOUND, events.next()).await.unwrap().unwrap();
        assert_eq!(stand.daemon.names(), [""; 0], "told while it lives");
        let Event::Ended { name, exit } = event else { panic!("{event:?}") };
        assert_eq!((&name, exit.code), (&spec.name, Some(3)));
        assert_eq!(state(&provisioner, &name).await, Some(EnvironmentState::Ended(exit.clone())));
        if answers {
            assert_eq!(exit.message.as_deref(), Some("last output: one | two"));
            assert_eq!(provisioner.logs(&name, 1).await.unwrap(), "two\n");
        } else {
            assert_eq!(exit.message, None);
            assert!(provisioner.logs(&name, 1).await.is_err());
        }
        assert_eq!(provisioner.delete(&name).await.unwrap(), Deletion::Removed);
        assert!(stand.is_clean(&name));
    }
}

/// The exit status is told once by the agent, and the machine cannot be switched off at once: it is listed as running
/// until it is off, by whichever program sees that, with the exit status of before.
#[tokio::test]
async fn an_end_that_cannot_be_made_now_is_made_later() {
    let mut told = false;
    let Some(stand) = Stand::new(move |command| match command["execute"].as_str() {
        Some("guest-exec-status") if !std::mem::replace(&mut told, true) => {
            Ok("{\"return\":{\"exited\":true,\"exitcode\":7}}".to_owned())
        }
        Some("guest-exec-status") => Err((9, "Invalid parameter 'pid'".to_owned())),
        _ => agent(command),
    }) else {
        return;
    };
    let mut pool = stand.pool();
    pool.jit = JitDelivery::Argument;
    let provisioner = stand.with(pool.clone());
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    stand.daemon.state.lock().unwrap().refuse =
        Some((12, 38, "device or resource busy".to_owned()));
    provisioner.launch(&spec, &handle, &script("x")).await.unwrap();
    while stand.daemon.state.lock().unwrap().refuse.is_some() {
        assert_eq!(state(&provisioner, &spec.name).await, Some(EnvironmentState::Running));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(provisioner);
    let record = std::fs::read_to_string(stand.record(&spec.name, "json")).unwrap();
    assert!(record.contains("ending"), "{record}");
    let later = stand.with(pool);
    assert_eq!(until_ended(&later, &spec.name).await.code, Some(7));
    assert!(stand.daemon.names().is_empty());
    later.delete(&spec.name).await.unwrap();
    assert!(stand.is_clean(&spec.name));
}

/// What an older version wrote down as ended while its machine lived is switched off before it is told.
#[tokio::test]
async fn what_is_over_is_off_before_it_is_listed_as_ended() {
    let Some(stand) = Stand::new(agent) else { return };
    let provisioner = stand.provisioner();
    let spec = spec();
    provisioner.create(&spec, None).await.unwrap();
    let record = stand.record(&spec.name, "json");
    let text = std::fs::read_to_string(&record).unwrap();
    let ended = text.replace(r#""made""#, r#"{"ended":{"code":0,"message":null}}"#);
    assert_ne!(ended, text);
    std::fs::write(&record, ended.replace(r#","shares":false"#, "")).unwrap();
    assert!(matches!(state(&provisioner, &spec.name).await, Some(EnvironmentState::Ended(_))));
    assert!(stand.daemon.names().is_empty());
}

/// Its record is read while it is made, the domains are listed before it is there, and it runs by the time both are
/// put together.
#[tokio::test]
async fn a_machine_that_is_made_while_the_list_is_made_has_not_ended() {
    let Some(stand) = Stand::new(agent) else { return };
    let provisioner = Arc::new(stand.provisioner());
    let (create, list) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    stand.daemon.state.lock().unwrap().hold_call = Some((CREATE_XML, Arc::clone(&create)));
    let spec = spec();
    let made = {
        let (provisioner, spec) = (Arc::clone(&provisioner), spec.clone());
        tokio::spawn(async move { provisioner.create(&spec, None).await })
    };
    eventually("it is being made", || async {
        stand.daemon.state.lock().unwrap().hold_call.is_none()
    })
    .await;
    stand.daemon.state.lock().unwrap().hold_answer = Some((LIST_ALL_DOMAINS, Arc::clone(&list)));
    let listed = {
        let provisioner = Arc::clone(&provisioner);
        tokio::spawn(async move { provisioner.list().await })
    };
    eventually("the domains are listed", || async {
        stand.daemon.state.lock().unwrap().hold_answer.is_none()
    })
    .await;
    create.notify_one();
    let handle = made.await.unwrap().unwrap();
    provisioner.launch(&spec, &handle, &script("SECRET")).await.unwrap();
    list.notify_one();
    let listed = listed.await.unwrap().unwrap().environments;
    let state = listed.iter().find(|it| it.name == spec.name).map(|it| &it.state);
    assert_eq!(state, Some(&EnvironmentState::Running));
}
