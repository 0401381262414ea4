//! 11.3: the removal gate, case by case, and its exceptions.

use std::time::Duration;

use fleetfoot_core::{Observation, Outcome, Phase, Reason, Span};
use fleetfoot_sim::{Endpoint, Fault, FaultAction, QueueJobs};

use crate::bed::{Bed, PoolPlan, pool};

fn status(status: u16) -> FaultAction {
    FaultAction::Status {
        status,
        exception: None,
        message: None,
        retry_after_s: None,
        headers: Default::default(),
    }
}

/// A runner is up and known to be idle.
async fn idle(bed: &mut Bed, plan: PoolPlan) {
    let plan = plan.with(|spec| {
        spec.min_idle = 1;
        spec.boot_timeout = Span::seconds(2);
    });
    bed.start_ready(&[plan]).await;
    bed.until("a runner is idle", |bed| bed.in_phase("linux", Phase::Idle).len() == 1).await;
}

async fn observe(bed: &Bed, observation: Observation) {
    let name = bed.instances("linux")[0].name.clone();
    let now = bed.instances("linux")[0].phase_since;
    let seen = bed.store().update(move |txn| txn.observe(&name, &observation, now).is_ok()).await;
    assert!(seen.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_idle_runner_beyond_demand_goes_after_its_timeout() {
    let mut bed = Bed::new().await;
    idle(&mut bed, pool("linux", 2)).await;
    bed.stop().await;
    let plan = pool("linux", 2).with(|spec| spec.idle_timeout = Span(500));
    bed.start_ready(&[plan]).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.outcomes("linux").await, [Outcome::Removed(Reason::Surplus)]);
}

#[tokio::test(start_paused = true)]
async fn a_job_offered_in_the_moment_of_the_removal_wins() {
    let mut bed = Bed::new().await;
    idle(&mut bed, pool("linux", 2)).await;
    bed.github
        .inject(Fault::once(Endpoint::RemoveRunner, FaultAction::OfferJob { duration_ms: 1000 }));
    observe(&bed, Observation::Removal { reason: Reason::Operator }).await;
    bed.until("it is busy and stays", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    let state = bed.until_done(1).await;
    assert_eq!(state.summary.jobs_succeeded, 1);
    assert_eq!(state.summary.jobs_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn any_other_error_touches_nothing() {
    let mut bed = Bed::new().await;
    idle(&mut bed, pool("linux", 1)).await;
    bed.github.inject(Fault::always(Endpoint::RemoveRunner, status(503)));
    observe(&bed, Observation::Removal { reason: Reason::Operator }).await;
    bed.until("it was tried", |bed| bed.instances("linux")[0].attempts > 0).await;
    let name = bed.instances("linux")[0].name.clone();
    bed.throughout("the environment lives", Duration::from_secs(1), |bed| {
        bed.ours().contains(&name)
    })
    .await;
    bed.github.clear_faults();
    bed.until("it is gone", |bed| !bed.ours().contains(&name)).await;
}

#[tokio::test(start_paused = true)]
async fn busy_with_an_ended_environment_occupies_nothing_and_is_asked_again() {
    let mut bed = Bed::with(|settings| settings.runner_lost_after_ms = 6_000, 1).await;
    bed.start_ready(&[pool("linux", 1)]).await;
    let crash = QueueJobs { crash: true, ..QueueJobs::for_scale_set("acme", "linux", 1, 200) };
    bed.github.queue_jobs(&crash);
    bed.until("its machine ended", |bed| bed.in_phase("linux", Phase::Stopping).len() == 1).await;
    // Another job has the slot while GitHub still calls the dead one busy. It advertises one place, and the
    // dead job takes it as long as GitHub counts it.
    bed.until("it occupies nothing", |bed| bed.state("linux").occupying() == 0).await;
    bed.until("asked once", |bed| bed.instances("linux").iter().any(|row| row.attempts > 0)).await;
    let attempts = bed.github.state().requests[&Endpoint::RemoveRunner];
    bed.throughout("asked with waits", Duration::from_secs(1), |bed| {
        bed.github.state().requests[&Endpoint::RemoveRunner] <= attempts + 1
    })
    .await;
    bed.queue("linux", 1, 50);
    bed.until_done(2).await;
    bed.until_nothing_left().await;
    let outcomes = bed.outcomes("linux").await;
    assert!(outcomes.iter().any(|it| matches!(it, Outcome::Lost { .. })), "{outcomes:?}");
    assert!(outcomes.iter().any(|it| matches!(it, Outcome::Completed { .. })), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn an_operators_force_opens_the_gate_and_asks_without_haste() {
    let mut bed = Bed::with(|settings| settings.runner_lost_after_ms = 4_000, 1).await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, 60_000);
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    observe(&bed, Observation::Removal { reason: Reason::OperatorForce }).await;
    bed.until("its environment is gone", |bed| bed.ours().is_empty()).await;
    let asked =
        |bed: &Bed| bed.github.state().requests.get(&Endpoint::RemoveRunner).copied().unwrap_or(0);
    let before = asked(&bed);
    bed.throughout("it is not asked at once and again", Duration::from_secs(1), |bed| {
        asked(bed) <= before + 2
    })
    .await;
    bed.until_nothing_left().await;
    assert_eq!(bed.outcomes("linux").await, [Outcome::Removed(Reason::OperatorForce)]);
}

#[tokio::test(start_paused = true)]
async fn a_job_longer_than_the_pools_own_limit_is_ended() {
    let mut bed = Bed::new().await;
    let plan = pool("linux", 1).with(|spec| spec.max_job_duration = Some(Span(700)));
    bed.start_ready(&[plan]).await;
    bed.queue("linux", 1, 60_000);
    // It runs for a moment only; that it did stays.
    bed.until("it ran", |bed| bed.github.state().jobs.iter().any(|job| job.starts == 1)).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.outcomes("linux").await, [Outcome::Removed(Reason::MaxJobDuration)]);
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_github_removed_under_a_living_environment_proves_no_job() {
    let mut bed = Bed::new().await;
    idle(&mut bed, pool("linux", 1)).await;
    observe(&bed, Observation::RunnerGone).await;
    bed.until("it is replaced", |bed| {
        bed.in_phase("linux", Phase::Idle).iter().any(|row| row.reason.is_none())
    })
    .await;
    assert!(bed.state("linux").pool.demand.spent.is_empty());
    assert_eq!(bed.outcomes("linux").await, [Outcome::Removed(Reason::RunnerGone)]);
}
