//! `fleetfoot bench`.

use std::process::ExitCode;

use clap::Args;

use super::not_available;
use crate::cli::OutputArgs;
use crate::exit::CommandError;

/// `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The rows to run [default: all]
    #[arg(value_name = "ROW")]
    pub rows: Vec<String>,
    /// Fewer repetitions: figures to look at, not to quote
    #[arg(long)]
    pub quick: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Not there yet.
///
/// # Errors
/// Always.
pub async fn run(_args: BenchArgs) -> Result<ExitCode, CommandError> {
    Err(not_available("bench"))
}
