//! The words and flags of `fleetfoot store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::{LocateArgs, OutputArgs};

/// `store`.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub word: StoreWord,
}

/// What can be done with a store.
#[derive(Debug, Clone, Subcommand)]
pub enum StoreWord {
    /// Look for damage and for rows that cannot be read; show sizes, counts and identity
    Check(StoreCheckArgs),
    /// Copy the store to a file while the daemon runs
    Backup(StoreBackupArgs),
    /// Put a copy in the store's place, while no daemon runs
    Restore(StoreRestoreArgs),
}

/// `store check`.
#[derive(Debug, Clone, Args)]
pub struct StoreCheckArgs {
    /// A backup to look through, instead of the store
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How to find the store
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `store backup`.
#[derive(Debug, Clone, Args)]
pub struct StoreBackupArgs {
    /// Where to [default: ./fleetfoot-store-TIME.sqlite]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Overwrite the file
    #[arg(long)]
    pub force: bool,
    /// How to find the store
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `store restore`.
#[derive(Debug, Clone, Args)]
pub struct StoreRestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Also if it is another installation's: the state directory becomes that one
    #[arg(long)]
    pub force: bool,
    /// How to find the store
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}
