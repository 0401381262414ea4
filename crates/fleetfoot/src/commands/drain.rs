//! `fleetfoot drain`: takes no more jobs into a pool and lets the running ones finish.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use fleetfoot_api::{Client, PoolStatus};
use fleetfoot_store::StateDir;

use super::locate;
use super::output::{print, print_json, say};
use crate::cli::{DrainArgs, Output};
use crate::exit::{CommandError, Exit};

/// How often a waiting drain asks.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Writes the wish; with `--wait` returns when nothing of the pool is left.
///
/// # Errors
/// No daemon, no such pool, one that is not in the configuration any more, or the wait was too long.
pub async fn run(args: DrainArgs) -> Result<ExitCode, CommandError> {
    let dir = locate::state_dir(&args.locate)?;
    let client = locate::client(&dir)?;
    let mut pool = locate::must(client.drain(&args.pool).await, &dir)?;
    if args.wait {
        pool = wait(&client, &dir, pool, args.timeout).await?;
    }
    match args.output.output {
        Output::Json => print_json(&pool)?,
        Output::Text if is_empty(&pool) => {
            print(&format!("pool `{}` is drained: nothing of it is left", pool.name))?;
        }
        Output::Text => {
            print(&format!("pool `{}` takes no more jobs: {}", pool.name, left(&pool)))?
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn wait(
    client: &Client,
    dir: &StateDir,
    mut pool: PoolStatus,
    timeout: Option<Duration>,
) -> Result<PoolStatus, CommandError> {
    let begun = Instant::now();
    let mut told = String::new();
    while !is_empty(&pool) {
        if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            let message = format!("pool `{}` is not empty yet: {}", pool.name, left(&pool));
            return Err(CommandError::new(Exit::Failure, message)
                .with_hint("it stays drained and empties by itself; ask again with --wait"));
        }
        let now = left(&pool);
        if now != told {
            say(&format!("waiting for pool `{}`: {now}", pool.name));
            told = now;
        }
        tokio::time::sleep(ASK_EVERY).await;
        pool = locate::must(client.pool(&pool.name).await, dir)?;
        if pool.phase == "active" {
            let message = format!("pool `{}` was resumed meanwhile", pool.name);
            return Err(CommandError::new(Exit::Failure, message));
        }
    }
    Ok(pool)
}

fn is_empty(pool: &PoolStatus) -> bool {
    pool.occupying == 0 && pool.starting + pool.idle + pool.running + pool.stopping == 0
}

fn left(pool: &PoolStatus) -> String {
    format!(
        "{} running, {} idle, {} starting, {} being removed",
        pool.running, pool.idle, pool.starting, pool.stopping
    )
}
