//! `fleetfoot scale-set`: what a pool that was renamed or left the file leaves at GitHub.
//!
//! A scale set outlives its pool on purpose: jobs that name it wait there for the pool to come back. Only a
//! person knows that it will not, so only a person deletes it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use fleetfoot_github::{Connection, ScaleSet, Statistics};
use serde::Serialize;

use super::output::{print, print_json};
use crate::cli::{Output, OutputArgs};
use crate::config::credentials::{Flags, RealSurroundings, resolve};
use crate::config::{Config, LoadOptions, load};
use crate::exit::{CommandError, Exit};
use crate::wiring;

/// The group of a scale set that names none.
const DEFAULT_GROUP: i64 = 1;

/// `scale-set`.
#[derive(Debug, Clone, Args)]
pub struct ScaleSetArgs {
    /// What to do
    #[command(subcommand)]
    pub word: ScaleSetWord,
}

/// The words of `scale-set`.
#[derive(Debug, Clone, Subcommand)]
pub enum ScaleSetWord {
    /// Show where a scale set exists and what waits or runs there
    Show(ScaleSetShowArgs),
    /// Delete a scale set: jobs that ask for it are offered to nobody any more
    Delete(ScaleSetDeleteArgs),
}

/// Which scale set.
#[derive(Debug, Clone, Args)]
pub struct ScaleSetPlace {
    /// The name of the scale set, which is that of the pool that made it
    pub name: String,
    /// The runner group it is in, if not the default one
    #[arg(long, value_name = "GROUP")]
    pub runner_group: Option<String>,
    /// Only at this organization, repository or enterprise [default: every `url` of the configuration]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The configuration, for its credentials
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `scale-set show`.
#[derive(Debug, Clone, Args)]
pub struct ScaleSetShowArgs {
    /// Which one
    #[command(flatten)]
    pub place: ScaleSetPlace,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `scale-set delete`.
#[derive(Debug, Clone, Args)]
pub struct ScaleSetDeleteArgs {
    /// Which one
    #[command(flatten)]
    pub place: ScaleSetPlace,
    /// Also if jobs or runners are there; waiting jobs then wait in vain
    #[arg(long)]
    pub force: bool,
    /// How to print
    #[command(flatten)]
    pub output: OutputArgs,
}

/// A scale set that exists, and the way to it.
struct Found {
    connection: Connection,
    set: ScaleSet,
    counts: Option<Statistics>,
}

#[derive(Serialize)]
struct Shown<'a> {
    id: i64,
    name: &'a str,
    url: &'a str,
    runner_group: &'a str,
    labels: Vec<&'a str>,
    /// The pool of the configuration that uses it.
    pool: Option<&'a str>,
    jobs_waiting: Option<u32>,
    jobs_running: Option<u32>,
    runners: Option<u32>,
    deleted: bool,
}

/// Does one of the words.
///
/// # Errors
/// No such scale set, one in use, or GitHub refuses.
pub async fn run(args: ScaleSetArgs) -> Result<ExitCode, CommandError> {
    match args.word {
        ScaleSetWord::Show(args) => show(args).await,
        ScaleSetWord::Delete(args) => delete(args).await,
    }
}

async fn show(args: ScaleSetShowArgs) -> Result<ExitCode, CommandError> {
    let config = configuration(&args.place)?;
    let found = find(&config, &args.place).await?;
    tell(&config, &args.place, &found, false, args.output.output)
}

async fn delete(args: ScaleSetDeleteArgs) -> Result<ExitCode, CommandError> {
    let config = configuration(&args.place)?;
    let found = find(&config, &args.place).await?;
    let [only] = found.as_slice() else {
        let places: Vec<&str> = found.iter().map(|it| it.connection.url().as_str()).collect();
        let message = format!(
            "scale set `{}` exists at {}: say which one with --url",
            args.place.name,
            places.join(" and at ")
        );
        return Err(CommandError::new(Exit::Failure, message));
    };
    if let Some(pool) = user(&config, &args.place, only) {
        let message = format!("scale set `{}` is used by pool `{pool}`", args.place.name);
        return Err(CommandError::new(Exit::Failure, message)
            .with_hint("take the pool out of the configuration first, and let it drain"));
    }
    if !args.force
        && let Some(busy) = in_use(only.counts)
    {
        let message = format!("scale set `{}` is not empty: {busy}", args.place.name);
        return Err(CommandError::new(Exit::Failure, message)
            .with_hint("cancel the jobs or let them finish, or repeat with --force"));
    }
    only.connection
        .delete_scale_set(only.set.id)
        .await
        .map_err(|error| CommandError::new(Exit::Failure, error.chain()))?;
    tell(&config, &args.place, &found, true, args.output.output)
}

fn configuration(place: &ScaleSetPlace) -> Result<Config, CommandError> {
    let path = super::locate::config_path(place.config.as_deref());
    match load(&path, &LoadOptions::default()) {
        Ok(loaded) => Ok(loaded.config),
        Err(error) => Err(CommandError::from_error(Exit::Config, &error)),
    }
}

/// Asks at every place that the configuration knows.
async fn find(config: &Config, place: &ScaleSetPlace) -> Result<Vec<Found>, CommandError> {
    let failed = |message: String| CommandError::new(Exit::Failure, message);
    let resolution = resolve(config, &Flags::default(), &RealSurroundings);
    if let Some((runner, error)) = resolution.failures.first() {
        let message = format!("runner {runner}: {}", error.in_own_words());
        return Err(CommandError::new(Exit::Config, message));
    }
    let ways = wiring::ways_to_github(resolution)
        .map_err(|error| CommandError::from_error(Exit::Config, &error))?;
    let wanted = |connection: &Connection| {
        place.url.as_deref().is_none_or(|url| same_url(connection.url().as_str(), url))
    };
    let mut asked: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for connection in ways.iter().filter(|connection| wanted(connection)) {
        if asked.contains(&connection.url().as_str()) {
            continue;
        }
        asked.push(connection.url().as_str());
        let group = match &place.runner_group {
            None => DEFAULT_GROUP,
            Some(name) => match connection.runner_group(name).await {
                Ok(Some(group)) => group.id,
                Ok(None) => continue,
                Err(error) => return Err(failed(error.chain())),
            },
        };
        let set = connection.scale_set(group, &place.name).await;
        let Some(set) = set.map_err(|error| failed(error.chain()))? else { continue };
        let counts = connection.scale_set_statistics(set.id).await;
        let counts = counts.map_err(|error| failed(error.chain()))?;
        found.push(Found { connection: connection.clone(), set, counts });
    }
    if !found.is_empty() {
        return Ok(found);
    }
    if asked.is_empty() {
        let url = place.url.as_deref().unwrap_or_default();
        return Err(failed(format!("no runner of the configuration has the url {url}"))
            .with_hint("its credential is needed: name a configuration with --config"));
    }
    let group = place.runner_group.as_deref().unwrap_or("the default one");
    Err(failed(format!(
        "there is no scale set `{}` in runner group {group} at {}",
        place.name,
        asked.join(", ")
    )))
}

fn same_url(one: &str, other: &str) -> bool {
    one.trim_end_matches('/').eq_ignore_ascii_case(other.trim_end_matches('/'))
}

/// The pool that would serve it at the next start.
fn user<'a>(config: &'a Config, place: &ScaleSetPlace, found: &Found) -> Option<&'a str> {
    let pool = config.runners.iter().find(|runner| {
        let group = runner.runner_group.as_deref();
        let same_group = match (group, place.runner_group.as_deref()) {
            (None, None) => true,
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            (None, Some(_)) | (Some(_), None) => false,
        };
        let url = runner.url.as_deref();
        runner.name.eq_ignore_ascii_case(&found.set.name)
            && same_group
            && url.is_none_or(|url| same_url(url, found.connection.url().as_str()))
    });
    pool.map(|runner| runner.name.as_str())
}

/// What keeps it from being deleted.
fn in_use(counts: Option<Statistics>) -> Option<String> {
    let counts = counts?;
    let waiting = waiting(counts);
    (waiting + counts.running + counts.registered > 0).then(|| {
        format!(
            "{waiting} jobs waiting, {} jobs running, {} runners",
            counts.running, counts.registered
        )
    })
}

/// Jobs that no runner has yet. Assigned ones include those that run.
fn waiting(counts: Statistics) -> u32 {
    counts.available + counts.acquired.max(counts.assigned).saturating_sub(counts.running)
}

fn tell(
    config: &Config,
    place: &ScaleSetPlace,
    found: &[Found],
    deleted: bool,
    output: Output,
) -> Result<ExitCode, CommandError> {
    let shown: Vec<Shown> = found
        .iter()
        .map(|it| Shown {
            id: it.set.id,
            name: &it.set.name,
            url: it.connection.url().as_str(),
            runner_group: &it.set.group_name,
            labels: it.set.labels.iter().map(|label| label.name.as_str()).collect(),
            pool: user(config, place, it),
            jobs_waiting: it.counts.map(waiting),
            jobs_running: it.counts.map(|counts| counts.running),
            runners: it.counts.map(|counts| counts.registered),
            deleted,
        })
        .collect();
    match output {
        Output::Json => print_json(&shown)?,
        Output::Text => {
            for set in &shown {
                print(&line(set))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(set: &Shown) -> String {
    if set.deleted {
        return format!("scale set `{}` at {} is deleted", set.name, set.url);
    }
    let count =
        |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let pool = match set.pool {
        Some(pool) => format!("used by pool `{pool}`"),
        None => "used by no pool of this configuration".to_owned(),
    };
    format!(
        "scale set `{}` at {} (id {}, runner group {}, labels {}): {pool}; {} jobs waiting, {} running, {} runners",
        set.name,
        set.url,
        set.id,
        set.runner_group,
        set.labels.join(", "),
        count(set.jobs_waiting),
        count(set.jobs_running),
        count(set.runners)
    )
}
