//! 11.1 and 11.2: calls that land late, answers that are lost, and a backend that is another one.

use std::time::Duration;

use fleetfoot_core::{Outcome, Phase, Span};
use fleetfoot_provisioner::ErrorKind;
use fleetfoot_provisioner::simulated::{Fault, Latency, Operation, Rule};
use fleetfoot_sim::{Endpoint, Fault as GithubFault, FaultAction};

use crate::bed::{Bed, SOON, named, pool};

#[tokio::test(start_paused = true)]
async fn a_create_that_lands_late_is_harmless_and_never_above_the_limit() {
    let mut bed = Bed::new().await;
    let late = Fault::LandLate(Duration::from_millis(2500));
    bed.engine().add_rule(Rule::once(Operation::Create, late));
    let plan = pool("linux", 1).with(|spec| spec.create_timeout = Span(500));
    bed.start_ready(&[plan]).await;
    bed.queue("linux", 1, 50);
    bed.until("the call is given up", |bed| {
        bed.instances("linux").iter().any(|row| row.unanswered_since.is_some())
    })
    .await;
    // It holds its slot until it is proven that nothing of it can still run.
    bed.until_done(1).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.engine().peak(&named("linux")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_never_lands_gives_its_slot_back_after_two_lists() {
    let mut bed = Bed::new().await;
    bed.pace.call_bound = Span::seconds(1);
    bed.engine().add_rule(Rule::once(Operation::Create, Fault::Hang));
    let plan = pool("linux", 1).with(|spec| spec.create_timeout = Span(300));
    bed.start_ready(&[plan]).await;
    bed.queue("linux", 1, 50);
    bed.until_done(1).await;
    bed.until_nothing_left().await;
    let creates =
        bed.engine().calls().into_iter().filter(|call| call.operation == Operation::Create);
    let received: Vec<_> = creates.map(|call| call.received).collect();
    assert_eq!(received.len(), 2);
    assert!(received[1] - received[0] > Duration::from_millis(1300), "two lists, a bound apart");
    assert_eq!(
        bed.state("linux").pool.circuit.failures,
        0,
        "the backend's failure, not the instance's"
    );
}

#[tokio::test(start_paused = true)]
async fn an_environment_whose_answer_was_lost_keeps_its_job() {
    let mut bed = Bed::new().await;
    bed.engine().add_rule(Rule::once(Operation::Create, Fault::LostAnswer));
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, 1500);
    let state = bed.until_done(1).await;
    assert_eq!(state.summary.jobs_succeeded, 1);
    bed.until_nothing_left().await;
    assert_eq!(bed.engine().peak(&named("linux")), 1);
}

#[tokio::test(start_paused = true)]
async fn a_registration_whose_answer_was_lost_is_removed_by_name() {
    let mut bed = Bed::new().await;
    bed.github.inject(GithubFault::once(Endpoint::GenerateJitConfig, FaultAction::LoseAnswer));
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, 50);
    bed.until_done(1).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.github.summary().runners_registered_total, 2);
}

#[tokio::test(start_paused = true)]
async fn a_create_cut_off_by_a_crash_is_followed_up() {
    for late in [false, true] {
        let mut bed = Bed::new().await;
        bed.pace.call_bound = Span::seconds(1);
        let plan = if late { pool("linux", 1).late() } else { pool("linux", 1) };
        bed.start_ready(std::slice::from_ref(&plan)).await;
        bed.engine().set_frozen(true);
        bed.queue("linux", 1, 50);
        bed.until("a create is in flight", |bed| {
            bed.engine().calls().iter().any(|call| call.operation == Operation::Create)
        })
        .await;
        bed.crash();
        // A frozen engine does not list either: nothing is taken for gone, nothing is made in its place.
        bed.start(std::slice::from_ref(&plan)).await;
        bed.throughout("its row stays", Duration::from_millis(500), |bed| {
            bed.state("linux").occupying() == 1
        })
        .await;
        bed.engine().set_frozen(false);
        bed.until_done(1).await;
        bed.until_nothing_left().await;
        assert_eq!(bed.engine().peak(&named("linux")), 1);
    }
}

/// A plugin's call (7.1): no list tells what became of it, so its runner is deregistered and another one takes its
/// place, long before a start's age would count.
#[tokio::test(start_paused = true)]
async fn a_create_cut_off_by_a_crash_is_followed_up_where_no_list_tells() {
    for lands in [false, true] {
        let mut bed = Bed::new().await;
        bed.pace.ages_grace = Span::minutes(10);
        let fault = if lands { Fault::LandLate(Duration::from_secs(2)) } else { Fault::Hang };
        bed.engine().add_rule(Rule::once(Operation::Create, fault));
        let plan = pool("linux", 1).unlisted();
        bed.start_ready(std::slice::from_ref(&plan)).await;
        bed.queue("linux", 1, 50);
        bed.until("a create is in flight", |bed| {
            bed.engine().calls().iter().any(|call| call.operation == Operation::Create)
        })
        .await;
        bed.crash();
        bed.start(std::slice::from_ref(&plan)).await;
        bed.until_done(1).await;
        bed.until_nothing_left().await;
        assert_eq!(bed.engine().peak(&named("linux")), 1);
        let calls = bed.engine().calls();
        let of = |operation| calls.iter().filter(move |call| call.operation == operation);
        let creates: Vec<_> = of(Operation::Create).map(|call| call.received).collect();
        assert_eq!(creates.len(), 2);
        // Its slot is held until two deletes further apart than a call's bound prove that nothing can land any more.
        assert!(creates[1] - creates[0] > bed.pace.call_bound.to_std());
        let cut_off = calls.iter().find(|call| call.operation == Operation::Create);
        let name = cut_off.and_then(|call| call.name.clone());
        assert_eq!(of(Operation::Delete).filter(|call| call.name == name).count(), 2);
    }
}

/// The same call, whose machine is there and has the job when the program is back: it is left alone.
#[tokio::test(start_paused = true)]
async fn a_machine_made_by_a_cut_off_call_keeps_its_job() {
    let mut bed = Bed::new().await;
    bed.pace.ages_grace = Span::minutes(10);
    let hour = Duration::from_secs(3600);
    bed.engine().add_rule(Rule::once(Operation::Create, Fault::LateAnswer(hour)));
    let plan = pool("linux", 1).unlisted();
    bed.start_ready(std::slice::from_ref(&plan)).await;
    bed.queue("linux", 1, 20_000);
    bed.until("the job runs", |bed| bed.github.summary().jobs_running == 1).await;
    bed.crash();
    bed.start(std::slice::from_ref(&plan)).await;
    let state = bed.until_done(1).await;
    assert_eq!((state.summary.jobs_succeeded, state.summary.runners_registered_total), (1, 1));
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn another_backend_at_the_same_address_closes_and_makes_nothing() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 2), pool("other", 1)]).await;
    bed.queue("linux", 1, 4000);
    bed.until("the job runs", |bed| !bed.in_phase("linux", Phase::Running).is_empty()).await;
    let holds = bed.in_phase("linux", Phase::Running)[0].name.clone();
    let creates = |bed: &Bed| {
        let calls = bed.engine().calls();
        calls.iter().filter(|call| call.operation == Operation::Create).count()
    };
    let lists = |bed: &Bed| {
        bed.engine().calls().iter().filter(|call| call.operation == Operation::List).count()
    };
    // Of what no list has shown since it was made, either may be the holder.
    let seen = lists(&bed);
    bed.until("who holds it is certain", |bed| lists(bed) > seen + 1).await;
    let own = bed.state("linux").instances[&holds].backend_identity.clone().unwrap();
    bed.engine().set_identity("another engine");
    let seen = lists(&bed);
    bed.until("it was listed", |bed| lists(bed) > seen + 1).await;
    bed.queue("linux", 1, 50);
    bed.until("it says why it waits", |bed| bed.waits_for("linux", "backend_unavailable")).await;
    let before = creates(&bed);
    bed.throughout("nothing is made or closed", Duration::from_secs(1), |bed| {
        creates(bed) == before && bed.state("linux").instances.contains_key(&holds)
    })
    .await;
    // A pool that holds nothing elsewhere does not notice.
    bed.queue("other", 1, 50);
    bed.until("the other pool's job is done", |bed| bed.github.summary().jobs_completed == 1).await;
    bed.until("and its instance is closed", |bed| bed.state("other").instances.is_empty()).await;
    bed.engine().set_identity("simulated-again");
    bed.throughout("a third one is none of ours either", Duration::from_millis(500), |bed| {
        bed.state("linux").instances.contains_key(&holds)
    })
    .await;
    bed.engine().set_identity(&own);
    bed.until_done(3).await;
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn what_another_backend_does_not_find_to_delete_is_not_gone() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1).with(|spec| spec.min_idle = 1)]).await;
    bed.until("one is idle", |bed| !bed.in_phase("linux", Phase::Idle).is_empty()).await;
    let name = bed.in_phase("linux", Phase::Idle)[0].name.clone();
    bed.until("its backend is known", |bed| {
        bed.state("linux").instances[&name].backend_identity.is_some()
    })
    .await;
    let own = bed.state("linux").instances[&name].backend_identity.clone().unwrap();
    // Nobody hears from the lists that it is another one.
    let refused = || Fault::Fail(ErrorKind::Backend, "no list".into());
    bed.engine().add_rule(Rule::all(Operation::List, refused()));
    bed.engine().end(&name, fleetfoot_core::Exit::default());
    bed.engine().set_identity("another engine");
    let deletes = |bed: &Bed| {
        bed.engine().calls().iter().filter(|call| call.operation == Operation::Delete).count()
    };
    bed.until("its remains were to be deleted", |bed| deletes(bed) > 0).await;
    bed.throughout("its row stays", Duration::from_millis(700), |bed| {
        bed.state("linux").instances.contains_key(&name)
    })
    .await;
    bed.engine().set_identity(&own);
    bed.engine().clear_rules();
    bed.until("its remains are deleted", |bed| !bed.ours().contains(&name)).await;
    bed.until("its row is closed", |bed| !bed.state("linux").instances.contains_key(&name)).await;
}

#[tokio::test(start_paused = true)]
async fn an_operator_closes_what_a_backend_held_that_never_comes_back() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1).with(|spec| spec.min_idle = 1)]).await;
    bed.until("one is idle", |bed| !bed.in_phase("linux", Phase::Idle).is_empty()).await;
    let name = bed.in_phase("linux", Phase::Idle)[0].name.clone();
    bed.engine().set_identity("made anew");
    bed.engine().break_watch();
    bed.until("it is told", |bed| !bed.health("linux").discrepancies.present.is_empty()).await;
    let (forced, now) = (name.clone(), fleetfoot_core::Timestamp(0));
    let reason = fleetfoot_core::Reason::OperatorForce;
    let removal = fleetfoot_core::Observation::Removal { reason };
    bed.store().update(move |txn| txn.observe(&forced, &removal, now).is_ok()).await.unwrap();
    bed.until("its row is closed", |bed| !bed.state("linux").instances.contains_key(&name)).await;
    bed.until("another is idle", |bed| !bed.in_phase("linux", Phase::Idle).is_empty()).await;
}

/// The lists before and after know of one backend only, and another one made it.
#[tokio::test(start_paused = true)]
async fn what_a_backend_shows_it_holds_whatever_the_row_remembers() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1).with(|spec| spec.min_idle = 1)]).await;
    bed.until("one is idle", |bed| !bed.in_phase("linux", Phase::Idle).is_empty()).await;
    let name = bed.in_phase("linux", Phase::Idle)[0].name.clone();
    let wrong = name.clone();
    let remember = move |row: &mut fleetfoot_core::Instance| {
        row.backend_identity = Some("the one before".into());
    };
    bed.store().update(move |txn| txn.modify_instance(&wrong, remember)).await.unwrap();
    bed.engine().break_watch();
    bed.until("its row knows better", |bed| {
        let row = &bed.state("linux").instances[&name];
        row.backend_identity.as_deref() != Some("the one before")
    })
    .await;
}

/// Another engine answers while an environment is made, and is gone before a list shows what it made.
#[tokio::test(start_paused = true)]
async fn what_was_made_while_another_backend_began_to_answer_is_not_taken_for_gone() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    let lists = |bed: &Bed| {
        bed.engine().calls().iter().filter(|call| call.operation == Operation::List).count()
    };
    bed.until("its backend is known", |bed| lists(bed) > 1).await;
    bed.engine().set_latency(Latency { create: Duration::from_secs(2), ..Latency::default() });
    bed.queue("linux", 1, 600_000);
    let is_asked =
        |bed: &Bed| bed.engine().calls().iter().any(|it| it.operation == Operation::Create);
    bed.until("one is being made", is_asked).await;
    let row = bed.in_phase("linux", Phase::Starting)[0].clone();
    let own = row.backend_identity.unwrap();
    bed.engine().set_identity("another engine");
    let seen = lists(&bed);
    bed.until("another one answered", |bed| lists(bed) > seen + 1).await;
    bed.until("it is made", |bed| bed.ours().contains(&row.name)).await;
    bed.engine().set_identity(&own);
    let seen = lists(&bed);
    bed.until("the first one answered again", |bed| lists(bed) > seen + 3).await;
    bed.throughout("nobody takes it for gone", Duration::from_secs(3), |bed| {
        let row = bed.state("linux").instances.get(&row.name).cloned();
        row.is_some_and(|row| row.phase != Phase::Stopping)
    })
    .await;
    bed.engine().set_identity("another engine");
    bed.until("its row knows who shows it", |bed| {
        let held = bed.state("linux").instances[&row.name].backend_identity.clone();
        held.as_deref() == Some("another engine")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_environment_taken_away_by_other_hands_is_a_lost_job_and_no_slot() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 2, 2500);
    bed.until("a job runs", |bed| !bed.in_phase("linux", Phase::Running).is_empty()).await;
    let name = bed.in_phase("linux", Phase::Running)[0].name.clone();
    bed.engine().end(&name, fleetfoot_core::Exit { code: Some(137), ..Default::default() });
    bed.engine().remove(&name);
    bed.until_done(2).await;
    bed.until_within("nothing is left", SOON * 2, |bed| bed.state("linux").instances.is_empty())
        .await;
    let outcomes = bed.outcomes("linux").await;
    assert!(
        outcomes.iter().any(|it| matches!(it, Outcome::Lost { detail } if detail.contains("137"))),
        "{outcomes:?}"
    );
}
