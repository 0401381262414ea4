//! `fleetfoot logs`: the last output of an instance.

use std::process::ExitCode;

use super::locate;
use super::output::print;
use crate::cli::LogsArgs;
use crate::exit::CommandError;

/// Prints it.
///
/// # Errors
/// No daemon, no such instance, or its output is gone.
pub async fn run(args: LogsArgs) -> Result<ExitCode, CommandError> {
    let dir = locate::state_dir(&args.locate)?;
    let client = locate::client(&dir)?;
    let tail = locate::must(client.logs(&args.instance, args.lines).await, &dir)?;
    print(&tail.text)?;
    Ok(ExitCode::SUCCESS)
}
