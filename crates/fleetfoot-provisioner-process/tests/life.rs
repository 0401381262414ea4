//! What an instance does from its launch to its removal, with shell scripts as runners.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{
    Bench, ended, eventually, jit, kill, listed, lives, pid_in, running, shim_pid, spec, start,
};
use fleetfoot_provisioner::{EnvironmentState, ErrorKind, Event, Provisioner};
use futures_util::StreamExt;
use rustix::process::Signal;

#[tokio::test]
async fn a_job_gets_a_clean_directory_and_a_small_environment() {
    let bench = Bench::new();
    let mut pool = bench.pool();
    pool.env.push(("COLOR".to_owned(), "blue".to_owned()));
    let provisioner = bench.with(pool);
    let script = "pwd; ls -A; ls -A \"$HOME\" \"$TMPDIR\"; env; touch \"$HOME/left\"; exit 7";
    let one = start(&provisioner, 1, script).await;
    assert_eq!(ended(&provisioner, &one.name).await.code, Some(7));
    let output = provisioner.logs(&one.name, 1000).await.unwrap();
    let lines: Vec<&str> = output.lines().collect();
    let directory = bench.directory(&one.name);
    assert_eq!(lines[..2], [directory.join("runner").to_str().unwrap(), "run.sh"]);
    let has = |line: &str| lines.contains(&line);
    assert!(has("COLOR=blue") && has("RUNNER_MANUALLY_TRAP_SIG=1"), "{output}");
    assert!(has("ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE=1"));
    assert!(has(&format!("FLEETFOOT_INSTANCE={}", one.name)));
    assert!(!output.contains("CARGO"), "the daemon's environment leaks: {output}");
    let two = start(&provisioner, 2, "ls -A \"$HOME\" | wc -l").await;
    ended(&provisioner, &two.name).await;
    assert_eq!(provisioner.logs(&two.name, 9).await.unwrap().trim(), "0");
    for spec in [&one, &two] {
        provisioner.delete(&spec.name).await.unwrap();
    }
    bench.clean(&[&one.name, &two.name]).await;
}

#[tokio::test]
async fn the_jit_config_is_in_no_argument_list_and_no_file() {
    const SECRET: &str = "jit-config-87c1f0";
    let bench = Bench::new();
    let mut pool = bench.pool();
    let script = "test \"$ACTIONS_RUNNER_INPUT_JITCONFIG\" = jit-config-87c1''f0 && echo up > up; sleep 1000";
    pool.command = ["/bin/sh", "-c", script].map(str::to_owned).into();
    let provisioner = bench.with(pool);
    let spec = start(&provisioner, 1, SECRET).await;
    common::file(&bench.directory(&spec.name).join("runner/up")).await;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&words).contains(SECRET), "{}", entry.path().display());
    }
    let grep = std::process::Command::new("grep")
        .args(["-rl", "-f", "-"])
        .arg(bench.root())
        .stdin(pattern(SECRET))
        .output();
    assert!(grep.unwrap().stdout.is_empty());
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

/// The pattern on standard input: another test may look at argument lists.
fn pattern(text: &str) -> std::io::PipeReader {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, text.as_bytes()).unwrap();
    reader
}

#[tokio::test]
async fn what_a_job_leaves_running_ends_with_it_even_if_it_hides() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let script = "setsid sh -c 'trap \"\" TERM; setsid env -i sleep 1000 & echo $! > escaped; wait' & \
                  while ! test -s escaped; do sleep 0.01; done; exit 0";
    let spec = start(&provisioner, 1, script).await;
    let escaped = pid_in(&bench.directory(&spec.name).join("runner/escaped")).await;
    assert_eq!(ended(&provisioner, &spec.name).await.code, Some(0));
    assert!(!lives(escaped));
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn delete_asks_first_and_kills_what_does_not_listen() {
    let bench = Bench::new();
    let mut pool = bench.pool();
    pool.stop_grace = Duration::from_millis(300);
    let provisioner = bench.with(pool);
    let polite = start(
        &provisioner,
        1,
        "trap 'echo bye > ../../bye; exit 0' TERM; echo $$ > up; while :; do sleep 0.05; done",
    )
    .await;
    let deaf =
        start(&provisioner, 2, "trap '' TERM; echo $$ > up; while :; do sleep 0.05; done").await;
    for spec in [&polite, &deaf] {
        pid_in(&bench.directory(&spec.name).join("runner/up")).await;
    }
    provisioner.delete(&polite.name).await.unwrap();
    let said = bench.root().join("bye");
    assert_eq!(fs::read_to_string(&said).unwrap(), "bye\n");
    fs::remove_file(said).unwrap();
    let begun = Instant::now();
    provisioner.delete(&deaf.name).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    provisioner.delete(&deaf.name).await.unwrap();
    bench.clean(&[&polite.name, &deaf.name]).await;
}

#[tokio::test]
async fn output_is_bounded_and_its_end_is_kept() {
    let bench = Bench::new();
    let mut pool = bench.pool();
    pool.log_max_size = 64 * 1024;
    let provisioner = bench.with(pool);
    let script = "i=0; while test $i -lt 20000; do i=$((i+1)); echo \"line $i of many that fill the files\"; done; echo err >&2";
    let spec = start(&provisioner, 1, script).await;
    ended(&provisioner, &spec.name).await;
    let tail = provisioner.logs(&spec.name, 2).await.unwrap();
    assert_eq!(tail, "line 20000 of many that fill the files\nerr\n");
    let size =
        |name| fs::metadata(bench.directory(&spec.name).join(name)).map_or(0, |meta| meta.len());
    assert!(size("output.log") + size("output.log.1") < 160 * 1024);
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn signals_and_missing_programs_are_told_apart_from_exit_codes() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let killed = start(&provisioner, 1, "kill -9 $$").await;
    let exit = ended(&provisioner, &killed.name).await;
    assert_eq!((exit.code, exit.message.as_deref()), (None, Some("killed by signal 9")));
    let mut pool = bench.pool();
    pool.command = vec!["./missing.sh".to_owned()];
    let refused = bench.with(pool.clone()).create(&spec(2), None).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Instance);
    pool.command = vec!["no-such-program-anywhere".to_owned()];
    let absent = start(&bench.with(pool), 3, "").await;
    assert_eq!(ended(&provisioner, &absent.name).await.code, Some(127));
    let said = provisioner.logs(&absent.name, 1).await.unwrap();
    assert!(said.contains("no-such-program-anywhere"), "{said}");
    for number in [1, 2, 3] {
        provisioner.delete(&spec(number).name).await.unwrap();
    }
    bench.clean(&[&spec(1).name, &spec(2).name, &spec(3).name]).await;
}

#[tokio::test]
async fn a_shim_that_cannot_start_is_the_backends_failure() {
    let bench = Bench::new();
    let host = std::sync::Arc::clone(&bench.host);
    let broken = fleetfoot_provisioner_process::ProcessProvisioner::new(
        host,
        bench.pool(),
        "/nonexistent/shim".into(),
    );
    let spec = spec(1);
    let handle = broken.create(&spec, None).await.unwrap();
    let error = broken.launch(&spec, &handle, &jit("")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Backend);
    assert_eq!(listed(&broken, &spec.name).await.unwrap().state, EnvironmentState::Created);
    broken.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn a_killed_shim_takes_its_tree_with_it() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let mut events = provisioner.watch().await.unwrap();
    let spec =
        start(&provisioner, 1, "setsid sleep 1000 & echo $! > child; echo $$ > up; sleep 1000")
            .await;
    let runner = bench.directory(&spec.name).join("runner");
    let pids = [pid_in(&runner.join("up")).await, pid_in(&runner.join("child")).await];
    kill(shim_pid(&bench.directory(&spec.name)), Signal::KILL);
    let event = tokio::time::timeout(common::BOUND, events.next()).await.unwrap().unwrap();
    let Event::Ended { name, exit } = event else { panic!("{event:?}") };
    assert_eq!((name, exit.code), (spec.name.clone(), None));
    assert!(exit.message.unwrap().contains("parent process was killed"));
    assert!(pids.iter().all(|pid| !lives(*pid)));
    assert!(matches!(
        listed(&provisioner, &spec.name).await.unwrap().state,
        EnvironmentState::Ended(_)
    ));
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn a_signal_to_the_shim_stops_its_runner() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let spec =
        start(&provisioner, 1, "trap 'exit 9' TERM; echo $$ > up; while :; do sleep 0.05; done")
            .await;
    pid_in(&bench.directory(&spec.name).join("runner/up")).await;
    kill(shim_pid(&bench.directory(&spec.name)), Signal::TERM);
    assert_eq!(ended(&provisioner, &spec.name).await.code, Some(9));
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn only_the_runner_itself_is_asked_to_stop() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let script = "(trap 'echo asked > asked' TERM; echo up > step; while :; do sleep 0.02; done) & \
                  trap 'sleep 0.3; ls asked; exit 0' TERM; echo $$ > up; while :; do sleep 0.05; done";
    let spec = start(&provisioner, 1, script).await;
    let directory = bench.directory(&spec.name);
    common::file(&directory.join("runner/step")).await;
    pid_in(&directory.join("runner/up")).await;
    kill(shim_pid(&directory), Signal::TERM);
    assert_eq!(ended(&provisioner, &spec.name).await.code, Some(0));
    assert!(!directory.join("runner/asked").exists());
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn a_launch_that_was_cut_short_starts_nothing() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let spec = spec(1);
    provisioner.create(&spec, None).await.unwrap();
    let directory = bench.directory(&spec.name);
    // A daemon that died while it wrote the order.
    let mut shim = std::process::Command::new(common::shim());
    let shim = shim
        .arg("__shim")
        .arg(&directory)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped());
    let mut child = shim.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"{\"command\": [\"./ru").unwrap();
    let answer = child.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&answer.stdout).contains("refused"), "{answer:?}");
    assert_eq!(listed(&provisioner, &spec.name).await.unwrap().state, EnvironmentState::Created);
    provisioner.delete(&spec.name).await.unwrap();
    bench.clean(&[&spec.name]).await;
}

#[tokio::test]
async fn a_late_shim_does_not_start_what_is_being_deleted() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let spec = spec(1);
    let handle = provisioner.create(&spec, None).await.unwrap();
    fs::write(bench.directory(&spec.name).join("deleting"), "").unwrap();
    let error = provisioner.launch(&spec, &handle, &jit("touch ../../started")).await.unwrap_err();
    assert!(error.to_string().contains("being deleted"), "{error}");
    assert!(!running(&provisioner, &spec.name).await);
    assert!(!bench.root().join("started").exists());
    provisioner.delete(&spec.name).await.unwrap();
    eventually("gone", || async { listed(&provisioner, &spec.name).await.is_none() }).await;
    bench.clean(&[&spec.name]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_at_once() {
    let bench = Bench::new();
    let provisioner = bench.provisioner();
    let begun = Instant::now();
    let script = "echo $$ > up; exec sleep 1000";
    let specs =
        futures_util::future::join_all((0..100).map(|number| start(&provisioner, number, script)))
            .await;
    println!("100 created and launched in {} ms", begun.elapsed().as_millis());
    let running = provisioner.list().await.unwrap().environments;
    assert_eq!(running.iter().filter(|it| it.state == EnvironmentState::Running).count(), 100);
    println!("each shim takes {} KiB of its own", pss_kib(&bench, &specs[0].name));
    let begun = Instant::now();
    for outcome in
        futures_util::future::join_all(specs.iter().map(|spec| provisioner.delete(&spec.name)))
            .await
    {
        outcome.unwrap();
    }
    println!("and deleted in {} ms", begun.elapsed().as_millis());
    bench.clean(&specs.iter().map(|spec| &spec.name).collect::<Vec<_>>()).await;
}

/// What one shim adds to the host's memory.
fn pss_kib(bench: &Bench, name: &fleetfoot_provisioner::InstanceName) -> u64 {
    let pid = shim_pid(&bench.directory(name));
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or_default()
}
