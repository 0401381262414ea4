//! Which jobs come when. Pure, and the same in every run.

use std::time::Duration;

/// The pools of the demonstration, with their limits.
pub(super) const POOLS: [(&str, u32); 2] = [("linux", 4), ("linux-large", 2)];
/// The organization they belong to.
pub(super) const ORGANIZATION: &str = "acme";

/// When a share of the jobs comes: seconds from the start, and how many of sixty are there by then.
const BURSTS: [(u64, usize); 7] =
    [(0, 10), (3, 18), (6, 28), (10, 36), (13, 45), (16, 53), (19, 60)];
const OF: usize = 60;
/// How long jobs take, over and over.
const DURATIONS_MS: [u64; 7] = [1_000, 1_800, 2_400, 1_300, 3_600, 2_000, 800];
const NAMES: [&str; 6] = ["build", "test", "lint", "docs", "package", "deploy"];
/// The crash comes when the script has run so long and jobs are running.
const KILL_AT: Duration = Duration::from_secs(7);

/// One job to queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) at: Duration,
    pub(super) pool: &'static str,
    pub(super) name: String,
    pub(super) duration_ms: u64,
}

/// All jobs in order, and when the crash comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    pub(super) jobs: Vec<Job>,
    pub(super) kill_at: Duration,
}

impl Script {
    /// A script of so many jobs; a few jobs come in a shorter time.
    pub(super) fn new(count: usize) -> Self {
        let scaled = |time: Duration| {
            let share = count.clamp(1, OF);
            time.mul_f64(f64::from(u32::try_from(share).unwrap_or(60)) / 60.0)
        };
        let jobs = (0..count)
            .map(|index| {
                let of_sixty = (index * OF) / count;
                let burst = BURSTS.iter().find(|(_, until)| of_sixty < *until);
                let seconds = burst.map_or(0, |(seconds, _)| *seconds);
                // Two of three jobs go to the larger limit.
                let pool = if index % 3 == 2 { POOLS[1].0 } else { POOLS[0].0 };
                Job {
                    at: scaled(Duration::from_secs(seconds)),
                    pool,
                    name: NAMES[index % NAMES.len()].to_owned(),
                    duration_ms: DURATIONS_MS[index % DURATIONS_MS.len()],
                }
            })
            .collect();
        Self { jobs, kill_at: scaled(KILL_AT) }
    }

    /// How many jobs should be running when the crash comes, if there is that much to do.
    pub(super) fn running_at_kill(&self) -> u64 {
        u64::try_from(self.jobs.len()).map_or(3, |jobs| jobs.div_ceil(3).min(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_jobs_come_in_seven_bursts() {
        let script = Script::new(60);
        let count = |seconds: &u64| {
            script.jobs.iter().filter(|job| job.at == Duration::from_secs(*seconds)).count()
        };
        let counts: Vec<usize> = BURSTS.iter().map(|(seconds, _)| count(seconds)).collect();
        assert_eq!(counts, [10, 8, 10, 8, 9, 8, 7]);
        let large = script.jobs.iter().filter(|job| job.pool == "linux-large").count();
        assert_eq!((script.jobs.len(), large), (60, 20));
        assert!(script.jobs.is_sorted_by_key(|job| job.at));
    }

    #[test]
    fn any_number_of_jobs_is_a_script() {
        for count in [1, 2, 3, 7, 61, 500] {
            let script = Script::new(count);
            assert_eq!(script.jobs.len(), count);
            assert!(script.jobs.iter().all(|job| job.at <= Duration::from_secs(19)));
            assert!(script.kill_at <= KILL_AT && script.running_at_kill() >= 1);
        }
    }
}
