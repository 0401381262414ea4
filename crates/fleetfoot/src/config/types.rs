//! The checked configuration: every value is usable as it stands.

mod backends;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::findings::Position;
pub use super::units::{Cpus, DiskShare};
pub use backends::{
    Backend, BindMount, DockerConfig, JitDelivery, LibvirtConfig, ProcessConfig, PullPolicy,
    RunnerSource, Sandbox, SimulatedConfig, TartConfig, TartMount, Tmpfs, WantedRelease,
};

/// A whole file, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it came from, as the operator named it.
    pub path: PathBuf,
    /// Where runners without a `url` of their own register.
    pub url: Option<String>,
    /// Token file for runners without a credential of their own.
    pub token_file: Option<PathBuf>,
    /// The `state_dir` key.
    pub state_dir: Option<PathBuf>,
    /// The file that holds the address of the database that several controllers share.
    pub store_url_file: Option<PathBuf>,
    /// Leftovers of the original program are taken up.
    pub takeover: bool,
    /// Where to serve health and metrics over TCP.
    pub listen: Option<Listen>,
    /// How much of the past is kept.
    pub history: History,
    /// Releases of GitHub's runner that are kept on this host.
    pub runner_releases: RunnerReleases,
    /// Limits of this machine.
    pub host: HostLimits,
    /// GitHub settings of the whole file.
    pub github: GithubSettings,
    /// Targets of myshoes beside the pools.
    pub myshoes: Option<MyshoesSettings>,
    /// What is logged.
    pub log: LogSettings,
    /// The pools, in the order of their names.
    pub runners: Vec<RunnerConfig>,
}

impl Config {
    /// What a daemon goes by that has no file: no pools, and no limit of the host.
    #[must_use]
    pub fn without_file() -> Self {
        Self {
            path: PathBuf::new(),
            url: None,
            token_file: None,
            state_dir: None,
            store_url_file: None,
            takeover: false,
            listen: None,
            history: History::default(),
            runner_releases: RunnerReleases::default(),
            host: HostLimits { min_free_disk: DiskShare::Percent(0), ..HostLimits::default() },
            github: GithubSettings::default(),
            myshoes: None,
            log: LogSettings::default(),
            runners: Vec::new(),
        }
    }

    /// The runner of that name.
    #[must_use]
    pub fn runner(&self, name: &str) -> Option<&RunnerConfig> {
        self.runners.iter().find(|runner| runner.name == name)
    }
}

/// Targets of myshoes beside the pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MyshoesSettings {
    /// An environment file of the original.
    pub env_file: Option<PathBuf>,
    /// Variables that come before those of the file.
    pub variables: Vec<(String, String)>,
}

/// Where to serve health and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; not loopback only with a token and the operator's explicit word.
    pub address: SocketAddr,
    /// File of the bearer token that callers must send.
    pub token_file: Option<PathBuf>,
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    /// Days.
    pub days: u32,
    /// Events at most.
    pub events_max: u32,
    /// Finished jobs and ended instances at most, each.
    pub jobs_max: u32,
}

impl Default for History {
    fn default() -> Self {
        Self { days: 30, events_max: 100_000, jobs_max: 20_000 }
    }
}

/// Releases of GitHub's runner that are kept on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerReleases {
    /// Where; `runners` in the state directory without it.
    pub dir: Option<PathBuf>,
    /// Between looks for a newer one; 0 never looks.
    pub check_interval: Duration,
}

impl Default for RunnerReleases {
    fn default() -> Self {
        Self { dir: None, check_interval: Duration::from_secs(6 * 60 * 60) }
    }
}

/// Limits of this machine over all pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimits {
    /// Most instances at once.
    pub max_instances: Option<u32>,
    /// Processors given out in all.
    pub cpus: Option<Cpus>,
    /// Bytes of memory given out in all.
    pub memory: Option<u64>,
    /// Disk that stays free.
    pub min_free_disk: DiskShare,
}

impl Default for HostLimits {
    fn default() -> Self {
        HostLimits {
            max_instances: None,
            cpus: None,
            memory: None,
            min_free_disk: DiskShare::Percent(5),
        }
    }
}

/// How to reach GitHub and who we are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GithubSettings {
    /// A GitHub App as the credential.
    pub app: Option<AppSettings>,
    /// Base of the REST API, where it cannot be derived from the URL.
    pub api_url: Option<String>,
    /// Certificate authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// HTTP proxy for calls to GitHub.
    pub proxy: Option<String>,
}

/// A GitHub App.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppSettings {
    /// What signs its tokens as `iss`: the App's number or its client id.
    pub issuer: String,
    /// The installation in an organization or account.
    pub installation_id: u64,
    /// The private key; without it the systemd credential `github-app-key`.
    pub private_key_file: Option<PathBuf>,
}

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Form of a line.
    pub format: LogFormat,
    /// The least important line.
    pub level: LogLevel,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important line that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// We carried on.
    Warn,
    /// A phase changed.
    #[default]
    Info,
    /// For finding faults.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The same as a `tracing` level.
    #[must_use]
    pub fn as_tracing(self) -> tracing::Level {
        match self {
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
            LogLevel::Trace => tracing::Level::TRACE,
        }
    }
}

/// One pool of runners.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerConfig {
    /// The pool's name: scale set name at GitHub, beginning of instance names.
    pub name: String,
    /// Where the name stands in the file.
    pub position: Position,
    /// The runner's own `url`.
    pub url: Option<String>,
    /// The runner's own `token_file`.
    pub token_file: Option<PathBuf>,
    /// GitHub settings, those of the top filled in.
    pub github: GithubSettings,
    /// Whether `github.app` stands in this very runner and not at the top.
    pub own_app: bool,
    /// Labels, without repetitions.
    pub labels: Vec<String>,
    /// Most instances at once, the default filled in.
    pub max_runners: u32,
    /// Runner group by name; `None` is GitHub's default group.
    pub runner_group: Option<String>,
    /// Runners kept ready without a job.
    pub min_idle: u32,
    /// Environments kept made and unregistered, on top of what jobs want.
    pub warm: u32,
    /// How long one of them may wait.
    pub warm_ttl: Duration,
    /// The bounds of every phase.
    pub timeouts: Timeouts,
    /// A job that runs longer is ended.
    pub max_job_duration: Option<Duration>,
    /// Ended environments that may wait to be removed.
    pub remains_max: u32,
    /// Proxy to pass into instances.
    pub proxy: Option<InstanceProxy>,
    /// Certificate authorities to make known inside instances.
    pub ca_file: Option<PathBuf>,
    /// What runs the jobs.
    pub backend: Backend,
}

/// How long each phase of an instance may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Surplus runner without a job.
    pub idle: Duration,
    /// Committed but not begun.
    pub start: Duration,
    /// Environment being made.
    pub create: Duration,
    /// Launched but not online.
    pub boot: Duration,
    /// One attempt to remove.
    pub stop: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            idle: Duration::from_secs(5 * 60),
            start: Duration::from_secs(5 * 60),
            create: Duration::from_secs(10 * 60),
            boot: Duration::from_secs(5 * 60),
            stop: Duration::from_secs(2 * 60),
        }
    }
}

/// Proxy settings inside instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceProxy {
    /// What fleetfoot itself uses.
    Ours,
    /// Values of `http_proxy`, `https_proxy` and `no_proxy`.
    Explicit {
        /// Value of `http_proxy`.
        http: Option<String>,
        /// Value of `https_proxy`.
        https: Option<String>,
        /// Value of `no_proxy`.
        no_proxy: Option<String>,
    },
}
