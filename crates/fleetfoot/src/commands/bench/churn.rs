//! Row `churn`: jobs per second through the simulated backend, the store on disk as in production.
//!
//! There are always more jobs than runners; each job is over at once. Beside it stands bare code that does
//! nothing but the same number of commits with the same number of rows each.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use fleetfoot_sim::{QueueJobs, Settings, Summary};
use tokio::time::Instant;

use super::Measured;
use super::bare::Ledger;
use super::figure::{Figure, median, number};
use super::outside::Outside;
use super::process::{memory, processor_seconds};
use super::rig::{PoolLine, SCOPE, config, pool_lines, simulated};
use crate::commands::sim::{Controller, ControllerFiles, DataDirectory};

const ROW: &str = "churn";
const POOLS: usize = 4;
const LIMIT: usize = 100;
/// Jobs that wait beside those that run, per pool.
const AHEAD: usize = LIMIT;
const JOB_MS: u64 = 1;
/// Ended jobs that the box remembers.
const HISTORY: usize = 2_000;
const READY_BOUND: Duration = Duration::from_secs(60);
const STOP_BOUND: Duration = Duration::from_secs(20);
/// No job ends for so long: something is broken.
const STALL_BOUND: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Looks at the memory that count for a moment.
const LOOKS: usize = 50;
/// Bare commits that are timed.
const BARE_COMMITS: usize = 400;

pub(super) async fn measure(quick: bool) -> Result<Measured> {
    let (warm_up, jobs) = if quick { (500, 2_000) } else { (3_000, 15_000) };
    let mut churn = Churn::start().await?;
    let from = churn.run_to(warm_up).await?;
    let to = churn.run_to(warm_up + jobs).await?;
    let done = to.jobs - from.jobs;
    let seconds = (to.at - from.at).as_secs_f64();
    let commits = to.commits - from.commits;
    let rows = to.rows - from.rows;
    let bare_s = bare(&churn, rows / commits.max(1.0))?;
    let bare_rate = done / (bare_s * commits);
    let own = (to.processor_s - from.processor_s) * 1000.0 / done;
    let others = (to.outside_s - from.outside_s) * 1000.0 / done;
    churn.end().await?;
    let figure =
        |metric: &str, unit: &'static str, value: f64| Figure::new(ROW, metric, unit, value, jobs);
    Ok(Measured::Figures(vec![
        figure("jobs", "jobs/s", done / seconds).beside(bare_rate).goal("at least 500"),
        figure("commits_each_job", "commits", commits / done),
        figure("rows_each_job", "rows", rows / done),
        figure("processor_each_job", "ms", own),
        figure("processor_each_job_of_the_box", "ms", others),
    ]))
}

/// What was counted at one moment.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) jobs: f64,
    pub(super) commits: f64,
    pub(super) rows: f64,
    pub(super) processor_s: f64,
    pub(super) outside_s: f64,
    /// The controller's resident memory, in the middle of the last looks.
    pub(super) rss_mib: f64,
}

/// A controller with more work than it can do.
pub(super) struct Churn {
    pub(super) data: DataDirectory,
    pub(super) files: ControllerFiles,
    pub(super) controller: Controller,
    outside: Outside,
    pools: Vec<PoolLine>,
}

impl Churn {
    /// Starts everything; no job yet.
    pub(super) async fn start() -> Result<Self> {
        let data = DataDirectory::new("bench")?;
        let settings =
            Settings { history_max: HISTORY, started_delay_ms: 0, ..Settings::default() };
        let outside = Outside::start(data.path(), &settings).await?;
        let pools = pool_lines("churn", POOLS, LIMIT);
        let config = config(&outside.url, data.path(), &pools, &simulated(&outside.socket))?;
        let files = ControllerFiles::write(data.path(), &config)?;
        let mut controller = Controller::start(&files)?;
        controller.wait_ready(READY_BOUND).await?;
        Ok(Self { data, files, controller, outside, pools })
    }

    /// Lets jobs run until so many have ended; never more of them wait than are needed.
    pub(super) async fn run_to(&mut self, jobs: usize) -> Result<Moment> {
        let goal = u64::try_from(jobs)?;
        let mut last = (0, Instant::now());
        let mut looks = VecDeque::with_capacity(LOOKS);
        loop {
            let summary = self.outside.summary().await?;
            if looks.len() == LOOKS {
                looks.pop_front();
            }
            looks.push_back(memory(self.controller.pid())?.rss_kib / 1024.0);
            if summary.jobs_completed >= goal {
                return self.moment(summary, median(looks.make_contiguous())).await;
            }
            self.controller.check()?;
            if summary.jobs_completed > last.0 {
                last = (summary.jobs_completed, Instant::now());
            } else if last.1.elapsed() > STALL_BOUND {
                bail!("no job ended for {STALL_BOUND:?}: {summary:?}");
            }
            self.feed(&summary).await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn feed(&self, summary: &Summary) -> Result<()> {
        let open = usize::try_from(summary.jobs_queued_total - summary.jobs_completed)?;
        let wanted = self.pools.len() * (LIMIT + AHEAD);
        let each = wanted.saturating_sub(open) / self.pools.len();
        if each < AHEAD / 4 {
            return Ok(());
        }
        for PoolLine { name, .. } in &self.pools {
            let jobs = QueueJobs::for_scale_set(SCOPE, name, each, JOB_MS);
            self.outside.control.queue_jobs(&jobs).await?;
        }
        Ok(())
    }

    async fn moment(&self, summary: Summary, rss_mib: f64) -> Result<Moment> {
        let numbers = self.controller.metrics().await?;
        let number_of = |name: &str| {
            let line = numbers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok())
                .with_context(|| format!("the controller states no {name}"))
        };
        Ok(Moment {
            at: Instant::now(),
            jobs: number(usize::try_from(summary.jobs_completed)?),
            commits: number_of("fleetfoot_store_commits_total")?,
            rows: number_of("fleetfoot_store_rows_total")?,
            processor_s: processor_seconds(self.controller.pid())?,
            outside_s: processor_seconds(self.outside.pid()?)?,
            rss_mib,
        })
    }

    /// Waits until nothing is left, and ends everything. Fails if a job was lost or started twice.
    pub(super) async fn end(self) -> Result<()> {
        let Self { data, controller, outside, .. } = self;
        let done = |now: &Summary| now.jobs_completed == now.jobs_queued_total && now.runners == 0;
        let summary = outside.control.wait_summary(STALL_BOUND, done).await?;
        if summary.jobs_succeeded != summary.jobs_queued_total || summary.jobs_started_twice > 0 {
            bail!("not every job succeeded once: {summary:?}");
        }
        controller.stop(STOP_BOUND).await?;
        outside.end().await?;
        data.remove()
    }
}

/// Seconds that bare code needs for one commit of so many rows, beside the store of the run.
fn bare(churn: &Churn, rows_each: f64) -> Result<f64> {
    let ledger = Ledger::new(churn.data.path())?;
    let rows = (1..).take_while(|row| number(*row) <= rows_each.round().max(1.0)).count();
    let began = Instant::now();
    for _ in 0..BARE_COMMITS {
        ledger.commit_rows(rows)?;
    }
    Ok(began.elapsed().as_secs_f64() / number(BARE_COMMITS))
}
