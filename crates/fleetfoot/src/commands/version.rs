//! `fleetfoot version`.

use std::process::ExitCode;

use super::output::{print, print_json};
use crate::cli::{Output, VersionArgs};
use crate::exit::CommandError;

/// Prints the version.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: VersionArgs) -> Result<ExitCode, CommandError> {
    let version = env!("CARGO_PKG_VERSION");
    match args.output.output {
        Output::Text => print(&format!("fleetfoot {version}"))?,
        Output::Json => print_json(&serde_json::json!({
            "version": version,
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
        }))?,
    }
    Ok(ExitCode::SUCCESS)
}
