//! What a box is started with, and what can be changed while it runs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Endpoint;

/// The token that every box accepts unless its settings say otherwise.
pub const DEFAULT_TOKEN: &str = "ghp_fleetfootbox";

/// What a box is started with.
#[derive(Debug, Clone)]
pub struct BoxConfig {
    /// The address to bind. Port 0 takes a free one.
    pub address: SocketAddr,
    /// How the service behaves; changeable later through the control API.
    pub settings: Settings,
    /// What its clock shows at the start, in microseconds since 1970; the machine's time when absent.
    pub start_us: Option<u64>,
    /// A Unix socket to serve at instead: what is written there can be read at once, as tests on a clock that leaps need.
    pub socket: Option<PathBuf>,
}

impl Default for BoxConfig {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            settings: Settings::default(),
            start_us: None,
            socket: None,
        }
    }
}

impl BoxConfig {
    /// A box on a free loopback port with these settings.
    #[must_use]
    pub fn with_settings(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }
}

/// Which of the two services a scope is served by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flavor {
    /// github.com: jobs come assigned, with request id 0.
    #[default]
    Github,
    /// GitHub Enterprise Server: jobs are offered and must be acquired by their request id.
    Ghes,
}

/// What a poll or a call on a session that is no longer alive is answered with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadSession {
    /// 400 with `RunnerScaleSetSessionExpiredException`, as seen on github.com.
    #[default]
    BadRequest,
    /// 404.
    NotFound,
}

/// How the box behaves. Durations are in milliseconds. Every field has a default, so a JSON
/// object with a few keys is enough (`PATCH /_box/settings`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Which service the scopes are served by.
    pub flavor: Flavor,
    /// Scopes (`org`, `owner/repo`, `enterprises/name`) served by another one.
    pub flavors: BTreeMap<String, Flavor>,
    /// How long an idle poll of a message session is held.
    pub long_poll_ms: u64,
    /// How long an idle poll of a runner is held.
    pub runner_poll_ms: u64,
    /// A session is dropped when none of its calls was in flight for so long.
    pub session_lapse_ms: u64,
    /// What a dead session is told.
    pub dead_session: DeadSession,
    /// The started message follows the start of the job after so long.
    pub started_delay_ms: u64,
    /// Whether a started message ends a poll that is already waiting. The real service says no.
    pub started_wakes_poll: bool,
    /// An assigned job that no runner takes for so long is withdrawn.
    pub withdraw_after_ms: u64,
    /// A job is withdrawn and assigned again so often; the next time it is cancelled.
    pub withdrawals_max: u32,
    /// An idle runner without a call in flight for so long is shown as offline.
    pub runner_offline_after_ms: u64,
    /// A busy runner without a call in flight for so long is lost, and its job has failed.
    pub runner_lost_after_ms: u64,
    /// Added to every call except polls and calls of runners.
    pub control_latency_ms: u64,
    /// Added to every poll of a message session.
    pub poll_latency_ms: u64,
    /// Added to the calls of one endpoint, beside the two above.
    pub endpoint_latency_ms: BTreeMap<Endpoint, u64>,
    /// Life of an admin token (the one the scale set service takes).
    pub admin_token_ttl_ms: u64,
    /// Life of a message queue token; `None` lives as long as its session.
    pub queue_token_ttl_ms: Option<u64>,
    /// Life of an installation token.
    pub installation_token_ttl_ms: u64,
    /// Ended jobs and recorded calls that are remembered; the oldest go first.
    pub history_max: usize,
    /// Personal access tokens that are known.
    pub tokens: Vec<Token>,
    /// The GitHub App that is known.
    pub app: Option<App>,
    /// Runner groups that every scope has beside `Default`.
    pub groups: Vec<Group>,
    /// Seconds the box's clock is ahead of the machine's (`Date` header and App token check).
    pub clock_skew_s: i64,
    /// Sent as `x-ratelimit-*` headers and by `/rate_limit` when set.
    pub rate_limit: Option<RateLimit>,
    /// JIT configs a minute before the service refuses with 429 and `Retry-After`, over all
    /// scopes. A whole minute's worth may come at once.
    pub jit_per_minute: Option<u32>,
    /// Lies about `totalAssignedJobs`, by scale set name, as seen in incidents.
    pub stated_assigned_jobs: BTreeMap<String, u64>,
    /// As GHES 3.18 to 3.20 by default: labels beside the name are dropped without a word.
    pub labels_dropped: bool,
    /// Begin bodies of the scale set service with a UTF-8 byte order mark.
    pub byte_order_mark: bool,
    /// Runners are refused as deprecated when they connect.
    pub runner_version_deprecated: bool,
    /// Releases of the runner that can be downloaded, oldest first; the last one is the newest.
    pub runner_releases: Vec<RunnerRelease>,
    /// The URL that JIT configs tell runners, when it differs from the one of the caller.
    pub runner_url: Option<String>,
    /// When set, nobody has to start a runner: each JIT config is connected by the box itself so
    /// many milliseconds after it was made. For benchmarks with a simulated backend.
    pub auto_runner_boot_ms: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            flavor: Flavor::Github,
            flavors: BTreeMap::new(),
            long_poll_ms: 50_000,
            runner_poll_ms: 50_000,
            session_lapse_ms: 60_000,
            dead_session: DeadSession::BadRequest,
            started_delay_ms: 20,
            started_wakes_poll: true,
            withdraw_after_ms: 120_000,
            withdrawals_max: 3,
            runner_offline_after_ms: 1_000,
            runner_lost_after_ms: 10_000,
            control_latency_ms: 0,
            poll_latency_ms: 0,
            endpoint_latency_ms: BTreeMap::new(),
            admin_token_ttl_ms: 3_600_000,
            queue_token_ttl_ms: None,
            installation_token_ttl_ms: 3_600_000,
            history_max: 200_000,
            tokens: vec![Token::new(DEFAULT_TOKEN)],
            app: None,
            groups: Vec::new(),
            clock_skew_s: 0,
            rate_limit: None,
            jit_per_minute: None,
            stated_assigned_jobs: BTreeMap::new(),
            labels_dropped: false,
            byte_order_mark: false,
            runner_version_deprecated: false,
            runner_releases: Vec::new(),
            runner_url: None,
            auto_runner_boot_ms: None,
        }
    }
}

impl Settings {
    /// As github.com is known to be at its worst: a started message never ends a waiting poll, so
    /// it comes up to 50 s late, and a dead machine's runner stays busy for ten minutes.
    #[must_use]
    pub fn faithful() -> Self {
        Self { started_wakes_poll: false, runner_lost_after_ms: 600_000, ..Self::default() }
    }
}

/// A release of the runner: an archive that the box makes, whose `run.sh` is the stand-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerRelease {
    /// Its version, such as `2.336.0`.
    pub version: String,
    /// The program that `run.sh` in the archive is a link to.
    pub program: PathBuf,
    /// Stated instead of the archive's own SHA-256.
    #[serde(default)]
    pub sha256: Option<String>,
    /// How many days ago it was published.
    #[serde(default)]
    pub days: u64,
}

impl RunnerRelease {
    /// A release of today.
    #[must_use]
    pub fn new(version: impl Into<String>, program: impl Into<PathBuf>) -> Self {
        Self { version: version.into(), program: program.into(), sha256: None, days: 0 }
    }
}

/// A personal access token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The token itself. Box tokens are worth nothing outside, so it is plain text here.
    pub token: String,
    /// Known, but without the permission to administer runners: answered with 403.
    #[serde(default)]
    pub insufficient: bool,
    /// Scopes it reaches (others are 404); empty is all.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Sent as `github-authentication-token-expiration`, for example `2026-12-01 10:00:00 UTC`.
    #[serde(default)]
    pub expiration: Option<String>,
    /// Sent as `x-oauth-scopes` (classic tokens have it).
    #[serde(default)]
    pub oauth_scopes: Option<String>,
}

impl Token {
    /// A token that may do everything.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self {
            token: token.into(),
            insufficient: false,
            scopes: Vec::new(),
            expiration: None,
            oauth_scopes: None,
        }
    }
}

/// A GitHub App with its installations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Numeric id, accepted as issuer.
    pub id: i64,
    /// Client id, accepted as issuer.
    pub client_id: String,
    /// Public key (PEM) that assertions must verify with. Without one any signature will do.
    #[serde(default)]
    pub public_key_pem: Option<String>,
    /// Where it is installed.
    pub installations: Vec<Installation>,
}

/// One installation of the App.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// Its id.
    pub id: i64,
    /// The account (organization, user or enterprise) it is installed in.
    pub account: String,
    /// What it may do; `None` is everything fleetfoot needs.
    #[serde(default)]
    pub permissions: Option<BTreeMap<String, String>>,
    /// The repositories it is installed at, by their full names; `None` is all of them.
    #[serde(default)]
    pub repositories: Option<Vec<String>>,
    /// Its account is a person, who is no organization.
    #[serde(default)]
    pub is_user: bool,
    /// Somebody suspended it.
    #[serde(default)]
    pub is_suspended: bool,
}

impl Installation {
    /// An installation with all permissions that are needed.
    #[must_use]
    pub fn new(id: i64, account: impl Into<String>) -> Self {
        Self {
            id,
            account: account.into(),
            permissions: None,
            repositories: None,
            is_user: false,
            is_suspended: false,
        }
    }

    pub(crate) fn granted(&self) -> BTreeMap<String, String> {
        self.permissions.clone().unwrap_or_else(|| {
            [
                ("actions", "read"),
                ("administration", "write"),
                ("metadata", "read"),
                ("organization_self_hosted_runners", "write"),
            ]
            .into_iter()
            .map(|(name, level)| (name.to_owned(), level.to_owned()))
            .collect()
        })
    }
}

/// A runner group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The scope that has it; `None` is every scope.
    #[serde(default)]
    pub scope: Option<String>,
    /// Whether workflows of public repositories may use it.
    #[serde(default)]
    pub allows_public_repositories: bool,
}

impl Group {
    /// A group that every scope has.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), scope: None, allows_public_repositories: false }
    }
}

/// What the rate limit headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Requests an hour.
    pub limit: u32,
    /// Requests left. The box does not count it down.
    pub remaining: u32,
    /// Seconds from now until the count starts anew.
    pub reset_in_s: u64,
}
