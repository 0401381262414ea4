//! Copies: taken beside a writer, put back, put back by hand, and a log that was taken away.

use std::fs;
use std::path::{Path, PathBuf};

use fleetfoot_core::{Phase, Timestamp, naming};
use fleetfoot_store::{
    Behind, CopyError, EventFilter, Location, Options, Search, StateDir, Store, back_up, inspect,
    put_back,
};

use crate::bed::{instance_name, pending, pool_name, with_pools};

const NOON: Timestamp = Timestamp(1_780_000_000_000);

struct Dir {
    dir: tempfile::TempDir,
    state: StateDir,
}

impl Dir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = state_dir(&dir.path().join("state"));
        Self { dir, state }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.state.store_file()
    }

    /// As the daemon opens it: with full durability, and so with a mark.
    async fn open(&self) -> Store {
        let options = Options { now: Some(NOON), ..Options::default() };
        let location = Location::Sqlite(self.store());
        self.state.open_store(location, options).await.unwrap()
    }

    async fn put_back(&self, backup: &Path) -> Result<fleetfoot_store::PutBack, CopyError> {
        put_back(&self.state, backup, "aside.sqlite", false).await
    }
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

async fn insert(store: &Store, name: &str) {
    let name = name.to_owned();
    store.update(move |txn| txn.insert_instance(pending(&name, "p"))).await.unwrap().unwrap();
}

/// A directory as a crash leaves it: with its log, without a word of goodbye.
fn crash_copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_beside_the_writer_is_whole_narrow_and_says_what_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    let store = dir.open().await;
    with_pools(&store, &["p"]).await;
    insert(&store, "p-00000001").await;
    let to = dir.path("one.sqlite");
    let taken = back_up(&dir.store(), &to, false, NOON).unwrap();
    assert_eq!(taken.bytes, fs::metadata(&to).unwrap().len());
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&to).unwrap();
    let again = back_up(&dir.store(), &to, false, NOON).unwrap_err();
    assert!(matches!(again, CopyError::Exists { .. }), "{again}");
    assert_eq!(fs::read(&to).unwrap(), before);
    insert(&store, "p-00000002").await;
    back_up(&dir.store(), &to, true, NOON).unwrap();
    let itself = back_up(&dir.store(), &dir.store(), true, NOON).unwrap_err();
    assert!(matches!(itself, CopyError::Itself { .. }), "{itself}");
    let report = inspect(&Location::Sqlite(to.clone())).await.unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.backup_taken_at, Some(NOON));
    assert_eq!(report.installation.as_deref(), Some(store.installation().as_str()));
    assert_eq!((report.rows["pools"], report.rows["instances"]), (1, 2));
    let own = inspect(&Location::Sqlite(dir.store())).await.unwrap();
    assert_eq!((own.backup_taken_at, own.behind), (None, None));
    assert!(own.log_bytes > Some(0), "{own:?}");
    // What is read beside the writer leaves nothing and holds nothing up.
    insert(&store, "p-00000003").await;
    store.close().await;
    assert!(!dir.path("one.sqlite.partial").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_store_is_behind_until_all_was_looked_at() {
    let dir = Dir::new();
    let store = dir.open().await;
    with_pools(&store, &["p"]).await;
    insert(&store, "p-00000001").await;
    let to = dir.path("one.sqlite");
    back_up(&dir.store(), &to, false, NOON).unwrap();
    insert(&store, "p-00000002").await;
    store.close().await;

    let put = dir.put_back(&to).await.unwrap();
    assert_eq!(put.report.backup_taken_at, Some(NOON));
    let aside = put.aside.unwrap();
    let kept = Store::open_read_only(Location::Sqlite(aside)).await.unwrap();
    assert_eq!(kept.pool(&pool_name("p")).unwrap().instances.len(), 2, "nothing is thrown away");

    let restored = Behind::Restored { taken_at: Some(NOON) };
    for _ in 0..2 {
        let store = dir.open().await;
        assert_eq!(store.behind(), Some(restored), "over restarts");
        assert_eq!(store.pool(&pool_name("p")).unwrap().instances.len(), 1);
        assert!(store.name_floor() > 0);
        store.close().await;
    }
    let report = inspect(&Location::Sqlite(dir.store())).await.unwrap();
    assert_eq!((report.behind, report.backup_taken_at), (Some(restored), None));
    let store = dir.open().await;
    let told = store.events(EventFilter::default()).await.unwrap();
    let told: Vec<_> = told.iter().filter(|row| row.event.phrase == "store is behind").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].event.fields["cause"], "restored");
    store.strays_seen().await.unwrap();
    assert_eq!(store.behind(), None);
    store.close().await;
    let store = dir.open().await;
    assert_eq!(store.behind(), None);
    assert!(store.name_floor() > 0, "no name was given since");
    // A backup of it is a backup of now.
    back_up(&dir.store(), &to, true, Timestamp(7)).unwrap();
    let report = inspect(&Location::Sqlite(to)).await.unwrap();
    assert_eq!((report.behind, report.backup_taken_at), (None, Some(Timestamp(7))));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_is_refused_in_one_line() {
    let dir = Dir::new();
    let store = dir.open().await;
    with_pools(&store, &["p"]).await;
    let to = dir.path("one.sqlite");
    back_up(&dir.store(), &to, false, NOON).unwrap();
    store.close().await;
    let before = fs::read(dir.store()).unwrap();
    let refused = |error: CopyError, part: &str| {
        let text = error.to_string();
        assert!(text.contains(part) && !text.contains('\n'), "{text}");
    };

    let lock = dir.state.lock().unwrap();
    refused(dir.put_back(&to).await.unwrap_err(), "is in use by process");
    lock.release();
    refused(dir.put_back(&dir.path("nothing")).await.unwrap_err(), "there is no file");
    refused(dir.put_back(&dir.store()).await.unwrap_err(), "is the store itself");
    fs::write(dir.path("text"), "no database at all, whatever it is called").unwrap();
    refused(dir.put_back(&dir.path("text")).await.unwrap_err(), "damaged");
    fs::write(dir.path("empty"), "").unwrap();
    refused(dir.put_back(&dir.path("empty")).await.unwrap_err(), "there is no store");
    let mut torn = fs::read(&to).unwrap();
    let middle = torn.len() / 2 / 4096 * 4096;
    torn[middle..middle + 4096].fill(0xa5);
    fs::write(dir.path("torn"), &torn).unwrap();
    refused(dir.put_back(&dir.path("torn")).await.unwrap_err(), "");
    let row = rusqlite::Connection::open(&to).unwrap();
    row.execute("UPDATE fleetfoot_pools SET intent = 'dance'", []).unwrap();
    drop(row);
    refused(dir.put_back(&to).await.unwrap_err(), "dance");

    assert_eq!(fs::read(dir.store()).unwrap(), before, "nothing changed");
    let left: Vec<_> = fs::read_dir(dir.state.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("aside") || name.contains("restoring"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_knows_where_it_belongs() {
    let (one, other) = (Dir::new(), Dir::new());
    let store = one.open().await;
    with_pools(&store, &["p"]).await;
    let installation = store.installation().clone();
    let to = one.path("one.sqlite");
    back_up(&one.store(), &to, false, NOON).unwrap();
    store.close().await;
    other.open().await.close().await;
    let error = other.put_back(&to).await.unwrap_err();
    assert!(matches!(error, CopyError::OtherInstallation { .. }), "{error}");
    put_back(&other.state, &to, "aside.sqlite", true).await.unwrap();
    let store = other.open().await;
    assert_eq!(*store.installation(), installation, "forced: it is that one from now on");
    store.close().await;
    // A new machine has nothing yet: the backup brings the identity along.
    let bare = Dir::new();
    assert!(put_back(&bare.state, &to, "aside.sqlite", false).await.unwrap().aside.is_none());
    let store = bare.open().await;
    assert_eq!(*store.installation(), installation);
    assert!(store.behind().is_some());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_crash_left_in_the_log_is_kept_aside_and_spoils_nothing() {
    let dir = Dir::new();
    let store = dir.open().await;
    with_pools(&store, &["p"]).await;
    let to = dir.path("one.sqlite");
    back_up(&dir.store(), &to, false, NOON).unwrap();
    for number in 0..200 {
        insert(&store, &format!("p-{number:08x}")).await;
    }
    let crashed = Dir { dir: tempfile::tempdir().unwrap(), state: dir.state.clone() };
    crash_copy(dir.state.path(), &crashed.path("state"));
    store.close().await;
    let crashed = Dir { state: state_dir(&crashed.path("state")), ..crashed };
    let log = crashed.store().with_file_name("store.sqlite-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    let put = crashed.put_back(&to).await.unwrap();
    assert!(!log.exists(), "no log lies beside another store");
    let kept = Store::open_read_only(Location::Sqlite(put.aside.unwrap())).await.unwrap();
    assert_eq!(kept.pool(&pool_name("p")).unwrap().instances.len(), 200, "log included");
    let store = crashed.open().await;
    assert_eq!(store.pool(&pool_name("p")).unwrap().instances.len(), 0);
    assert_eq!(store.behind(), Some(Behind::Restored { taken_at: Some(NOON) }));
    store.check().await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_taken_away_is_never_silent() {
    let dir = Dir::new();
    let store = dir.open().await;
    with_pools(&store, &["p"]).await;
    for number in 0..50 {
        insert(&store, &format!("p-{number:08x}")).await;
    }
    let crashed = tempfile::tempdir().unwrap();
    crash_copy(dir.state.path(), crashed.path());
    store.close().await;
    for cut in [false, true] {
        let place = tempfile::tempdir().unwrap();
        crash_copy(crashed.path(), place.path());
        let log = place.path().join("store.sqlite-wal");
        if cut {
            fs::write(&log, "").unwrap();
        } else {
            fs::remove_file(&log).unwrap();
        }
        let _ = fs::remove_file(place.path().join("store.sqlite-shm"));
        let place = Dir { state: state_dir(place.path()), dir: place };
        let error =
            match place.state.open_store(Location::Sqlite(place.store()), Options::default()).await
            {
                Ok(store) => {
                    assert!(
                        matches!(store.behind(), Some(Behind::LogGone | Behind::Lost)),
                        "{store:?}"
                    );
                    store.close().await;
                    continue;
                }
                Err(error) => error.to_string(),
            };
        assert!(error.contains("damaged") && !error.contains('\n'), "{error}");
    }
    // With its log it is whole.
    let place = Dir { state: state_dir(crashed.path()), dir: crashed };
    let store = place.open().await;
    assert_eq!(store.behind(), None);
    assert_eq!(store.pool(&pool_name("p")).unwrap().instances.len(), 50);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_put_back_by_hand_is_found_out() {
    let dir = Dir::new();
    let store = dir.open().await;
    with_pools(&store, &["p"]).await;
    store.close().await;
    // As `cp` and every other tool makes one.
    let older = fs::read(dir.store()).unwrap();
    for _ in 0..3 {
        let store = dir.open().await;
        assert_eq!(store.behind(), None, "an ordinary start");
        store.close().await;
    }
    fs::write(dir.store(), &older).unwrap();
    let store = dir.open().await;
    assert_eq!(store.behind(), Some(Behind::Older));
    store.strays_seen().await.unwrap();
    store.close().await;
    // A backup of ours, copied over the store without a word, is one as well.
    let to = dir.path("one.sqlite");
    let store = dir.open().await;
    assert_eq!(store.behind(), None);
    back_up(&dir.store(), &to, false, NOON).unwrap();
    store.close().await;
    fs::copy(&to, dir.store()).unwrap();
    let store = dir.open().await;
    assert_eq!(store.behind(), Some(Behind::Restored { taken_at: Some(NOON) }));
    store.close().await;
}

/// Gives so many names to pool `p`, as the controller does; the names.
async fn give_names(store: &Store, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        let (floor, installation) = (store.name_floor(), store.installation().clone());
        let name = store
            .update(move |txn| {
                let row = txn.pool_mut(&pool_name("p")).unwrap();
                row.last_name = naming::next_number(row.last_name, floor, NOON);
                let name = naming::numbered(&installation, &pool_name("p"), row.last_name);
                txn.insert_instance(pending(name.as_str(), "p")).unwrap();
                name
            })
            .await
            .unwrap();
        names.push(name.to_string());
    }
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_is_given_twice_however_old_the_store_is() {
    let dir = Dir::new();
    let store = dir.open().await;
    with_pools(&store, &["p"]).await;
    let mut given = give_names(&store, 20).await;
    let to = dir.path("one.sqlite");
    back_up(&dir.store(), &to, false, NOON).unwrap();
    // A burst far ahead of the clock, which stands still here.
    given.extend(give_names(&store, 700).await);
    store.close().await;
    // All was looked at and nothing made, then it starts anew: its count is of the past all the same (seed 854).
    for (lost, again) in [(false, true), (true, false), (false, false), (true, true)] {
        if lost {
            for name in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
                let _ = fs::remove_file(dir.state.path().join(name));
            }
        } else {
            let aside = format!("aside-{}", given.len());
            put_back(&dir.state, &to, &aside, false).await.unwrap();
        }
        let mut store = dir.open().await;
        assert!(store.behind().is_some());
        if lost {
            with_pools(&store, &["p"]).await;
        }
        if again {
            store.strays_seen().await.unwrap();
            store.close().await;
            store = dir.open().await;
            assert_eq!(store.behind(), None);
        }
        given.extend(give_names(&store, 300).await);
        store.close().await;
    }
    let mut distinct = given.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), given.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_the_past_are_not_trusted() {
    let dir = Dir::new();
    let store = dir.open().await;
    with_pools(&store, &["p"]).await;
    insert(&store, "p-00000001").await;
    store.update(|txn| txn.distrust_pool(&pool_name("p"), NOON)).await.unwrap();
    let row = store.instance(&instance_name("p-00000001")).unwrap();
    assert_eq!(row.phase, Phase::Stopping, "its name may be used up");
    store.close().await;
}
