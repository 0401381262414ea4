//! Row `failover`: two controllers share a PostgreSQL or MariaDB, one of them is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_sim::{BoxState, QueueJobs, Settings};

use super::Measured;
use super::figure::{Figure, apart_ms, now_us, number};
use super::outside::Outside;
use super::rig::{SCOPE, config, pool_lines, simulated};
use crate::commands::sim::{Controller, ControllerFiles, DataDirectory};

const ROW: &str = "failover";
const POOLS: usize = 4;
/// The dead sessions keep others out for so long, unless they are deleted.
const LAPSE_MS: u64 = 60_000;
/// Longer than everything that is looked at.
const JOB_MS: u64 = 900_000;
const BOUND: Duration = Duration::from_secs(60);
const STOP_BOUND: Duration = Duration::from_secs(20);

/// The database, where no option names it.
pub(super) const VARIABLE: &str = "FLEETFOOT_TEST_POSTGRES_URL";

pub(super) async fn measure(database: Option<&str>) -> Result<Measured> {
    let Some(database) = database.map(str::to_owned).or_else(|| std::env::var(VARIABLE).ok())
    else {
        return Ok(Measured::Skipped(format!("no `--database` and no {VARIABLE}")));
    };
    let data = DataDirectory::new("bench")?;
    let settings = Settings { session_lapse_ms: LAPSE_MS, ..Settings::default() };
    let outside = Outside::start(data.path(), &settings).await?;
    let files = [
        controller(&data, "one", &outside, &database)?,
        controller(&data, "other", &outside, &database)?,
    ];
    let mut one = Controller::start(&files[0])?;
    one.wait_ready(BOUND).await?;
    let mut other = Controller::start(&files[1])?;
    // Balance: each decides on half of them, and no pool is on its way from one to the other.
    one.wait_status(BOUND, is_even).await?;
    let all = u64::try_from(POOLS)?;
    outside.control.wait_summary(BOUND, |now| now.polls == all).await?;
    let killed_us = now_us();
    one.kill().await?;
    for pool in 0..POOLS {
        let jobs = QueueJobs::for_scale_set(SCOPE, name(pool), 1, JOB_MS);
        outside.control.queue_jobs(&jobs).await?;
    }
    outside.control.wait_summary(BOUND, |now| now.jobs_running == all).await?;
    let decided_us = now_us();
    let state = outside.state().await?;
    let first = first_poll(&state, killed_us).context("no pool of the dead controller polls")?;
    let status = other.wait_status(BOUND, |status| owners(status).len() == 1).await?;
    let moved = status.pools.len();
    other.stop(STOP_BOUND).await?;
    outside.end().await?;
    data.remove()?;
    let figure =
        |metric: &str, unit: &'static str, value: f64| Figure::new(ROW, metric, unit, value, moved);
    Ok(Measured::Figures(vec![
        figure("decided", "s", apart_ms(killed_us, decided_us) / 1000.0).goal("at most 15"),
        figure("first_poll", "s", apart_ms(killed_us, first) / 1000.0).goal("at most 15"),
        figure("pools", "pools", number(moved)),
    ]))
}

fn name(pool: usize) -> String {
    format!("failover-{pool:04}")
}

/// A controller with a state directory of its own and everything else in common.
fn controller(
    data: &DataDirectory,
    word: &str,
    outside: &Outside,
    database: &str,
) -> Result<ControllerFiles> {
    let directory = data.path().join(word);
    std::fs::create_dir_all(&directory).context("cannot make a directory")?;
    let address = directory.join("database");
    std::fs::write(&address, database).context("cannot write the address of the database")?;
    let pools = pool_lines("failover", POOLS, 4);
    let text = config(&outside.url, &directory, &pools, &simulated(&outside.socket))?;
    let text = format!("store_url_file: {}\n{text}", address.display());
    ControllerFiles::write(&directory, &text)
}

/// Who decides on the pools.
fn owners(status: &fleetfoot_api::Status) -> BTreeSet<String> {
    let owners = status.pools.iter().filter_map(|pool| pool.owner.as_ref());
    owners.filter_map(|owner| owner.controller.clone()).collect()
}

fn is_even(status: &fleetfoot_api::Status) -> bool {
    let mut pools: BTreeMap<&str, usize> = BTreeMap::new();
    for controller in
        status.pools.iter().filter_map(|pool| pool.owner.as_ref()?.controller.as_deref())
    {
        *pools.entry(controller).or_default() += 1;
    }
    pools.len() == 2 && pools.values().all(|own| *own == POOLS / 2)
}

/// When a session that was opened after this moment was first polled.
fn first_poll(state: &BoxState, after_us: u64) -> Option<u64> {
    let sessions = state.sessions.iter().filter(|session| session.opened_us >= after_us);
    sessions.filter_map(|session| session.first_poll_us).min()
}
