//! Instances outlive the daemon, and the next daemon knows exactly which of them live.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use common::{
    Bench, ended, installation, kill, listed, lives, pid_in, running, shim, shim_pid, start,
};
use fleetfoot_provisioner::{EnvironmentState, Event, InstanceName, Provisioner};
use fleetfoot_provisioner_process::{ProcessHost, ProcessPool, ProcessProvisioner, RunnerSource};
use futures_util::StreamExt;
use rustix::process::Signal;

const ROLE: &str = "FLEETFOOT_TEST_DAEMON";

/// Not a test by itself: the daemon that the next test kills.
#[tokio::test]
async fn role_of_a_daemon() {
    let Some(files) = std::env::var_os(ROLE).map(std::path::PathBuf::from) else { return };
    let host = ProcessHost::open(&files.join("processes"), installation()).unwrap();
    let pool = ProcessPool::new(RunnerSource::RunnerDirectory(files.join("source")));
    let daemon = ProcessProvisioner::new(host, pool, shim());
    for number in 0..3 {
        let script = "echo $$ > up; while ! test -e go; do sleep 0.05; done; exit 5";
        let spec = start(&daemon, number, script).await;
        println!("\nlaunched {}", spec.name);
    }
    println!("ready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_daemon_loses_nothing_and_the_next_one_adopts() {
    let bench = Bench::new();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "role_of_a_daemon", "--nocapture"])
        .env(ROLE, bench.files.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map(Result::unwrap);
    let names: Vec<InstanceName> = lines
        .take_while(|line| line != "ready")
        .filter_map(|line| InstanceName::new(line.strip_prefix("launched ")?).ok())
        .collect();
    assert_eq!(names.len(), 3);
    daemon.kill().unwrap();
    daemon.wait().unwrap();

    let next = bench.reopened();
    let mut events = next.watch().await.unwrap();
    for name in &names {
        assert!(running(&next, name).await);
        pid_in(&bench.directory(name).join("runner/up")).await;
        fs::write(bench.directory(name).join("runner/go"), "").unwrap();
    }
    for _ in &names {
        let event = tokio::time::timeout(common::BOUND, events.next()).await.unwrap().unwrap();
        let Event::Ended { name, exit } = event else { panic!("{event:?}") };
        assert!(names.contains(&name));
        assert_eq!(exit.code, Some(5));
    }
    for name in &names {
        next.delete(name).await.unwrap();
    }
    bench.clean(&names.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn the_watch_ends_with_its_host() {
    let bench = Bench::new();
    let provisioner = bench.reopened();
    let mut events = provisioner.watch().await.unwrap();
    drop(provisioner);
    assert_eq!(tokio::time::timeout(common::BOUND, events.next()).await.unwrap(), None);
}

fn edit(path: &std::path::Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut record = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}

#[tokio::test]
async fn an_instance_of_another_boot_has_ended_and_nobody_is_signaled() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let spec = start(&provisioner, 1, "sleep 1000").await;
    let directory = bench.directory(&spec.name);
    let shim = shim_pid(&directory);
    let before = fs::read_to_string(directory.join("pid")).unwrap();
    edit(&directory.join("pid"), |record| record["boot_id"] = "another".into());
    let exit = ended(&provisioner, &spec.name).await;
    assert_eq!(exit.message.as_deref(), Some("host rebooted"));
    assert!(lives(shim));
    fs::write(directory.join("pid"), before).unwrap();
    assert!(running(&provisioner, &spec.name).await);
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn made_but_not_launched_before_a_reboot_is_ended() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let spec = common::spec(1);
    provisioner.create(&spec, None).await.unwrap();
    edit(&bench.directory(&spec.name).join("meta.json"), |record| {
        record["boot_id"] = "another".into()
    });
    assert_eq!(ended(&provisioner, &spec.name).await.message.as_deref(), Some("host rebooted"));
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn a_reused_process_id_is_not_ours() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let spec = start(&provisioner, 1, "exit 0").await;
    ended(&provisioner, &spec.name).await;
    let directory = bench.directory(&spec.name);
    fs::remove_file(directory.join("exit.json")).unwrap();
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    edit(&directory.join("pid"), |record| record["pid"] = bystander.id().into());
    assert!(matches!(
        listed(&provisioner, &spec.name).await.unwrap().state,
        EnvironmentState::Ended(_)
    ));
    provisioner.delete(&spec.name).await.unwrap();
    assert_eq!(bystander.try_wait().unwrap(), None);
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn what_is_in_the_root_and_not_ours_stays() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let spec = start(&provisioner, 1, "sleep 1000").await;
    let root = bench.root();
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::create_dir_all(root.join("backup/of/things")).unwrap();
    fs::write(root.join("note"), "x").unwrap();
    std::os::unix::fs::symlink(bench.directory(&spec.name), root.join("link")).unwrap();
    let copied = root.join("copied");
    fs::create_dir(&copied).unwrap();
    fs::copy(bench.directory(&spec.name).join("meta.json"), copied.join("meta.json")).unwrap();
    let listing = provisioner.list().await.unwrap();
    assert_eq!(listing.environments.len(), 1);
    for name in ["backup", "note", "link", "copied"] {
        assert!(provisioner.delete(&InstanceName::new(name).unwrap()).await.is_err(), "{name}");
        assert!(root.join(name).symlink_metadata().is_ok());
    }
    provisioner.delete(&spec.name).await.unwrap();
    for name in ["lost+found", "backup", "copied"] {
        fs::remove_dir_all(root.join(name)).unwrap();
    }
    fs::remove_file(root.join("note")).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn what_a_crash_in_create_leaves_is_listed_and_deleted() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let (bare, torn) = (common::spec(1), common::spec(2));
    fs::create_dir(bench.directory(&bare.name)).unwrap();
    fs::create_dir(bench.directory(&torn.name)).unwrap();
    fs::write(bench.directory(&torn.name).join("meta.json.77.writing"), "{").unwrap();
    for spec in [&bare, &torn] {
        assert_eq!(
            listed(&provisioner, &spec.name).await.unwrap().state,
            EnvironmentState::Created
        );
    }
    provisioner.create(&torn, None).await.unwrap();
    assert_eq!(listed(&provisioner, &torn.name).await.unwrap().pool, Some(torn.pool.clone()));
    for spec in [&bare, &torn] {
        provisioner.delete(&spec.name).await.unwrap();
    }
    bench.clean(&[&bare.name, &torn.name]).await;
}

#[tokio::test]
async fn a_shim_killed_while_no_daemon_runs_is_settled_by_the_next() {
    let bench = Bench::new();
    let spec =
        start(&bench.provisioner(), 1, "setsid sleep 1000 & echo $! > child; sleep 1000").await;
    let directory = bench.directory(&spec.name);
    let child = pid_in(&directory.join("runner/child")).await;
    kill(shim_pid(&directory), Signal::KILL);
    let next = bench.reopened();
    let exit = ended(&next, &spec.name).await;
    assert!(exit.message.unwrap().contains("killed") && !lives(child));
    next.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}
