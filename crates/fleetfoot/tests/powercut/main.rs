//! Power cuts: the real binary runs under strace; its state directory is rebuilt as a cut would leave it at
//! each sync, and opened with the real code. What was told outside before the cut must be there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test"
)]

mod disk;
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
mod trace;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleetfoot_core::InstanceName;
use fleetfoot_store::{EventFilter, Location, Options, Search, StateDir, Store};
use rustix::process::{Pid, Signal, kill_process};

use disk::{CUTS, Cut, Disk, Found};
use harness::{BOUND, Bed, Daemon, component};
use trace::Event;

/// The daemon that strace runs.
fn daemon_pid(bed: &Bed) -> Pid {
    let text = std::fs::read_to_string(bed.state_dir().join("lock")).unwrap();
    Pid::from_raw(text.trim().parse().unwrap()).unwrap()
}

async fn start(bed: &Bed, strace: &str, trace: &Path) -> Daemon {
    let config = bed.config_file();
    // The binary's own command, as an argument of another.
    let binary = bed.command();
    let binary = binary.as_std();
    let mut command = tokio::process::Command::new(strace);
    let set = binary.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.env_clear().envs(set).stdin(std::process::Stdio::null());
    command.current_dir(binary.get_current_dir().unwrap());
    command.args(["-f", "-y", "-qq", "-xx", "-s", "1000000", "--seccomp-bpf", "-e", "signal=none"]);
    command.args(["-e", trace::CALLS, "-o"]).arg(trace).arg("--").arg(binary.get_program());
    command.args(["run", "--config", config.to_str().unwrap()]);
    let mut daemon = bed.daemon(command);
    daemon.ready().await;
    daemon
}

/// What the world was told so far.
#[derive(Debug, Default)]
struct Told {
    message: Option<i64>,
    names: BTreeSet<String>,
}

/// A directory in memory, if there is one: thousands of stores are opened.
fn memory() -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() { shm } else { std::env::temp_dir() }
}

struct Replay {
    place: tempfile::TempDir,
    chance: fastrand::Rng,
    seen: HashSet<u64>,
    moments: u32,
    /// The newest event that was safe.
    events: i64,
    opened: u32,
}

impl Replay {
    fn state_dir(&self) -> PathBuf {
        self.place.path().join("state")
    }

    /// Every cut at this moment.
    async fn cut(&mut self, disk: &Disk, told: &Told) {
        self.moments += 1;
        for cut in CUTS {
            let worth_it = match cut {
                Cut::AllLost | Cut::Torn => true,
                Cut::NamesLost => disk.has_unsynced_names(),
                Cut::Some => self.moments.is_multiple_of(4),
            };
            if !worth_it {
                continue;
            }
            let found = disk.after(cut, &mut self.chance);
            // What nobody was told since opens as it did before.
            if self.seen.insert(disk::fingerprint(&found) ^ told.names.len() as u64) {
                self.open(&found, told, cut).await;
            }
        }
    }

    async fn open(&mut self, found: &Found, told: &Told, cut: Cut) {
        if !found.contains_key("store.sqlite") {
            assert!(told.names.is_empty() && told.message.is_none(), "{cut:?}: the store is gone");
            return;
        }
        self.opened += 1;
        disk::lay_out(found, &self.state_dir());
        let path = self.state_dir();
        let search = Search {
            key: Some(path.clone()),
            state_directory: None,
            system: path,
            state_home: None,
            temporary: Vec::new(),
        };
        let dir = StateDir::resolve(&search).unwrap();
        let location = Location::Sqlite(dir.store_file());
        let store = dir.open_store(location.clone(), Options::default()).await;
        let store = store.unwrap_or_else(|error| panic!("{cut:?}: {error}"));
        assert_eq!(store.behind(), None, "{cut:?}: nothing that was told is missing");
        self.check(&store, told, cut).await;
        store.close().await;
        if self.opened.is_multiple_of(8) {
            let report = fleetfoot_store::inspect(&location).await.unwrap();
            assert!(report.is_good(), "{cut:?}: {report:?}");
        }
    }

    async fn check(&mut self, store: &Store, told: &Told, cut: Cut) {
        self.check_message(store, told, cut);
        self.check_history(store, cut).await;
        for name in &told.names {
            let name = InstanceName::new(name).unwrap();
            let known = store.instance(&name).is_some()
                || store.closed_instance(&name).await.unwrap().is_some();
            assert!(known, "{cut:?}: {name} was told to GitHub, and the store does not know it");
        }
    }

    /// The number of the last message is in the same commit as what it says. With its session it is void.
    fn check_message(&self, store: &Store, told: &Told, cut: Cut) {
        let pools = store.pools();
        let Some(state) = pools.values().find(|state| state.pool.demand.known) else { return };
        let last = state.pool.demand.last_message_id;
        assert!(
            last >= told.message,
            "{cut:?}: acknowledged {:?}, the store has {last:?}",
            told.message
        );
    }

    /// What was once safe stays: with nothing but the synced, the history only grows.
    async fn check_history(&mut self, store: &Store, cut: Cut) {
        let newest = EventFilter { limit: 1, ..EventFilter::default() };
        let newest = store.events(newest).await.unwrap().last().map_or(0, |row| row.id);
        assert!(
            newest >= self.events,
            "{cut:?}: {} events were safe, {newest} are left",
            self.events
        );
        if cut == Cut::AllLost {
            self.events = newest;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_power_cut_is_survived() {
    let Some(strace) = component("strace", "FLEETFOOT_TEST_STRACE") else { return };
    let bed = Bed::new().await;
    bed.process_pools(&[("cut", 3)]);
    let traces = [bed.path("trace.1"), bed.path("trace.2")];

    let mut daemon = start(&bed, &strace, &traces[0]).await;
    bed.queue("cut", 24, 30);
    bed.all_succeeded(24, Duration::from_secs(120)).await;
    bed.nothing_left().await;
    kill_process(daemon_pid(&bed), Signal::TERM).unwrap();
    daemon.ended(BOUND).await;

    let mut daemon = start(&bed, &strace, &traces[1]).await;
    bed.queue("cut", 30, 30);
    bed.github.wait_until(BOUND, |state| state.summary.jobs_completed >= 40).await.unwrap();
    kill_process(daemon_pid(&bed), Signal::KILL).unwrap();
    daemon.ended(BOUND).await;

    let state_dir = bed.state_dir().to_str().unwrap().to_owned();
    let mut disk = Disk::new(&state_dir);
    let mut told = Told::default();
    let place = tempfile::tempdir_in(memory()).unwrap();
    let chance = fastrand::Rng::with_seed(7);
    let mut replay =
        Replay { place, chance, seen: HashSet::new(), moments: 0, events: 0, opened: 0 };
    let mut syncs = 0;
    for trace in &traces {
        // A new daemon opens a new session, and messages count anew.
        told.message = None;
        let text = std::fs::read_to_string(trace).unwrap();
        for event in trace::read(&text, &state_dir) {
            match &event {
                Event::Acknowledged { message } => told.message = told.message.max(Some(*message)),
                Event::Named { name } if name.starts_with("cut-") => {
                    told.names.insert(name.clone());
                }
                Event::Synced { path } if !path.contains("/instances") => {
                    syncs += 1;
                    replay.cut(&disk, &told).await;
                }
                Event::Named { .. }
                | Event::Synced { .. }
                | Event::Opened { .. }
                | Event::Wrote { .. }
                | Event::Cut { .. }
                | Event::Renamed { .. }
                | Event::Linked { .. }
                | Event::Unlinked { .. } => {}
            }
            disk.apply(&event);
        }
        replay.cut(&disk, &told).await;
    }
    eprintln!(
        "{syncs} syncs, {} states opened, {} names and message {:?} told",
        replay.opened,
        told.names.len(),
        told.message
    );
    assert!(syncs > 100 && told.names.len() >= 30 && told.message.is_some(), "the trace tells");
}
