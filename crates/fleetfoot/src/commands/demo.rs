//! `fleetfoot demo`: the whole thing on one machine, with a crash in the middle.
//!
//! ```text
//! this process                                  fleetfoot run (killed and started again)
//!   GitHub in a box  ◀── polls, JIT calls ───────  listeners, reconcilers
//!   board                                          │ starts
//!   jobs by script   ◀── one job each ───────────  runners: processes or containers
//! ```
//!
//! Nothing of it reaches beyond this machine. At the end everything is counted and removed.

mod act;
mod board;
mod books;
pub(crate) mod containers;
mod events;
mod picture;
mod screen;
mod script;
mod stage;
mod summary;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use clap::builder::RangedU64ValueParser;

use super::sim::Signals;
use crate::cli::OutputArgs;
use screen::Screen;
use script::Script;
use stage::Stage;
use summary::Summary;

/// `fleetfoot demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How many jobs
    #[arg(long, default_value_t = 60, value_parser = RangedU64ValueParser::<usize>::new().range(1..=JOBS_MAX))]
    pub jobs: usize,
    /// Run the jobs in containers instead of processes; pulls no image
    #[arg(long)]
    pub docker: bool,
    /// How to print; json: the last line of standard output is the result
    #[command(flatten)]
    pub output: OutputArgs,
}

/// More than this is no demonstration.
const JOBS_MAX: u64 = 5_000;

/// Runs the demonstration. Not a success if a job was lost or anything is left over.
///
/// # Errors
/// When something of it cannot be set up, or does not do what it should.
pub async fn run(args: DemoArgs) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut screen = Screen::new(args.output.output);
    let mut stage = Stage::new(args.docker)?;
    let played = tokio::select! {
        biased;
        () = signals.asked() => None,
        played = play(&mut stage, &mut screen, args.jobs) => Some(played),
    };
    screen.close();
    let cleaned = stage.clear().await;
    match played {
        None => {
            screen.line("interrupted; everything that was started is ended and removed");
            cleaned.map(|()| ExitCode::from(130))
        }
        Some(Err(error)) => Err(error),
        Some(Ok(summary)) => {
            cleaned?;
            summary.print(args.output.output)?;
            Ok(if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

async fn play(stage: &mut Stage, screen: &mut Screen, jobs: usize) -> Result<Summary> {
    stage.set(screen).await?;
    let script = Script::new(jobs);
    let kills = act::play(stage, screen, &script).await?;
    let books = books::close(stage, screen).await?;
    Ok(Summary::new(&script, &books, kills, stage.is_docker()))
}
