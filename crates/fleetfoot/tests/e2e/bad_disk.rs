//! A disk that is full or read-only, at the start and in the middle of a run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::harness::{BOUND, Bed, eventually, shims};

/// A small file system for the state directory alone, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(path: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let options = std::ffi::CString::new(format!("size={size},mode=0700")).unwrap();
        match mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(options.as_c_str())) {
            Ok(()) => Some(Self(path.to_owned())),
            Err(error) => {
                eprintln!("SKIPPED: needs root to mount a small disk ({error})");
                None
            }
        }
    }

    fn read_only(&self, yes: bool) {
        let flags = if yes { MountFlags::RDONLY } else { MountFlags::empty() };
        mount_remount(&self.0, flags, "").unwrap();
    }

    /// Leaves no byte.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.0.join("filler");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for size in [65_536, 4096, 512, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// One line on standard error and exit 1.
async fn start_fails(bed: &Bed, parts: &[&str]) {
    let mut daemon = bed.start();
    let status = daemon.ended(BOUND).await;
    let stderr = daemon.stderr();
    assert_eq!(status.code(), Some(1), "{stderr}");
    let line = stderr.lines().last().unwrap_or_default();
    let line = stderr.lines().find(|line| line.starts_with("fleetfoot: ")).unwrap_or(line);
    for part in parts {
        assert!(line.contains(part), "`{part}` in: {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_be_written_is_one_line_at_the_start() {
    let bed = Bed::new().await;
    let Some(disk) = SmallDisk::at(&bed.state_dir(), "4m") else { return };
    bed.process_pools(&[("disk", 1)]);
    let filler = disk.fill();
    start_fails(&bed, &["space"]).await;
    std::fs::remove_file(filler).unwrap();
    bed.start_ready().await.stop().await;
    disk.read_only(true);
    start_fails(&bed, &["ead-only"]).await;
    let found = bed.json(&["store", "check"]).await;
    assert_eq!(found["ok"], true, "a reader needs no room: {found}");
    disk.read_only(false);
    bed.start_ready().await.stop().await;
}

/// The disk fills up while jobs run: they do not notice, nothing is told to GitHub that is not in the store,
/// and room heals it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_and_gets_room_again() {
    let bed = Bed::new().await;
    let Some(disk) = SmallDisk::at(&bed.state_dir(), "64m") else { return };
    bed.write(&bed.config("host:\n  min_free_disk: 0\n", &[("disk", 4)], &bed.process()));
    let mut daemon = bed.start_ready().await;
    bed.queue("disk", 2, 6_000);
    bed.running(2).await;
    let before = shims(&bed.instances());
    let filler = disk.fill();
    bed.queue("disk", 6, 100);
    daemon.logs("store write failed").await;
    eventually("it says so again", BOUND, || async {
        (daemon.count("store write failed") > 1).then_some(())
    })
    .await;
    let named = bed.github.state().jit_calls.len();
    assert!(before.is_subset(&shims(&bed.instances())), "jobs run on");
    assert!(daemon.is_running());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bed.github.state().jit_calls.len(), named, "no name without a row");
    std::fs::remove_file(filler).unwrap();
    bed.all_succeeded(8, Duration::from_secs(90)).await;
    bed.nothing_left().await;
    let found = bed.json(&["store", "check"]).await;
    assert_eq!(found["ok"], true, "{found}");
    daemon.stop().await;
}
