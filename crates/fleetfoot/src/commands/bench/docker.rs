//! Row `docker`: from a queued job to its started container, one at a time and a hundred at once.

mod stand;

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use fleetfoot_sim::{BoxState, JobState, QueueJobs};
use futures_util::StreamExt as _;

use super::Measured;
use super::figure::{Figure, apart_ms, median, now_us, percentile};
use super::rig::{PoolLine, SCOPE};
use crate::commands::sim::Signals;
pub(super) use stand::{Action, Stand};

const ROW: &str = "docker";
const ONE: &str = "one";
const MANY: &str = "many";
const BOUND: Duration = Duration::from_secs(180);
const LATENCY_MS: u64 = 100;
const JOB_MS: u64 = 100;
/// Longer than all of them take to start.
const LONG_JOB_MS: u64 = 600_000;

struct Counts {
    rounds: usize,
    each: usize,
    many: usize,
    many_rounds: usize,
    parallel: &'static [usize],
}

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let counts = if quick {
        Counts { rounds: 2, each: 2, many: 6, many_rounds: 1, parallel: &[4] }
    } else {
        Counts { rounds: 5, each: 6, many: 100, many_rounds: 3, parallel: &[4, 8, 16, 32] }
    };
    let pools = [
        PoolLine { name: ONE.to_owned(), limit: 1 },
        PoolLine { name: MANY.to_owned(), limit: counts.many },
    ];
    on_stand(async |stand| both(stand, &pools, &counts).await).await
}

/// Measures on a stand of its own and clears that away, however the measurement ends. Whoever interrupts
/// once gets what can be cleared in a moment; who interrupts twice gets his terminal.
pub(super) async fn on_stand(
    measure: impl AsyncFnOnce(&mut Stand) -> Result<Vec<Figure>>,
) -> Result<Measured> {
    let mut signals = Signals::new()?;
    let found = tokio::select! {
        biased;
        () = signals.asked() => bail!("interrupted"),
        found = Stand::find() => found?,
    };
    let mut stand = match found {
        Ok(stand) => stand,
        Err(why) => return Ok(Measured::Skipped(why)),
    };
    let measured = tokio::select! {
        biased;
        () = signals.asked() => Err(anyhow!("interrupted")),
        measured = measure(&mut stand) => measured,
    };
    let ended = tokio::select! {
        biased;
        () = signals.asked() => Err(anyhow!("interrupted again, before everything was removed")),
        ended = stand.end(measured.is_err()) => ended,
    };
    match (measured, ended) {
        (Ok(figures), Ok(())) => Ok(Measured::Figures(figures)),
        (Err(error), Ok(())) | (Ok(_), Err(error)) => Err(error),
        (Err(error), Err(left)) => bail!("{error:#}; {left:#}"),
    }
}

async fn both(stand: &mut Stand, pools: &[PoolLine], counts: &Counts) -> Result<Vec<Figure>> {
    stand.set(pools).await?;
    let mut figures = one_at_a_time(stand, counts).await?;
    figures.extend(all_at_once(stand, counts).await?);
    Ok(figures)
}

async fn one_at_a_time(stand: &mut Stand, counts: &Counts) -> Result<Vec<Figure>> {
    // The engine reads the image from disk the first time.
    stand.bare_one(JOB_MS).await?;
    one(stand).await?;
    let (mut ours, mut bare, mut own, mut ratios) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..counts.rounds {
        let (mut ours_round, mut bare_round) = (Vec::new(), Vec::new());
        for _ in 0..counts.each {
            bare_round.push(stand.bare_one(JOB_MS).await?);
            let (started, share) = one(stand).await?;
            ours_round.push(started);
            own.push(share);
        }
        ratios.push(median(&ours_round) / median(&bare_round));
        ours.extend(ours_round);
        bare.extend(bare_round);
    }
    let n = ours.len();
    let started = |percent| {
        let metric = format!("queued_to_started_p{percent}");
        Figure::new(ROW, metric, "ms", percentile(&ours, percent), n)
            .beside(percentile(&bare, percent))
    };
    Ok(vec![
        Figure::new(ROW, "own_share_p50", "ms", percentile(&own, 50), n).goal("at most 5"),
        Figure::new(ROW, "own_share_p95", "ms", percentile(&own, 95), n),
        started(50),
        started(95),
        Figure::new(ROW, "ratio_median_of_rounds", "times", median(&ratios), ratios.len())
            .beside(1.0)
            .goal("at most 1.1"),
    ])
}

/// One job through the controller: queued to started, and its own share of that.
async fn one(stand: &mut Stand) -> Result<(f64, f64)> {
    let ids = stand.github()?.queue_jobs(&QueueJobs::for_scale_set(SCOPE, ONE, 1, JOB_MS));
    let id = ids.first().copied().context("no job was queued")?;
    let ended =
        |state: &BoxState| state.job(id).is_some_and(|job| job.state == JobState::Completed);
    let state = stand.wait(BOUND, ended).await?;
    let job = state.job(id).context("the box forgot a job")?;
    let name = job.runner.clone().context("a job without a runner")?;
    let started_us = stand.when(&name, Action::Start, BOUND).await?;
    let sent_us = stand.create_sent_us(&name)?;
    let jit = state.jit_calls.iter().find(|call| call.name == name).context("no JIT call")?;
    let answered_us = jit.answered_us.context("a JIT call without an answer")?;
    let delivered_us = job.delivered_us.context("a job that was never told")?;
    stand.wait_quiet(BOUND).await?;
    let share = apart_ms(delivered_us, sent_us) - apart_ms(jit.arrived_us, answered_us);
    Ok((apart_ms(job.queued_us, started_us), share))
}

/// A hundred at once. The first round finds how many calls at a time are best for the engine; the rounds behind it repeat
/// that, each right before ours: the machine is never the same for two minutes.
async fn all_at_once(stand: &mut Stand, counts: &Counts) -> Result<Vec<Figure>> {
    let mut first = (f64::INFINITY, 0);
    for parallel in counts.parallel.iter().copied() {
        let took = bare_many(stand, counts.many, parallel).await?;
        if took < first.0 {
            first = (took, parallel);
        }
    }
    let (mut ours, mut bare) = (vec![our_many(stand, counts.many).await?], vec![first.0]);
    for _ in 1..counts.many_rounds {
        bare.push(bare_many(stand, counts.many, first.1).await?);
        ours.push(our_many(stand, counts.many).await?);
    }
    let metric = format!("{}_at_once", counts.many);
    let figure = Figure::new(ROW, metric, "ms", median(&ours), ours.len());
    Ok(vec![figure.beside(median(&bare)).goal("ratio at most 1.1")])
}

/// As many jobs at once through the controller, with a slow GitHub: from the queue to the last start.
async fn our_many(stand: &mut Stand, count: usize) -> Result<f64> {
    stand.github()?.change(|settings| settings.control_latency_ms = LATENCY_MS);
    let before = stand.started(MANY);
    let jobs = QueueJobs::for_scale_set(SCOPE, MANY, count, LONG_JOB_MS);
    let ids = stand.github()?.queue_jobs(&jobs);
    let first = ids.first().copied().context("no job was queued")?;
    let queued_us = stand.github()?.state().job(first).context("the box forgot a job")?.queued_us;
    let starts = stand.wait_started(MANY, before + count, BOUND).await?;
    stand.github()?.change(|settings| settings.control_latency_ms = 0);
    end_jobs(stand, ids.iter().copied()).await?;
    stand.wait_quiet(BOUND).await?;
    Ok(apart_ms(queued_us, starts))
}

/// Cancels these jobs once all of them run: every runner then ends with its own.
async fn end_jobs(stand: &Stand, ids: impl Iterator<Item = u64>) -> Result<()> {
    let ids: Vec<u64> = ids.collect();
    let run = |state: &BoxState| {
        ids.iter().all(|id| state.job(*id).is_some_and(|job| job.state == JobState::Running))
    };
    stand.github()?.wait_until(BOUND, run).await?;
    for id in ids.iter().copied() {
        stand.github()?.cancel_job(id);
    }
    Ok(())
}

/// As many containers by bare code, so many calls at a time.
async fn bare_many(stand: &Stand, count: usize, parallel: usize) -> Result<f64> {
    let mut prepared = Vec::new();
    for _ in 0..count {
        prepared.push(stand.prepare_bare(LONG_JOB_MS).await?);
    }
    let began_us = now_us();
    let started = futures_util::stream::iter(&prepared).map(|bare| stand.start_bare(bare));
    let started: Vec<Result<u64>> = started.buffer_unordered(parallel).collect().await;
    let mut last_us = began_us;
    for started in started {
        last_us = last_us.max(started?);
    }
    end_jobs(stand, prepared.iter().map(|bare| bare.job)).await?;
    for bare in &prepared {
        stand.wait_bare_end(bare).await?;
    }
    let removed = futures_util::stream::iter(&prepared).map(|bare| stand.remove_bare(bare));
    for removed in removed.buffer_unordered(8).collect::<Vec<_>>().await {
        removed?;
    }
    Ok(apart_ms(began_us, last_us))
}
