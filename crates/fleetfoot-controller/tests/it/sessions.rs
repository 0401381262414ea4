//! 11.9, 11.12, 11.14: sessions of before, offers of GHES, stops.

use std::time::Duration;

use fleetfoot_core::{Intent, ListenerState, Phase};
use fleetfoot_sim::{Endpoint, Expire, ExpireRequest, Fault, FaultAction, Flavor};

use crate::bed::{Bed, SOON, named, pool};

#[tokio::test(start_paused = true)]
async fn a_start_after_a_crash_adopts_what_runs_and_deletes_exactly_its_own_old_session() {
    let mut bed = Bed::with(|settings| settings.session_lapse_ms = 600_000, 1).await;
    bed.start_ready(&[pool("linux", 5)]).await;
    bed.queue("linux", 5, 3000);
    bed.until("five run", |bed| bed.in_phase("linux", Phase::Running).len() == 5).await;
    bed.crash();
    bed.start_ready(&[pool("linux", 5)]).await;
    assert_eq!(bed.in_phase("linux", Phase::Running).len(), 5);
    bed.queue("linux", 2, 50);
    let state = bed.until_done(7).await;
    assert_eq!(state.summary.jobs_lost, 0);
    assert_eq!(state.sessions.len(), 2);
    assert_eq!(state.sessions[0].closed_by.as_deref(), Some("deleted"));
    bed.until_nothing_left().await;
    assert_eq!(bed.engine().peak(&named("linux")), 5);
}

#[tokio::test(start_paused = true)]
async fn a_session_of_somebody_else_is_waited_for_and_never_deleted() {
    let mut bed = Bed::with(|settings| settings.session_lapse_ms = 600_000, 1).await;
    bed.start_ready(&[pool("linux", 1)]).await;
    let set = bed.state("linux").pool.scale_set_id.unwrap();
    bed.stop().await;
    let session = bed.by_hand().open_session(set.0, "somebody").await.unwrap();
    bed.start(&[pool("linux", 1)]).await;
    let stands_by =
        |bed: &Bed| matches!(bed.health("linux").listener, ListenerState::Standby { .. });
    bed.until("it stands by", stands_by).await;
    let ListenerState::Standby { since } = bed.health("linux").listener else { panic!() };
    bed.throughout("and goes on standing by", Duration::from_secs(1), |bed| {
        bed.health("linux").listener == ListenerState::Standby { since }
    })
    .await;
    session.close().await.unwrap();
    bed.queue("linux", 1, 50);
    bed.until_done(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_session_is_opened_anew() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 2)]).await;
    for what in [Expire::Sessions, Expire::QueueTokens, Expire::AdminTokens] {
        assert!(bed.github.expire(&ExpireRequest { what, scope: None, scale_set: None }));
        let done = bed.github.summary().jobs_completed;
        bed.queue("linux", 1, 50);
        bed.until("it goes on", |bed| bed.github.summary().jobs_completed == done + 1).await;
    }
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_not_acknowledged_comes_again_and_changes_nothing() {
    let mut bed = Bed::with(|settings| settings.session_lapse_ms = 600_000, 1).await;
    bed.github.inject(Fault::always(Endpoint::DeleteMessage, FaultAction::Hang));
    bed.start_ready(&[pool("linux", 2)]).await;
    bed.queue("linux", 2, 1500);
    bed.until("two run", |bed| bed.github.summary().jobs_running == 2).await;
    bed.crash();
    bed.github.clear_faults();
    bed.start_ready(&[pool("linux", 2)]).await;
    bed.until_done(2).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.github.state().jit_calls.len(), 2, "none was made twice");
}

/// GitHub takes every acknowledgement and keeps the message: it is not asked in a loop, the job is served all the
/// same, and once it is well nothing has to be waited for.
#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_though_it_is_acknowledged_is_not_asked_for_in_a_loop() {
    let mut bed = Bed::new().await;
    bed.github.inject(Fault::always(Endpoint::DeleteMessage, FaultAction::status(204)));
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, 50);
    let polls = |bed: &Bed| {
        bed.github.state().requests.get(&Endpoint::GetMessage).copied().unwrap_or_default()
    };
    bed.until("it comes again", |bed| polls(bed) >= 3).await;
    let before = polls(&bed);
    // Pauses of half a second and more, each a tenth of that at least.
    bed.throughout("it is waited with", Duration::from_secs(3), |bed| polls(bed) < before + 25)
        .await;
    bed.github.clear_faults();
    bed.until_done(1).await;
    bed.queue("linux", 1, 50);
    bed.until_done(2).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.github.state().jit_calls.len(), 2, "none was made twice");
}

#[tokio::test(start_paused = true)]
async fn offers_of_ghes_are_acquired_and_acknowledged_only_then() {
    let mut bed = Bed::with(|settings| settings.flavor = Flavor::Ghes, 1).await;
    bed.github.inject(Fault::once(Endpoint::AcquireJobs, FaultAction::Cut));
    bed.start_ready(&[pool("linux", 2)]).await;
    bed.queue("linux", 4, 50);
    bed.until_done(4).await;
    bed.until_nothing_left().await;
    assert!(bed.github.state().requests[&Endpoint::AcquireJobs] >= 2);
    assert_eq!(bed.engine().peak(&named("linux")), 2);
}

#[tokio::test(start_paused = true)]
async fn a_drain_while_the_poll_hangs_is_heard_and_a_resume_too() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 2)]).await;
    bed.queue("linux", 1, 1500);
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    set_intent(&bed, Intent::Draining).await;
    bed.until("the session is closed", |bed| bed.github.summary().sessions == 0).await;
    bed.queue("linux", 1, 50);
    bed.until("the running job is done", |bed| bed.github.summary().jobs_completed == 1).await;
    bed.until("nothing is left", |bed| bed.state("linux").instances.is_empty()).await;
    bed.throughout("nothing new is begun", Duration::from_millis(500), |bed| {
        bed.state("linux").instances.is_empty() && bed.github.summary().sessions == 0
    })
    .await;
    set_intent(&bed, Intent::Active).await;
    bed.until_done(2).await;
}

async fn set_intent(bed: &Bed, intent: Intent) {
    let set = move |txn: &mut fleetfoot_store::Txn<'_>| {
        txn.pool_mut(&named("linux")).unwrap().intent = intent;
    };
    bed.store().update(set).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_what_runs_closes_sessions_and_gives_registrations_back() {
    let mut bed = Bed::new().await;
    bed.github.change(|settings| {
        settings.endpoint_latency_ms.insert(Endpoint::GenerateJitConfig, 300);
    });
    bed.start_ready(&[pool("linux", 4)]).await;
    bed.queue("linux", 2, 3000);
    bed.until("two run", |bed| bed.in_phase("linux", Phase::Running).len() == 2).await;
    bed.queue("linux", 2, 50);
    bed.until("two are being registered", |bed| bed.github.state().jit_calls.len() == 4).await;
    let stopped = bed.stop().await;
    assert_eq!((stopped.running, stopped.clean), (2, true));
    assert_eq!(bed.github.summary().sessions, 0);
    assert_eq!(bed.github.summary().runners, 2, "only those that run are registered");
    bed.start_ready(&[pool("linux", 4)]).await;
    let state = bed.until_done(4).await;
    assert_eq!(state.summary.jobs_lost, 0);
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_over_though_github_hangs() {
    let mut bed = Bed::new().await;
    bed.pace.call_bound = fleetfoot_core::Span::minutes(60);
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.github.inject(Fault::always(Endpoint::GenerateJitConfig, FaultAction::Hang));
    bed.github.inject(Fault::always(Endpoint::DeleteSession, FaultAction::Hang));
    bed.queue("linux", 1, 50);
    bed.until("a call hangs", |bed| bed.github.state().jit_calls.len() == 1).await;
    // The call itself would hang for an hour.
    tokio::time::timeout(SOON, bed.stop()).await.unwrap();
    bed.github.clear_faults();
    bed.pace.call_bound = fleetfoot_core::Span::seconds(1);
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.until_done(1).await;
    bed.until_nothing_left().await;
}
