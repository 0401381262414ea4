//! The environment variables, all of them (section 2 of what the original does).
//!
//! ```text
//! variables ─ read ─▶ Settings, and lines to log
//!                └──▶ Mistake: the first, in the original's order, naming its variable
//! ```

pub mod file;
pub mod own;
mod scale_set;

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use url::Url;

use crate::dsn::{self, Dsn, DsnError};
use crate::version::RunnerVersion;

pub use scale_set::{ScaleSet, Switch};

const GITHUB_COM: &str = "https://github.com";

/// Everything that the environment says.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `PORT`: all interfaces; 0 takes a free one.
    pub port: u16,
    /// The GitHub App.
    pub app: App,
    /// `MYSQL_URL`, or the five variables; without them the store is where ours is.
    pub database: Option<Dsn>,
    /// `PLUGIN`.
    pub plugin: Plugin,
    /// `PLUGIN_OUTPUT`: where a downloaded plugin is written.
    pub plugin_output: PathBuf,
    /// `RUNNER_USER`: who runs the runner in a machine.
    pub runner_user: String,
    /// `RUNNER_BASE_DIRECTORY`: where in a machine.
    pub runner_base_directory: String,
    /// `RUNNER_VERSION`.
    pub runner_version: RunnerVersion,
    /// `DEBUG`, at the start.
    pub debug: bool,
    /// `STRICT`, at the start.
    pub strict: bool,
    /// `MODE_WEBHOOK_TYPE`.
    pub webhook: Webhook,
    /// `MAX_CONNECTIONS_TO_BACKEND`.
    pub max_connections: u32,
    /// `MAX_CONCURRENCY_DELETING`.
    pub max_deleting: u32,
    /// `GITHUB_URL`, without a slash at its end.
    pub github_url: String,
    /// `PROVIDE_DOCKER_HUB_METRICS` and the credential for it.
    pub docker_hub: DockerHub,
    /// The variables of scale set mode.
    pub scale_set: ScaleSet,
}

/// `GITHUB_APP_ID`, `GITHUB_APP_SECRET`, `GITHUB_PRIVATE_KEY_BASE64`.
#[derive(Debug, Clone)]
pub struct App {
    /// The App's number.
    pub id: i64,
    /// The secret of its webhook.
    pub webhook_secret: SecretString,
    /// Its key, as PEM.
    pub private_key: SecretString,
}

/// Where the plugin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plugin {
    /// On this host.
    Path(PathBuf),
    /// To be downloaded.
    Url(Url),
}

/// Which deliveries are used in webhook mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Webhook {
    /// `workflow_job`
    WorkflowJob,
    /// `check_run`, of old servers.
    CheckRun,
}

/// Docker Hub's rate limit as a metric.
#[derive(Debug, Clone)]
pub enum DockerHub {
    /// Not asked for.
    Off,
    /// As anybody.
    Anonymous,
    /// As this user.
    User(String, SecretString),
}

/// What to log of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// As it is meant.
    Info(String),
    /// Worth a look.
    Warning(String),
}

/// A variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Its name.
    pub variable: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}

impl std::error::Error for Mistake {}

fn mistake(variable: &'static str, message: impl Into<String>) -> Mistake {
    Mistake { variable, message: message.into() }
}

/// Reads the variables. `get` gives the value of one that is present, empty or not; `is_file` looks at this host.
///
/// # Errors
///
/// The first mistake, in the order of the original.
pub fn read(
    get: impl Fn(&str) -> Option<String>,
    is_file: impl Fn(&str) -> bool,
) -> Result<(Settings, Vec<Note>), Mistake> {
    let reader = Reader { get };
    let mut notes = Vec::new();
    let port = port(reader.text("PORT").as_deref())?;
    let runner_user = reader.text("RUNNER_USER").unwrap_or_else(|| "runner".to_owned());
    let runner_base_directory = reader.text("RUNNER_BASE_DIRECTORY");
    if let Some(directory) = &runner_base_directory {
        notes.push(Note::Info(format!("use runner base directory is {directory}")));
    }
    let debug = reader.is("DEBUG", "true");
    let strict = !reader.is("STRICT", "false");
    let webhook = webhook(reader.text("MODE_WEBHOOK_TYPE").as_deref(), &mut notes)?;
    let max_connections = reader.number("MAX_CONNECTIONS_TO_BACKEND", 50, 1)?;
    let max_deleting = reader.number("MAX_CONCURRENCY_DELETING", 1, 1)?;
    let github_url = github_url(reader.text("GITHUB_URL"))?;
    let runner_version = match reader.text("RUNNER_VERSION") {
        None => RunnerVersion::Latest,
        Some(text) => {
            text.parse().map_err(|error| mistake("RUNNER_VERSION", format!("{error}")))?
        }
    };
    let docker_hub = docker_hub(&reader, &mut notes);
    let scale_set = scale_set::read(&reader)?;
    let app = app(&reader)?;
    let plugin_output = reader.text("PLUGIN_OUTPUT").map_or_else(|| ".".into(), PathBuf::from);
    let plugin = plugin(reader.text("PLUGIN"), is_file)?;
    let database = database(&reader, &mut notes)?;
    let settings = Settings {
        port,
        app,
        database,
        plugin,
        plugin_output,
        runner_user,
        runner_base_directory: runner_base_directory.unwrap_or_else(|| "/tmp".to_owned()),
        runner_version,
        debug,
        strict,
        webhook,
        max_connections,
        max_deleting,
        github_url,
        docker_hub,
        scale_set,
    };
    Ok((settings, notes))
}

impl Settings {
    /// It is not github.com.
    #[must_use]
    pub fn is_enterprise_server(&self) -> bool {
        self.github_url != GITHUB_COM
    }
}

struct Reader<G> {
    get: G,
}

impl<G: Fn(&str) -> Option<String>> Reader<G> {
    /// Empty counts as unset.
    fn text(&self, variable: &str) -> Option<String> {
        (self.get)(variable).filter(|text| !text.is_empty())
    }

    /// Booleans have one word that does something.
    fn is(&self, variable: &str, word: &str) -> bool {
        self.text(variable).is_some_and(|text| text == word)
    }

    fn number(&self, variable: &'static str, default: u32, least: u32) -> Result<u32, Mistake> {
        let Some(text) = self.text(variable) else { return Ok(default) };
        let number: i64 =
            text.parse().map_err(|_| mistake(variable, format!("`{text}` is no whole number")))?;
        let fits = u32::try_from(number).ok().filter(|it| *it >= least);
        fits.ok_or_else(|| {
            mistake(variable, format!("{number} is out of range: use at least {least}"))
        })
    }
}

fn port(text: Option<&str>) -> Result<u16, Mistake> {
    const DEFAULT: u16 = 8080;
    let Some(text) = text else { return Ok(DEFAULT) };
    let number: i64 = text
        .parse()
        .map_err(|_| mistake("PORT", format!("`{text}` is no port: use a whole number")))?;
    u16::try_from(number)
        .map_err(|_| mistake("PORT", format!("{number} is no port: use 0 to 65535")))
}

fn webhook(text: Option<&str>, notes: &mut Vec<Note>) -> Result<Webhook, Mistake> {
    match text {
        None | Some("workflow_job") => Ok(Webhook::WorkflowJob),
        Some("check_run") => {
            let warning = "MODE_WEBHOOK_TYPE: check_run is deprecated, use workflow_job";
            notes.push(Note::Warning(warning.to_owned()));
            Ok(Webhook::CheckRun)
        }
        Some(other) => Err(mistake(
            "MODE_WEBHOOK_TYPE",
            format!("{other} is invalid webhook type: use workflow_job or check_run"),
        )),
    }
}

fn github_url(text: Option<String>) -> Result<String, Mistake> {
    let Some(text) = text else { return Ok(GITHUB_COM.to_owned()) };
    let refuse = || {
        mistake(
            "GITHUB_URL",
            format!("`{text}` is no address: use one like https://github.example.com"),
        )
    };
    let url = Url::parse(&text).map_err(|_| refuse())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(refuse());
    }
    // As it was written, for it is shown; only github.com has one spelling.
    let written = text.trim_end_matches('/');
    if written.eq_ignore_ascii_case(GITHUB_COM) {
        return Ok(GITHUB_COM.to_owned());
    }
    Ok(written.to_owned())
}

fn docker_hub<G: Fn(&str) -> Option<String>>(
    reader: &Reader<G>,
    notes: &mut Vec<Note>,
) -> DockerHub {
    if !reader.is("PROVIDE_DOCKER_HUB_METRICS", "true") {
        notes.push(Note::Info("Docker Hub metrics is disabled".to_owned()));
        return DockerHub::Off;
    }
    match (reader.text("DOCKER_HUB_USERNAME"), reader.text("DOCKER_HUB_PASSWORD")) {
        (Some(user), Some(password)) => DockerHub::User(user, password.into()),
        (_, _) => {
            let warning = "DOCKER_HUB_USERNAME or DOCKER_HUB_PASSWORD is not set, asking Docker Hub as anybody";
            notes.push(Note::Warning(warning.to_owned()));
            DockerHub::Anonymous
        }
    }
}

fn app<G: Fn(&str) -> Option<String>>(reader: &Reader<G>) -> Result<App, Mistake> {
    const ID: &str = "GITHUB_APP_ID";
    const SECRET: &str = "GITHUB_APP_SECRET";
    const KEY: &str = "GITHUB_PRIVATE_KEY_BASE64";
    let id = reader
        .text(ID)
        .ok_or_else(|| mistake(ID, "is not set: use the number of the GitHub App"))?;
    let id = id.parse().map_err(|_| mistake(ID, format!("`{id}` is no whole number")))?;
    let secret = reader.text(SECRET);
    let secret =
        secret.ok_or_else(|| mistake(SECRET, "is not set: use the App's webhook secret"))?;
    let key = reader.text(KEY);
    let key = key.ok_or_else(|| {
        mistake(KEY, "is not set: use the App's private key, base64 of its PEM file")
    })?;
    Ok(App { id, webhook_secret: secret.into(), private_key: private_key(&key)?.into() })
}

/// The first PEM block, whatever stands before it.
fn private_key(encoded: &str) -> Result<String, Mistake> {
    const KEY: &str = "GITHUB_PRIVATE_KEY_BASE64";
    const LABELS: [&str; 2] = ["RSA PRIVATE KEY", "PRIVATE KEY"];
    let compact: String = encoded.chars().filter(|it| !matches!(it, '\r' | '\n')).collect();
    let decoded = STANDARD
        .decode(compact)
        .map_err(|_| mistake(KEY, "is not base64: use `base64 -w0` of the PEM file"))?;
    let text = String::from_utf8_lossy(&decoded);
    let begin = text.find("-----BEGIN ").map(|at| &text[at..]);
    let label = begin.and_then(|block| block.strip_prefix("-----BEGIN ")?.split_once("-----"));
    let (Some(block), Some((label, _))) = (begin, label) else {
        return Err(mistake(KEY, "holds no PEM: use the file that GitHub made for the App"));
    };
    if !LABELS.contains(&label) {
        return Err(mistake(KEY, format!("holds a {label}, not an RSA private key")));
    }
    let end = format!("-----END {label}-----");
    let Some(at) = block.find(&end) else {
        return Err(mistake(KEY, "holds a PEM that is cut off"));
    };
    Ok(format!("{}\n", &block[..at + end.len()]))
}

fn plugin(text: Option<String>, is_file: impl Fn(&str) -> bool) -> Result<Plugin, Mistake> {
    let Some(text) = text else {
        return Err(mistake("PLUGIN", "is not set: use the path or the URL of a shoes plugin"));
    };
    if is_file(&text) {
        return Ok(Plugin::Path(text.into()));
    }
    let url = Url::parse(&text).ok();
    match url {
        Some(url) if matches!(url.scheme(), "http" | "https") => Ok(Plugin::Url(url)),
        other => {
            let scheme = other.as_ref().map_or("", Url::scheme);
            Err(mistake(
                "PLUGIN",
                format!("`{text}` is no file here: unsupported fetch schema (scheme: {scheme})"),
            ))
        }
    }
}

fn database<G: Fn(&str) -> Option<String>>(
    reader: &Reader<G>,
    notes: &mut Vec<Note>,
) -> Result<Option<Dsn>, Mistake> {
    const NAMES: [&str; 5] =
        ["MYSQL_HOST", "MYSQL_PORT", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DATABASE"];
    let present: Vec<String> = NAMES.iter().filter_map(|name| (reader.get)(name)).collect();
    let (variable, text) = match present.as_slice() {
        [host, port, user, password, database] => {
            notes.push(Note::Info("use MYSQL_HOST, MYSQL_PORT, MYSQL_USER, MYSQL_PASSWORD and MYSQL_DATABASE, not MYSQL_URL".to_owned()));
            ("MYSQL_HOST", format!("{user}:{password}@tcp({host}:{port})/{database}"))
        }
        _ => match reader.text("MYSQL_URL") {
            Some(text) => ("MYSQL_URL", text),
            None => return Ok(None),
        },
    };
    let dsn = dsn::parse(&text).map_err(|error| {
        let is_port = variable == "MYSQL_HOST" && matches!(error, DsnError::Port(_));
        mistake(if is_port { "MYSQL_PORT" } else { variable }, error.to_string())
    })?;
    let unused = dsn.unused();
    if !unused.is_empty() {
        let names = unused.join(", ");
        let note = "the connection has settings and bounds of its own";
        notes.push(Note::Warning(format!("{variable}: {names} is not used: {note}")));
    }
    Ok(Some(dsn))
}

#[cfg(test)]
mod tests;
