//! Row `burst`: a hundred jobs at once while every control call takes 100 ms.

use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_sim::{BoxState, QueueJobs, Settings};
use tokio::task::JoinSet;

use super::Measured;
use super::bare::{Bare, BareSession};
use super::figure::{Figure, apart_ms, median, percentile};
use super::rig::{PoolLine, Rig, SCOPE, play, pool_lines};

const ROW: &str = "burst";
const JOBS: usize = 100;
const LATENCY_MS: u64 = 100;
const BOUND: Duration = Duration::from_secs(120);
const JOB_MS: u64 = 20;

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let rounds = if quick { 1 } else { 5 };
    let one = || vec![PoolLine { name: "all".to_owned(), limit: JOBS }];
    let many = || pool_lines("pool", JOBS, 1);
    let mut figures = spread("one_pool", rounds, one()).await?;
    figures.extend(spread("hundred_pools", rounds, many()).await?);
    Ok(Measured::Figures(figures))
}

/// The jobs spread evenly over these pools; beside them the same with bare code.
async fn spread(metric: &str, rounds: usize, pools: Vec<PoolLine>) -> Result<Vec<Figure>> {
    let mut rig = Rig::start(Settings::default(), &pools).await?;
    let client = Bare::connect(&rig.github.url(), SCOPE).await?;
    let mut bare_sets = Vec::new();
    for index in 0..pools.len() {
        let name = format!("bare-{index:04}");
        let session = client.open(client.scale_set(&name).await?).await?;
        bare_sets.push((name, session));
    }
    rig.github.change(|settings| settings.control_latency_ms = LATENCY_MS);
    let (mut ours, mut all_ours, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        bare.extend(
            bare_round(&rig, &client, &bare_sets, round).await?.into_iter().reduce(f64::max),
        );
        let each = round_of(&mut rig, &pools).await?;
        ours.extend(each.iter().copied().reduce(f64::max));
        all_ours.extend(each);
    }
    rig.github.change(|settings| settings.control_latency_ms = 0);
    rig.end().await?;
    Ok(vec![
        Figure::new(ROW, format!("last_jit_{metric}"), "ms", median(&ours), ours.len() * JOBS)
            .beside(median(&bare))
            .goal("at most 400"),
        Figure::new(
            ROW,
            format!("jit_{metric}_p50"),
            "ms",
            percentile(&all_ours, 50),
            all_ours.len(),
        ),
        Figure::new(
            ROW,
            format!("jit_{metric}_p95"),
            "ms",
            percentile(&all_ours, 95),
            all_ours.len(),
        ),
    ])
}

/// Queues the jobs; when each JIT request reached the box, after the first job was queued.
async fn round_of(rig: &mut Rig, pools: &[PoolLine]) -> Result<Vec<f64>> {
    let before = rig.github.state().jit_calls.len();
    let queued_us = queue(rig, pools.iter().map(|pool| pool.name.as_str()), pools.len())?;
    let goal = rig.github.summary().jobs_queued_total;
    rig.wait_counts(BOUND, |summary| summary.jobs_completed == goal).await?;
    rig.wait_quiet(BOUND).await?;
    Ok(arrivals(&rig.github.state(), before, queued_us))
}

fn queue<'a>(rig: &Rig, names: impl Iterator<Item = &'a str>, pools: usize) -> Result<u64> {
    let mut first = None;
    for name in names {
        let ids =
            rig.github.queue_jobs(&QueueJobs::for_scale_set(SCOPE, name, JOBS / pools, JOB_MS));
        first = first.or(ids.first().copied());
    }
    let first = first.context("no job was queued")?;
    Ok(rig.github.state().job(first).context("the box forgot a job")?.queued_us)
}

fn arrivals(state: &BoxState, before: usize, queued_us: u64) -> Vec<f64> {
    state.jit_calls.iter().skip(before).map(|call| apart_ms(queued_us, call.arrived_us)).collect()
}

/// Bare code: everything at once, as soon as the first message states how many.
async fn bare_round(
    rig: &Rig,
    client: &Bare,
    sets: &[(String, BareSession)],
    round: usize,
) -> Result<Vec<f64>> {
    let before = rig.github.state().jit_calls.len();
    let goal = rig.github.summary().jobs_queued_total + u64::try_from(JOBS)?;
    let mut polls = JoinSet::new();
    for (name, session) in sets {
        let (client, session, name) = (client.clone(), session.clone(), format!("{name}-{round}"));
        polls.spawn(async move { bare_set(&client, &session, &name).await });
    }
    let polling = u64::try_from(sets.len())?;
    let theirs = rig.github.state().scale_sets.len() - sets.len();
    let all = polling + u64::try_from(theirs)?;
    rig.github.wait_counts(BOUND, |summary| summary.polls >= all).await?;
    let queued_us = queue(rig, sets.iter().map(|(name, _)| name.as_str()), sets.len())?;
    rig.github.wait_counts(BOUND, |summary| summary.jobs_completed == goal).await?;
    polls.shutdown().await;
    rig.github.wait_counts(BOUND, |summary| summary.runners == 0).await?;
    Ok(arrivals(&rig.github.state(), before, queued_us))
}

/// Polls until it is stopped; starts a runner for each job at once.
async fn bare_set(client: &Bare, session: &BareSession, name: &str) -> Result<()> {
    let mut runners = JoinSet::new();
    let mut begun = 0;
    loop {
        let Some(message) = client.poll(session, JOBS).await? else { continue };
        while begun < message.total_assigned && message.assigned > 0 {
            let (client, set, name) = (client.clone(), session.set, format!("{name}-{begun}"));
            begun += 1;
            runners.spawn(async move {
                if let Ok(jit) = client.jit(set, &name).await {
                    play(&jit).await;
                }
            });
        }
        client.acknowledge(session, message.id).await?;
    }
}
