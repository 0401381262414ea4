//! The original's program under its own name: its flags, its texts, its exit codes, its log lines.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::credentials::{Flags, RealSurroundings, resolve};
use crate::config::{Flavor, LoadOptions, load};
use crate::daemon::{self, DaemonError, DaemonOptions};
use crate::logging;
use crate::outrunner::args::{self, Invocation, Options, Shell};
use crate::outrunner::complete;
use crate::wiring;

/// Reads the words after the program's name and does what they say.
#[must_use]
pub fn main(words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(answered) = complete::answer(&words) {
        return match answered {
            Ok((out, err)) => {
                let _ = std::io::stdout().write_all(out.as_bytes()).is_ok();
                let _ = std::io::stderr().write_all(err.as_bytes()).is_ok();
                ExitCode::SUCCESS
            }
            Err(text) => fail(&text),
        };
    }
    let text = match args::parse(&words) {
        Ok(Invocation::Run(options)) => return run(options),
        Ok(Invocation::Help) => args::help().to_owned(),
        Ok(Invocation::Version) => format!("{}\n", args::version_line(env!("CARGO_PKG_VERSION"))),
        Ok(Invocation::Completion(shell)) => completion(shell),
        Ok(Invocation::CompletionHelp(shell)) => args::completion_help(shell),
        Err(error) => return fail(&error.to_string()),
    };
    // A reader that has left needs no text.
    let _ = std::io::stdout().write_all(text.as_bytes()).is_ok();
    ExitCode::SUCCESS
}

/// A script that completes the original's flags.
fn completion(shell: Shell) -> String {
    let flag = |name: &'static str| clap::Arg::new(name).long(name);
    let mut definition = clap::Command::new("outrunner").args([
        flag("config").value_hint(clap::ValueHint::FilePath),
        flag("url"),
        flag("token"),
        flag("max-runners"),
    ]);
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::PowerShell => clap_complete::Shell::PowerShell,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition, "outrunner", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The original's one line of failure, exit status 1.
fn fail(text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "Error: {text}").is_ok();
    ExitCode::FAILURE
}

fn run(options: Options) -> ExitCode {
    logging::outrunner();
    let max_runners = match options.max_runners() {
        Ok(limit) => limit,
        Err(text) => return fail(&text),
    };
    let load_options =
        LoadOptions { flavor: Flavor::Outrunner, strict: false, default_max_runners: max_runners };
    let loaded = match load(&PathBuf::from(&options.config), &load_options) {
        Ok(loaded) => loaded,
        Err(error) => return fail(&crate::outrunner::load_error(&error)),
    };
    tracing::info!(runners = loaded.config.runners.len(), "configuration loaded");
    for finding in loaded.report.warnings() {
        tracing::warn!("{}", finding.one_line(&loaded.report.file));
    }
    let flags = Flags { url: options.url, token: options.token };
    // Before anything is made on this host, so that a file without a token leaves nothing behind.
    let resolution = resolve(&loaded.config, &flags, &RealSurroundings);
    if let Err(error) = wiring::refuse(&loaded.config, resolution) {
        return fail(&crate::chain(&error));
    }
    let daemon = DaemonOptions {
        config: loaded.config,
        text: loaded.bytes,
        load: load_options,
        flags,
        state_dir: None,
        flavor: Flavor::Outrunner,
        takeover: false,
        targets: None,
    };
    let ended = match crate::runtime::daemon() {
        Ok(runtime) => runtime.block_on(daemon::run(daemon)),
        Err(error) => return fail(&format!("failed to start the runtime: {error}")),
    };
    match ended {
        Ok(stopped) => {
            let (idle, running) = (stopped.idle, stopped.running);
            if idle + running > 0 {
                tracing::info!(idle, running, "left running; the next start takes them up");
            }
            tracing::info!("shut down cleanly");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&daemon_text(&error)),
    }
}

fn daemon_text(error: &DaemonError) -> String {
    let text = crate::chain(error);
    if matches!(error, DaemonError::Lock(fleetfoot_store::LockError::Held { .. })) {
        // Two of the original may run on one host, each with its own file.
        return format!("{text}, or give this file a place of its own with the key `state_dir`");
    }
    text
}
