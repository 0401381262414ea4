//! 11.6: whose failure it is, and that nothing stays stuck after it.

use std::time::Duration;

use fleetfoot_core::Phase;
use fleetfoot_provisioner::ErrorKind;
use fleetfoot_provisioner::simulated::{Fault as EngineFault, Operation, Rule};
use fleetfoot_sim::{Endpoint, Fault, FaultAction};

use crate::bed::{Bed, named, pool};

fn status(status: u16, retry_after_s: Option<u64>) -> FaultAction {
    FaultAction::Status {
        status,
        exception: None,
        message: None,
        retry_after_s,
        headers: Default::default(),
    }
}

fn fail(kind: ErrorKind) -> EngineFault {
    EngineFault::Fail(kind, "no".into())
}

#[tokio::test(start_paused = true)]
async fn instance_failures_open_the_circuit_of_their_pool_only() {
    let mut bed = Bed::new().await;
    let bad = Rule::all(Operation::Create, fail(ErrorKind::Instance)).of_pool(&named("bad"));
    bed.engine().add_rule(bad);
    bed.start_ready(&[pool("bad", 20), pool("good", 1)]).await;
    bed.queue("bad", 10, 50);
    bed.until("its circuit is open", |bed| bed.waits_for("bad", "circuit_open")).await;
    bed.queue("good", 1, 50);
    bed.until("the other pool goes on", |bed| bed.github.summary().jobs_completed == 1).await;
    let until = bed.state("bad").pool.circuit.open_until.unwrap();
    assert!(
        bed.state("bad").pool.circuit.failures < 6,
        "a burst that fails together is one failure"
    );
    bed.engine().clear_rules();
    bed.until_done(11).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.state("bad").pool.circuit.failures, 0);
    assert!(bed.state("bad").pool.circuit.open_until.is_none_or(|now| now >= until));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_lists_and_makes_nothing_is_not_asked_in_a_loop() {
    let mut bed = Bed::new().await;
    bed.engine().add_rule(Rule::all(Operation::Create, fail(ErrorKind::Backend)));
    bed.start_ready(&[pool("linux", 5)]).await;
    bed.queue("linux", 5, 50);
    bed.until("it says so", |bed| bed.waits_for("linux", "backend_unavailable")).await;
    let creates = |bed: &Bed| {
        bed.engine().calls().iter().filter(|call| call.operation == Operation::Create).count()
    };
    // They were sent together; the first one's failure is told before the last one arrives.
    bed.until("all of the first attempt arrived", |bed| creates(bed) >= 5).await;
    let before = creates(&bed);
    bed.throughout("it waits", Duration::from_millis(2500), |bed| creates(bed) <= before + 3).await;
    assert_eq!(bed.state("linux").pool.circuit.failures, 0);
    bed.engine().clear_rules();
    bed.until_done(5).await;
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_github_that_registers_nobody_is_not_asked_in_a_loop_and_nothing_stays_stuck() {
    let mut bed = Bed::new().await;
    bed.pace.call_bound = fleetfoot_core::Span::seconds(1);
    bed.github.inject(Fault::always(Endpoint::GenerateJitConfig, status(500, None)));
    bed.start_ready(&[pool("linux", 5), pool("other", 5)]).await;
    bed.queue("linux", 5, 50);
    bed.queue("other", 5, 50);
    bed.until("it says so", |bed| bed.waits_for("linux", "github_unavailable")).await;
    bed.until("both met it", |bed| bed.github.state().jit_calls.len() >= 5).await;
    let before = bed.github.state().jit_calls.len();
    bed.throughout("it waits", Duration::from_millis(2500), |bed| {
        bed.github.state().jit_calls.len() <= before + 12
    })
    .await;
    bed.github.clear_faults();
    bed.until_done(10).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.state("linux").pool.circuit.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_scale_set_is_not_noticed_by_the_others() {
    let mut bed = Bed::new().await;
    let mut refuse = Fault::always(Endpoint::GenerateJitConfig, status(403, None));
    refuse.scale_set = Some("refused".into());
    bed.github.inject(refuse);
    bed.start_ready(&[pool("refused", 2), pool("good", 2)]).await;
    bed.queue("refused", 2, 50);
    bed.until("it says why", |bed| bed.waits_for("refused", "github_unavailable")).await;
    bed.queue("good", 6, 50);
    bed.until("the other one goes on", |bed| {
        assert!(!bed.waits_for("good", "github_unavailable"), "it waits out the other's pause");
        bed.github.summary().jobs_completed == 6
    })
    .await;
    bed.github.clear_faults();
    bed.until_done(8).await;
}

#[tokio::test(start_paused = true)]
async fn names_that_are_taken_are_not_followed_by_others_in_a_hurry() {
    let mut bed = Bed::new().await;
    let taken = FaultAction::exception(409, "AgentExistsException");
    bed.github.inject(Fault::always(Endpoint::GenerateJitConfig, taken));
    bed.start_ready(&[pool("linux", 2)]).await;
    bed.queue("linux", 2, 50);
    bed.until("it says why", |bed| bed.waits_for("linux", "github_unavailable")).await;
    bed.github.clear_faults();
    bed.until_done(2).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.state("linux").pool.circuit.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_waited_for_and_is_nobodys_failure() {
    let mut bed = Bed::new().await;
    bed.github.inject(Fault::once(Endpoint::GenerateJitConfig, status(429, Some(2))));
    bed.start_ready(&[pool("linux", 3)]).await;
    bed.queue("linux", 3, 50);
    bed.until("it says so", |bed| bed.waits_for("linux", "jit_budget")).await;
    assert!(!bed.waits_for("linux", "github_unavailable"));
    bed.until_done(3).await;
    bed.until_nothing_left().await;
    assert_eq!(bed.state("linux").pool.circuit.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn broken_polls_and_cut_connections_are_got_over() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 2)]).await;
    for fault in [status(500, None), status(429, Some(1)), FaultAction::EmptyBody, FaultAction::Cut]
    {
        bed.github.inject(Fault::once(Endpoint::GetMessage, fault));
        bed.github.cut_connections();
        let done = bed.github.summary().jobs_completed;
        bed.queue("linux", 2, 50);
        bed.until("it goes on", |bed| bed.github.summary().jobs_completed == done + 2).await;
    }
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_freezes_and_wakes_loses_nothing() {
    let mut bed = Bed::new().await;
    bed.pace.call_bound = fleetfoot_core::Span::seconds(1);
    bed.start_ready(&[pool("linux", 2), pool("other", 1).on_engine(0)]).await;
    bed.queue("linux", 1, 2500);
    bed.until("one runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    bed.engine().set_frozen(true);
    bed.queue("linux", 2, 50);
    bed.until("it does not list", |bed| {
        bed.waits_for("linux", "backend_unavailable") || {
            bed.in_phase("linux", Phase::Starting).len() == 1
        }
    })
    .await;
    bed.until("the running job ends meanwhile", |bed| bed.github.summary().jobs_completed == 1)
        .await;
    bed.engine().set_frozen(false);
    bed.until_done(3).await;
    bed.until_nothing_left().await;
    assert!(bed.engine().peak(&named("linux")) <= 2);
}

#[tokio::test(start_paused = true)]
async fn the_hosts_room_is_shared_and_a_pool_that_may_not_create_holds_none() {
    let mut bed = Bed::new().await;
    bed.host_budget(3);
    bed.engine()
        .add_rule(Rule::all(Operation::Create, fail(ErrorKind::Instance)).of_pool(&named("bad")));
    bed.start_ready(&[pool("bad", 10), pool("one", 10), pool("two", 10)]).await;
    bed.queue("bad", 10, 50);
    bed.until("its circuit is open", |bed| bed.waits_for("bad", "circuit_open")).await;
    bed.queue("one", 8, 200);
    bed.queue("two", 8, 200);
    bed.until("the others are served", |bed| bed.github.summary().jobs_completed >= 16).await;
    let peaks = ["one", "two"].map(|name| bed.engine().peak(&named(name)));
    assert!(peaks.iter().all(|peak| *peak <= 3), "{peaks:?}");
    bed.engine().clear_rules();
    bed.until_done(26).await;
}
