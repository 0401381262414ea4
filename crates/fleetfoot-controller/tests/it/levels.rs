//! 11.5, 11.15 and invariant 5: demand is a level; short jobs, repeated and untrue messages.

use std::time::Duration;

use fleetfoot_core::{Outcome, Phase, Span};
use fleetfoot_sim::{QueueJobs, Told};

use crate::bed::{Bed, named, pool};

#[tokio::test(start_paused = true)]
async fn short_jobs_behind_each_other_open_no_circuit_and_take_one_runner_each() {
    for (started_wakes, delay) in [(true, 20), (false, 400)] {
        let change = |settings: &mut fleetfoot_sim::Settings| {
            settings.started_wakes_poll = started_wakes;
            settings.started_delay_ms = delay;
        };
        let mut bed = Bed::with(change, 1).await;
        bed.start_ready(&[pool("linux", 1)]).await;
        bed.queue("linux", 12, 20);
        let state = bed.until_done(12).await;
        assert_eq!(state.jit_calls.len(), 12, "no surplus, none missing");
        bed.until_nothing_left().await;
        assert_eq!(bed.engine().peak(&named("linux")), 1);
        assert_eq!(bed.state("linux").pool.circuit, Default::default());
        bed.until("nothing is spent for ever", |bed| {
            bed.state("linux").pool.demand.spent.is_empty()
        })
        .await;
        let outcomes = bed.outcomes("linux").await;
        assert!(outcomes.iter().all(|it| matches!(it, Outcome::Completed { .. })), "{outcomes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_ends_without_a_job_counts_as_a_failure() {
    let mut bed = Bed::new().await;
    // Refused when they connect: the environments end at once, the registrations stay.
    bed.github.change(|settings| settings.runner_version_deprecated = true);
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, 50);
    bed.until("the circuit opens", |bed| bed.waits_for("linux", "circuit_open")).await;
    bed.github.change(|settings| settings.runner_version_deprecated = false);
    bed.until_done(1).await;
    bed.until_nothing_left().await;
    let failed = bed.outcomes("linux").await;
    let failed = failed.iter().filter(|it| matches!(it, Outcome::Failed { .. })).count();
    assert_eq!(failed, 3);
}

#[tokio::test(start_paused = true)]
async fn untrue_and_repeated_messages_change_nothing_in_the_end() {
    let mut bed = Bed::new().await;
    let plan = pool("linux", 4).with(|spec| spec.idle_timeout = Span(300));
    let plan = plan.with(|spec| spec.boot_timeout = Span::seconds(2));
    bed.start_ready(&[plan]).await;
    let short = bed.queue("linux", 2, 50);
    bed.until("the short ones are done", |bed| bed.github.summary().jobs_completed == 2).await;
    let long = bed.queue("linux", 2, 4000);
    bed.until("only the long ones run", |bed| {
        bed.github.summary().jobs_running == 2 && bed.ours().len() == 2
    })
    .await;
    let running = bed.ours();
    for _ in 0..3 {
        for job in short.iter().rev() {
            assert!(bed.github.tell(*job, &Told::Completed { result: "succeeded".into() }));
            assert!(bed.github.tell(*job, &Told::Started));
            assert!(bed.github.tell(*job, &Told::Assigned));
        }
        for job in &long {
            assert!(bed.github.tell(*job, &Told::Started));
            assert!(bed.github.tell(*job, &Told::Completed { result: "failed".into() }));
            assert!(bed.github.tell(*job, &Told::Assigned));
        }
    }
    bed.throughout("what runs is not touched", Duration::from_secs(1), |bed| {
        running.is_subset(&bed.ours())
    })
    .await;
    let state = bed.until_done(4).await;
    assert_eq!((state.summary.jobs_succeeded, state.summary.jobs_lost), (4, 0));
    bed.until_nothing_left().await;
    assert!(bed.engine().peak(&named("linux")) <= 4);
}

#[tokio::test(start_paused = true)]
async fn a_completion_before_the_start_without_a_runner_ends_nothing() {
    let mut bed = Bed::new().await;
    bed.engine().set_latency(fleetfoot_provisioner::simulated::Latency {
        create: Duration::from_millis(400),
        ..Default::default()
    });
    let plan = pool("linux", 1).with(|spec| {
        spec.idle_timeout = Span(300);
        spec.boot_timeout = Span::seconds(2);
    });
    bed.start_ready(&[plan]).await;
    let jobs = bed.queue("linux", 1, 50);
    bed.until("it is being started", |bed| bed.in_phase("linux", Phase::Starting).len() == 1).await;
    assert!(bed.github.cancel_job(jobs[0]));
    bed.until_nothing_left().await;
    assert_eq!(bed.state("linux").pool.circuit.failures, 0);
    bed.queue("linux", 1, 50);
    bed.until_done(2).await;
}

#[tokio::test(start_paused = true)]
async fn warm_environments_are_withdrawn_when_demand_falls() {
    let mut bed = Bed::new().await;
    bed.engine().set_latency(fleetfoot_provisioner::simulated::Latency {
        create: Duration::from_millis(600),
        ..Default::default()
    });
    bed.start_ready(&[pool("linux", 3).late()]).await;
    let jobs = bed.queue("linux", 3, 50);
    bed.until("three are being made", |bed| bed.in_phase("linux", Phase::Creating).len() == 3)
        .await;
    for job in &jobs {
        bed.github.cancel_job(*job);
    }
    bed.until_nothing_left().await;
    assert_eq!(bed.github.state().jit_calls.len(), 0, "nothing was registered for nobody");
    bed.queue("linux", 3, 50);
    bed.until_done(6).await;
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_crashed_job_costs_no_slot_and_is_recorded_with_its_cause() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 2)]).await;
    let crash = QueueJobs { crash: true, ..QueueJobs::for_scale_set("acme", "linux", 1, 200) };
    bed.github.queue_jobs(&crash);
    bed.queue("linux", 3, 200);
    let state = bed.until_done(4).await;
    assert_eq!((state.summary.jobs_lost, state.summary.jobs_succeeded), (1, 3));
    bed.until_nothing_left().await;
    let outcomes = bed.outcomes("linux").await;
    let lost = outcomes.iter().filter(|it| matches!(it, Outcome::Lost { .. })).count();
    assert_eq!((lost, outcomes.len()), (1, 4), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_false_completion_makes_no_second_runner_for_the_same_job() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    // Longer than a completed job's environment is given to end by itself: then GitHub is asked.
    let job = bed.queue("linux", 1, 17_000)[0];
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    assert!(bed.github.tell(job, &Told::Completed { result: "succeeded".into() }));
    let state = bed.until_done(1).await;
    assert_eq!(state.summary.jobs_succeeded, 1);
    bed.until_nothing_left().await;
    bed.throughout("nobody else comes", Duration::from_millis(500), |bed| {
        bed.github.state().jit_calls.len() == 1
    })
    .await;
}
