//! `fleetfoot bench`: figures that anyone can repeat, each beside the bare minimum of the same work.
//!
//! ```text
//! this process                                   measured, a process of its own
//!   GitHub in a box     ◀── loopback ──────────────  fleetfoot run
//!   simulated engine    ◀── Unix socket ───────────
//!   stand-in runners
//!   bare code           ◀── the same box, in the same run
//! ```
//!
//! Bare code uses none of our rooms: `bare` speaks HTTP with reqwest, commits with rusqlite, and asks
//! Docker with bollard, with no more around it than the work needs.

mod adopt;
mod again;
mod bare;
mod binary;
mod burst;
mod churn;
mod docker;
mod failover;
mod figure;
mod idle;
mod libvirt;
mod myshoes;
mod outside;
mod pools;
pub(in crate::commands) mod process;
mod proxy;
mod recover;
mod refill;
mod rig;
pub(crate) mod shoes;
mod sim;
mod soak;
mod start;
mod targets;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use super::sim::{Signals, raise_open_files};
use crate::cli::OutputArgs;
use figure::Figure;

/// `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// The rows to run [default: all]
    #[arg(value_enum, value_name = "ROW")]
    pub rows: Vec<Row>,
    /// Fewer repetitions: figures to look at, not to quote
    #[arg(long)]
    pub quick: bool,
    /// Jobs of the row `soak` [default: 200000]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Address of an empty database, for the row `failover` [default: FLEETFOOT_TEST_POSTGRES_URL]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Also build the program from nothing, for the row `binary`; takes minutes
    #[arg(long)]
    pub build_time: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
    /// Be everything outside of a controller, with the engine on this socket.
    #[arg(long, hide = true, value_name = "SOCKET", requires = "outside_settings")]
    pub outside: Option<std::path::PathBuf>,
    /// The settings of its box.
    #[arg(long, hide = true, value_name = "JSON")]
    pub outside_settings: Option<String>,
    /// Be the bare program of the row `pools`: so many idle polls.
    #[arg(long, hide = true, value_name = "N", requires = "bare_box")]
    pub bare_polls: Option<usize>,
    /// The box to poll.
    #[arg(long, hide = true, value_name = "URL")]
    pub bare_box: Option<String>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// From a queued job to the create call at a simulated backend
    Start,
    /// A hundred jobs at once, every control call 100 ms slow
    Burst,
    /// Memory, processor time and start of a controller with many idle pools
    Pools,
    /// From a queued job to a started container, one and a hundred at once
    Docker,
    /// From the end of a container to the start of the next one
    Refill,
    /// Killed with five jobs running, and started again
    Again,
    /// Killed with fifty containers, or as many virtual machines as there is room for, running, and started again
    Adopt,
    /// From a queued job to its runner in a virtual machine: cold, running, suspended, from memory
    Libvirt,
    /// Jobs a second through a simulated backend, the store on disk
    Churn,
    /// A thousand running instances, killed and started again
    Recover,
    /// Two controllers on one database, one of them killed
    Failover,
    /// From a queued job to the call that a shoes plugin gets, a hundred at once
    Shoes,
    /// A thousand targets of myshoes in one daemon, and a change of one
    Targets,
    /// Simulated worlds a second
    Sim,
    /// Memory and store over very many jobs; takes minutes and runs only when it is named
    Soak,
    /// Size and build time of the program
    Binary,
}

impl Row {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Burst => "burst",
            Self::Pools => "pools",
            Self::Docker => "docker",
            Self::Refill => "refill",
            Self::Again => "again",
            Self::Adopt => "adopt",
            Self::Libvirt => "libvirt",
            Self::Churn => "churn",
            Self::Recover => "recover",
            Self::Failover => "failover",
            Self::Shoes => "shoes",
            Self::Targets => "targets",
            Self::Sim => "sim",
            Self::Soak => "soak",
            Self::Binary => "binary",
        }
    }
}

/// What a row led to.
enum Measured {
    Figures(Vec<Figure>),
    /// Something that it needs is not here.
    Skipped(String),
}

/// Measures the rows that are asked for.
///
/// # Errors
/// When one cannot be measured.
pub async fn run(args: BenchArgs) -> Result<ExitCode> {
    raise_open_files();
    if let (Some(count), Some(url)) = (args.bare_polls, &args.bare_box) {
        idle::polls(count, url).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(socket), Some(settings)) = (&args.outside, &args.outside_settings) {
        outside::run(socket, settings).await?;
        return Ok(ExitCode::SUCCESS);
    }
    if cfg!(debug_assertions) {
        note("this is a debug build: its figures say nothing about the program that is shipped");
    }
    let figures = measure(&args).await?;
    figure::print(&figures, args.output.output)?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &BenchArgs) -> Result<Vec<Figure>> {
    let all: Vec<Row> =
        Row::value_variants().iter().copied().filter(|row| *row != Row::Soak).collect();
    let rows = if args.rows.is_empty() { &all } else { &args.rows };
    let mut figures = Vec::new();
    for row in rows {
        note(&format!("{} ...", row.word()));
        let measured = match row {
            Row::Start => interruptible(start::measure(args.quick)).await?,
            Row::Burst => interruptible(burst::measure(args.quick)).await?,
            Row::Pools => interruptible(pools::measure(args.quick)).await?,
            // Those with containers or machines remove them themselves.
            Row::Docker => docker::measure(args.quick).await?,
            Row::Refill => refill::measure(args.quick).await?,
            Row::Adopt => {
                figures.extend(told(row, adopt::measure(args.quick).await?));
                libvirt::adopt::measure(args.quick).await?
            }
            Row::Libvirt => libvirt::measure(args.quick).await?,
            Row::Again => interruptible(again::measure(args.quick)).await?,
            Row::Churn => interruptible(churn::measure(args.quick)).await?,
            Row::Recover => interruptible(recover::measure(args.quick)).await?,
            Row::Failover => interruptible(failover::measure(args.database.as_deref())).await?,
            Row::Shoes => interruptible(shoes::measure(args.quick)).await?,
            Row::Targets => interruptible(targets::measure(args.quick)).await?,
            Row::Sim => interruptible(sim::measure(args.quick)).await?,
            Row::Soak => interruptible(soak::measure(args.quick, args.jobs)).await?,
            Row::Binary => interruptible(binary::measure(args.build_time)).await?,
        };
        figures.extend(told(row, measured));
    }
    Ok(figures)
}

/// The figures of a row; says why there are none.
fn told(row: &Row, measured: Measured) -> Vec<Figure> {
    match measured {
        Measured::Figures(of_row) => of_row,
        Measured::Skipped(why) => {
            note(&format!("{} SKIPPED: {why}", row.word()));
            Vec::new()
        }
    }
}

/// Lets go of a measurement that is interrupted; what it holds ends with it.
async fn interruptible(measured: impl Future<Output = Result<Measured>>) -> Result<Measured> {
    let mut signals = Signals::new()?;
    tokio::select! {
        biased;
        () = signals.asked() => bail!("interrupted"),
        measured = measured => measured,
    }
}

/// Talk, beside the data on standard output.
fn note(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
