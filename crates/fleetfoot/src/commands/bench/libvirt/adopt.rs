//! Row `adopt` with virtual machines: as many as this host holds, in a job each; killed, and started again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_provisioner_libvirt::rpc::{Connection, ListFlags};
use fleetfoot_sim::QueueJobs;

use super::super::Measured;
use super::super::adopt::{opened, taken_up};
use super::super::figure::{Figure, apart_ms, now_us, number};
use super::super::note;
use super::super::rig::SCOPE;
use super::{Controller, Stand, on_stand};

const ROW: &str = "adopt";
const WAY: &str = "adopt";
const MACHINES_MAX: usize = 50;
/// Of the host's memory, for an emulated guest.
const EACH_KIB: usize = 320 * 1024;
/// Until all run: they are made from memory, two processors make about one a second.
const UP_BOUND: Duration = Duration::from_secs(900);
const BOUND: Duration = Duration::from_secs(180);
/// Longer than everything that is looked at.
const JOB_MS: u64 = 3_600_000;

pub(in super::super) async fn measure(quick: bool) -> Result<Measured> {
    let count = if quick { 2 } else { fits() };
    on_stand(&[(WAY, "snapshot", 0, count)], async |stand| adopted(stand, count).await).await
}

/// How many machines the memory holds that is free now, half of it left for others.
fn fits() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let free_kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    (free_kib.unwrap_or_default() / 2 / EACH_KIB).clamp(2, MACHINES_MAX)
}

async fn adopted(stand: &mut Stand, count: usize) -> Result<Vec<Figure>> {
    note(&format!("{count} machines ..."));
    let pool = stand.pool(WAY);
    stand.start().await?;
    stand.github.queue_jobs(&QueueJobs::for_scale_set(SCOPE, &pool, count, JOB_MS));
    let all = u64::try_from(count)?;
    let state = stand.wait_within(UP_BOUND, |state| state.summary.jobs_running == all).await?;
    let busy = state.runners.into_iter().filter(|runner| runner.busy);
    let before: BTreeSet<String> = busy.map(|runner| runner.name).collect();
    let list_us = now_us();
    let machines = running(&stand.talk, &pool).await?;
    let list_ms = apart_ms(list_us, now_us());
    anyhow::ensure!(machines.len() == count, "libvirt has {} of {count}", machines.len());

    stand.controller.take().context("no controller")?.kill().await?;
    let started_us = now_us();
    let controller = stand.controller.insert(Controller::start(&stand.files)?);
    let status = controller.wait_ready(BOUND).await?;
    let is_open = |state: &fleetfoot_sim::BoxState| opened(state, &pool, started_us).is_some();
    let state = stand.wait_within(BOUND, is_open).await?;
    let opened_us = opened(&state, &pool, started_us).context("no session")?;
    let adopted = taken_up(&status, &before);
    let more = running(&stand.talk, &pool).await?.difference(&machines).count();
    let figure = |metric, unit, value| Figure::new(ROW, metric, unit, value, count);
    Ok(vec![
        figure("machines_adopted", "machines", number(adopted)).goal(format!("{count}")),
        figure("machines_started_again", "machines", number(more)).goal("0"),
        figure("machines_session_opened", "ms", apart_ms(started_us, opened_us)).beside(list_ms),
    ])
}

/// Machines of the pool that are on: name, and the number that is another for each start.
async fn running(talk: &Connection, pool: &str) -> Result<BTreeSet<(String, i32)>> {
    let all = talk.domains(ListFlags::ALL).await?;
    let ours = all.into_iter().filter(|it| it.is_active() && it.name.starts_with(pool));
    Ok(ours.map(|it| (it.name, it.id)).collect())
}
