//! The file an operator writes, from bytes to checked types.
//!
//! A file of the program outrunner works unchanged; every other key is optional. The way is:
//! bytes → text (`text`) → tree with places (`tree`) → typed tables by the declared keys
//! (`shape`, `keys`) → checked [`Config`] (`lower`). Every step collects [`Finding`]s, so one
//! report shows every mistake with its line, key and advice.
//!
//! Secrets never stand in the file: it names files, and [`credentials`] reads them.

pub mod changes;
pub mod credentials;
mod findings;
mod import;
mod keys;
mod lower;
mod scalar;
mod schema;
mod shape;
pub mod store;
mod suggest;
pub mod summary;
mod text;
mod tree;
mod types;
mod units;
mod view;

use std::io;
use std::path::{Path, PathBuf};

pub use findings::{Class, Finding, Original, Position, Report, Severity};
pub use import::import_outrunner;
pub use schema::{schema_json, schema_text};
pub use types::{
    AppSettings, Backend, BindMount, Config, Cpus, DiskShare, DockerConfig, GithubSettings,
    History, HostLimits, InstanceProxy, JitDelivery, LibvirtConfig, Listen, LogFormat, LogLevel,
    LogSettings, MyshoesSettings, ProcessConfig, PullPolicy, RunnerConfig, RunnerReleases,
    RunnerSource, Sandbox, SimulatedConfig, TartConfig, TartMount, Timeouts, Tmpfs, WantedRelease,
};
pub use units::{show_duration, show_size};
pub use view::original_view;

use findings::Findings;

/// Whose habits the file is read with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavor {
    /// fleetfoot's own.
    #[default]
    Native,
    /// Those of the original program: two backends only warn, the JIT config is an argument.
    Outrunner,
}

/// How to read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadOptions {
    /// Whose habits.
    pub flavor: Flavor,
    /// Whether unknown keys are errors.
    pub strict: bool,
    /// `max_runners` where the file says 0 or nothing.
    pub default_max_runners: u32,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions { flavor: Flavor::Native, strict: false, default_max_runners: 2 }
    }
}

/// A usable file.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What was found on the way; warnings only.
    pub report: Report,
    /// The file as it was read.
    pub bytes: Vec<u8>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("failed to read configuration {}", path.display())]
    Read {
        /// The file, as the operator named it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is wrong; the report says where.
    #[error("{}", invalid_line(_0))]
    Invalid(Report),
}

impl LoadError {
    /// What to do about a file that cannot be read: mostly it is somebody else's, or none was written yet. A report says
    /// it of each of its mistakes.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        let Self::Read { source, .. } = self else { return None };
        if source.kind() == io::ErrorKind::PermissionDenied {
            return Some(
                "be the user that runs it: `sudo -u fleetfoot fleetfoot check` with the package",
            );
        }
        Some("write one, or name another with --config")
    }

    /// The error with its causes and what to do, in one line; of a report its summary.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Read { .. } => {
                let chain = crate::chain(self);
                self.remedy().map_or_else(|| chain.clone(), |remedy| format!("{chain}: {remedy}"))
            }
            Self::Invalid(report) => report.summary(),
        }
    }
}

fn invalid_line(report: &Report) -> String {
    let more = report.errors().count().saturating_sub(1);
    let first = report.errors().next();
    let line = first.map_or_else(String::new, |finding| finding.one_line(&report.file));
    if more == 0 { line } else { format!("{line} (and {more} more)") }
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// [`LoadError`] when it cannot be read or has at least one error.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, LoadError> {
    let bytes =
        std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let (config, report) = parse(&bytes, path, options);
    match config {
        Some(config) if report.is_ok() => Ok(Loaded { config, report, bytes }),
        _ => Err(LoadError::Invalid(report)),
    }
}

/// Checks the text of a file; `path` is only its name in findings.
///
/// The configuration is there whenever it could be built at all; it may be used only if the report
/// has no errors.
#[must_use]
pub fn parse(bytes: &[u8], path: &Path, options: &LoadOptions) -> (Option<Config>, Report) {
    let mut findings = Findings::default();
    let (text, table) = read_table(bytes, options.strict, &mut findings);
    // A text that is no YAML, or no mapping, has told its one mistake; the rest would be noise.
    let hopeless = |finding: &Finding| finding.class == Class::Syntax;
    let broken =
        (table.is_none() && !findings.list.is_empty()) || findings.list.iter().any(hopeless);
    let config =
        if broken { None } else { lower::lower(path, table.as_ref(), options, &mut findings) };
    (config, Report::new(path, text, findings.list))
}

fn read_table(
    bytes: &[u8],
    strict: bool,
    findings: &mut Findings,
) -> (String, Option<shape::Table>) {
    let text = match text::decode(bytes) {
        Ok(text) => text,
        Err((message, line)) => {
            let position = Some(Position { line, column: 1, width: 1 });
            let words = match message.as_str() {
                "invalid UTF-8" => "invalid leading UTF-8 octet",
                it if it.starts_with("control characters") => "control characters are not allowed",
                it => it,
            };
            let words = Original::Alone(words.to_owned());
            findings.error(Class::Syntax, "", position, message).originally(words);
            return (String::from_utf8_lossy(bytes).into_owned(), None);
        }
    };
    let table = match tree::parse(&text) {
        Ok(None) => None,
        Ok(Some(root)) => shape::shape(&root, strict, findings),
        Err(error) => {
            let position = Some(error.position);
            findings.error(Class::Syntax, "", position, format!("not YAML: {}", error.message));
            if let Some(words) = error.original {
                findings.originally(Original::Alone(words));
            }
            None
        }
    };
    (text, table)
}
