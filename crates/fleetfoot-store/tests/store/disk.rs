//! A disk that fills up under the store, and gets space again.

use std::fs;
use std::path::{Path, PathBuf};

use fleetfoot_store::{Fault, Location, Options, Store, UpdateError};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::bed::{pending, pool_name, with_pools};

/// A small file system in memory, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mounted(at: &Path) -> Option<Self> {
        let options = std::ffi::CString::new("size=1m").unwrap();
        match mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(options.as_c_str())) {
            Ok(()) => Some(Self(at.to_owned())),
            Err(_) => None,
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

async fn insert(store: &Store, number: u32) -> Result<(), UpdateError> {
    let mut instance = pending(&format!("p-{number:08x}"), "p");
    instance.last_error = Some("x".repeat(2_000));
    store.update(move |txn| txn.insert_instance(instance).unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_space_heals_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mounted(dir.path()) else {
        println!("SKIPPED: needs root to mount a small disk");
        return;
    };
    let location = Location::Sqlite(disk.0.join("store.sqlite"));
    let store = Store::open(location.clone(), Options::default()).await.unwrap();
    with_pools(&store, &["p"]).await;
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0_u8; 500_000]).unwrap();

    let mut done = 0;
    let error = loop {
        match insert(&store, done).await {
            Ok(()) => done += 1,
            Err(error) => break error,
        }
        assert!(done < 10_000, "the disk never fills up");
    };
    assert!(matches!(&error, UpdateError::Write { fault: Fault::Full, .. }), "{error}");
    assert!(error.to_string().contains("the disk is full"), "{error}");
    let count = |store: &Store| store.pool(&pool_name("p")).unwrap().instances.len();
    assert_eq!(count(&store), done as usize, "nothing of the failed one was published");
    assert!(insert(&store, 90_000).await.is_err(), "it says so again");

    fs::remove_file(&filler).unwrap();
    insert(&store, 100_000).await.unwrap();
    assert_eq!(count(&store), done as usize + 1);
    let present = store.pools();
    store.close().await;
    let store = Store::open(location, Options::default()).await.unwrap();
    assert_eq!(store.pools(), present, "everything acknowledged is there, and nothing else");
    store.check().await.unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_new_store_on_a_full_disk_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mounted(dir.path()) else {
        println!("SKIPPED: needs root to mount a small disk");
        return;
    };
    let _ = fs::write(disk.0.join("filler"), vec![0_u8; 2_000_000]);
    let location = Location::Sqlite(disk.0.join("store.sqlite"));
    let error = Store::open(location, Options::default()).await.unwrap_err().to_string();
    assert!(error.contains("disk is full") && !error.contains('\n'), "{error}");
}
