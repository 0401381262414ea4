//! The operator's commands of the real program: with the store alone, and against a served store.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use fleetfoot_core::{
    Cause, Environment, Health, Instance, InstanceName, Intent, Job, JobId, JobState,
    ListenerState, Observation, Outcome, Phase, Pool, PoolHealth, PoolName, Reason, Registration,
    RunnerId, Timestamp,
};
use fleetfoot_server::{Face, Metrics, ServerState, listen, router, wall_clock};
use fleetfoot_store::{Durability, Location, Options, Store};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// A state directory with a store in it, served or not.
struct State {
    dir: tempfile::TempDir,
    store: Store,
    tasks: JoinSet<()>,
}

fn pool() -> PoolName {
    PoolName::new("linux").unwrap()
}

fn name(text: &str) -> InstanceName {
    InstanceName::new(text).unwrap()
}

fn instance(text: &str, phase: Phase) -> Instance {
    Instance {
        phase,
        registration: Registration::Registered(RunnerId(11)),
        environment: Environment::Launched,
        ..Instance::pending(name(text), pool(), wall_clock())
    }
}

impl State {
    /// Pool `linux` with a running and an idle instance; the job's name holds a terminal code.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { durability: Durability::Off, ..Options::default() };
        let place = Location::Sqlite(dir.path().join("store.sqlite"));
        let store = Store::open(place, options).await.unwrap();
        let now = wall_clock();
        let job = Job {
            id: JobId::new("job-1"),
            state: JobState::Started { instance: Some(name("linux-00000001")) },
            repository: "octo/app".to_owned(),
            workflow: String::new(),
            display_name: "build\u{1b}[2J".to_owned(),
            run_id: 501,
            queued_at: Some(now),
            seen_at: now,
            started_at: Some(now),
        };
        store
            .update(move |txn| {
                let config_url = "https://github.com/octo".to_owned();
                txn.put_pool(Pool { config_url, ..Pool::new(pool(), now) });
                let running = Instance {
                    job: Some(JobId::new("job-1")),
                    ..instance("linux-00000001", Phase::Running)
                };
                txn.insert_instance(running).unwrap();
                txn.insert_instance(instance("linux-00000002", Phase::Idle)).unwrap();
                assert!(txn.put_job(&pool(), job));
            })
            .await
            .unwrap();
        Self { dir, store, tasks: JoinSet::new() }
    }

    /// Serves it as a daemon does that is at its limit.
    fn serve(&mut self) {
        let linux = PoolHealth {
            listener: ListenerState::Connected,
            polled: true,
            causes: vec![Cause::PoolLimit { limit: 2 }],
            max_runners: 2,
            ..PoolHealth::default()
        };
        let now = wall_clock();
        let health = Health {
            ready: true,
            started_at: now,
            last_pass_at: now,
            pools: BTreeMap::from([(pool(), Arc::new(linux))]),
            ..Health::default()
        };
        let (told, health) = watch::channel(health);
        let (control, requests) = mpsc::channel(1);
        let state = ServerState {
            store: self.store.clone(),
            health,
            logs: Arc::new(|_, _| Box::pin(async { Ok("hello\nworld\n".to_owned()) })),
            version: "1.2.3",
            control,
            metrics: Metrics::new(),
            clock: Arc::new(wall_clock),
        };
        let listener = listen::bind_control(&self.dir.path().join("control.sock")).unwrap();
        self.tasks.spawn(async move {
            listen::serve(listener, router(state, &Face::Control), std::future::pending())
                .await
                .unwrap();
            drop((told, requests));
        });
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}

/// Runs the real program on a state directory, beside the server in this process.
#[expect(clippy::disallowed_methods, reason = "these tests run the real program")]
async fn run(dir: &Path, args: &[&str]) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_fleetfoot"))
        .args(args)
        .arg("--state-dir")
        .arg(dir)
        .env_clear()
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap()
}

fn out(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", err(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn refused(output: &Output, part: &str) {
    let said = err(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("fleetfoot: ")).collect();
    assert!(lines.len() == 1 && lines[0].contains(part), "{said}");
    assert!(said.contains("\nhint: "), "{said}");
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_the_store_is_read() {
    let state = State::new().await;
    // The socket of a daemon that was killed is still there.
    drop(std::os::unix::net::UnixListener::bind(state.path().join("control.sock")).unwrap());
    let status = run(&state.path(), &["status", "--output", "json"]).await;
    let json: Value = serde_json::from_str(&out(&status)).unwrap();
    assert_eq!(json["source"], "store");
    assert_eq!(json["pools"][0]["name"], "linux");
    assert_eq!(json["pools"][0]["causes"][0]["code"], "no_daemon");
    assert_eq!(json["instances"][0]["job"]["repository"], "octo/app");
    assert!(err(&status).contains("note: no daemon runs"), "{}", err(&status));
    let why = run(&state.path(), &["why", "linux"]).await;
    assert!(out(&why).contains("because no daemon runs"), "{}", out(&why));
    refused(&run(&state.path(), &["why", "nothing"]).await, "`nothing`");
    for args in [
        &["drain", "linux"][..],
        &["resume", "linux"],
        &["stop", "linux-00000001", "--force"],
        &["logs", "linux-00000001"],
    ] {
        refused(&run(&state.path(), args).await, "no daemon runs on the state directory");
    }
    let stored = state.store.pool(&pool()).unwrap();
    assert_eq!(stored.pool.intent, Intent::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_for_people_and_for_programs() {
    let mut state = State::new().await;
    state.serve();
    let status = run(&state.path(), &["status", "--output", "json"]).await;
    let text = out(&status);
    assert_eq!(text.lines().count(), 1, "one document, one line");
    let json: Value = serde_json::from_str(&text).unwrap();
    for key in ["name", "phase", "desired", "occupying", "idle", "running", "causes"] {
        assert!(!json["pools"][0][key].is_null(), "{key}");
    }
    for key in ["name", "pool", "phase", "job"] {
        assert!(!json["instances"][0][key].is_null(), "{key}");
    }
    assert_eq!(err(&status), "");
    let text = out(&run(&state.path(), &["status"]).await);
    for part in [
        "fleetfoot 1.2.3, ready, started",
        "linux: the pool's limit is reached (max_runners: 2)",
        "linux-00000001",
        "https://github.com/octo/app/actions/runs/501",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "a job's name gives the terminal no orders");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_and_logs_ask_the_daemon() {
    let mut state = State::new().await;
    state.serve();
    let why = out(&run(&state.path(), &["why", "octo/app#501"]).await);
    assert!(why.contains("runs on `linux-00000001`"), "{why}");
    assert!(!why.contains('\u{1b}'));
    let why = run(&state.path(), &["why", "linux", "--output", "json"]).await;
    let json: Value = serde_json::from_str(&out(&why)).unwrap();
    assert_eq!((&json["kind"], &json["causes"][0]["code"]), (&"pool".into(), &"pool_limit".into()));
    let logs = run(&state.path(), &["logs", "linux-00000001", "-n", "1"]).await;
    assert_eq!(out(&logs), "world\n");
    refused(&run(&state.path(), &["logs", "linux-ffffffff"]).await, "no instance is named");
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_reach_the_store() {
    let mut state = State::new().await;
    state.serve();
    let busy = run(&state.path(), &["stop", "linux-00000001"]).await;
    refused(&busy, "runs a job");
    assert!(err(&busy).contains("--force"));
    let text = out(&run(&state.path(), &["stop", "linux-00000002"]).await);
    assert_eq!(text, "instance `linux-00000002` is stopping\n");
    refused(&run(&state.path(), &["drain", "none"]).await, "no pool is named `none`");
    let text = out(&run(&state.path(), &["drain", "linux"]).await);
    assert!(text.contains("takes no more jobs: 1 running"), "{text}");
    assert_eq!(state.store.pool(&pool()).unwrap().pool.intent, Intent::Draining);
    refused(
        &run(&state.path(), &["drain", "linux", "--wait", "--timeout", "0"]).await,
        "is not empty yet: 1 running",
    );
    let text = out(&run(&state.path(), &["resume", "linux"]).await);
    assert_eq!(text, "pool `linux` takes jobs\n");
    assert_eq!(state.store.pool(&pool()).unwrap().pool.intent, Intent::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_drain_ends_with_the_last_instance() {
    let mut state = State::new().await;
    state.serve();
    let dir = state.path();
    let waiting = run(&dir, &["drain", "linux", "--wait", "--timeout", "60"]);
    let emptying = async {
        let mut changes = state.store.changes(&pool());
        while state.store.pool(&pool()).unwrap().pool.intent != Intent::Draining {
            changes.changed().await.unwrap();
        }
        let close = |text: &'static str| {
            state.store.update(move |txn| {
                for seen in [
                    Observation::Removal { reason: Reason::OperatorForce },
                    Observation::Deregistered,
                    Observation::EnvironmentGone,
                    Observation::Closed { outcome: Outcome::Removed(Reason::Drained) },
                ] {
                    txn.observe(&name(text), &seen, Timestamp(1)).map(|_| ()).unwrap();
                }
            })
        };
        close("linux-00000001").await.unwrap();
        close("linux-00000002").await.unwrap();
    };
    let (waited, ()) = tokio::join!(waiting, emptying);
    assert_eq!(out(&waited), "pool `linux` is drained: nothing of it is left\n");
}
