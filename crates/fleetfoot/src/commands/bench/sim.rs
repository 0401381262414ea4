//! Row `sim`: simulated worlds per second on one core.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fleetfoot_world::{Options, World};

use super::Measured;
use super::figure::{Figure, number};

const ROW: &str = "sim";

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let worlds: u64 = if quick { 20 } else { 400 };
    // A world has a runtime of its own, so it gets a thread of its own.
    let ran = tokio::task::spawn_blocking(move || run(worlds)).await;
    let (jobs, steps, seconds) = ran.context("a world fell over")??;
    let count = usize::try_from(worlds)?;
    let figure =
        |metric: &str, unit: &'static str, value: f64| Figure::new(ROW, metric, unit, value, count);
    Ok(Measured::Figures(vec![
        figure("worlds", "worlds/s", number(count) / seconds).goal("at least 20"),
        figure("jobs_each", "jobs", jobs / number(count)),
        figure("steps", "steps/s", steps / seconds),
    ]))
}

/// Jobs, steps and seconds of so many worlds, one after the other.
fn run(worlds: u64) -> Result<(f64, f64, f64)> {
    let options = Options::default();
    let began = Instant::now();
    let (mut jobs, mut steps) = (0, 0);
    for seed in 1..=worlds {
        let report = World::run(seed, &options);
        let broken = report.violation.as_ref();
        ensure!(
            broken.is_none(),
            "seed {seed} broke a promise, see `fleetfoot simulate --seeds 1 --seed {seed}`"
        );
        jobs += report.jobs;
        steps += report.steps;
    }
    let count = |total: u64| Ok::<_, anyhow::Error>(number(usize::try_from(total)?));
    Ok((count(jobs)?, count(steps)?, began.elapsed().as_secs_f64()))
}
