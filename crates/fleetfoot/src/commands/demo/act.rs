//! The demonstration itself: jobs by the script, a crash in the middle, a second start.

use std::time::Duration;

use anyhow::Result;
use fleetfoot_api::Status;
use fleetfoot_sim::BoxState;
use tokio::time::Instant;

use super::events::{Event, Witness};
use super::picture::{ControllerState, Picture};
use super::screen::Screen;
use super::script::Script;
use super::stage::Stage;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the controller stays dead.
const DEAD_FOR: Duration = Duration::from_secs(1);
/// Long enough for jobs that are lost to be missed and no longer.
const BOUND_BASE: Duration = Duration::from_secs(120);
const BOUND_PER_JOB: Duration = Duration::from_secs(5);

/// Where the crash is.
#[derive(Debug, Clone, Copy)]
enum Crash {
    ToCome,
    Dead { since: Instant },
    Over,
}

/// Plays the script until every job has ended; how often the controller was killed.
pub(super) async fn play(stage: &mut Stage, screen: &mut Screen, script: &Script) -> Result<u32> {
    let begun = Instant::now();
    let bound = BOUND_BASE + BOUND_PER_JOB * u32::try_from(script.jobs.len()).unwrap_or(u32::MAX);
    let mut witness = Witness::new();
    let mut queued = 0;
    let mut crash = Crash::ToCome;
    let mut kills = 0;
    screen.open();
    loop {
        let now = begun.elapsed();
        let due = script.jobs[queued..].iter().take_while(|job| job.at <= now);
        let due: Vec<_> = due.cloned().collect();
        if !due.is_empty() {
            due.iter().try_for_each(|job| stage.queue(job))?;
            queued += due.len();
            screen.event(now, &Event::Queued { count: due.len() });
        }
        let (github, status) = look(stage).await?;
        for event in witness.look(&github, status.as_ref()) {
            screen.event(now, &event);
        }
        let state = controller_state(stage, crash);
        screen.show(&Picture::new(now, script.jobs.len(), state, &github, status.as_ref()));
        if let Some(controller) = &mut stage.controller {
            controller.check()?;
        }
        crash = match crash {
            Crash::ToCome if is_time(script, now, &github) => {
                let pid = stage.kill_controller().await?.unwrap_or_default();
                kills += 1;
                screen.event(now, &Event::Killed { pid, running: github.summary.jobs_running });
                Crash::Dead { since: Instant::now() }
            }
            Crash::Dead { since } if since.elapsed() >= DEAD_FOR => {
                stage.start_controller()?;
                let pid = stage.controller.as_ref().map_or(0, |controller| controller.pid());
                screen.event(now, &Event::Restarted { pid, running: github.summary.jobs_running });
                Crash::Over
            }
            same @ (Crash::ToCome | Crash::Dead { .. } | Crash::Over) => same,
        };
        let all = u64::try_from(script.jobs.len()).unwrap_or(u64::MAX);
        let ended = github.summary.jobs_completed >= all && !matches!(crash, Crash::Dead { .. });
        // A script so short that its jobs ended before the crash has none.
        if ended || begun.elapsed() > bound {
            return Ok(kills);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn look(stage: &Stage) -> Result<(BoxState, Option<Status>)> {
    let status = match &stage.controller {
        Some(controller) => controller.status().await,
        None => None,
    };
    Ok((stage.github()?.state(), status))
}

fn is_time(script: &Script, now: Duration, github: &BoxState) -> bool {
    let done = github.summary.jobs_completed;
    let half = u64::try_from(script.jobs.len() / 2).unwrap_or(0);
    let running = github.summary.jobs_running;
    now >= script.kill_at && (running >= script.running_at_kill() || (done >= half && running > 0))
}

fn controller_state(stage: &Stage, crash: Crash) -> ControllerState {
    match (&stage.controller, crash) {
        (Some(controller), _) => {
            ControllerState::Up { pid: controller.pid(), uptime: controller.uptime() }
        }
        (None, Crash::Dead { since }) => ControllerState::Dead { downtime: since.elapsed() },
        (None, Crash::ToCome | Crash::Over) => ControllerState::Dead { downtime: Duration::ZERO },
    }
}
