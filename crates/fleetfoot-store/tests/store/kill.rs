//! SIGKILL in the middle of writing, again and again: everything acknowledged is there afterwards.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use fleetfoot_core::{Observation, Phase, ScaleSetId, Timestamp};
use fleetfoot_store::{Location, Options, Search, StateDir, Store};
use tokio::task::JoinSet;

use crate::bed::{instance_name, pending, pool_name, with_pools};

const CHILD: &str = "FLEETFOOT_STORE_KILL_CHILD";

/// Writes until it is killed; says every acknowledged name in a line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_child() {
    let Ok(given) = std::env::var(CHILD) else { return };
    let (round, dir) = given.split_once(':').unwrap();
    let dir = state_dir(Path::new(dir));
    let _lock = dir.lock().unwrap();
    let location = Location::Sqlite(dir.store_file());
    let store = Arc::new(dir.open_store(location, Options::default()).await.unwrap());
    with_pools(&store, &["p"]).await;
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let store = Arc::clone(&store);
        let round = round.to_owned();
        tasks.spawn(async move {
            for number in 0.. {
                let name = format!("p-{round}-{task}-{number}");
                let put = name.clone();
                let insert = store.update(move |txn| txn.insert_instance(pending(&put, "p")));
                insert.await.unwrap().unwrap();
                say(&format!("committed {name}"));
                let begun = Observation::StartBegun { scale_set: ScaleSetId(1) };
                let at = instance_name(&name);
                let observe = store.update(move |txn| {
                    txn.observe(&at, &begun, Timestamp(2)).map(|instance| instance.phase)
                });
                assert_eq!(observe.await.unwrap(), Ok(Phase::Starting));
                say(&format!("starting {name}"));
            }
        });
    }
    tasks.join_all().await;
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn state_dir(path: &Path) -> StateDir {
    let search = Search {
        key: Some(path.to_owned()),
        state_directory: None,
        system: path.to_owned(),
        state_home: None,
        temporary: Vec::new(),
    };
    StateDir::resolve(&search).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the victim has to be a process")]
fn victim(round: u32, dir: &Path) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["kill::writer_child", "--exact", "--nocapture", "--test-threads", "1"])
        .env(CHILD, format!("{round}:{}", dir.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs one victim, kills it after so many acknowledgements; what it had acknowledged.
fn acknowledged(round: u32, dir: &Path, lines: usize) -> Vec<(String, String)> {
    let mut child = victim(round, dir);
    let mut said = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some((word, name)) = line.split_once(' ')
            && matches!(word, "committed" | "starting")
        {
            said.push((word.to_owned(), name.to_owned()));
        }
        if said.len() == lines {
            // What is still in the pipe is read to its end: it was acknowledged, too.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(said.len() >= lines, "the victim ended by itself after {} lines", said.len());
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    let mut installation = None;
    for round in 0..6 {
        let path = dir.path().to_owned();
        let lines = [1, 40, 7, 150, 90, 333][round as usize];
        said.extend(
            tokio::task::spawn_blocking(move || acknowledged(round, &path, lines)).await.unwrap(),
        );
        let state_dir = state_dir(dir.path());
        let lock = state_dir.lock().expect("the kernel released the lock of the dead");
        let location = Location::Sqlite(state_dir.store_file());
        let store: Store = state_dir.open_store(location, Options::default()).await.unwrap();
        store.check().await.unwrap();
        let known = installation.get_or_insert_with(|| store.installation().clone());
        assert_eq!(known, store.installation());
        assert!(!store.was_lost());
        let state = store.pool(&pool_name("p")).unwrap();
        for (word, name) in &said {
            let instance = state.instances.get(&instance_name(name));
            let instance =
                instance.unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
            if word == "starting" {
                assert_eq!(instance.phase, Phase::Starting, "{name}");
            }
        }
        store.close().await;
        drop(lock);
    }
}
