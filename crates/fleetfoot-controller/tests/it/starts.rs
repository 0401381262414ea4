//! Bursts and slow backends: what may not wait for what.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetfoot_core::Phase;
use fleetfoot_provisioner::simulated::{Change, Latency, Operation};
use fleetfoot_sim::Endpoint;

use crate::bed::{Bed, named, pool};

#[tokio::test(start_paused = true)]
async fn a_burst_costs_one_round_trip_not_one_each() {
    // Longer than a slow machine needs for a hundred calls: all of them are in flight at once.
    const LATENCY_MS: u64 = 8000;
    let patient = |settings: &mut fleetfoot_sim::Settings| {
        settings.runner_offline_after_ms = 60_000;
        settings.runner_lost_after_ms = 120_000;
    };
    let mut bed = Bed::with(patient, 1).await;
    bed.pace.call_bound = fleetfoot_core::Span::seconds(60);
    let patient = |spec: &mut fleetfoot_core::pool::PoolSpec| {
        spec.boot_timeout = fleetfoot_core::Span::minutes(5);
    };
    bed.start_ready(&[pool("linux", 100).with(patient)]).await;
    bed.github.change(|settings| {
        settings.endpoint_latency_ms.insert(Endpoint::GenerateJitConfig, LATENCY_MS);
    });
    bed.queue("linux", 100, 50);
    bed.until("all are asked for", |bed| bed.github.state().jit_calls.len() >= 100).await;
    let calls = bed.github.state().jit_calls;
    assert!(calls.iter().all(|call| call.answered_us.is_none()), "none waits for another's answer");
    bed.until_done(100).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.github.state().jit_calls.len(), 100);
}

/// Where GitHub answers at once the first is made while the last is not yet asked for: they do not go in step.
#[tokio::test(start_paused = true)]
async fn of_a_burst_the_first_is_not_kept_waiting_by_the_last() {
    const JOBS: usize = 60;
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 100)]).await;
    let asked_before = Arc::new(Mutex::new(Vec::new()));
    let (seen, github) = (Arc::clone(&asked_before), Arc::clone(&bed.github));
    bed.engine().observe(move |_, change| {
        if *change == Change::Asked(Operation::Create) {
            seen.lock().unwrap().push(github.state().jit_calls.len());
        }
    });
    bed.queue("linux", JOBS, 50);
    bed.until_done(60).await;
    bed.engine().forget_observers();
    let asked_before = asked_before.lock().unwrap().clone();
    assert_eq!(asked_before.len(), JOBS, "one create each");
    let first = asked_before[0];
    assert!(first < JOBS / 2, "the first was made after {first} calls for {JOBS} jobs");
}

#[tokio::test(start_paused = true)]
async fn a_slow_backend_delays_no_poll_and_no_other_pool() {
    let mut bed = Bed::with(|_| {}, 2).await;
    bed.engine_of(1).set_latency(Latency { create: Duration::from_secs(10), ..Latency::default() });
    bed.start_ready(&[pool("slow", 5).on_engine(1), pool("fast", 2)]).await;
    bed.queue("slow", 3, 50);
    bed.until("they are being made", |bed| {
        bed.engine_of(1).calls().iter().filter(|call| call.operation == Operation::Create).count()
            == 3
    })
    .await;
    bed.queue("fast", 6, 20);
    bed.until("the other pool's jobs are done", |bed| bed.github.summary().jobs_completed == 6)
        .await;
    // Messages go on to be taken in while the backend is still at it.
    bed.queue("slow", 1, 50);
    bed.until("the next one is asked for as well", |bed| {
        bed.engine_of(1).calls().iter().filter(|call| call.operation == Operation::Create).count()
            == 4
    })
    .await;
    assert!(bed.engine_of(1).environments().is_empty(), "all that while the first are not made");
    assert_eq!(bed.in_phase("slow", Phase::Starting).len(), 4);
    bed.until_done(10).await;
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn late_binding_serves_the_same_jobs() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 3).late()]).await;
    bed.queue("linux", 12, 30);
    let state = bed.until_done(12).await;
    assert_eq!(state.jit_calls.len(), 12);
    bed.until_nothing_left().await;
    assert_eq!(bed.engine().peak(&named("linux")), 3);
}

#[tokio::test(start_paused = true)]
async fn the_capacity_told_is_what_can_run_and_never_nothing() {
    let mut bed = Bed::new().await;
    bed.host_budget(3);
    bed.start_ready(&[pool("linux", 5), pool("other", 2)]).await;
    let told = |bed: &Bed, name: &str| {
        bed.github.state().scale_set("acme", name).and_then(|set| set.capacity)
    };
    bed.until("told", |bed| told(bed, "linux") == Some(3) && told(bed, "other") == Some(2)).await;
    bed.queue("linux", 5, 1500);
    bed.until("full", |bed| bed.state("linux").occupying() == 3).await;
    bed.until("what is granted counts as its own", |bed| told(bed, "linux") == Some(3)).await;
    bed.until_done(5).await;
    assert_eq!(bed.engine().peak(&named("linux")), 3);
}

#[tokio::test(start_paused = true)]
async fn what_another_pool_holds_idle_is_told_as_room_and_given_up_when_it_is_needed() {
    let mut bed = Bed::new().await;
    bed.host_budget(2);
    let hour = fleetfoot_core::Span::minutes(60);
    let generous = |min_idle| {
        pool("linux", 2).with(move |spec| {
            spec.min_idle = min_idle;
            spec.idle_timeout = hour;
        })
    };
    bed.start_ready(&[generous(2), pool("other", 2)]).await;
    bed.until("the host is full", |bed| bed.in_phase("linux", Phase::Idle).len() == 2).await;
    bed.stop().await;
    bed.start_ready(&[generous(0), pool("other", 2)]).await;
    let told = |bed: &Bed, name: &str| {
        bed.github.state().scale_set("acme", name).and_then(|set| set.capacity)
    };
    bed.until("it is surplus", |bed| bed.health("linux").sizing.surplus_idle == 2).await;
    // The next poll tells; a job that is there at once makes it come at once.
    bed.queue("other", 1, 300);
    bed.until("its room is told", |bed| told(bed, "other") == Some(2)).await;
    bed.until_done(1).await;
    assert_eq!(bed.in_phase("linux", Phase::Idle).len(), 1, "no more than it takes");
    assert_eq!(bed.in_phase("linux", Phase::Running).len(), 0);
}
