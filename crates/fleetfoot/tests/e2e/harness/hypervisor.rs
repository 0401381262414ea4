//! A libvirt daemon, a guest for it, and this very binary as the runner inside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetfoot_provisioner_docker::image::{ImageContent, program_files};
use fleetfoot_provisioner_libvirt::Address;
use fleetfoot_provisioner_libvirt::rpc::{Connection, ListFlags};
use tokio::task::JoinHandle;

use super::bed::{Bed, PROGRAM};
use super::{component, eventually};

/// A guest boots on an emulated processor, with others beside it.
pub(crate) const BOOT_BOUND: Duration = Duration::from_secs(240);
const CMDLINE: &str = "quiet loglevel=3 console=ttyS0 random.trust_cpu=on mitigations=off tsc=reliable no_timer_check rcupdate.rcu_expedited=1";

pub(crate) struct Hypervisor {
    socket: PathBuf,
    guest: PathBuf,
    talk: Connection,
}

impl Hypervisor {
    pub(crate) async fn shared() -> Option<Self> {
        let socket: PathBuf = component("libvirt", "FLEETFOOT_TEST_LIBVIRT_SOCKET")?.into();
        let guest = component("libvirt", "FLEETFOOT_TEST_LIBVIRT_GUEST")?.into();
        let address = Address::parse(&socket.display().to_string()).unwrap();
        let talk = Connection::open(&address, "qemu:///system").await.unwrap();
        Some(Self { socket, guest, talk })
    }

    /// The lines of a runner that make it a machine: emulated, booted directly, with a way to the box.
    pub(crate) fn lines(&self, bed: &Bed, more: &str) -> String {
        let disk = bed.path("runner.img");
        if !disk.exists() {
            runner_disk(&disk);
            std::fs::create_dir(bed.path("overlays")).unwrap();
        }
        format!(
            "    libvirt:\n      path: {}\n      socket: {}\n      cpus: 1\n      memory: 192\n      type: qemu\n      \
             firmware: bios\n      machine: pc\n      bus: virtio\n      network: user\n      overlay_dir: {}\n      \
             disks: [{{ path: {}, format: raw, read_only: true }}]\n      kernel: {}\n      initrd: {}\n      \
             cmdline: {CMDLINE}\n      agent_timeout: 4m\n{more}",
            self.guest.display(),
            self.socket.display(),
            bed.path("overlays").display(),
            disk.display(),
            self.guest.with_extension("vmlinuz").display(),
            self.guest.with_extension("initrd").display(),
        )
    }

    /// The domains of these pools by name, with the id that is another for each start.
    pub(crate) async fn domains(&self, pools: &[&str]) -> BTreeMap<String, i32> {
        of_pools(&self.talk, pools).await.into_iter().collect()
    }

    pub(crate) async fn no_domains(&self, pools: &[&str]) {
        eventually("no domain of ours", BOOT_BOUND, || async {
            self.domains(pools).await.is_empty().then_some(())
        })
        .await;
    }

    /// How many domains of the pool were on at once, and whether one was ever started anew.
    pub(crate) async fn record(&self, pool: &str) -> Domains {
        let address = Address::parse(&self.socket.display().to_string()).unwrap();
        let talk = Connection::open(&address, "qemu:///system").await.unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (record, pool) = (seen.clone(), pool.to_owned());
        let task = tokio::spawn(async move {
            loop {
                let now = of_pools(&talk, &[&pool]).await;
                {
                    let mut seen = record.lock().unwrap();
                    // One that is not started yet, or is off, has no number.
                    let alive: Vec<_> = now.into_iter().filter(|(_, id)| *id >= 0).collect();
                    seen.most = seen.most.max(alive.len());
                    seen.starts.extend(alive);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        Domains { seen, task }
    }
}

async fn of_pools(talk: &Connection, pools: &[&str]) -> Vec<(String, i32)> {
    let all = talk.domains(ListFlags::ALL).await.unwrap();
    let ours = |name: &str| pools.iter().any(|pool| name.starts_with(&format!("{pool}-")));
    all.into_iter().filter(|it| ours(&it.name)).map(|it| (it.name, it.id)).collect()
}

#[derive(Default)]
struct Seen {
    most: usize,
    starts: BTreeSet<(String, i32)>,
}

/// What a daemon was seen to have.
pub(crate) struct Domains {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Domains {
    /// Checks the limit, and that each machine was started once.
    pub(crate) fn never_above(self, limit: usize) {
        self.task.abort();
        let seen = self.seen.lock().unwrap();
        assert!(seen.most > 0, "no machine was seen");
        assert!(seen.most <= limit, "{} > {limit}", seen.most);
        let names: BTreeSet<_> = seen.starts.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), seen.starts.len(), "started twice: {:?}", seen.starts);
    }
}

/// A read-only disk with this binary, called `run.sh`, and its libraries.
fn runner_disk(disk: &Path) {
    let root = disk.with_extension("d");
    std::fs::create_dir_all(root.join("lib")).unwrap();
    let run = root.join("run.sh");
    for file in program_files(Path::new(PROGRAM), Path::new("/run.sh")).unwrap() {
        let ImageContent::File(source) = file.content else { continue };
        let name = Path::new(file.path.file_name().unwrap());
        let to = if name == "run.sh" { run.clone() } else { root.join("lib").join(name) };
        std::fs::copy(source, to).unwrap();
    }
    // What a debugger wants of it is ten times the rest.
    succeeds(Command::new("strip").arg(&run));
    let bytes: u64 = [root.join("lib"), root.clone()]
        .iter()
        .flat_map(|dir| std::fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    let size = format!("{}M", (bytes >> 20) * 5 / 4 + 8);
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-L", "runner", "-d"]);
    succeeds(make.arg(&root).arg(disk).arg(size));
    std::fs::remove_dir_all(root).unwrap();
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
