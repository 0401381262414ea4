//! The state directory: found, made, guarded, locked.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fleetfoot_store::{Location, LockError, Options, Search, StateDir, StateDirError};

fn nowhere() -> Search {
    Search {
        key: None,
        state_directory: None,
        // Below a file nothing can be made, not even by root.
        system: "/proc/version/fleetfoot".into(),
        state_home: None,
        temporary: Vec::new(),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn places_are_tried_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let mut search = nowhere();
    search.temporary = vec![place("")];
    let found = StateDir::resolve(&search).unwrap();
    assert!(found.path().starts_with(dir.path()));
    assert!(found.path().file_name().unwrap().to_str().unwrap().starts_with("fleetfoot-"));
    assert!(found.warning().unwrap().contains("StateDirectory=fleetfoot"));
    assert_eq!(mode(found.path()), 0o700);

    search.state_home = Some(place("home/.local/state"));
    let found = StateDir::resolve(&search).unwrap();
    assert_eq!(found.path(), place("home/.local/state/fleetfoot"));
    assert_eq!((mode(found.path()), found.warning()), (0o700, None));
    search.system = place("system");
    assert_eq!(StateDir::resolve(&search).unwrap().path(), place("system"));
    search.state_directory = Some(place("systemd"));
    assert_eq!(StateDir::resolve(&search).unwrap().path(), place("systemd"));
    search.key = Some(place("a/b/key"));
    assert_eq!(StateDir::resolve(&search).unwrap().path(), place("a/b/key"));
}

#[test]
fn a_named_place_is_used_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut search = nowhere();
    search.state_home = Some(dir.path().to_owned());
    search.key = Some("/proc/version/named".into());
    let error = StateDir::resolve(&search).unwrap_err();
    assert!(matches!(error, StateDirError::Unusable { .. }));
    assert!(error.to_string().contains("/proc/version/named"), "{error}");
    let error = StateDir::resolve(&nowhere()).unwrap_err().to_string();
    assert!(error.contains("state_dir") && error.contains("/proc/version/fleetfoot"), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn shared_places_are_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let mut search = nowhere();
    search.temporary = vec![dir.path().to_owned()];
    let name = format!("fleetfoot-{}", rustix::process::geteuid().as_raw());
    let ours = dir.path().join(name);

    symlink(dir.path(), &ours).unwrap();
    let error = StateDir::resolve(&search).unwrap_err();
    assert!(matches!(error, StateDirError::Unsafe { .. }), "{error}");
    assert!(error.to_string().contains("symbolic link"));
    fs::remove_file(&ours).unwrap();

    fs::write(&ours, "a file").unwrap();
    assert!(StateDir::resolve(&search).unwrap_err().to_string().contains("not a directory"));
    fs::remove_file(&ours).unwrap();

    fs::create_dir(&ours).unwrap();
    fs::set_permissions(&ours, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(mode(StateDir::resolve(&search).unwrap().path()), 0o700, "ours, made narrow");

    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&ours, Some(12_345), None).unwrap();
        let error = StateDir::resolve(&search).unwrap_err().to_string();
        assert!(error.contains("belongs to user 12345"), "{error}");
    } else {
        println!("SKIPPED: needs root to give a directory away");
    }
}

#[test]
fn the_second_holder_hears_who_has_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut search = nowhere();
    search.key = Some(dir.path().to_owned());
    let state = StateDir::resolve(&search).unwrap();
    let lock = state.lock().unwrap();
    let error = state.lock().unwrap_err();
    let pid = std::process::id();
    assert!(matches!(&error, LockError::Held { pid: Some(held), .. } if *held == pid), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("process {pid}")) && text.contains("--takeover"), "{text}");
    assert!(!text.contains('\n'));
    lock.release();
    let _again = state.lock().unwrap();
}

#[tokio::test]
async fn identities_stay_with_their_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut search = nowhere();
    search.key = Some(dir.path().to_owned());
    assert_eq!(StateDir::find(&search, None), None, "readers make nothing");
    let state = StateDir::resolve(&search).unwrap();
    let location = || Location::Sqlite(state.store_file());
    let store = state.open_store(location(), Options::default()).await.unwrap();
    let id = store.installation().clone();
    assert!(!store.was_lost());
    assert_eq!(state.installation().unwrap(), Some(id.clone()));
    assert_eq!(state.host_id().unwrap(), state.host_id().unwrap());
    assert_eq!(mode(&dir.path().join("installation-id")), 0o600);
    store.close().await;
    assert_eq!(StateDir::find(&search, None).as_ref().map(StateDir::path), Some(dir.path()));

    // The file is lost: the store knows it.
    fs::remove_file(dir.path().join("installation-id")).unwrap();
    let store = state.open_store(location(), Options::default()).await.unwrap();
    assert_eq!(state.installation().unwrap(), Some(id.clone()));
    assert!(!store.was_lost());
    store.close().await;

    // The store is lost, or emptied: the file knows it, and the store says so.
    for emptied in [false, true] {
        for file in fs::read_dir(dir.path()).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("store.sqlite") {
                fs::remove_file(path).unwrap();
            }
        }
        if emptied {
            fs::write(state.store_file(), "").unwrap();
        }
        let store = state.open_store(location(), Options::default()).await.unwrap();
        assert_eq!(*store.installation(), id);
        assert!(store.was_lost());
        store.close().await;
    }

    fs::write(dir.path().join("installation-id"), "not a name!\n").unwrap();
    let error = state.open_store(location(), Options::default()).await.unwrap_err().to_string();
    assert!(error.contains("installation-id"), "{error}");
}

#[test]
fn this_boot_has_an_id() {
    let id = fleetfoot_store::boot_id().unwrap();
    assert_eq!(id, fleetfoot_store::boot_id().unwrap());
    assert!(id.len() >= 32, "{id}");
}

/// Two of the original run beside each other, each with a file of its own.
#[test]
fn each_file_may_have_a_directory_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Path::new("/srv/one.yml"), Path::new("/srv/other.yml"));
    let mut search = nowhere();
    search.system = dir.path().join("system");
    let first = StateDir::resolve_of_file(&search, one).unwrap();
    assert_eq!(first, StateDir::resolve_of_file(&search, one).unwrap(), "always the same");
    assert!(first.path().starts_with(dir.path().join("system/files")));
    assert_eq!(mode(first.path()), 0o700);
    let second = StateDir::resolve_of_file(&search, other).unwrap();
    let _locks = (first.lock().unwrap(), second.lock().unwrap());
    assert_eq!(StateDir::find(&search, Some(one)).unwrap().path(), first.path());
    assert_eq!(StateDir::find(&search, Some(other)).unwrap().path(), second.path());
    // Without a file it would be a guess.
    assert_eq!(StateDir::find(&search, None), None);
    fs::remove_dir_all(second.path()).unwrap();
    assert_eq!(StateDir::find(&search, None).unwrap().path(), first.path());
    // The one of all others comes first then, and is what a file without its own means.
    let base = StateDir::resolve(&search).unwrap();
    let _base = base.lock().unwrap();
    assert_eq!(StateDir::find(&search, None).unwrap().path(), base.path());
    assert_eq!(StateDir::find(&search, Some(other)).unwrap().path(), base.path());
    // What was named is taken as it is.
    search.key = Some(dir.path().join("named"));
    assert_eq!(StateDir::resolve_of_file(&search, one).unwrap().path(), dir.path().join("named"));
}
