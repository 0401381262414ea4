//! `fleetfoot completions`: a script for a shell.

use std::process::ExitCode;

use super::output::print;
use crate::cli::{CompletionsArgs, definition};
use crate::exit::CommandError;

/// Prints the script.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<ExitCode, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition(), "fleetfoot", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
