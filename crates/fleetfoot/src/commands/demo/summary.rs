//! How it went, in figures.

use std::io::Write;

use anyhow::{Context, Result};
use fleetfoot_sim::Job;
use serde::Serialize;

use super::books::Books;
use super::script::{POOLS, Script};
use crate::cli::Output;

/// The result. Its JSON form is what scripts rely on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    jobs: usize,
    completed: usize,
    lost: usize,
    left_over: u64,
    controller_kills: u32,
    start_ms: Percentiles,
    #[serde(skip)]
    left: Vec<String>,
    /// Of jobs that found a free slot when they were queued: how many, and their middle wait.
    #[serde(skip)]
    at_once: (usize, f64),
    #[serde(skip)]
    started_twice: usize,
    #[serde(skip)]
    docker: bool,
}

/// From the moment a job was queued to its start, the wait for a free slot included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
struct Percentiles {
    p50: f64,
    p95: f64,
}

impl Summary {
    pub(super) fn new(script: &Script, books: &Books, kills: u32, docker: bool) -> Self {
        let succeeded = |job: &&Job| job.result.as_deref() == Some("succeeded") && job.starts == 1;
        let completed = books.jobs.iter().filter(succeeded).count();
        let waits: Vec<u64> = books
            .jobs
            .iter()
            .filter_map(|job| Some(job.started_us?.saturating_sub(job.queued_us)))
            .collect();
        Self {
            jobs: script.jobs.len(),
            completed,
            // Not ended, ended otherwise, or started twice: each is a promise that was not kept.
            lost: script.jobs.len().saturating_sub(completed),
            left_over: books.left_over(),
            controller_kills: kills,
            start_ms: Percentiles {
                p50: percentile_ms(&waits, 50),
                p95: percentile_ms(&waits, 95),
            },
            left: books.left(),
            at_once: at_once(&books.jobs),
            started_twice: books.jobs.iter().filter(|job| job.starts > 1).count(),
            docker,
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.lost == 0 && self.left_over == 0
    }

    pub(super) fn print(&self, output: Output) -> Result<()> {
        let text = match output {
            Output::Json => serde_json::to_string(self).context("cannot write JSON")?,
            Output::Text => self.text(),
        };
        writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
    }

    fn text(&self) -> String {
        let environment = if self.docker { "fresh container" } else { "clean process directory" };
        let mut lines = vec![
            String::new(),
            format!(
                "jobs done             {} of {}, each in a {environment} of its own",
                self.completed, self.jobs
            ),
            format!(
                "lost                  {}   (started twice: {})",
                self.lost, self.started_twice
            ),
            format!(
                "left over             {}   (GitHub, environments, directories, store)",
                self.left_over
            ),
            format!(
                "fleetfoot killed      {}   (kill -9 while jobs were running)",
                self.controller_kills
            ),
            format!(
                "queue to start        p50 {:.0} ms, p95 {:.0} ms   (with the wait for a free slot)",
                self.start_ms.p50, self.start_ms.p95
            ),
        ];
        let (count, ms) = self.at_once;
        lines.push(format!("with a slot free      p50 {ms:.0} ms   ({count} of the jobs)"));
        lines.extend(self.left.iter().map(|left| format!("  left: {left}")));
        lines.push(NEXT.to_owned());
        lines.join("\n")
    }
}

/// What to do next.
const NEXT: &str = "
To use it for real, write a fleetfoot.yml with these lines:

    url: https://github.com/your-org
    token_file: /etc/fleetfoot/token    # may administer self-hosted runners
    runners: {linux: {labels: [linux], max_runners: 4, docker: {image: ghcr.io/actions/actions-runner:latest}}}

then `fleetfoot check`, `fleetfoot run`, and in a workflow `runs-on: linux`.";

/// Jobs that found fewer open jobs before them in their pool than it has slots, and their middle wait.
fn at_once(jobs: &[Job]) -> (usize, f64) {
    let limit_of = |job: &Job| {
        let pool = POOLS.iter().find(|(name, _)| Some(*name) == job.scale_set.as_deref());
        pool.map_or(0, |(_, limit)| usize::try_from(*limit).unwrap_or(usize::MAX))
    };
    let open_before = |job: &Job| {
        let before =
            jobs.iter().filter(|other| other.scale_set == job.scale_set && other.id < job.id);
        before.filter(|other| other.completed_us.is_none_or(|ended| ended > job.queued_us)).count()
    };
    let waits: Vec<u64> = jobs
        .iter()
        .filter(|job| open_before(job) < limit_of(job))
        .filter_map(|job| Some(job.started_us?.saturating_sub(job.queued_us)))
        .collect();
    (waits.len(), percentile_ms(&waits, 50))
}

/// The nearest rank, in milliseconds with one decimal.
fn percentile_ms(values_us: &[u64], percent: usize) -> f64 {
    let mut sorted = values_us.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    let value = sorted.get(rank - 1).copied().unwrap_or(0);
    f64::from(u32::try_from(value / 100).unwrap_or(u32::MAX)) / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        assert!((percentile_ms(&[], 50) - 0.0).abs() < f64::EPSILON);
        let values: Vec<u64> = (1..=100).map(|ms| ms * 1000).collect();
        assert!((percentile_ms(&values, 50) - 50.0).abs() < f64::EPSILON);
        assert!((percentile_ms(&values, 95) - 95.0).abs() < f64::EPSILON);
        assert!((percentile_ms(&[1_234], 95) - 1.2).abs() < f64::EPSILON);
    }

    #[test]
    fn the_line_for_scripts_has_its_shape() {
        let summary = Summary::new(&Script::new(2), &Books::default(), 1, false);
        let line = serde_json::to_string(&summary).unwrap();
        let shape = r#"{"jobs":2,"completed":0,"lost":2,"left_over":0,"controller_kills":1,"start_ms":{"p50":0.0,"p95":0.0}}"#;
        assert_eq!(line, shape);
        assert!(!summary.is_clean());
    }

    #[test]
    fn the_snippet_is_a_configuration() {
        let lines = NEXT.lines().filter_map(|line| line.strip_prefix("    "));
        let text = lines.collect::<Vec<_>>().join("\n");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleetfoot.yml");
        std::fs::write(&path, text).unwrap();
        let loaded = crate::config::load(&path, &crate::config::LoadOptions::default()).unwrap();
        assert_eq!(loaded.config.runners[0].name, "linux");
        assert_eq!(loaded.config.runners[0].max_runners, 4);
    }
}
