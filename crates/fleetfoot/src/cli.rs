//! The command line: words, flags and their help. What each word does is in [`commands`](crate::commands).

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::commands::bench::BenchArgs;
use crate::commands::demo::DemoArgs;
use crate::commands::hosts::HostsArgs;
use crate::commands::import::ImportArgs;
use crate::commands::scale_set::ScaleSetArgs;
use crate::commands::sim::SimArgs;
use crate::commands::simulate::SimulateArgs;
use crate::commands::store::StoreArgs;
use crate::exit::{CommandError, Exit};

/// Runs GitHub Actions jobs on machines you own: one fresh environment for each job, gone afterwards.
#[derive(Debug, Parser)]
#[command(
    name = "fleetfoot",
    bin_name = "fleetfoot",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Begin with `fleetfoot demo`: it needs no GitHub, no token, no Docker, no root."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The words.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon
    Run(RunArgs),
    /// Show the whole thing working on this machine, with a GitHub in a box
    Demo(DemoArgs),
    /// Check a configuration and this host, and show what would be started
    Check(CheckArgs),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print another program's configuration in fleetfoot's words
    Import(ImportArgs),
    /// Show pools, runners and jobs
    Status(StatusArgs),
    /// Say why a job, a runner or a pool is as it is
    Why(WhyArgs),
    /// Print the last output of an instance
    Logs(LogsArgs),
    /// Take no more jobs into a pool and let the running ones finish
    Drain(DrainArgs),
    /// Take jobs into a drained pool again
    Resume(ResumeArgs),
    /// End an instance
    Stop(StopArgs),
    /// Show or delete a scale set at GitHub that no pool uses any more
    ScaleSet(ScaleSetArgs),
    /// Look through the store, copy it, put a copy back
    Store(StoreArgs),
    /// Show the hosts that share a store, and forget one that is gone for ever
    Hosts(HostsArgs),
    /// Run simulated worlds with faults, and say what they broke
    Simulate(SimulateArgs),
    /// A GitHub in a box, for trials and tests
    Sim(SimArgs),
    /// Measure, each row beside the bare minimum of the same work
    Bench(BenchArgs),
    /// Print the version
    Version(VersionArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// How to print, as a flag.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct OutputArgs {
    /// How to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: Output,
}

/// How to find the daemon and its store.
#[derive(Debug, Clone, Default, Args)]
pub struct LocateArgs {
    /// The daemon's state directory
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The daemon's configuration, for its `state_dir`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `run`.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// The configuration [default: ./fleetfoot.yml, then /etc/fleetfoot/fleetfoot.yml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The state directory, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Refuse a configuration with keys that are not known
    #[arg(long)]
    pub strict: bool,
    /// Ask the daemon that holds the state directory to leave, and go on where it was
    #[arg(long)]
    pub takeover: bool,
}

/// `check`.
#[derive(Debug, Clone, Default, Args)]
pub struct CheckArgs {
    /// The configuration [default: ./fleetfoot.yml, then /etc/fleetfoot/fleetfoot.yml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The state directory, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Refuse keys that are not known
    #[arg(long)]
    pub strict: bool,
    /// Look at the file alone, ask neither GitHub nor a backend
    #[arg(long)]
    pub offline: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `status`.
#[derive(Debug, Clone, Default, Args)]
pub struct StatusArgs {
    /// How to find the daemon
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `why`.
#[derive(Debug, Clone, Args)]
pub struct WhyArgs {
    /// A pool, an instance, a runner's number, a job's id or name, `owner/repository`,
    /// `owner/repository#run`, or the address of a run
    #[arg(value_name = "JOB|RUNNER|POOL")]
    pub subject: String,
    /// How to find the daemon
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// The instance
    pub instance: String,
    /// How many lines at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200)]
    pub lines: usize,
    /// How to find the daemon
    #[command(flatten)]
    pub locate: LocateArgs,
}

/// `drain`.
#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    /// The pool
    pub pool: String,
    /// Return only when nothing of the pool is left
    #[arg(long)]
    pub wait: bool,
    /// Give up waiting after this many seconds
    #[arg(long, value_name = "SECONDS", requires = "wait", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// How to find the daemon
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// The pool
    pub pool: String,
    /// How to find the daemon
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `stop`.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// The instance
    pub instance: String,
    /// Also if it runs a job, which is then lost
    #[arg(long)]
    pub force: bool,
    /// How to find the daemon
    #[command(flatten)]
    pub locate: LocateArgs,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `version`.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct VersionArgs {
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "it is no number of seconds".to_owned())
}

/// What a command line means.
#[derive(Debug)]
pub enum Parsed {
    /// Do this.
    Command(Box<Command>),
    /// Print this on standard output and be done: help, version.
    Print(String),
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// One line, and a hint, with the exit code for usage.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, CommandError> {
    match Cli::try_parse_from(args) {
        Ok(cli) => Ok(Parsed::Command(Box::new(cli.command))),
        Err(error)
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            Ok(Parsed::Print(error.render().to_string()))
        }
        Err(error) => Err(usage(&error)),
    }
}

/// Clap's paragraphs in our two lines.
fn usage(error: &clap::Error) -> CommandError {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return CommandError::new(Exit::Usage, "a command is missing")
            .with_hint("`fleetfoot --help` shows them; `fleetfoot demo` shows what it does");
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim);
    let first = paragraphs.next().unwrap_or_default();
    let words: Vec<&str> = first.lines().map(str::trim).collect();
    let message = words.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let tips: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
    let hint = if tips.is_empty() {
        let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage: "));
        usage.map_or_else(|| "see `fleetfoot --help`".to_owned(), |usage| format!("usage: {usage}"))
    } else {
        tips.join("; ")
    };
    CommandError::new(Exit::Usage, message).with_hint(hint)
}

/// The definition of the command line, for completions and tests.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}
