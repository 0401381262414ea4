//! Real guests of a real libvirtd: the daemon restarts, guests reboot, power off and crash, and one waits suspended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test"
)]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetfoot_provisioner::{
    EnvironmentSpec, EnvironmentState, Event, EventStream, Exit, Provisioner,
};
use fleetfoot_provisioner_libvirt::rpc::Connection;
use fleetfoot_provisioner_libvirt::{
    Address, DomainType, ExtraDisk, JitDelivery, LibvirtPool, LibvirtProvisioner, Network, Share,
    WarmMode,
};
use futures_util::StreamExt as _;

use support::{BOUND, Bench, engine, eventually, pool, provisioner, script, spec, virsh};

async fn state(
    provisioner: &LibvirtProvisioner,
    spec: &EnvironmentSpec,
) -> Option<EnvironmentState> {
    let listing = provisioner.list().await.unwrap();
    listing.environments.into_iter().find(|it| it.name == spec.name).map(|it| it.state)
}

async fn start(provisioner: &LibvirtProvisioner, text: &str) -> EnvironmentSpec {
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    provisioner.launch(&spec, &handle, &script(text)).await.unwrap();
    spec
}

async fn end(events: &mut EventStream, spec: &EnvironmentSpec) -> Exit {
    loop {
        let event = tokio::time::timeout(BOUND, events.next()).await.expect("an event").unwrap();
        match event {
            Event::Ended { name, exit } if name == spec.name => return exit,
            Event::Ended { .. } | Event::Resynced => {}
        }
    }
}

/// A daemon of the test's own; ended with it.
struct Own {
    child: Child,
}

impl Own {
    async fn start(bench: &Bench, directory: &Path) -> Self {
        let child = Command::new(&bench.script)
            .arg(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let socket = directory.join("libvirt-sock");
        eventually("the daemon answers", || async { virsh(&socket, &["version"]).await.0 }).await;
        Self { child }
    }

    /// Ends the daemon alone; its machines live on.
    fn kill(&mut self, directory: &Path) {
        let pid = std::fs::read_to_string(directory.join("pid")).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
        self.child.wait().unwrap();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It is an init that passes the signal on to the daemon; killed, it would leave it behind.
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        }
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_loses_no_machine() {
    let Some(bench) = support::bench() else { return };
    // Short: a socket's path has room for 107 bytes.
    let directory = tempfile::Builder::new().prefix("lv").tempdir().unwrap();
    let own = directory.path().join("d");
    std::fs::create_dir(&own).unwrap();
    let mut daemon = Own::start(&bench, &own).await;
    let bench = Bench { socket: own.join("libvirt-sock"), ..bench };
    let provisioner = provisioner(&bench, directory.path());
    let mut events = provisioner.watch().await.unwrap();
    let job =
        start(&provisioner, "echo begun; while [ ! -e /tmp/go ]; do sleep 0.2; done; exit 5").await;
    assert_eq!(state(&provisioner, &job).await, Some(EnvironmentState::Running));
    daemon.kill(&own);
    assert!(provisioner.list().await.is_err());
    daemon = Own::start(&bench, &own).await;
    let resynced = tokio::time::timeout(BOUND, events.next()).await.unwrap();
    assert_eq!(resynced, Some(Event::Resynced));
    assert_eq!(state(&provisioner, &job).await, Some(EnvironmentState::Running));
    // A second machine beside the first; then the first job ends, and its exit status is found.
    let command = r#"{"execute":"guest-exec","arguments":{"path":"/bin/touch","arg":["/tmp/go"]}}"#;
    // A libvirtd that was started just now finds the agent's channel again after a moment.
    let sent = async {
        loop {
            let (ok, told) =
                virsh(&bench.socket, &["qemu-agent-command", job.name.as_str(), command]).await;
            if ok {
                return;
            }
            println!("{told}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(BOUND, sent).await.expect("the agent's channel");
    assert_eq!(end(&mut events, &job).await.code, Some(5));
    provisioner.delete(&job.name).await.unwrap();
    assert!(support::domains(&bench.socket).await.is_empty());
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_end_in_their_ways() {
    let Some(bench) = support::bench() else { return };
    let directory = tempfile::tempdir().unwrap();
    let provisioner = provisioner(&bench, directory.path());
    let mut events = provisioner.watch().await.unwrap();
    for (what, words) in
        [("sleep 1; reboot -f", "the machine"), ("sleep 1; poweroff -f", "the machine shut down")]
    {
        let spec = start(&provisioner, what).await;
        let exit = end(&mut events, &spec).await;
        assert!(
            exit.message.as_deref().is_some_and(|it| it.starts_with(words)),
            "{what}: {exit:?}"
        );
        assert_eq!(state(&provisioner, &spec).await, Some(EnvironmentState::Ended(exit)));
        provisioner.delete(&spec.name).await.unwrap();
    }
    let spec = start(&provisioner, "sleep 1000").await;
    let (ok, told) =
        virsh(&bench.socket, &["qemu-monitor-command", "--hmp", spec.name.as_str(), "quit"]).await;
    println!("quit: {ok} {told}");
    let exit = end(&mut events, &spec).await;
    assert_eq!(exit.code, None);
    provisioner.delete(&spec.name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_machine_wakes_for_its_job_with_the_time_of_now() {
    let Some(bench) = support::bench() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut pool = pool(&bench.guest, directory.path());
    pool.warm_mode = WarmMode::Suspended;
    let engine = engine(&bench.socket, &directory.path().join("records"));
    let provisioner = LibvirtProvisioner::new(engine, pool);
    let spec = spec();
    let handle = provisioner.create(&spec, None).await.unwrap();
    assert_eq!(state(&provisioner, &spec).await, Some(EnvironmentState::Created));
    let paused = || async {
        virsh(&bench.socket, &["domstate", spec.name.as_str()]).await.1.trim() == "paused"
    };
    eventually("it stands still", paused).await;
    assert_eq!(state(&provisioner, &spec).await, Some(EnvironmentState::Created));
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let begun = std::time::Instant::now();
    provisioner.launch(&spec, &handle, &script("date +%s; sleep 1000")).await.unwrap();
    println!("resumed and launched in {} ms", begun.elapsed().as_millis());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let launched = now();
    let mut guest = 0;
    eventually("the runner's first line", || async {
        provisioner.logs(&spec.name, 1).await.is_ok_and(|it| !it.is_empty())
    })
    .await;
    if let Ok(line) = provisioner.logs(&spec.name, 1).await {
        guest = line.trim().parse().unwrap();
    }
    assert!(launched.abs_diff(guest) <= 4, "guest {guest}, host {launched}");
    provisioner.delete(&spec.name).await.unwrap();
}

/// Without an agent: the guest finds its JIT config on a seed, runs it and powers off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_starts_the_runner_and_the_end_is_seen() {
    let Some(bench) = support::bench() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut settings = pool(&bench.guest, directory.path());
    settings.jit = JitDelivery::Seed;
    let daemon = engine(&bench.socket, &directory.path().join("records"));
    let provisioner = LibvirtProvisioner::new(daemon, settings);
    assert!(!provisioner.capabilities().late_binding);
    let mut events = provisioner.watch().await.unwrap();
    // The first ends its machine itself; the second's is ended for it.
    for jit in ["poweroff -f; sleep 1000", "sleep 1"] {
        let spec = spec();
        let handle = provisioner.create(&spec, Some(&script(jit))).await.unwrap();
        assert_eq!(provisioner.create(&spec, Some(&script(jit))).await.unwrap(), handle);
        assert_eq!(state(&provisioner, &spec).await, Some(EnvironmentState::Running));
        let seed = directory.path().join(format!("{}.iso", spec.name));
        assert!(seed.exists());
        let (_, xml) = virsh(&bench.socket, &["dumpxml", spec.name.as_str()]).await;
        assert!(xml.contains(&seed.display().to_string()), "{xml}");
        assert_eq!(end(&mut events, &spec).await.code, None);
        assert!(matches!(state(&provisioner, &spec).await, Some(EnvironmentState::Ended(_))));
        provisioner.delete(&spec.name).await.unwrap();
        assert!(!seed.exists());
    }
    assert_eq!(provisioner.check().await, []);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "the records' directory alone: {left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_boots_a_real_machine_and_leaves_nothing() {
    let Some(bench) = support::bench() else { return };
    let directory = tempfile::tempdir().unwrap();
    let provisioner = provisioner(&bench, directory.path());
    assert_eq!(provisioner.check().await, []);
    let left = support::domains(&bench.socket).await;
    assert!(!left.iter().any(|name| name.starts_with("fleetfoot-trial")), "{left:?}");
}

/// What a file of the original asks for that names an image and a mount and nothing else: UEFI (with Secure Boot, by the
/// firmware that libvirt chooses), q35, virtio-scsi, the network `default`, and a directory of the host by virtiofs. Only the
/// processor is emulated here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_originals_default_machine_boots_by_uefi_and_has_its_mount() {
    let Some(bench) = support::bench() else { return };
    let image = std::env::var_os("FLEETFOOT_TEST_LIBVIRT_EFI_GUEST").expect("beside the guest");
    let directory = tempfile::tempdir().unwrap();
    let shared = directory.path().join("cache");
    std::fs::create_dir(&shared).unwrap();
    let mut pool = LibvirtPool::new(Path::new(&image));
    pool.domain_type = DomainType::Qemu;
    pool.overlay_dir = directory.path().to_owned();
    pool.agent_max = BOUND;
    pool.memory_mib = 512;
    pool.mounts = vec![Share { source: shared.display().to_string(), tag: None }];
    let (_, networks) = support::virsh(&bench.socket, &["net-list", "--name"]).await;
    if !networks.lines().any(|name| name.trim() == "default") {
        let (started, told) = virsh(&bench.socket, &["net-start", "default"]).await;
        assert!(started, "{told}");
    }
    let engine = engine(&bench.socket, &directory.path().join("records"));
    let provisioner = LibvirtProvisioner::new(engine, pool);
    let mut events = provisioner.watch().await.unwrap();
    // The guest brings its drivers up while its agent answers already.
    let text = "mkdir -p /m\nuntil mount -t virtiofs cache /m; do sleep 1; done\nls /sys/class/net /dev/sda /sys/firmware/efi >/m/said\numount /m\nexit 3";
    let spec = start(&provisioner, text).await;
    assert_eq!(end(&mut events, &spec).await.code, Some(3));
    let said = std::fs::read_to_string(shared.join("said")).unwrap();
    for wanted in ["eth0", "/dev/sda", "efivars"] {
        assert!(said.contains(wanted), "{wanted} of {said}");
    }
    provisioner.delete(&spec.name).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 2, "records and the mount alone: {left:?}");
    let (ended, told) = virsh(&bench.socket, &["net-destroy", "default"]).await;
    assert!(ended, "{told}");
}

/// Two at once from one memory: each is a machine of its own, and its job may not notice that it was another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clones_of_one_memory_are_machines_of_their_own() {
    let Some(bench) = support::bench() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut settings = pool(&bench.guest, directory.path());
    settings.warm_mode = WarmMode::Snapshot;
    settings.network = Network::User;
    let daemon = engine(&bench.socket, &directory.path().join("records"));
    let first = LibvirtProvisioner::new(daemon.clone(), settings.clone());
    let begun = std::time::Instant::now();
    first.prepare().await.unwrap();
    println!("template after {} ms", begun.elapsed().as_millis());
    let templates = directory.path().join("records/templates");
    let notes = || std::fs::read_dir(&templates).unwrap().count();
    assert_eq!(notes(), 1);
    // The next start of the program finds it.
    let provisioner = LibvirtProvisioner::new(daemon.clone(), settings.clone());
    let specs = [spec(), spec()];
    let begun = std::time::Instant::now();
    let (one, two) =
        tokio::join!(provisioner.create(&specs[0], None), provisioner.create(&specs[1], None));
    println!("two clones after {} ms", begun.elapsed().as_millis());
    assert_ne!(one.as_ref().unwrap(), two.as_ref().unwrap());
    let record = |spec: &EnvironmentSpec| {
        let path = directory.path().join(format!("records/{}.json", spec.name));
        std::fs::read_to_string(path).unwrap()
    };
    let mut told = Vec::new();
    for (spec, handle) in specs.iter().zip([one.unwrap(), two.unwrap()]) {
        assert!(record(spec).contains("fleetfoot-template"), "a clone, not booted");
        let say = "head -c 32 /dev/urandom | base64; cat /proc/sys/kernel/random/uuid; cat /sys/class/net/e*/address; date +%s; cat /etc/machine-id; sleep 1000";
        provisioner.launch(spec, &handle, &script(say)).await.unwrap();
        let lines = || async {
            provisioner
                .logs(&spec.name, 9)
                .await
                .map(|it| it.lines().map(str::to_owned).collect::<Vec<_>>())
        };
        eventually("it speaks", || async { lines().await.is_ok_and(|it| it.len() == 5) }).await;
        let lines = lines().await.unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(now.abs_diff(lines[3].parse().unwrap()) < 30, "{lines:?}");
        // The address that the machine has is the one that its description has.
        let (_, xml) = virsh(&bench.socket, &["dumpxml", spec.name.as_str()]).await;
        assert!(xml.contains(&lines[2]), "{} in {xml}", lines[2]);
        assert!(!xml.contains("fleetfoot-template-") || xml.contains("backingStore"), "{xml}");
        told.push(lines);
    }
    for (at, what) in [(0, "random bytes"), (1, "kernel's uuid"), (2, "address"), (4, "machine id")]
    {
        assert_ne!(told[0][at], told[1][at], "{what}");
    }
    // What came to the jobs is in no template: neither in its memory nor on its disk.
    let is_template = |entry: &std::fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with("fleetfoot-template")
    };
    let files: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().flatten().filter(is_template).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        let bytes = std::fs::read(file.path()).unwrap();
        let is_in = |part: &[u8]| memchr::memmem::find(&bytes, part).is_some();
        assert!(!is_in(b"ACTIONS_RUNNER_INPUT_JITCONFIG=head"), "{file:?}");
        assert!(!is_in(b"head -c 32 /dev/urandom"), "{file:?}");
    }
    // Another image, as far as anybody can tell: another template; the old one stays while machines stand on it.
    let file = std::fs::File::options().append(true).open(&bench.guest).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
    let third = spec();
    provisioner.create(&third, None).await.unwrap();
    assert_eq!(notes(), 2);
    for spec in specs.iter().chain([&third]) {
        provisioner.delete(&spec.name).await.unwrap();
    }
    file.set_modified(SystemTime::now()).unwrap();
    provisioner.prepare().await.unwrap();
    assert_eq!(notes(), 1, "what nobody stands on is gone");
    let left = support::domains(&bench.socket).await;
    assert!(!left.iter().any(|name| name.starts_with("fleetfoot-template")), "{left:?}");
    let of = |end: &str| {
        let names = std::fs::read_dir(directory.path()).unwrap().flatten();
        names.filter(|it| it.file_name().to_string_lossy().ends_with(end)).count()
    };
    assert_eq!((of(".memory"), of(".qcow2"), of(".fifo")), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_cloned_boots_and_check_says_why() {
    let Some(bench) = support::bench() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut settings = pool(&bench.guest, directory.path());
    settings.warm_mode = WarmMode::Snapshot;
    settings.disks = vec![ExtraDisk {
        path: directory.path().join("more.raw"),
        format: "raw".to_owned(),
        read_only: false,
    }];
    std::fs::write(&settings.disks[0].path, vec![0; 1 << 20]).unwrap();
    let daemon = engine(&bench.socket, &directory.path().join("records"));
    let provisioner = LibvirtProvisioner::new(daemon, settings);
    let findings = provisioner.check().await;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].message.contains("one disk of `disks`"), "{findings:?}");
    let spec = spec();
    provisioner.create(&spec, None).await.unwrap();
    assert_eq!(state(&provisioner, &spec).await, Some(EnvironmentState::Created));
    provisioner.delete(&spec.name).await.unwrap();
}

/// What each way to wait costs until the runner's process is started, beside the bare calls. Prints, and holds
/// nobody to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_each_way_to_wait_costs() {
    let Some(bench) = support::bench() else { return };
    let directory = tempfile::tempdir().unwrap();
    let daemon = engine(&bench.socket, &directory.path().join("records"));
    let settings = pool(&bench.guest, directory.path());
    let ms = |begun: std::time::Instant| begun.elapsed().as_secs_f64() * 1000.0;
    let address = Address::parse(&bench.socket.display().to_string()).unwrap();
    let bare = Connection::open(&address, "qemu:///system").await.unwrap();
    for mode in [WarmMode::Running, WarmMode::Suspended, WarmMode::Snapshot] {
        let mut settings = settings.clone();
        settings.warm_mode = mode;
        let provisioner = LibvirtProvisioner::new(daemon.clone(), settings);
        provisioner.prepare().await.unwrap();
        for round in 0..3 {
            let spec = spec();
            let begun = std::time::Instant::now();
            let handle = provisioner.create(&spec, None).await.unwrap();
            let made = ms(begun);
            let domain = bare.domain_named(spec.name.as_str()).await.unwrap().unwrap();
            let paused = || async {
                virsh(&bench.socket, &["domstate", spec.name.as_str()]).await.1.trim() == "paused"
            };
            if mode == WarmMode::Suspended {
                eventually("it stands still", paused).await;
            }
            let mut alone = Vec::new();
            for _ in 0..3 {
                let begun = std::time::Instant::now();
                if mode == WarmMode::Suspended {
                    bare.resume(&domain).await.unwrap();
                }
                let exec = r#"{"execute":"guest-exec","arguments":{"path":"/bin/true"}}"#;
                bare.agent(&domain, exec, std::time::Duration::from_secs(30)).await.unwrap();
                alone.push(ms(begun));
                if mode == WarmMode::Suspended {
                    bare.suspend(&domain).await.unwrap();
                }
            }
            let begun = std::time::Instant::now();
            provisioner.launch(&spec, &handle, &script("sleep 1000")).await.unwrap();
            let launched = ms(begun);
            println!(
                "FIGURE {mode:?} round {round}: made {made:.0} ms, launched {launched:.1} ms, bare {alone:.1?} ms"
            );
            provisioner.delete(&spec.name).await.unwrap();
        }
    }
}
