//! The command line of `fleetfoot sim`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cli::OutputArgs;

/// `fleetfoot sim`.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: SimCommand,
}

/// The words of `fleetfoot sim`.
#[derive(Debug, Subcommand)]
pub enum SimCommand {
    /// Serve GitHub in a box until interrupted; prints one JSON line with its URLs when it is ready
    Serve(ServeArgs),
    /// Queue jobs in a box
    Job(JobArgs),
    /// Show what a box knows
    State(StateArgs),
    /// Add, show or clear faults of a box
    Fault(FaultArgs),
    /// Let tokens or sessions of a box expire
    Expire(ExpireArgs),
}

/// `fleetfoot sim serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Port to serve on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    /// Address to serve on; whoever reaches it may do everything
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub address: IpAddr,
    /// Organization that the printed `config_url` names; every other one exists as well
    #[arg(long, default_value = "box")]
    pub org: String,
    /// Behave as GitHub Enterprise Server: jobs are offered and must be acquired
    #[arg(long)]
    pub ghes: bool,
    /// How long the session of a client that is gone keeps others out
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub lapse: Option<Duration>,
    /// Added to every call except polls
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub latency: Option<Duration>,
    /// The token to accept
    #[arg(long)]
    pub token: Option<String>,
    /// Further settings as a JSON object, as the control API takes them
    #[arg(long, value_name = "JSON")]
    pub settings: Option<String>,
}

/// Which box is meant.
#[derive(Debug, Args)]
pub struct BoxAddress {
    /// URL of the box; without it the variable FLEETFOOT_SIM_URL
    #[arg(long = "box", value_name = "URL")]
    pub url: Option<String>,
}

/// `fleetfoot sim job`.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Which box.
    #[command(flatten)]
    pub at: BoxAddress,
    /// How many
    #[arg(long, default_value_t = 1)]
    pub count: usize,
    /// Pool (scale set) by name
    #[arg(long)]
    pub pool: Option<String>,
    /// Label the job asks for; may be repeated
    #[arg(long = "label")]
    pub labels: Vec<String>,
    /// Organization, `owner/repo` or `enterprises/name`
    #[arg(long, default_value = "box")]
    pub org: String,
    /// How long each job runs
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub duration: Duration,
    /// Name to show
    #[arg(long)]
    pub name: Option<String>,
    /// The job fails
    #[arg(long)]
    pub fail: bool,
    /// The runner's process ends in the middle of the job without a word
    #[arg(long)]
    pub crash: bool,
    /// Lines that the job prints
    #[arg(long, default_value_t = 0)]
    pub log_lines: u32,
    /// Memory that the job takes
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub memory_mib: u32,
    /// Wait until the jobs have ended
    #[arg(long)]
    pub wait: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `fleetfoot sim state`.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// Which box.
    #[command(flatten)]
    pub at: BoxAddress,
    /// Counts only
    #[arg(long)]
    pub summary: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `fleetfoot sim fault`.
#[derive(Debug, Args)]
pub struct FaultArgs {
    /// Which box.
    #[command(flatten)]
    pub at: BoxAddress,
    /// The fault as JSON: endpoint, what happens, and optionally scope, scale_set, runner, skip, times
    pub fault: Option<String>,
    /// Remove all faults first
    #[arg(long)]
    pub clear: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `fleetfoot sim expire`.
#[derive(Debug, Args)]
pub struct ExpireArgs {
    /// Which box.
    #[command(flatten)]
    pub at: BoxAddress,
    /// admin_tokens, registration_tokens, installation_tokens, queue_tokens or sessions
    pub what: String,
    /// Only of this organization
    #[arg(long)]
    pub org: Option<String>,
    /// Only of this pool
    #[arg(long)]
    pub pool: Option<String>,
}

/// `250ms`, `2s`, `1.5m`, or a number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration, such as 250ms, 2s or 1m");
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let found = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (amount, factor) = found.unwrap_or((text, 1.0));
    let amount: f64 = amount.trim().parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(amount * factor).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [("250ms", 250), ("2s", 2000), ("1.5m", 90_000), ("3", 3000), ("0", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "soon", "1e400"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
