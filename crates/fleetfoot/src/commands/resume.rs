//! `fleetfoot resume`: takes jobs into a pool again.

use std::process::ExitCode;

use super::locate;
use super::output::{print, print_json};
use crate::cli::{Output, ResumeArgs};
use crate::exit::CommandError;

/// Writes the wish; the daemon does the rest.
///
/// # Errors
/// No daemon, no such pool, or one that is not in the configuration any more.
pub async fn run(args: ResumeArgs) -> Result<ExitCode, CommandError> {
    let dir = locate::state_dir(&args.locate)?;
    let client = locate::client(&dir)?;
    let pool = locate::must(client.resume(&args.pool).await, &dir)?;
    match args.output.output {
        Output::Text => print(&format!("pool `{}` takes jobs", pool.name))?,
        Output::Json => print_json(&pool)?,
    }
    Ok(ExitCode::SUCCESS)
}
