//! A Mac of its own in a temporary directory, with the stand-in for `tart`, and looks for a level with a bound.
#![allow(dead_code, unreachable_pub, clippy::print_stdout, reason = "each test file uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use fleetfoot_provisioner::{
    EnvironmentSpec, EnvironmentState, InstallationId, InstanceName, JitConfig, PoolName,
    Provisioner,
};
use fleetfoot_provisioner_tart::{TartHost, TartPool, TartProvisioner};
use secrecy::SecretString;
use tempfile::TempDir;

pub const BOUND: Duration = Duration::from_secs(60);

pub fn installation() -> InstallationId {
    InstallationId::new("test-installation").unwrap()
}

pub fn name(text: &str) -> InstanceName {
    InstanceName::new(text).unwrap()
}

pub fn jit(script: &str) -> JitConfig {
    JitConfig::new(SecretString::from(base64::engine::general_purpose::STANDARD.encode(script)))
}

/// A Mac.
pub struct Bench {
    pub files: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let files = tempfile::Builder::new().prefix("fleetfoot-tart-").tempdir().unwrap();
        let bench = Self { files };
        for directory in ["home/stand-in", "tmp", "root"] {
            fs::create_dir_all(bench.path(directory)).unwrap();
        }
        // Each bench has its own home; and no process of ours ever has the file open for writing.
        let tart = format!(
            "#!/bin/sh\nTART_HOME={} exec {} \"$@\"\n",
            bench.home().display(),
            env!("CARGO_BIN_EXE_fleetfoot-tart-stand-in"),
        );
        write_program(&bench.path("tart"), &tart);
        let runner = "#!/bin/sh\n[ \"$1\" = --jitconfig ] || exit 99\nexec /bin/sh -c \"$(printf %s \"$2\" | base64 -d)\"\n";
        write_program(&bench.runner(), runner);
        bench.image("base", "linux");
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub fn runner(&self) -> PathBuf {
        self.path("run.sh")
    }

    pub fn machine(&self, name: &str) -> PathBuf {
        self.home().join("vms").join(name)
    }

    /// A local machine.
    pub fn image(&self, name: &str, os: &str) {
        let directory = self.machine(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("disk.img"), name).unwrap();
        fs::write(directory.join("nvram.bin"), "").unwrap();
        fs::write(directory.join("config.json"), format!("{{\"os\": \"{os}\"}}")).unwrap();
    }

    /// Tells the stand-in something.
    pub fn tell(&self, file: &str, text: &str) {
        let path = self.home().join("stand-in").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn untell(&self, file: &str) {
        fs::remove_file(self.home().join("stand-in").join(file)).unwrap();
    }

    /// The arguments of every call so far.
    pub fn calls(&self) -> Vec<Vec<String>> {
        let text = fs::read_to_string(self.home().join("stand-in/calls")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs the stand-in itself.
    pub fn tart(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(self.path("tart")).args(arguments).output().unwrap()
    }

    pub fn pool(&self) -> TartPool {
        let mut pool = TartPool::new("base");
        pool.runner_cmd = self.runner().display().to_string();
        pool
    }

    pub fn host(&self) -> TartHost {
        let keeper = env!("CARGO_BIN_EXE_fleetfoot-tart-keeper").into();
        TartHost::open(&self.path("root"), installation(), keeper, "outrunner")
            .unwrap()
            .with_tart(self.path("tart"), self.home())
            .with_temporary_directory(self.path("tmp"))
            .with_times(Duration::from_millis(50), Duration::from_secs(20), Duration::from_secs(5))
    }

    pub fn provisioner(&self) -> Arc<dyn Provisioner> {
        self.with(self.pool())
    }

    pub fn with(&self, pool: TartPool) -> Arc<dyn Provisioner> {
        Arc::new(TartProvisioner::new(Arc::new(self.host()), pool))
    }

    pub fn kept_logs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("tmp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Processes of this bench that have `word` in their arguments.
    pub fn processes_of(&self, word: &str) -> Vec<String> {
        let bench = self.files.path().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let read = |file: &str| {
                let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let (arguments, environment) = (read("cmdline"), read("environ"));
            if arguments.contains(word)
                && (arguments.contains(&bench) || environment.contains(&bench))
            {
                found.push(format!("{} {arguments}", entry.file_name().to_string_lossy()));
            }
        }
        found
    }

    /// What is left of these names, seen by other means than `list`.
    pub fn leftovers(&self, names: &[InstanceName]) -> Vec<String> {
        let mut left = Vec::new();
        for name in names {
            for path in [self.machine(name.as_str()), self.path("root").join(name.as_str())] {
                if path.exists() {
                    left.push(path.display().to_string());
                }
            }
            left.extend(self.processes_of(name.as_str()));
        }
        left
    }
}

pub fn write_program(path: &Path, text: &str) {
    let done = Command::new("/bin/sh")
        .args(["-c", "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .arg(text)
        .status()
        .unwrap();
    assert!(done.success());
}

pub fn spec(text: &str) -> EnvironmentSpec {
    let (pool, _) = text.rsplit_once('-').unwrap();
    EnvironmentSpec {
        name: name(text),
        pool: PoolName::new(pool).unwrap(),
        installation: installation(),
    }
}

/// Looks until `name` is in a state that `wanted` takes.
pub async fn state_of(
    provisioner: &dyn Provisioner,
    name: &InstanceName,
    wanted: impl Fn(&EnvironmentState) -> bool,
) -> EnvironmentState {
    let end = Instant::now() + BOUND;
    loop {
        let listing = provisioner.list().await.unwrap();
        let found = listing.environments.into_iter().find(|it| it.name == *name);
        if let Some(info) = &found
            && wanted(&info.state)
        {
            return info.state.clone();
        }
        assert!(Instant::now() < end, "{found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn ended(state: &EnvironmentState) -> bool {
    matches!(state, EnvironmentState::Ended(_))
}

/// Looks until `holds`.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + BOUND;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
