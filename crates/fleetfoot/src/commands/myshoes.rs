//! The program of the original myshoes under its own name: its variables, its API, its log lines.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::credentials::Flags;
use crate::config::{Config, Flavor, LoadError, LoadOptions, load};
use crate::daemon::{self, DaemonOptions};
use crate::myshoes::{Environment, fail, log, log_notes};

/// Reads the environment and serves until told to stop.
#[must_use]
pub fn main(words: &[OsString]) -> ExitCode {
    let environment = match Environment::read() {
        Ok(environment) => environment,
        Err(mistake) => {
            log::install(false);
            return fail(&mistake.to_string());
        }
    };
    log::install(environment.settings.debug);
    let options = match options(words, environment) {
        Ok(options) => options,
        Err(error) => return fail(&error.line()),
    };
    let ended = match crate::runtime::daemon() {
        Ok(runtime) => runtime.block_on(daemon::run(options)),
        Err(error) => return fail(&format!("failed to start the runtime: {error}")),
    };
    match ended {
        Ok(stopped) => {
            let (idle, running) = (stopped.idle, stopped.running);
            tracing::info!("stopped, left: {idle} idle, {running} running");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&crate::chain(&error)),
    }
}

/// The original takes no word; `--config FILE` adds the pools of a file.
fn options(words: &[OsString], environment: Environment) -> Result<DaemonOptions, LoadError> {
    let load_options = LoadOptions::default();
    let (mut config, mut text) = (Config::without_file(), Vec::new());
    match file(words) {
        Some(path) => {
            let loaded = load(&path, &load_options)?;
            for finding in loaded.report.warnings() {
                tracing::warn!("{}", finding.one_line(&loaded.report.file));
            }
            (config, text) = (loaded.config, loaded.bytes);
        }
        None if words.is_empty() => {}
        None => tracing::warn!(
            "arguments are not used: everything is configured by the environment, and by --config FILE"
        ),
    }
    log_notes(&environment);
    Ok(DaemonOptions {
        config,
        text,
        load: load_options,
        flags: Flags::default(),
        state_dir: None,
        flavor: Flavor::Native,
        takeover: false,
        targets: Some(environment),
    })
}

fn file(words: &[OsString]) -> Option<PathBuf> {
    match words {
        [flag, path] if flag == "--config" => Some(path.into()),
        [word] => word.to_str()?.strip_prefix("--config=").map(PathBuf::from),
        _ => None,
    }
}
