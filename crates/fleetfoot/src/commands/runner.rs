//! `fleetfoot runner`.

use std::process::ExitCode;

use super::not_available;
use crate::cli::ForeignArgs;
use crate::exit::CommandError;

/// Not there yet.
///
/// # Errors
/// Always.
pub async fn run(_args: ForeignArgs) -> Result<ExitCode, CommandError> {
    Err(not_available("runner"))
}
