//! Environments that wait, unregistered, for their job.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetfoot_core::{Instance, InstanceName, Phase};
use fleetfoot_provisioner::simulated::{Latency, Operation};

use crate::bed::{Bed, PoolPlan, named, pool};

fn warm(max_runners: u32, warm: u32) -> PoolPlan {
    pool("linux", max_runners).late().with(|spec| {
        spec.warm = warm;
        spec.recipe = "first".into();
    })
}

fn waiting(bed: &Bed) -> Vec<Instance> {
    let mut rows = bed.in_phase("linux", Phase::Warm);
    rows.sort_by_key(|row| (row.phase_since, row.name.clone()));
    rows
}

fn names(rows: &[Instance]) -> BTreeSet<InstanceName> {
    rows.iter().map(|row| row.name.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn they_are_unknown_to_github_and_a_job_takes_the_oldest_without_waiting_for_another() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[warm(3, 2)]).await;
    bed.until("two wait", |bed| waiting(bed).len() == 2).await;
    let state = bed.github.state();
    assert!(state.jit_calls.is_empty() && state.runners.is_empty());
    let oldest = waiting(&bed)[0].name.clone();
    // A new one would take longer than the job waits.
    bed.engine().set_latency(Latency { create: Duration::from_secs(10), ..Latency::default() });
    bed.queue("linux", 1, 500);
    bed.until("the oldest runs it", |bed| {
        bed.in_phase("linux", Phase::Running).iter().any(|row| row.name == oldest)
    })
    .await;
    assert_eq!(bed.in_phase("linux", Phase::Creating).len(), 1, "its place is filled meanwhile");
    bed.engine().set_latency(Latency::default());
    bed.queue("linux", 8, 20);
    let state = bed.until_done(9).await;
    assert_eq!(state.jit_calls.len(), 9, "one for each job, none for what waits");
    bed.until("two wait again", |bed| waiting(bed).len() == 2).await;
    assert!(bed.engine().peak(&named("linux")) <= 3);
    bed.apply(&[warm(3, 0)]).await;
    bed.until_nothing_left().await;
}

/// What takes the jobs that a message tells of is told so before anything is committed: a machine that stands still goes on
/// meanwhile.
#[tokio::test(start_paused = true)]
async fn those_that_take_new_jobs_are_roused_before_the_message_is_committed() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[warm(4, 3)]).await;
    bed.until("three wait", |bed| waiting(bed).len() == 3).await;
    let oldest: Vec<InstanceName> = waiting(&bed).into_iter().take(2).map(|row| row.name).collect();
    let (roused, store) = (Arc::new(Mutex::new(Vec::new())), bed.store().clone());
    let told = Arc::clone(&roused);
    *bed.roused.lock().unwrap() = Some(Box::new(move |name| {
        let jobs = store.pool(&named("linux")).unwrap().jobs.len();
        told.lock().unwrap().push((name.clone(), jobs));
    }));
    bed.queue("linux", 2, 20);
    bed.until_done(2).await;
    bed.roused.lock().unwrap().take();
    let mut roused = std::mem::take(&mut *roused.lock().unwrap());
    let asked = roused.split_off(2);
    assert_eq!(roused, oldest.iter().map(|name| (name.clone(), 0)).collect::<Vec<_>>());
    let again: BTreeSet<InstanceName> = asked.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(again, oldest.into_iter().collect(), "once more with their credentials");
    assert!(asked.iter().all(|(_, jobs)| *jobs == 2), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_those_that_wait_wait_on() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[warm(3, 2)]).await;
    bed.until("two wait", |bed| waiting(bed).len() == 2).await;
    let before = names(&waiting(&bed));
    bed.crash();
    bed.start_ready(&[warm(3, 2)]).await;
    bed.throughout("they stay", Duration::from_millis(700), |bed| names(&waiting(bed)) == before)
        .await;
    bed.queue("linux", 2, 20);
    bed.until_done(2).await;
    bed.until("both are over", |bed| names(&bed.instances("linux")).is_disjoint(&before)).await;
    let ran: BTreeSet<_> = names(&bed.closed("linux").await);
    assert!(ran.is_subset(&before) && ran.len() == 2, "{ran:?} of {before:?}");
    let creates = bed.engine().calls();
    let creates = creates.iter().filter(|call| call.operation == Operation::Create).count();
    assert!(creates <= 4, "two and their successors, {creates}");
}

#[tokio::test(start_paused = true)]
async fn other_settings_replace_them_live_and_over_a_restart_and_a_lower_limit_removes_them() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[warm(3, 2)]).await;
    bed.until("two wait", |bed| waiting(bed).len() == 2).await;
    for restart in [false, true] {
        let before = names(&waiting(&bed));
        let recipe = format!("after {restart}");
        let changed = warm(3, 2).with(|spec| spec.recipe = recipe);
        if restart {
            bed.stop().await;
            bed.start_ready(&[changed]).await;
        } else {
            bed.apply(&[changed]).await;
        }
        bed.until("two others wait", |bed| {
            let now = names(&waiting(bed));
            now.len() == 2 && now.is_disjoint(&before)
        })
        .await;
    }
    let last = |limit| warm(limit, 2).with(|spec| spec.recipe = "after true".into());
    bed.apply(&[last(1)]).await;
    bed.until("one is left", |bed| bed.instances("linux").len() == 1).await;
    assert!(bed.github.state().jit_calls.is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_dies_is_replaced_and_those_that_die_again_and_again_are_waited_with() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[warm(2, 1)]).await;
    for round in 0..3 {
        bed.until("one waits", |bed| waiting(bed).len() == 1).await;
        let name = waiting(&bed)[0].name.clone();
        assert!(bed.engine().remove(&name));
        bed.until("it is gone", |bed| waiting(bed).iter().all(|row| row.name != name)).await;
        bed.until("it counts", |bed| bed.state("linux").pool.circuit.failures > round).await;
    }
    bed.until("it says so", |bed| bed.waits_for("linux", "circuit_open")).await;
    bed.until("another waits after that", |bed| waiting(bed).len() == 1).await;
    bed.queue("linux", 1, 20);
    bed.until_done(1).await;
    bed.until("a job proves them", |bed| bed.state("linux").pool.circuit.failures == 0).await;
}

#[tokio::test(start_paused = true)]
async fn their_room_goes_to_the_jobs_of_another_pool_and_drained_they_go() {
    let mut bed = Bed::new().await;
    bed.host_budget(2);
    bed.start_ready(&[warm(2, 2), pool("other", 2)]).await;
    bed.until("the host is full", |bed| waiting(bed).len() == 2).await;
    bed.queue("other", 3, 300);
    bed.until("a job of another pool runs", |bed| {
        !bed.in_phase("other", Phase::Running).is_empty()
    })
    .await;
    bed.until_done(3).await;
    bed.until("they wait again", |bed| waiting(bed).len() == 2).await;
    bed.apply(&[pool("other", 2)]).await;
    bed.until("its pool is gone and they with it", |bed| bed.ours().is_empty()).await;
}
