//! Row `again`: five jobs running, limit five, killed, started at once; the box keeps the dead session for 30 s.

use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_core::PoolName;
use fleetfoot_sim::{BoxState, JobState, QueueJobs, Settings};

use super::Measured;
use super::bare::Bare;
use super::figure::{Figure, apart_ms, now_us, number};
use super::rig::{PoolLine, Rig, SCOPE};

const ROW: &str = "again";
const POOL: &str = "again";
const LIMIT: usize = 5;
const LAPSE_MS: u64 = 30_000;
const BOUND: Duration = Duration::from_secs(60);
/// Longer than everything that is looked at.
const JOB_MS: u64 = 300_000;

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let look_for = Duration::from_secs(if quick { 1 } else { 10 });
    let settings = Settings { session_lapse_ms: LAPSE_MS, ..Settings::default() };
    let mut rig = Rig::start(settings, &[PoolLine { name: POOL.to_owned(), limit: LIMIT }]).await?;
    let jobs = rig.github.queue_jobs(&QueueJobs::for_scale_set(SCOPE, POOL, LIMIT, JOB_MS));
    let limit = u64::try_from(LIMIT)?;
    rig.wait(BOUND, |state| state.summary.jobs_running == limit).await?;
    let bare_ms = bare(&rig).await?;
    let before: Vec<String> = running(&rig.github.state());

    rig.controller.take().context("no controller")?.kill().await?;
    let started_us = now_us();
    rig.start_controller().await?;
    let polled = |state: &BoxState| first_poll(state, started_us).is_some();
    let state = rig.wait(BOUND, polled).await?;
    let first_us = first_poll(&state, started_us).context("no poll")?;
    // More than fits: whoever miscounts what runs would start some of these.
    let more = rig.github.queue_jobs(&QueueJobs::for_scale_set(SCOPE, POOL, LIMIT, JOB_MS));
    tokio::time::sleep(look_for).await;

    let status =
        rig.controller.as_ref().context("no controller")?.status().await.context("no status")?;
    let adopted =
        status.instances.iter().filter(|one| one.phase == "running" && before.contains(&one.name));
    let adopted = adopted.count();
    let most = rig.engine.engine.peak(&PoolName::new(POOL)?);
    let leaked = rig.github.summary().runners.saturating_sub(limit);
    for id in more.iter().chain(&jobs) {
        rig.github.cancel_job(*id);
    }
    // A runner that came for a job that was cancelled has nothing to wait for.
    rig.controller.as_ref().context("no controller")?.drain(POOL).await?;
    rig.wait_quiet(BOUND).await?;
    rig.end().await?;
    Ok(Measured::Figures(vec![
        Figure::new(ROW, "adopted", "instances", number(adopted), LIMIT).goal("5"),
        Figure::new(ROW, "most_at_once", "instances", number(most), LIMIT).goal("at most 5"),
        Figure::new(
            ROW,
            "leaked_registrations",
            "runners",
            number(usize::try_from(leaked)?),
            LIMIT,
        )
        .goal("0"),
        Figure::new(ROW, "first_poll", "ms", apart_ms(started_us, first_us), 1)
            .beside(bare_ms)
            .goal("at most 1000"),
    ]))
}

fn running(state: &BoxState) -> Vec<String> {
    let jobs = state.jobs.iter().filter(|job| job.state == JobState::Running);
    jobs.filter_map(|job| job.runner.clone()).collect()
}

/// When a session that was opened after this moment was first polled.
fn first_poll(state: &BoxState, after_us: u64) -> Option<u64> {
    let sessions = state.sessions.iter().filter(|session| session.opened_us >= after_us);
    sessions.filter_map(|session| session.first_poll_us).min()
}

/// Bare code that knows the id of its old session: tokens, delete, open, poll.
async fn bare(rig: &Rig) -> Result<f64> {
    let url = rig.github.url();
    let client = Bare::connect(&url, SCOPE).await?;
    let set = client.scale_set("bare").await?;
    let old = client.open(set).await?;
    let began_us = now_us();
    let client = Bare::connect(&url, SCOPE).await?;
    client.close(set, &old.id).await?;
    let session = client.open(set).await?;
    let arrived = rig.github.wait_until(BOUND, |state| first_poll(state, began_us).is_some());
    let state = tokio::select! {
        arrived = arrived => arrived?,
        polled = client.poll(&session, 1) => {
            polled?;
            rig.github.state()
        }
    };
    let first_us = first_poll(&state, began_us).context("bare code did not poll")?;
    client.close(set, &session.id).await?;
    Ok(apart_ms(began_us, first_us))
}
