//! Row `soak`: very many jobs through one controller, whose memory and store must not grow with them.
//!
//! By hand, and in the gate with fewer jobs. It fails where a bound does not hold.

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};

use super::churn::{Churn, Moment};
use super::figure::{Figure, number};
use super::{Measured, note};

const ROW: &str = "soak";
/// Jobs without `--jobs`.
pub(super) const JOBS: usize = 200_000;
/// Jobs of a soak that is only looked at.
const JOBS_QUICK: usize = 20_000;
/// Memory is compared with that after a tenth of the jobs, or after so many if those are more: until then
/// what is kept of the past fills up.
const FIRST_MIN: usize = 10_000;
/// What the end may have more than that.
const RATIO_MAX: f64 = 1.10;
/// How often it is told how far it is.
const TELLINGS: usize = 10;
/// The least of so many of the last tellings counts.
const LAST: usize = 3;
/// The store's retention, and what is not pruned yet beyond it.
const EVENTS_MAX: i64 = 100_000;
const CLOSED_MAX: i64 = 20_000;
const UNPRUNED_MAX: i64 = 2_000;

pub(super) async fn measure(quick: bool, jobs: Option<usize>) -> Result<Measured> {
    let jobs = jobs.unwrap_or(if quick { JOBS_QUICK } else { JOBS });
    let first = (jobs / 10).max(FIRST_MIN).min(jobs);
    let mut churn = Churn::start().await?;
    let early = churn.run_to(first).await?;
    let mut told = Vec::with_capacity(TELLINGS);
    for step in 1..=TELLINGS {
        let moment = churn.run_to(first + (jobs - first) * step / TELLINGS).await?;
        let Moment { jobs, rss_mib, .. } = moment;
        note(&format!("soak ... {jobs} jobs, {rss_mib:.1} MiB resident"));
        told.push(moment);
    }
    // Pages of the program and bursts of work come and go by some MiB; what grew stays.
    let last = told.iter().rev().take(LAST).map(|moment| moment.rss_mib).fold(f64::MAX, f64::min);
    let late = told.last().map_or(early, |moment| Moment { rss_mib: last, ..*moment });
    let kept = Kept::read(&churn)?;
    churn.end().await?;
    let ratio = late.rss_mib / early.rss_mib.max(0.001);
    let figures = figures(jobs, &early, &late, &kept);
    ensure!(
        ratio <= RATIO_MAX,
        "memory grew with the jobs: {:.1} MiB after {first}, {:.1} MiB after {jobs}",
        early.rss_mib,
        late.rss_mib
    );
    ensure!(
        kept.events <= EVENTS_MAX + UNPRUNED_MAX && kept.closed <= CLOSED_MAX + UNPRUNED_MAX,
        "the store keeps more than its retention: {kept:?}"
    );
    Ok(Measured::Figures(figures))
}

fn figures(jobs: usize, early: &Moment, late: &Moment, kept: &Kept) -> Vec<Figure> {
    let figure =
        |metric: &str, unit: &'static str, value: f64| Figure::new(ROW, metric, unit, value, jobs);
    let rate = (late.jobs - early.jobs) / (late.at - early.at).as_secs_f64();
    let rows = |rows: i64| number(usize::try_from(rows).unwrap_or(0));
    vec![
        figure("rss_early", "MiB", early.rss_mib),
        figure("rss_end", "MiB", late.rss_mib),
        figure("rss_grown", "times", late.rss_mib / early.rss_mib.max(0.001)).goal("at most 1.1"),
        figure("jobs", "jobs/s", rate),
        figure("store", "MiB", kept.file_mib),
        figure("events", "rows", rows(kept.events)).goal("at most 100000"),
        figure("closed_instances", "rows", rows(kept.closed)).goal("at most 20000"),
    ]
}

/// What the store holds at the end.
#[derive(Debug)]
struct Kept {
    events: i64,
    closed: i64,
    file_mib: f64,
}

impl Kept {
    fn read(churn: &Churn) -> Result<Self> {
        let path = churn.files.state.join("store.sqlite");
        let open = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let store = open.with_context(|| format!("cannot open {}", path.display()))?;
        let count = |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0));
        let kib = std::fs::metadata(&path)?.len() / 1024;
        Ok(Self {
            events: count("SELECT COUNT(*) FROM fleetfoot_events")?,
            closed: count("SELECT COUNT(*) FROM fleetfoot_instances WHERE closed_at IS NOT NULL")?,
            file_mib: number(usize::try_from(kib)?) / 1024.0,
        })
    }
}
