//! 11.11: a wall clock that steps while jobs run, forward and back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use fleetfoot_core::{Outcome, Phase, Reason, Span, Timestamp};
use fleetfoot_sim::{Endpoint, Fault, FaultAction};
use fleetfoot_store::EventFilter;

use crate::bed::{Bed, pool};

const HOUR: i64 = 3_600_000;

impl Bed {
    fn step_wall(&self, step_ms: i64) {
        self.wall_step.fetch_add(step_ms, Ordering::SeqCst);
    }

    /// What a clock on the wall shows.
    fn wall(&self) -> Timestamp {
        self.time() + Span(self.wall_step.load(Ordering::SeqCst))
    }

    async fn shifts(&self) -> usize {
        let events = self.store().events(EventFilter { limit: 1000, ..EventFilter::default() });
        let shifted = |row: &fleetfoot_store::EventRow| row.event.phrase == "clock shifted";
        events.await.unwrap().iter().filter(|row| shifted(row)).count()
    }

    /// Every time of every row is near what the wall shows.
    fn is_on_the_wall(&self) -> bool {
        let wall = self.wall().0;
        let near = |at: Timestamp| (at.0 - wall).abs() < HOUR / 4;
        let state = self.state("linux");
        near(state.pool.demand.stated_at)
            && state.jobs.values().all(|job| near(job.seen_at))
            && state.instances.values().all(|row| {
                near(row.created_at) && near(row.phase_since) && row.job_started_at.is_none_or(near)
            })
    }
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_steps_while_jobs_run_ends_and_delays_nothing() {
    for step in [HOUR, -HOUR] {
        let mut bed = Bed::new().await;
        let plan = pool("linux", 3).with(|spec| {
            spec.min_idle = 1;
            spec.max_job_duration = Some(Span::seconds(60));
            spec.boot_timeout = Span::seconds(10);
        });
        bed.start_ready(&[plan]).await;
        bed.queue("linux", 2, 3000);
        bed.until("two run", |bed| bed.in_phase("linux", Phase::Running).len() == 2).await;
        bed.step_wall(step);
        bed.until("stored times are shifted", Bed::is_on_the_wall).await;
        assert_eq!(bed.shifts().await, 1);
        // One that comes behind it is served as before.
        bed.queue("linux", 1, 50);
        let state = bed.until_done(3).await;
        assert_eq!((state.summary.jobs_succeeded, state.summary.jobs_lost), (3, 0));
        // A time that was read before a step and is committed behind it belongs to neither clock.
        bed.until("all is taken in", |bed| {
            let state = bed.state("linux");
            state.pool.demand.finished.len() == 3
                && state.instances.len() == 1
                && bed.in_phase("linux", Phase::Idle).len() == 1
        })
        .await;
        bed.step_wall(-step);
        bed.until("and back", Bed::is_on_the_wall).await;
        bed.queue("linux", 2, 50);
        let state = bed.until_done(5).await;
        assert_eq!((state.summary.jobs_succeeded, state.summary.jobs_lost), (5, 0));
        assert_eq!(bed.shifts().await, 2);
        let outcomes = bed.outcomes("linux").await;
        let completed = |outcome: &Outcome| matches!(outcome, Outcome::Completed { .. });
        assert!(outcomes.iter().all(completed), "{outcomes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_runs_ends_for_its_age_for_a_while_after_a_shift() {
    let mut bed = Bed::new().await;
    bed.pace.ages_grace = Span::seconds(4);
    let plan = pool("linux", 1).with(|spec| spec.max_job_duration = Some(Span(100)));
    bed.start_ready(&[plan]).await;
    bed.queue("linux", 1, 60_000);
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    bed.step_wall(HOUR);
    bed.until("stored times are shifted", Bed::is_on_the_wall).await;
    bed.throughout("it runs on", Duration::from_secs(3), |bed| {
        bed.in_phase("linux", Phase::Running).len() == 1
    })
    .await;
    bed.until_nothing_left().await;
    assert_eq!(bed.outcomes("linux").await, [Outcome::Removed(Reason::MaxJobDuration)]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_put_back_lengthens_no_wait() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.github.inject(Fault::always(Endpoint::GenerateJitConfig, FaultAction::Cut));
    bed.queue("linux", 1, 50);
    bed.until("github does not answer", |bed| bed.waits_for("linux", "github_unavailable")).await;
    bed.step_wall(-HOUR);
    bed.until("stored times are shifted", Bed::is_on_the_wall).await;
    bed.github.clear_faults();
    bed.until_done(1).await;
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_small_step_is_slept_over() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, 2000);
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    bed.step_wall(3000);
    bed.throughout("small steps are slept over", Duration::from_millis(300), |bed| {
        bed.state("linux").instances.len() == 1
    })
    .await;
    assert_eq!(bed.shifts().await, 0);
    bed.until_done(1).await;
}
