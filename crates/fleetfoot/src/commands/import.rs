//! `fleetfoot import`: another program's configuration in fleetfoot's words.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output::print;
use crate::config::import_outrunner;
use crate::exit::{CommandError, Exit};

/// `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Whose configuration
    #[command(subcommand)]
    pub program: Program,
}

/// The programs whose files are read.
#[derive(Debug, Clone, Subcommand)]
pub enum Program {
    /// A file of outrunner: the same pools, what to add, and what behaves otherwise
    Outrunner {
        /// The file, such as /etc/outrunner/config.yml
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Prints the new file.
///
/// # Errors
/// When the file cannot be read or has a mistake, or standard output cannot be written.
pub fn run(args: &ImportArgs) -> Result<ExitCode, CommandError> {
    let Program::Outrunner { file } = &args.program;
    let bytes = std::fs::read(file).map_err(|error| {
        let text = format!(
            "failed to read configuration {}: {error}; give the path of outrunner's file (its package \
             keeps it at /etc/outrunner/config.yml)",
            file.display()
        );
        CommandError::new(Exit::Config, text)
    })?;
    match import_outrunner(&bytes, file) {
        Ok(text) => {
            print(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(report) => {
            let line = format!("{} cannot be used", file.display());
            Err(CommandError::new(Exit::Config, line).with_report(report.render()))
        }
    }
}
