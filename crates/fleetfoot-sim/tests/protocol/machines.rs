//! Where stand-in runners have to live: alone in an image, and a hundred on one machine.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;

use crate::common::{SOON, github, jit, jobs, listening, quick, take};
use crate::runners::program;

/// A root directory with nothing but the program and the libraries it is linked with.
async fn empty_root(directory: &Path) -> Option<()> {
    let program = PathBuf::from(program().as_std().get_program());
    #[allow(clippy::disallowed_methods, reason = "asks what the program under test needs")]
    let output = Command::new("ldd").arg(&program).output().await.ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    std::fs::copy(&program, directory.join("run.sh")).unwrap();
    for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = directory.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(library, target).unwrap();
    }
    Some(())
}

#[tokio::test]
async fn it_runs_alone_in_an_empty_root_as_process_one() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    github.queue_jobs(&jobs(1, 20));
    take(&session, 1).await;
    let root = tempfile::tempdir().unwrap();
    if empty_root(root.path()).await.is_none() {
        println!("SKIPPED: needs ldd");
        return;
    }
    #[allow(clippy::disallowed_methods, reason = "the program under test, as in a container")]
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "chroot"]);
    command.arg(root.path()).arg("/run.sh").kill_on_drop(true);
    command.env("ACTIONS_RUNNER_INPUT_JITCONFIG", jit(&client, set.id, "alone").await);
    let output = tokio::time::timeout(SOON, command.output()).await.unwrap();
    let Ok(output) = output.as_ref().map_err(|_| ()) else {
        println!("SKIPPED: needs unshare");
        return;
    };
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if errors.contains("unshare:") || errors.contains("chroot:") {
        println!("SKIPPED: needs unshare and chroot as this user: {errors}");
        return;
    }
    let log = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{log}{errors}");
    assert!(log.contains("completed with result: Succeeded"), "{log}");
}

#[tokio::test]
async fn a_hundred_start_at_once_and_each_is_small() {
    let github = github(quick()).await;
    let (client, set, session) = listening(&github).await;
    let mut configs = Vec::new();
    for number in 0..100 {
        configs.push(jit(&client, set.id, &format!("many-{number}")).await);
    }
    let began = Instant::now();
    let mut children: Vec<_> = configs
        .iter()
        .map(|config| {
            let mut command = program();
            command.env("ACTIONS_RUNNER_INPUT_JITCONFIG", config).stdout(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    let online = |state: &fleetfoot_sim::BoxState| state.summary.runners_online == 100;
    github.wait_until(Duration::from_secs(60), online).await.unwrap();
    let took = began.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", children[0].id().unwrap()));
    let memory = status.unwrap().lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned();
    println!("100 online after {took:?}, one has {memory}");
    github.queue_jobs(&jobs(100, 10));
    let mut told = 0;
    while told < 100 {
        told += take(&session, 100).await.jobs_assigned().count();
    }
    for child in &mut children {
        assert!(child.wait().await.unwrap().success());
    }
    let state = github.state();
    assert_eq!((state.summary.jobs_succeeded, state.summary.runners), (100, 0));
}
