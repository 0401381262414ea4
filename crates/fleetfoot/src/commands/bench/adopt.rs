//! Row `adopt`: fifty containers running, killed, started again: all of them are known before the session opens.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_sim::QueueJobs;

use super::Measured;
use super::docker::{Stand, on_stand};
use super::figure::{Figure, apart_ms, number};
use super::rig::{PoolLine, SCOPE};

const ROW: &str = "adopt";
const POOL: &str = "adopt";
const BOUND: Duration = Duration::from_secs(180);
/// Longer than everything that is looked at.
const JOB_MS: u64 = 900_000;

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let count = if quick { 5 } else { 50 };
    on_stand(async |stand| adopted(stand, count).await).await
}

async fn adopted(stand: &mut Stand, count: usize) -> Result<Vec<Figure>> {
    stand.set(&[PoolLine { name: POOL.to_owned(), limit: count }]).await?;
    let jobs = stand.github()?.queue_jobs(&QueueJobs::for_scale_set(SCOPE, POOL, count, JOB_MS));
    let all = u64::try_from(count)?;
    let state = stand.wait(BOUND, |state| state.summary.jobs_running == all).await?;
    let busy = state.runners.into_iter().filter(|runner| runner.busy);
    let before: BTreeSet<String> = busy.map(|runner| runner.name).collect();
    let (seen, list_ms) = stand.bare_list_ms().await?;
    anyhow::ensure!(seen >= count, "the engine lists {seen} containers of {count}");
    let started = stand.started(POOL);

    let (started_us, status) = stand.kill_and_start().await?;
    let polled = |state: &fleetfoot_sim::BoxState| opened(state, POOL, started_us).is_some();
    let state = stand.wait(BOUND, polled).await?;
    let opened_us = opened(&state, POOL, started_us).context("no session")?;
    let adopted = taken_up(&status, &before);
    let more = stand.started(POOL) - started;
    for id in jobs {
        stand.github()?.cancel_job(id);
    }
    stand.wait_quiet(BOUND).await?;
    let figure = |metric, unit, value| Figure::new(ROW, metric, unit, value, count);
    Ok(vec![
        figure("adopted", "containers", number(adopted)).goal(format!("{count}")),
        figure("started_again", "containers", number(more)).goal("0"),
        figure("session_opened", "ms", apart_ms(started_us, opened_us)).beside(list_ms),
    ])
}

/// How many of these are known as living. That one has its job may have been on its way when the first daemon ended.
pub(super) fn taken_up(status: &fleetfoot_api::Status, before: &BTreeSet<String>) -> usize {
    let lives = |phase: &str| ["starting", "idle", "running"].contains(&phase);
    let known = status.instances.iter().filter(|one| lives(&one.phase));
    known.filter(|one| before.contains(&one.name)).count()
}

/// When the pool's session of after this moment was opened.
pub(super) fn opened(state: &fleetfoot_sim::BoxState, pool: &str, after_us: u64) -> Option<u64> {
    let set = state.scale_sets.iter().find(|set| set.name == pool)?.id;
    let sessions = state.sessions.iter().filter(|one| one.scale_set_id == set);
    sessions.map(|one| one.opened_us).filter(|at| *at >= after_us).min()
}
