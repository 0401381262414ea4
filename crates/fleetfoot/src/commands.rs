//! One file per command. Each takes its arguments and returns how the process ends.
//!
//! Standard output is data, standard error is talk. [`output`] prints, [`locate`] finds the daemon.

pub mod bench;
pub mod check;
pub mod completions;
pub mod demo;
pub mod drain;
pub mod hosts;
pub mod import;
pub mod locate;
pub mod logs;
pub mod myshoes;
pub mod output;
pub mod outrunner;
pub mod resume;
pub mod run;
pub mod scale_set;
pub mod schema;
pub mod sim;
pub mod simulate;
pub mod status;
pub mod stop;
pub mod store;
pub mod version;
pub mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::cli::{self, Command, Parsed, RunArgs};
use crate::exit::{CommandError, Exit};
use crate::runtime;

/// Reads the command line, the program's name first, does what it says, and tells what went wrong.
#[must_use]
pub fn call(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match cli::parse(args) {
        Ok(Parsed::Print(text)) => output::print(&text).map(|()| ExitCode::SUCCESS),
        Ok(Parsed::Command(command)) => on_runtime(*command),
        Err(error) => Err(error),
    };
    done.unwrap_or_else(|error| {
        error.report();
        error.exit.into()
    })
}

fn on_runtime(command: Command) -> Result<ExitCode, CommandError> {
    let runtime =
        if matches!(command, Command::Run(_)) { runtime::daemon() } else { runtime::command() };
    let runtime = runtime.map_err(|error| {
        CommandError::new(Exit::Failure, format!("failed to start the runtime: {error}"))
    })?;
    runtime.block_on(dispatch(command))
}

/// Does what the command line says.
///
/// # Errors
/// One line that says what went wrong, for [`CommandError::report`].
pub async fn dispatch(command: Command) -> Result<ExitCode, CommandError> {
    match command {
        Command::Run(args) => start(args).await,
        Command::Demo(args) => Ok(demo::run(args).await?),
        Command::Check(args) => check::run(args).await,
        Command::Schema => schema::run(),
        Command::Import(args) => import::run(&args),
        Command::Status(args) => status::run(args).await,
        Command::Why(args) => why::run(args).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Drain(args) => drain::run(args).await,
        Command::Resume(args) => resume::run(args).await,
        Command::Stop(args) => stop::run(args).await,
        Command::ScaleSet(args) => scale_set::run(args).await,
        Command::Store(args) => store::run(args).await,
        Command::Hosts(args) => hosts::run(args).await,
        Command::Simulate(args) => simulate::run(args).await,
        Command::Sim(args) => Ok(sim::run(args).await?),
        Command::Bench(args) => Ok(bench::run(args).await?),
        Command::Version(args) => version::run(args),
        Command::Completions(args) => completions::run(&args),
    }
}

async fn start(args: RunArgs) -> Result<ExitCode, CommandError> {
    let options = run::RunOptions {
        config: locate::config_path(args.config.as_deref()),
        state_dir: args.state_dir,
        strict: args.strict,
        takeover: args.takeover,
    };
    run::run(options).await.map_err(|error| {
        let exit =
            if error.exit_status() == Exit::Config.code() { Exit::Config } else { Exit::Failure };
        let text = error.to_string();
        let (line, report) = text.split_once('\n').unwrap_or((&text, ""));
        CommandError::new(exit, line).with_report(report)
    })
}

/// The answer of a command that this build does not have.
#[must_use]
pub fn not_available(word: &str) -> CommandError {
    CommandError::new(Exit::Failure, format!("`{word}` is not available in this build"))
}
