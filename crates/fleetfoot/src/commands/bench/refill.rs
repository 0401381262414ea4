//! Row `refill`: limit one, jobs behind each other; from the end of a container to the start of the next.

use std::time::Duration;

use anyhow::Result;
use fleetfoot_sim::QueueJobs;

use super::Measured;
use super::docker::{Stand, on_stand};
use super::figure::{Figure, apart_ms, percentile};
use super::rig::{PoolLine, SCOPE};

const ROW: &str = "refill";
const POOL: &str = "refill";
const BOUND: Duration = Duration::from_secs(180);
const JOB_MS: u64 = 1_000;

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let jobs = if quick { 4 } else { 21 };
    on_stand(async |stand| both(stand, jobs).await).await
}

async fn both(stand: &mut Stand, jobs: usize) -> Result<Vec<Figure>> {
    stand.set(&[PoolLine { name: POOL.to_owned(), limit: 1 }]).await?;
    let bare = bare(stand, jobs).await?;
    stand.github()?.queue_jobs(&QueueJobs::for_scale_set(SCOPE, POOL, jobs, JOB_MS));
    let goal = stand.github()?.summary().jobs_queued_total;
    stand.wait(BOUND, |state| state.summary.jobs_completed == goal).await?;
    stand.wait_quiet(BOUND).await?;
    let ours = stand.gaps_ms(POOL);
    let at = |percent: usize| {
        let figure = Figure::new(
            ROW,
            format!("ended_to_started_p{percent}"),
            "ms",
            percentile(&ours, percent),
            ours.len(),
        );
        figure.beside(percentile(&bare, percent))
    };
    let above = percentile(&ours, 50) - percentile(&bare, 50);
    Ok(vec![
        at(50),
        at(95),
        Figure::new(ROW, "above_bare_p50", "ms", above, ours.len()).goal("at most 100"),
    ])
}

/// Bare code: the next container is created and started when the one before has ended.
async fn bare(stand: &Stand, jobs: usize) -> Result<Vec<f64>> {
    let mut gaps = Vec::new();
    let mut before = stand.prepare_bare(JOB_MS).await?;
    stand.start_bare(&before).await?;
    for _ in 1..jobs {
        let next = stand.prepare_bare(JOB_MS).await?;
        let ended_us = stand.wait_bare_end(&before).await?;
        let started_us = stand.start_bare(&next).await?;
        gaps.push(apart_ms(ended_us, started_us));
        stand.remove_bare(&before).await?;
        before = next;
    }
    stand.wait_bare_end(&before).await?;
    stand.remove_bare(&before).await?;
    Ok(gaps)
}
