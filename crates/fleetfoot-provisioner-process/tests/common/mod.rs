//! A host of its own in a temporary directory, runners written in shell, and looks for a level with a bound.
#![allow(dead_code, unreachable_pub, clippy::print_stdout, reason = "each test file uses its part")]

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fleetfoot_provisioner::{
    EnvironmentInfo, EnvironmentSpec, EnvironmentState, Exit, Handle, InstallationId, InstanceName,
    JitConfig, PoolName, Provisioner,
};
use fleetfoot_provisioner_process::{ProcessHost, ProcessPool, ProcessProvisioner, RunnerSource};
use secrecy::SecretString;
use tempfile::TempDir;

pub const BOUND: Duration = Duration::from_secs(30);
/// Plays the shell script that it gets as its JIT config.
pub const RUN_SH: &str = "#!/bin/sh\nexec /bin/sh -c \"$ACTIONS_RUNNER_INPUT_JITCONFIG\"\n";

pub fn shim() -> PathBuf {
    env!("CARGO_BIN_EXE_fleetfoot-process-shim").into()
}

pub fn installation() -> InstallationId {
    InstallationId::new("test-installation").unwrap()
}

pub struct Bench {
    pub files: TempDir,
    pub host: Arc<ProcessHost>,
}

impl Bench {
    pub fn new() -> Self {
        let files = tempfile::Builder::new().prefix("fleetfoot-process-").tempdir().unwrap();
        // Jobs with a user id of their own pass through.
        fs::set_permissions(files.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let source = files.path().join("source");
        fs::create_dir(&source).unwrap();
        write_executable(&source.join("run.sh"), RUN_SH);
        let host = ProcessHost::open(&files.path().join("processes"), installation()).unwrap();
        Self { files, host }
    }

    pub fn root(&self) -> PathBuf {
        self.files.path().join("processes").canonicalize().unwrap()
    }

    pub fn directory(&self, name: &InstanceName) -> PathBuf {
        self.root().join(name.as_str())
    }

    pub fn pool(&self) -> ProcessPool {
        let mut pool =
            ProcessPool::new(RunnerSource::RunnerDirectory(self.files.path().join("source")));
        pool.stop_grace = Duration::from_secs(5);
        pool
    }

    pub fn provisioner(&self) -> ProcessProvisioner {
        self.with(self.pool())
    }

    pub fn with(&self, pool: ProcessPool) -> ProcessProvisioner {
        ProcessProvisioner::new(Arc::clone(&self.host), pool, shim())
    }

    /// As after a restart of the daemon.
    pub fn reopened(&self) -> ProcessProvisioner {
        let host = ProcessHost::open(&self.root(), installation()).unwrap();
        ProcessProvisioner::new(host, self.pool(), shim())
    }

    /// Fails if anything of any instance is left: directories, processes, cgroups.
    pub async fn clean(self, names: &[&InstanceName]) {
        let left =
            || names.iter().flat_map(|name| leftovers(&self.root(), name)).collect::<Vec<_>>();
        eventually("everything is gone", || async { left().is_empty() }).await;
        let entries = fs::read_dir(self.root()).unwrap();
        let entries: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert!(entries.iter().all(|name| name.to_string_lossy().starts_with('.')), "{entries:?}");
    }
}

pub fn write_executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

static POOLS: AtomicU32 = AtomicU32::new(0);
thread_local! {
    /// Tests run beside each other: each has a pool of its own, so that leftovers are told apart.
    static POOL: String = format!("p{}-{}", std::process::id(), POOLS.fetch_add(1, Ordering::Relaxed));
}

pub fn spec(suffix: u32) -> EnvironmentSpec {
    let pool = PoolName::new(&POOL.with(Clone::clone)).unwrap();
    EnvironmentSpec {
        name: InstanceName::of_pool(&pool, suffix),
        pool,
        installation: installation(),
    }
}

pub fn jit(script: &str) -> JitConfig {
    JitConfig::new(SecretString::from(script.to_owned()))
}

pub async fn start(provisioner: &dyn Provisioner, suffix: u32, script: &str) -> EnvironmentSpec {
    let spec = spec(suffix);
    let handle: Handle = provisioner.create(&spec, None).await.unwrap();
    provisioner.launch(&spec, &handle, &jit(script)).await.unwrap();
    spec
}

pub async fn listed(provisioner: &dyn Provisioner, name: &InstanceName) -> Option<EnvironmentInfo> {
    let listing = provisioner.list().await.unwrap();
    listing.environments.into_iter().find(|it| it.name == *name)
}

pub async fn ended(provisioner: &dyn Provisioner, name: &InstanceName) -> Exit {
    let end = Instant::now() + BOUND;
    loop {
        match listed(provisioner, name).await.map(|it| it.state) {
            Some(EnvironmentState::Ended(exit)) => return exit,
            state => assert!(Instant::now() < end, "not ended: {state:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn running(provisioner: &dyn Provisioner, name: &InstanceName) -> bool {
    listed(provisioner, name).await.map(|it| it.state) == Some(EnvironmentState::Running)
}

/// Looks again until it holds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let end = Instant::now() + BOUND;
    while !holds().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn file(path: &Path) -> String {
    eventually(&format!("{} is written", path.display()), || async {
        fs::read_to_string(path).is_ok_and(|text| text.ends_with('\n'))
    })
    .await;
    fs::read_to_string(path).unwrap().trim().to_owned()
}

pub async fn pid_in(path: &Path) -> i32 {
    file(path).await.parse().unwrap()
}

/// The process is there and no zombie.
pub fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

pub fn shim_pid(directory: &Path) -> i32 {
    let text = fs::read_to_string(directory.join("pid")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    i32::try_from(record["pid"].as_i64().unwrap()).unwrap()
}

pub fn kill(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// What is left of an instance, found by other means than the backend's own.
pub fn leftovers(root: &Path, name: &InstanceName) -> Vec<String> {
    let mut left = Vec::new();
    let directory = root.join(name.as_str());
    if directory.exists() {
        left.push(directory.display().to_string());
    }
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse::<i32>().ok()) else {
            continue;
        };
        let has = |file: &str| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&directory.display().to_string())
        };
        if lives(pid) && (has("cmdline") || has("environ")) {
            left.push(format!("process {pid}"));
        }
    }
    left.extend(cgroups(name.as_str()).into_iter().map(|path| path.display().to_string()));
    left
}

/// All cgroups with this name in theirs.
pub fn cgroups(name: &str) -> Vec<PathBuf> {
    fn walk(path: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let path = entry.path();
            if depth < 6 && path.is_dir() && !path.is_symlink() {
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(path.clone());
                }
                walk(&path, name, depth + 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), name, 0, &mut found);
    found
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether to skip for want of `what`; panics if the gate demands it.
pub fn lacks(what: &str, there: bool) -> bool {
    if there {
        return false;
    }
    let required = std::env::var("FLEETFOOT_TEST_REQUIRE").unwrap_or_default();
    assert!(
        !required.split([',', ' ']).any(|word| word == what),
        "{what} is required here, and missing"
    );
    println!("SKIPPED: needs {what}");
    true
}

pub fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|it| it.join(program).exists()))
}
