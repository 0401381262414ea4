//! Row `recover`: a thousand instances running at an engine of its own, killed, started again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_sim::{BoxState, QueueJobs, Settings};

use super::Measured;
use super::bare::Bare;
use super::figure::{Figure, apart_ms, now_us, number};
use super::outside::Outside;
use super::rig::{SCOPE, config, pool_lines, simulated};
use crate::commands::sim::{Controller, ControllerFiles, DataDirectory};

const ROW: &str = "recover";
const POOLS: usize = 10;
/// The dead session keeps others out for so long, unless it is deleted.
const LAPSE_MS: u64 = 60_000;
/// Longer than everything that is looked at.
const JOB_MS: u64 = 900_000;
const BOUND: Duration = Duration::from_secs(120);
const STOP_BOUND: Duration = Duration::from_secs(20);

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let each = if quick { 10 } else { 100 };
    let (instances, rounds) = (POOLS * each, if quick { 1 } else { 3 });
    let data = DataDirectory::new("bench")?;
    let settings = Settings { session_lapse_ms: LAPSE_MS, ..Settings::default() };
    let outside = Outside::start(data.path(), &settings).await?;
    let pools = pool_lines("recover", POOLS, each);
    let config = config(&outside.url, data.path(), &pools, &simulated(&outside.socket))?;
    let files = ControllerFiles::write(data.path(), &config)?;
    let mut controller = Controller::start(&files)?;
    controller.wait_ready(BOUND).await?;
    for pool in &pools {
        let jobs = QueueJobs::for_scale_set(SCOPE, &pool.name, each, JOB_MS);
        outside.control.queue_jobs(&jobs).await?;
    }
    let all = u64::try_from(instances)?;
    outside.control.wait_summary(BOUND, |now| now.jobs_running == all).await?;
    let before = running(&outside.state().await?);
    let mut seen = Vec::new();
    for _ in 0..rounds {
        controller.wait_status(BOUND, |status| adopted(status, &before) == instances).await?;
        controller.kill().await?;
        let (next, recovered) = again(&files, &outside, &before).await?;
        controller = next;
        seen.push(recovered);
    }
    let bare_ms = bare(&outside).await?;
    controller.stop(STOP_BOUND).await?;
    outside.end().await?;
    data.remove()?;
    let worst = |of: fn(&Recovered) -> f64| seen.iter().map(of).fold(0.0, f64::max);
    let least = seen.iter().map(|one| one.adopted).min().unwrap_or(0);
    let figure = |metric: &str, unit: &'static str, value: f64| {
        Figure::new(ROW, metric, unit, value, instances)
    };
    Ok(Measured::Figures(vec![
        figure("adopted", "instances", number(least)).goal(format!("{instances}")),
        figure("first_poll", "ms", worst(|one| one.first_ms)).beside(bare_ms).goal("at most 2000"),
        figure("all_polls", "ms", worst(|one| one.all_ms)).goal("at most 2000"),
    ]))
}

/// What one start led to.
struct Recovered {
    adopted: usize,
    first_ms: f64,
    all_ms: f64,
}

async fn again(
    files: &ControllerFiles,
    outside: &Outside,
    before: &BTreeSet<String>,
) -> Result<(Controller, Recovered)> {
    let started_us = now_us();
    let mut controller = Controller::start(files)?;
    let status = controller.wait_ready(BOUND).await?;
    let state = outside.state().await?;
    let polls = first_polls(&state, started_us);
    let (first, last) = polls.iter().min().zip(polls.iter().max()).context("no poll")?;
    anyhow::ensure!(polls.len() == POOLS, "{} of {POOLS} pools poll", polls.len());
    let recovered = Recovered {
        adopted: adopted(&status, before),
        first_ms: apart_ms(started_us, *first),
        all_ms: apart_ms(started_us, *last),
    };
    Ok((controller, recovered))
}

fn adopted(status: &fleetfoot_api::Status, before: &BTreeSet<String>) -> usize {
    let running = status.instances.iter().filter(|one| one.phase == "running");
    running.filter(|one| before.contains(&one.name)).count()
}

fn running(state: &BoxState) -> BTreeSet<String> {
    state.runners.iter().filter(|runner| runner.busy).map(|runner| runner.name.clone()).collect()
}

/// When each session that was opened after this moment was first polled.
fn first_polls(state: &BoxState, after_us: u64) -> Vec<u64> {
    let sessions = state.sessions.iter().filter(|session| session.opened_us >= after_us);
    sessions.filter_map(|session| session.first_poll_us).collect()
}

/// Bare code that knows the id of its old session: tokens, delete, open, poll.
async fn bare(outside: &Outside) -> Result<f64> {
    let client = Bare::connect(&outside.url, SCOPE).await?;
    let set = client.scale_set("bare").await?;
    let old = client.open(set).await?;
    let began_us = now_us();
    let client = Bare::connect(&outside.url, SCOPE).await?;
    client.close(set, &old.id).await?;
    let session = client.open(set).await?;
    let polled = |state: &BoxState| !first_polls(state, began_us).is_empty();
    let state = tokio::select! {
        state = outside.control.wait_state(BOUND, polled) => state?,
        polled = client.poll(&session, 1) => {
            polled?;
            outside.state().await?
        }
    };
    let first = first_polls(&state, began_us).into_iter().min();
    let first = first.context("bare code did not poll")?;
    client.close(set, &session.id).await?;
    Ok(apart_ms(began_us, first))
}
