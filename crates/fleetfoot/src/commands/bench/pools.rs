//! Row `pools`: what a controller costs whose pools have nothing to do.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use fleetfoot_sim::{ControlClient, Ready, Summary};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::time::Instant;

use super::figure::{Figure, number};
use super::process::{Memory, memory, processor_seconds};
use super::rig::{Engine, config, pool_lines, simulated};
use super::{Measured, note};
use crate::commands::sim::{Controller, ControllerFiles, DataDirectory, program};

const ROW: &str = "pools";
const OPEN_BOUND: Duration = Duration::from_secs(120);
const STOP_BOUND: Duration = Duration::from_secs(30);

/// What was seen of one process with so many polls.
#[derive(Clone, Copy)]
struct Seen {
    open_s: f64,
    memory: Memory,
    processor_percent: f64,
}

/// How long to look.
#[derive(Clone, Copy)]
struct Times {
    settle: Duration,
    watch: Duration,
}

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let (counts, settle, watch) =
        if quick { (vec![1, 20], 2, 5) } else { (vec![1, 100, 500, 2000], 15, 120) };
    let times = Times { settle: Duration::from_secs(settle), watch: Duration::from_secs(watch) };
    let github = BoxProcess::start().await?;
    let mut seen = Vec::new();
    for count in counts {
        note(&format!("pools ... {count}"));
        let bare = bare(&github, count, times).await?;
        seen.push((count, ours(&github, count, times).await?, bare));
    }
    github.end().await?;
    Ok(Measured::Figures(figures(&seen)))
}

fn figures(seen: &[(usize, Seen, Seen)]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (count, ours, bare) in seen {
        let figure =
            |metric: &str, unit: &'static str, of: fn(&Seen) -> f64, goal: Option<&str>| {
                let figure = Figure::new(ROW, format!("{metric}_{count}"), unit, of(ours), *count)
                    .beside(of(bare));
                goal.map_or_else(|| figure.clone(), |goal| figure.clone().goal(goal))
            };
        let at = |wanted: usize, goal: &'static str| (*count == wanted).then_some(goal);
        let rss = at(1, "at most 13").or(at(100, "at most 18"));
        figures.push(figure("rss", "MiB", |seen| seen.memory.rss_kib / 1024.0, rss));
        figures.push(figure("pss", "MiB", |seen| seen.memory.pss_kib / 1024.0, None));
        let percent = at(2000, "at most 1");
        figures.push(figure("processor", "% of a core", |seen| seen.processor_percent, percent));
        let open = at(100, "at most 1").or(at(2000, "at most 10"));
        figures.push(figure("all_polls_open", "s", |seen| seen.open_s, open));
    }
    if let (Some((few, ours_few, bare_few)), Some((many, ours_many, bare_many))) =
        (seen.first(), seen.last())
    {
        let further = number(many.saturating_sub(*few).max(1));
        let each = |from: &Seen, to: &Seen| (to.memory.rss_kib - from.memory.rss_kib) / further;
        let figure =
            Figure::new(ROW, "rss_each_further_pool", "KiB", each(ours_few, ours_many), *many);
        figures.push(figure.beside(each(bare_few, bare_many)).goal("at most 70, better 50"));
    }
    figures
}

/// A box as a third process: its own work would disturb.
struct BoxProcess {
    child: Child,
    url: String,
    control: ControlClient,
}

impl BoxProcess {
    async fn start() -> Result<Self> {
        let mut command = program()?;
        command.args(["sim", "serve"]).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child =
            command.process_group(0).kill_on_drop(true).spawn().context("cannot start a box")?;
        let out = child.stdout.take().context("the box has no output")?;
        let line =
            BufReader::new(out).lines().next_line().await?.context("the box did not start")?;
        let ready: Ready =
            serde_json::from_str(&line).context("the box did not say where it is")?;
        Ok(Self { child, control: ControlClient::new(&ready.url), url: ready.url })
    }

    async fn wait(&self, wanted: impl FnMut(&Summary) -> bool) -> Result<()> {
        self.control.wait_summary(OPEN_BOUND, wanted).await?;
        Ok(())
    }

    async fn end(mut self) -> Result<()> {
        self.child.kill().await.context("cannot end the box")
    }
}

async fn look(
    github: &BoxProcess,
    pid: i32,
    count: usize,
    began: Instant,
    times: Times,
) -> Result<Seen> {
    let polls = u64::try_from(count)?;
    github.wait(|summary| summary.polls >= polls).await?;
    let open_s = began.elapsed().as_secs_f64();
    tokio::time::sleep(times.settle).await;
    let memory = memory(pid)?;
    let before = processor_seconds(pid)?;
    tokio::time::sleep(times.watch).await;
    let used = processor_seconds(pid)? - before;
    Ok(Seen { open_s, memory, processor_percent: used * 100.0 / times.watch.as_secs_f64() })
}

async fn ours(github: &BoxProcess, count: usize, times: Times) -> Result<Seen> {
    let data = DataDirectory::new("bench")?;
    let socket = data.path().join("engine.sock");
    let engine = Engine::serve(&socket)?;
    let pools = pool_lines(&format!("pool-{count}"), count, 2);
    let config = config(&github.url, data.path(), &pools, &simulated(&socket))?;
    let files = ControllerFiles::write(data.path(), &config)?;
    let began = Instant::now();
    let mut controller = Controller::start(&files)?;
    let seen = look(github, controller.pid(), count, began, times).await;
    controller.check()?;
    controller.stop(STOP_BOUND).await?;
    github.wait(|summary| summary.polls == 0).await?;
    engine.end().await;
    data.remove()?;
    seen
}

async fn bare(github: &BoxProcess, count: usize, times: Times) -> Result<Seen> {
    let mut command = program()?;
    command.args(["bench", "--bare-polls", &count.to_string(), "--bare-box", &github.url]);
    let began = Instant::now();
    let mut child =
        command.process_group(0).kill_on_drop(true).spawn().context("cannot start bare code")?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).context("bare code has ended")?;
    let seen = look(github, pid, count, began, times).await;
    child.kill().await.context("cannot end bare code")?;
    github.wait(|summary| summary.polls == 0).await?;
    seen
}
