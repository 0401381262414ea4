//! What is to be seen at one moment, apart from how it is drawn.

use std::time::Duration;

use fleetfoot_api::Status;
use fleetfoot_sim::{BoxState, JobState};

use super::script::POOLS;

/// Everything the board shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) elapsed: Duration,
    pub(super) controller: ControllerState,
    pub(super) pools: Vec<PoolPicture>,
    pub(super) jobs: Jobs,
}

/// The controller's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ControllerState {
    Up { pid: i32, uptime: Duration },
    Dead { downtime: Duration },
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PoolPicture {
    pub(super) name: &'static str,
    pub(super) slots: Vec<Slot>,
    pub(super) waiting: usize,
    pub(super) done: usize,
}

/// One slot of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Slot {
    Free,
    Starting { instance: String },
    Idle { instance: String },
    Running { instance: String, job: String, since_ms: u64, of_ms: u64 },
    Stopping { instance: String },
}

/// All jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Jobs {
    pub(super) all: usize,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) done: usize,
}

impl Picture {
    pub(super) fn new(
        elapsed: Duration,
        all: usize,
        controller: ControllerState,
        github: &BoxState,
        status: Option<&Status>,
    ) -> Self {
        let pools: Vec<_> =
            POOLS.iter().map(|(name, limit)| pool(name, *limit, github, status)).collect();
        let running = pools.iter().flat_map(|pool| &pool.slots);
        let jobs = Jobs {
            all,
            waiting: pools.iter().map(|pool| pool.waiting).sum(),
            running: running.filter(|slot| matches!(slot, Slot::Running { .. })).count(),
            done: pools.iter().map(|pool| pool.done).sum(),
        };
        Self { elapsed, controller, pools, jobs }
    }
}

fn pool(name: &'static str, limit: u32, github: &BoxState, status: Option<&Status>) -> PoolPicture {
    let jobs = || github.jobs.iter().filter(|job| job.scale_set.as_deref() == Some(name));
    let count = |wanted: fn(JobState) -> bool| jobs().filter(|job| wanted(job.state)).count();
    // What runs is known by GitHub, whether or not there is a controller.
    let mut slots: Vec<Slot> = jobs()
        .filter(|job| job.state == JobState::Running)
        .map(|job| Slot::Running {
            instance: job.runner.clone().unwrap_or_default(),
            job: format!("job {} {}", job.id, job.name),
            since_ms: github.now_us.saturating_sub(job.started_us.unwrap_or(github.now_us)) / 1000,
            of_ms: job.duration_ms,
        })
        .collect();
    let busy: Vec<String> = slots
        .iter()
        .filter_map(|slot| match slot {
            Slot::Running { instance, .. } => Some(instance.clone()),
            Slot::Free | Slot::Starting { .. } | Slot::Idle { .. } | Slot::Stopping { .. } => None,
        })
        .collect();
    let others = status.into_iter().flat_map(|status| &status.instances);
    slots.extend(others.filter(|one| one.pool == name && !busy.contains(&one.name)).map(|one| {
        let instance = one.name.clone();
        match one.phase.as_str() {
            "idle" => Slot::Idle { instance },
            // Its job has ended, and it is about to be noticed.
            "stopping" | "running" => Slot::Stopping { instance },
            _ => Slot::Starting { instance },
        }
    }));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // Remains that wait to be removed occupy nothing; the slots are for what does.
    slots.sort_by_key(|slot| matches!(slot, Slot::Stopping { .. }));
    slots.truncate(limit);
    slots.resize(limit, Slot::Free);
    let waits = |state| match state {
        JobState::Queued | JobState::Available | JobState::Assigned | JobState::Offered => true,
        JobState::Running | JobState::Completed => false,
    };
    PoolPicture {
        name,
        slots,
        waiting: count(waits),
        done: count(|state| state == JobState::Completed),
    }
}
