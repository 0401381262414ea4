//! A plugin made with the real go-plugin, and what it did.

pub(crate) mod harness;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fleetfoot_provisioner::{
    EnvironmentSpec, InstallationId, InstanceName, JitConfig, PoolName, ResourceType,
};
use fleetfoot_provisioner_shoes::script::{DOWNLOADS, Script, ScriptSettings};
use fleetfoot_provisioner_shoes::{
    HostSettings, PluginHost, ProcessModel, ShoesPool, ShoesProvisioner,
};
use tempfile::TempDir;
use tokio::sync::watch;

/// A host's processes have ended by then.
pub(crate) const END: Duration = Duration::from_secs(10);

/// The plugin's program, or `None` with a line that it is missing.
pub(crate) fn program() -> Option<PathBuf> {
    let program = std::env::var_os("FLEETFOOT_TEST_SHOES_PLUGIN").map(PathBuf::from);
    if program.is_none() {
        println!("SKIPPED: needs shoes-plugin");
    }
    program
}

/// A directory in which a plugin keeps its machines, and hosts of that plugin.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) settings: HostSettings,
}

impl Bench {
    pub(crate) fn new(program: PathBuf, modes: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let mut settings = HostSettings::new(program);
        settings.environment = vec![
            ("TEST_DIR".to_owned(), directory.path().display().to_string()),
            ("TEST_MODES".to_owned(), modes.to_owned()),
        ];
        Self { directory, settings }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn per_call(mut self) -> Self {
        self.settings.model = ProcessModel::PerCall;
        self
    }

    pub(crate) fn host(&self) -> Arc<PluginHost> {
        PluginHost::new(self.settings.clone())
    }

    /// What the plugin was called for: a line `<pid> <call> …` each.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The processes of the plugin that were started.
    pub(crate) fn started(&self) -> Vec<i32> {
        let calls = self.calls();
        let starts = calls.iter().filter_map(|line| line.strip_suffix(" start"));
        starts.map(|pid| pid.parse().unwrap()).collect()
    }

    pub(crate) fn machine(&self, cloud_id: &str) -> PathBuf {
        self.directory.path().join("machines").join(cloud_id)
    }
}

pub(crate) fn installation() -> InstallationId {
    InstallationId::new("test").unwrap()
}

pub(crate) fn pool() -> PoolName {
    PoolName::new("shoes").unwrap()
}

/// Settings of machines whose runner is `run.sh` in `base`.
pub(crate) fn script(base: &Path) -> ScriptSettings {
    ScriptSettings {
        version: "v2.330.0".to_owned(),
        checksums: String::new(),
        user: "root".to_owned(),
        base_directory: base.display().to_string(),
        downloads: DOWNLOADS.to_owned(),
    }
}

pub(crate) fn provisioner(host: Arc<PluginHost>, script: ScriptSettings) -> Arc<ShoesProvisioner> {
    let (_, script) = watch::channel(Some(Arc::new(Script::new(script))));
    let labels = vec!["scaleset".to_owned(), "acme".to_owned()];
    Arc::new(ShoesProvisioner::new(
        host,
        ShoesPool { resource_type: ResourceType::Micro, labels, script },
    ))
}

pub(crate) fn spec(number: u32) -> EnvironmentSpec {
    let name = InstanceName::of_pool(&pool(), number);
    EnvironmentSpec { name, pool: pool(), installation: installation() }
}

pub(crate) fn jit() -> JitConfig {
    JitConfig::new("blob".to_owned().into())
}

/// Looks until it holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether the process is there, a zombie included.
pub(crate) fn is_there(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
