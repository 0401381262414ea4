//! `fleetfoot run`: read the file, run until told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::credentials::Flags;
use crate::config::{Flavor, LoadError, LoadOptions, load};
use crate::daemon::{self, DaemonError, DaemonOptions};
use crate::logging;
use crate::myshoes::targets::MyshoesError;
use crate::myshoes::{Environment, log, log_notes};
use crate::wiring::WiringError;

/// What `run` is asked to do.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The configuration file.
    pub config: PathBuf,
    /// The state directory, before the file's key.
    pub state_dir: Option<PathBuf>,
    /// Unknown keys are errors.
    pub strict: bool,
    /// Ask a running fleetfoot to hand over first.
    pub takeover: bool,
}

/// Why `run` ended before it ran.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The file.
    #[error("{}", load_text(_0))]
    Config(LoadError),
    /// Anything else.
    #[error("{}", daemon_text(_0))]
    Daemon(DaemonError),
}

impl RunError {
    /// The process's exit status.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Daemon(error) if error.is_configuration() => 78,
            Self::Daemon(_) => 1,
        }
    }
}

fn daemon_text(error: &DaemonError) -> String {
    if let DaemonError::Wiring(WiringError::Resolve { runner, source }) = error {
        return format!("runner {runner}: {}", source.in_own_words());
    }
    crate::chain(error)
}

/// Every mistake of the file at once.
fn load_text(error: &LoadError) -> String {
    match error {
        LoadError::Read { .. } => error.line(),
        LoadError::Invalid(report) => format!("{}\n{}", report.summary(), report.render()),
    }
}

/// Runs until a signal ends it.
///
/// # Errors
/// [`RunError`] when it could not start.
pub async fn run(options: RunOptions) -> Result<ExitCode, RunError> {
    let load_options =
        LoadOptions { flavor: Flavor::Native, strict: options.strict, ..LoadOptions::default() };
    let loaded = load(&options.config, &load_options).map_err(RunError::Config)?;
    logging::native(loaded.config.log, loaded.config.myshoes.is_some());
    for finding in loaded.report.warnings() {
        tracing::warn!("{}", finding.one_line(&loaded.report.file));
    }
    tracing::info!(runners = loaded.config.runners.len(), "configuration loaded");
    let section = loaded.config.myshoes.as_ref().map(Environment::of_section).transpose();
    let targets = section.map_err(|error| RunError::Daemon(MyshoesError::from(error).into()))?;
    if let Some(environment) = &targets {
        log::set_debug(environment.settings.debug);
        log_notes(environment);
    }
    let stopped = daemon::run(DaemonOptions {
        config: loaded.config,
        text: loaded.bytes,
        load: load_options,
        flags: Flags::default(),
        state_dir: options.state_dir,
        flavor: Flavor::Native,
        takeover: options.takeover,
        targets,
    })
    .await
    .map_err(RunError::Daemon)?;
    if !stopped.clean {
        tracing::warn!("some calls did not end in time; the next start goes on from their rows");
    }
    let (idle, running) = (stopped.idle, stopped.running);
    tracing::info!(
        idle,
        running,
        "left: {idle} idle, {running} running; `drain --wait` removes them"
    );
    Ok(ExitCode::SUCCESS)
}
