//! `fleetfoot stop`: ends an instance.

use std::process::ExitCode;

use super::locate;
use super::output::{print, print_json};
use crate::cli::{Output, StopArgs};
use crate::exit::CommandError;

/// Writes the wish; the daemon does the rest.
///
/// # Errors
/// No daemon, no such instance, or one that runs a job and no `--force`.
pub async fn run(args: StopArgs) -> Result<ExitCode, CommandError> {
    let dir = locate::state_dir(&args.locate)?;
    let client = locate::client(&dir)?;
    let instance = locate::must(client.stop(&args.instance, args.force).await, &dir)?;
    match args.output.output {
        Output::Text => print(&format!("instance `{}` is {}", instance.name, instance.phase))?,
        Output::Json => print_json(&instance)?,
    }
    Ok(ExitCode::SUCCESS)
}
