//! The program of the original myshoes under its own name: its variables, its API, its log lines.

use std::ffi::OsString;
use std::process::ExitCode;

use fleetfoot_myshoes::environment::Note;

use crate::myshoes::{Environment, daemon, fail, log};

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
    if !words.is_empty() {
        tracing::warn!("arguments are not used: everything is configured by the environment");
    }
    for note in &environment.notes {
        match note {
            Note::Info(text) => tracing::info!("{text}"),
            Note::Warning(text) => tracing::warn!("{text}"),
        }
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(daemon::run(environment)),
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
