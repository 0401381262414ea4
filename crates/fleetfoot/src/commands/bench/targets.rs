//! Row `targets`: what a daemon of very many targets costs, and what one target's change costs the others.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fleetfoot_sim::{BoxState, Endpoint, QueueJobs};
use tokio::time::Instant;

use super::figure::{Figure, apart_ms, median, now_us, number};
use super::myshoes::{Myshoes, Stage};
use super::process::{Memory, memory, processor_seconds};
use super::rig::SCOPE;
use super::{Measured, note};

const ROW: &str = "targets";
const OPEN_BOUND: Duration = Duration::from_secs(300);
const BOUND: Duration = Duration::from_secs(30);
const JOB_MS: u64 = 20;
/// What one target is made; the others stay as they are.
const SIZE: &str = "4xlarge";

/// How long to look.
#[derive(Clone, Copy)]
struct Times {
    settle: Duration,
    watch: Duration,
    /// Each target's runners are listed once, 60 to 120 s after its start: a change is made after that.
    calm: Duration,
}

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let (count, settle, watch, calm) = if quick { (50, 2, 3, 0) } else { (1000, 15, 20, 135) };
    let seconds = Duration::from_secs;
    let times = Times { settle: seconds(settle), watch: seconds(watch), calm: seconds(calm) };
    let mut stage = Stage::new().await?;
    let daemon = stage.start(&[]).await?;
    daemon.create(&scope(0)).await?;
    polls(&stage, 1).await?;
    daemon.stop().await?;
    // Both are looked at after a start, as an operator's daemon is.
    let base = opened(&mut stage, 1, times).await?;
    let mut each_ms = Vec::new();
    let mut last = String::new();
    for target in 1..count {
        let began = Instant::now();
        last = base.daemon.create(&scope(target)).await?;
        each_ms.push(began.elapsed().as_secs_f64() * 1000.0);
        if target % 250 == 0 {
            note(&format!("targets ... {target}"));
        }
    }
    polls(&stage, count).await?;
    base.daemon.stop().await?;
    let mut all = opened(&mut stage, count, times).await?;
    note("targets ... until the first looks at runners are over");
    tokio::time::sleep_until(all.opened + times.calm).await;
    let changed = change(&stage, &all.daemon, &last, count - 1, times).await?;
    all.daemon.quiet(BOUND).await?;
    let begun_us = now_us();
    all.daemon.create(&scope(count)).await?;
    let state = polls(&stage, count + 1).await?;
    let new = state.scale_set(&scope(count), &set(count)).context("no scale set was made")?;
    let polled = state.session(new.id).and_then(|session| session.first_poll_us);
    let created_to_poll = apart_ms(begun_us, polled.context("the new target does not poll")?);
    all.daemon.stop().await?;
    stage.end().await?;
    let further = number(count - 1).max(1.0);
    let each_kib = (all.memory.rss_kib - base.memory.rss_kib) / further;
    let figure =
        |metric: &str, unit: &'static str, value: f64| Figure::new(ROW, metric, unit, value, count);
    Ok(Measured::Figures(vec![
        figure("rss_base", "MiB", base.memory.rss_kib / 1024.0),
        figure("rss", "MiB", all.memory.rss_kib / 1024.0),
        figure("rss_each_further_target", "KiB", each_kib).goal("at most 70"),
        figure("processor", "% of a core", all.processor_percent),
        figure("all_polls_open", "s", all.open_s),
        figure("created_p50", "ms", median(&each_ms)),
        figure("created_to_poll", "ms", created_to_poll),
        figure("changed_to_add", "ms", changed.to_add_ms),
        figure("calls_without_a_change", "calls", changed.quiet_calls),
        figure("calls_of_a_change", "calls", changed.calls).goal("at most 4: its own session"),
        figure("processor_of_a_change", "ms", changed.processor_ms),
    ]))
}

fn scope(target: usize) -> String {
    format!("{SCOPE}/r{target:04}")
}

fn set(target: usize) -> String {
    format!("myshoes-{SCOPE}-r{target:04}")
}

async fn polls(stage: &Stage, count: usize) -> Result<BoxState> {
    let count = u64::try_from(count)?;
    stage.wait(OPEN_BOUND, |summary| summary.polls == count).await?;
    Ok(stage.github.state())
}

/// A daemon all of whose targets poll.
struct Opened {
    daemon: Myshoes,
    opened: Instant,
    open_s: f64,
    memory: Memory,
    processor_percent: f64,
}

async fn opened(stage: &mut Stage, count: usize, times: Times) -> Result<Opened> {
    let began = Instant::now();
    let daemon = stage.start(&[]).await?;
    polls(stage, count).await?;
    let (open_s, opened) = (began.elapsed().as_secs_f64(), Instant::now());
    tokio::time::sleep(times.settle).await;
    let pid = daemon.pid()?;
    let memory = memory(pid)?;
    let used = used(pid, times.watch).await?;
    let processor_percent = used * 100.0 / times.watch.as_secs_f64();
    Ok(Opened { daemon, opened, open_s, memory, processor_percent })
}

async fn used(pid: i32, watch: Duration) -> Result<f64> {
    let before = processor_seconds(pid)?;
    tokio::time::sleep(watch).await;
    Ok(processor_seconds(pid)? - before)
}

/// What one change led to.
struct Changed {
    /// From the request to the first machine as it is now.
    to_add_ms: f64,
    /// Calls to GitHub besides polls, while nothing was changed for as long.
    quiet_calls: f64,
    /// Those above that number.
    calls: f64,
    /// Above what the time costs without a change.
    processor_ms: f64,
}

/// Changes one target of them all, and gives it a job.
async fn change(
    stage: &Stage,
    daemon: &Myshoes,
    id: &str,
    target: usize,
    times: Times,
) -> Result<Changed> {
    let pid = daemon.pid()?;
    let first = calls(&stage.github.state());
    let idle = used(pid, times.watch).await?;
    let quiet = calls(&stage.github.state());
    let begun_us = now_us();
    daemon.resize(id, &scope(target), SIZE).await?;
    let changing = used(pid, times.watch).await?;
    let after = calls(&stage.github.state());
    let (quiet_calls, calls) = (difference(&first, &quiet), difference(&quiet, &after));
    for (endpoint, count) in &calls {
        note(&format!("targets ... {count} {endpoint:?} while one was changed"));
    }
    let (quiet_calls, calls): (usize, usize) = (quiet_calls.values().sum(), calls.values().sum());
    let before = stage.machines.added().len();
    let asked_us = now_us();
    stage.github.queue_jobs(&QueueJobs::for_scale_set(scope(target), set(target), 1, JOB_MS));
    let goal = stage.github.summary().jobs_queued_total;
    stage.wait(BOUND, |summary| summary.jobs_completed == goal).await?;
    let added = stage.machines.added();
    let added = added.get(before).context("a job without a machine")?;
    ensure!(added.size == SIZE, "the change was not served: the machine is {}", added.size);
    ensure!(begun_us <= asked_us, "the clock went back");
    Ok(Changed {
        to_add_ms: apart_ms(asked_us, added.received_us),
        quiet_calls: number(quiet_calls),
        calls: number(calls.saturating_sub(quiet_calls)),
        processor_ms: (changing - idle).max(0.0) * 1000.0,
    })
}

/// What was asked of GitHub besides polls.
fn calls(state: &BoxState) -> BTreeMap<Endpoint, usize> {
    let besides = state.requests.iter().filter(|(endpoint, _)| **endpoint != Endpoint::GetMessage);
    let counted =
        besides.map(|(endpoint, count)| (*endpoint, usize::try_from(*count).unwrap_or(usize::MAX)));
    counted.collect()
}

/// What was asked from one look to the next.
fn difference(
    before: &BTreeMap<Endpoint, usize>,
    after: &BTreeMap<Endpoint, usize>,
) -> BTreeMap<Endpoint, usize> {
    let more = after.iter().map(|(endpoint, count)| {
        (*endpoint, count.saturating_sub(before.get(endpoint).copied().unwrap_or(0)))
    });
    more.filter(|(_, count)| *count > 0).collect()
}
