//! `fleetfoot schema`: the JSON Schema of the configuration.

use std::process::ExitCode;

use super::output::print;
use crate::config::schema_text;
use crate::exit::CommandError;

/// Prints the schema.
///
/// # Errors
/// When standard output cannot be written.
pub fn run() -> Result<ExitCode, CommandError> {
    print(&schema_text())?;
    Ok(ExitCode::SUCCESS)
}
