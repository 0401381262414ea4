//! `fleetfoot hosts`: the hosts that share a store, and forgetting one that is gone for ever.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use fleetfoot_store::{HostRow, HostsError};
use serde::Serialize;

use super::locate;
use super::output::{print, print_json};
use crate::cli::{LocateArgs, Output, OutputArgs};
use crate::exit::{CommandError, Exit};

/// `hosts`.
#[derive(Debug, Clone, Args)]
pub struct HostsArgs {
    /// What to do.
    #[command(subcommand)]
    pub word: HostsWord,
}

/// What can be done with hosts.
#[derive(Debug, Clone, Subcommand)]
pub enum HostsWord {
    /// Show the hosts, whether they live, and the pools of their own backends
    List(HostsListArgs),
    /// Forget a host that is gone for ever: other hosts may take its pools' names
    Forget(HostsForgetArgs),
}

/// `hosts list`.
#[derive(Debug, Clone, Args)]
pub struct HostsListArgs {
    /// How to find the store
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `hosts forget`.
#[derive(Debug, Clone, Args)]
pub struct HostsForgetArgs {
    /// Its name, or its identity where several have that name
    pub host: String,
    /// How to find the store
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A host for programs.
#[derive(Serialize)]
struct Shown {
    host_id: String,
    names: Vec<String>,
    alive: bool,
    pools: Vec<String>,
}

impl Shown {
    fn of(host_id: String, row: HostRow) -> Self {
        let pools = row.pools.iter().map(ToString::to_string).collect();
        Self { host_id, names: row.names.into_iter().collect(), alive: row.is_alive, pools }
    }

    fn text(&self) -> String {
        let Self { host_id, names, alive, pools } = self;
        let names = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
        let pools = if pools.is_empty() { "none".to_owned() } else { pools.join(", ") };
        let state = if *alive { "lives" } else { "silent" };
        format!("{names}  {host_id}  {state}  its own pools: {pools}")
    }
}

/// Does one of the words.
///
/// # Errors
/// One line that says what is wrong and what to do.
pub async fn run(args: HostsArgs) -> Result<ExitCode, CommandError> {
    match args.word {
        HostsWord::List(args) => list(args).await,
        HostsWord::Forget(args) => forget(args).await,
    }
}

async fn list(args: HostsListArgs) -> Result<ExitCode, CommandError> {
    let location = locate::store_location(&locate::state_dir(&args.locate)?, &args.locate)?;
    let hosts = fleetfoot_store::hosts(&location).await.map_err(|error| failure(&error))?;
    let shown: Vec<Shown> = hosts.into_iter().map(|(id, row)| Shown::of(id, row)).collect();
    match args.output.output {
        Output::Json => print_json(&shown)?,
        Output::Text => {
            for host in &shown {
                print(&host.text())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn forget(args: HostsForgetArgs) -> Result<ExitCode, CommandError> {
    let location = locate::store_location(&locate::state_dir(&args.locate)?, &args.locate)?;
    let forgotten = fleetfoot_store::forget_host(&location, &args.host).await;
    let (id, row) = forgotten.map_err(|error| failure(&error))?;
    let shown = Shown::of(id, row);
    match args.output.output {
        Output::Json => print_json(&shown)?,
        Output::Text => print(&format!("forgotten: {}", shown.text()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn failure(error: &HostsError) -> CommandError {
    let failure = CommandError::from_error(Exit::Failure, error);
    match error {
        HostsError::NotShared => failure.with_hint(
            "`store_url_file` or FLEETFOOT_STORE_URL name the database that several hosts share",
        ),
        HostsError::Unknown(_) => failure.with_hint("`fleetfoot hosts list` shows all of them"),
        HostsError::Ambiguous { .. } => failure.with_hint("name one of these identities"),
        HostsError::Alive(_) => {
            failure.with_hint("stop it there first; one that just died is silent after 10 seconds")
        }
        HostsError::Open(_) => failure,
    }
}
