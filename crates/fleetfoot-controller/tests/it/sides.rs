//! Three sides, one truth: each kind of disagreement is made, found, and mended or told.
//!
//! `row_without_anything` has no test here: the plan closes such a row in the same breath, and only a store
//! that refuses keeps it; the core's table has it.

use std::time::Duration;

use fleetfoot_core::pool::PoolSpec;
use fleetfoot_core::{
    Discrepancy, Exit, InstallationId, InstanceName, Observation, Outcome, Phase, Reason, Span,
};
use fleetfoot_github::Removal;
use fleetfoot_provisioner::simulated::{Fault, Operation, Rule};
use fleetfoot_provisioner::{EnvironmentState, ErrorKind};
use fleetfoot_sim::{Endpoint, Fault as GithubFault, FaultAction};

use crate::bed::{Bed, PoolPlan, installation, named, pool};
use crate::engine::runner;

impl Bed {
    fn saw(&self, kind: Discrepancy) -> bool {
        self.health("linux").discrepancies.seen.contains_key(&kind)
    }

    fn has(&self, kind: Discrepancy) -> bool {
        self.health("linux").discrepancies.counts.contains_key(&kind)
    }

    /// It is found; a test has less patience than most limits.
    async fn until_seen(&self, kind: Discrepancy) {
        self.until(kind.as_str(), |bed| bed.saw(kind)).await;
    }

    async fn until_over(&self, kind: Discrepancy) {
        self.until(&format!("{} is over", kind.as_str()), |bed| !bed.has(kind)).await;
    }

    fn only(&self, phase: Phase) -> InstanceName {
        self.in_phase("linux", phase)[0].name.clone()
    }

    fn put(&self, name: &InstanceName, state: EnvironmentState) {
        self.engine().remove(name);
        self.engine().insert(&installation(), &named("linux"), name, state);
    }
}

fn ended() -> EnvironmentState {
    EnvironmentState::Ended(Exit { code: Some(0), ..Exit::default() })
}

fn deletes_fail() -> Rule {
    Rule::all(Operation::Delete, Fault::Fail(ErrorKind::Backend, "disk is away".into()))
}

/// A runner is up and known to be idle.
async fn idle() -> Bed {
    let mut bed = Bed::new().await;
    bed.start_ready(&[with_one_idle()]).await;
    bed.until("a runner is idle", |bed| bed.in_phase("linux", Phase::Idle).len() == 1).await;
    bed
}

fn with_one_idle() -> PoolPlan {
    pool("linux", 1).with(|spec| {
        spec.min_idle = 1;
        spec.boot_timeout = Span::seconds(2);
    })
}

/// A job runs that takes this long.
async fn running(duration_ms: u64) -> Bed {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, duration_ms);
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    bed
}

async fn observe(bed: &Bed, observation: Observation) {
    let row = bed.instances("linux")[0].clone();
    let (name, now) = (row.name, row.phase_since);
    let seen = bed.store().update(move |txn| txn.observe(&name, &observation, now).is_ok()).await;
    assert!(seen.unwrap());
}

#[tokio::test(start_paused = true)]
async fn machines_without_rows() {
    let mut bed = Bed::new().await;
    let name = |suffix| InstanceName::of_pool(&named("linux"), suffix);
    let other = InstallationId::new("before").unwrap();
    let running = || EnvironmentState::Running;
    bed.engine().insert(&installation(), &named("linux"), &name(1), running());
    bed.engine().insert(&installation(), &named("nobodys"), &name(2), running());
    bed.engine().insert(&other, &named("linux"), &name(3), running());
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.until_seen(Discrepancy::MachineWithoutRow).await;
    bed.until_seen(Discrepancy::MachineOfAnotherInstallation).await;
    bed.until("it is told", |bed| bed.unserved().contains(&Discrepancy::MachineOfUnservedPool))
        .await;
    bed.until("ours is gone", |bed| bed.ours() == [name(2)].into()).await;
    bed.until_over(Discrepancy::MachineWithoutRow).await;
    assert!(bed.has(Discrepancy::MachineOfAnotherInstallation));
    assert_eq!(bed.engine().environments().len(), 2, "what is not ours to judge stays");
}

#[tokio::test(start_paused = true)]
async fn another_backend_is_told_and_nothing_is_closed() {
    let bed = running(2500).await;
    let name = bed.only(Phase::Running);
    bed.engine().set_identity("another engine");
    bed.until_seen(Discrepancy::AnotherBackend).await;
    assert_eq!(bed.only(Phase::Running), name);
    let told = bed.health("linux").discrepancies.present[0].clone();
    assert_eq!((told.kind, told.name), (Discrepancy::AnotherBackend, Some(name)));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_vanished_and_an_end_that_nobody_heard() {
    let bed = idle().await;
    bed.engine().remove(&bed.only(Phase::Idle));
    bed.until_seen(Discrepancy::MachineVanished).await;
    bed.until_over(Discrepancy::MachineVanished).await;
    bed.until("it is replaced", |bed| bed.in_phase("linux", Phase::Idle).len() == 1).await;
    let name = bed.only(Phase::Idle);
    bed.silence(&name);
    bed.put(&name, ended());
    bed.until_seen(Discrepancy::EndUnseen).await;
    bed.until("it is gone", |bed| !bed.ours().contains(&name)).await;
}

#[tokio::test(start_paused = true)]
async fn calls_without_an_answer() {
    let mut bed = Bed::new().await;
    bed.pace.call_bound = Span::seconds(1);
    // It lands, and nobody hears of it.
    bed.engine().add_rule(Rule::once(Operation::Create, Fault::LostAnswer));
    // It lands after it was given up.
    let late = Fault::LandLate(Duration::from_millis(1200));
    bed.engine().add_rule(Rule::once(Operation::Create, late));
    let plan = pool("linux", 1).with(|spec| spec.create_timeout = Span(300));
    bed.start_ready(&[plan]).await;
    bed.queue("linux", 1, 1500);
    // The machine is listed before its job tells of it, or its job is faster.
    bed.until("a call without an answer is told of", |bed| {
        bed.saw(Discrepancy::AnswerUnseen) || bed.saw(Discrepancy::CallUnanswered)
    })
    .await;
    bed.until_done(1).await;
    bed.queue("linux", 1, 50);
    bed.until_seen(Discrepancy::CallUnanswered).await;
    bed.until_done(2).await;
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_landing_after_the_row_gave_it_up() {
    let bed = idle().await;
    let name = bed.only(Phase::Idle);
    // GitHub keeps the row open while its machine comes back.
    bed.github.inject(GithubFault::always(Endpoint::GetRunner, FaultAction::Cut));
    bed.silence(&name);
    bed.engine().remove(&name);
    bed.until("its machine is gone", |bed| {
        bed.instances("linux").iter().any(|row| row.name == name && row.phase == Phase::Stopping)
    })
    .await;
    bed.put(&name, EnvironmentState::Running);
    bed.until_seen(Discrepancy::LateLanding).await;
    bed.github.clear_faults();
    bed.until("it is gone", |bed| !bed.ours().contains(&name)).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_was_cut_off() {
    let mut bed = Bed::new().await;
    bed.engine().add_rule(Rule::once(Operation::Create, Fault::Hang));
    // It is the crash that ends the call.
    let bound = std::mem::replace(&mut bed.pace.call_bound, Span::minutes(5));
    let patient = |spec: &mut PoolSpec| spec.create_timeout = Span::minutes(5);
    bed.start_ready(&[pool("linux", 1).with(patient)]).await;
    bed.queue("linux", 1, 50);
    bed.until("the call hangs", |bed| !bed.instances("linux").is_empty()).await;
    bed.until("it was sent", |bed| {
        bed.engine().calls().iter().any(|call| call.operation == Operation::Create)
    })
    .await;
    bed.until("it is committed", |bed| {
        let requested = fleetfoot_core::Environment::Requested;
        bed.instances("linux").iter().any(|row| row.environment == requested)
    })
    .await;
    bed.crash();
    bed.pace.call_bound = bound;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.until_seen(Discrepancy::StartCutOff).await;
    bed.until_done(1).await;
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn remains_and_a_used_jit_config() {
    let bed = idle().await;
    let name = bed.only(Phase::Idle);
    bed.engine().add_rule(deletes_fail());
    bed.engine().end(&name, Exit::default());
    bed.until_seen(Discrepancy::RemainsLeft).await;
    bed.put(&name, EnvironmentState::Running);
    bed.until_seen(Discrepancy::UsedJitConfig).await;
    bed.engine().clear_rules();
    bed.until("it is gone", |bed| !bed.ours().contains(&name)).await;
    bed.until_over(Discrepancy::UsedJitConfig).await;
    bed.until_over(Discrepancy::RemainsLeft).await;
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_pool_that_nobody_serves() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1), pool("other", 1)]).await;
    bed.queue("linux", 1, 1500);
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    bed.crash();
    bed.start_ready(&[pool("other", 1)]).await;
    bed.until("the living one is told", |bed| {
        bed.unserved().contains(&Discrepancy::MachineOfUnservedPool)
    })
    .await;
    bed.until("it closed", |bed| bed.state("linux").instances.is_empty()).await;
    assert_eq!(bed.outcomes("linux").await, [Outcome::RegistrationUnverified]);
}

#[tokio::test(start_paused = true)]
async fn a_completed_job_whose_machine_goes_on() {
    let bed = idle().await;
    let name = bed.only(Phase::Idle);
    observe(&bed, Observation::JobCompleted { job: None, result: None }).await;
    bed.until_seen(Discrepancy::CompletedMachineLives).await;
    // The gate lets it go: GitHub does not call it busy.
    bed.until("it is gone", |bed| !bed.ours().contains(&name)).await;
    bed.until_over(Discrepancy::CompletedMachineLives).await;
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_never_registers() {
    let mut bed = Bed::new().await;
    bed.engine().on_launch(|_, _| {});
    bed.start_ready(&[with_one_idle()]).await;
    bed.until_seen(Discrepancy::NeverRegistered).await;
    let name = bed.instances("linux")[0].name.clone();
    bed.until("it is given up", |bed| bed.instances("linux").iter().all(|row| row.name != name))
        .await;
    let closed = bed.closed("linux").await;
    let reason = closed.iter().find(|row| row.name == name).map(|row| row.reason);
    assert_eq!(reason, Some(Some(Reason::BootTimeout)));
}

#[tokio::test(start_paused = true)]
async fn a_registration_whose_machine_is_gone() {
    let bed = idle().await;
    let name = bed.only(Phase::Idle);
    let refused = FaultAction::status(500);
    bed.github.inject(GithubFault::always(Endpoint::RemoveRunner, refused));
    bed.silence(&name);
    bed.engine().end(&name, Exit::default());
    bed.until_seen(Discrepancy::RegistrationWithoutMachine).await;
    bed.github.clear_faults();
    bed.until_over(Discrepancy::RegistrationWithoutMachine).await;
    bed.until("it is deregistered", |bed| bed.github.state().runner(name.as_str()).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_stays_busy_after_its_machine_died() {
    let bed = running(60_000).await;
    let name = bed.only(Phase::Running);
    bed.engine().end(&name, Exit { code: Some(137), ..Exit::default() });
    bed.until_seen(Discrepancy::BusyWithoutMachine).await;
    bed.until_over(Discrepancy::BusyWithoutMachine).await;
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_runner_gone_from_github_whose_machine_lives_on() {
    let bed = idle().await;
    let name = bed.only(Phase::Idle);
    bed.engine().add_rule(deletes_fail());
    // A runner that hangs does not notice.
    bed.silence(&name);
    let id = bed.in_phase("linux", Phase::Idle)[0].runner_id.unwrap();
    assert_eq!(bed.by_hand().remove_runner(id.0).await.unwrap(), Removal::Gone);
    bed.until_seen(Discrepancy::RunnerGone).await;
    bed.until_seen(Discrepancy::MachineWithoutRegistration).await;
    bed.engine().clear_rules();
    bed.until("it is gone", |bed| !bed.ours().contains(&name)).await;
    bed.until_over(Discrepancy::MachineWithoutRegistration).await;
    assert!(bed.outcomes("linux").await.contains(&Outcome::Removed(Reason::RunnerGone)));
}

#[tokio::test(start_paused = true)]
async fn an_idle_runner_that_lost_its_connection_is_replaced_and_a_busy_one_is_not() {
    let bed = idle().await;
    let name = bed.only(Phase::Idle);
    bed.silence(&name);
    bed.until_seen(Discrepancy::RunnerOffline).await;
    bed.until("it is gone", |bed| !bed.ours().contains(&name)).await;
    bed.until("it is replaced", |bed| bed.in_phase("linux", Phase::Idle).len() == 1).await;
    assert!(bed.outcomes("linux").await.contains(&Outcome::Removed(Reason::Offline)));
    let offline = |bed: &Bed| bed.health("linux").discrepancies.seen[&Discrepancy::RunnerOffline];
    let before = offline(&bed);
    bed.queue("linux", 1, 2500);
    bed.until_done(1).await;
    assert_eq!(offline(&bed), before);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_no_message_told_of() {
    let bed = idle().await;
    bed.github.inject(GithubFault::always(Endpoint::GetMessage, FaultAction::Hang));
    bed.github.cut_connections();
    bed.queue("linux", 1, 4000);
    bed.until_seen(Discrepancy::JobUnseen).await;
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    bed.github.clear_faults();
    bed.github.cut_connections();
    assert_eq!(bed.until_done(1).await.summary.jobs_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_at_a_scale_set_that_is_gone() {
    let mut bed = Bed::new().await;
    bed.engine().on_launch(|_, _| {});
    bed.start_ready(&[pool("linux", 1).with(|spec| spec.boot_timeout = Span::seconds(8))]).await;
    bed.queue("linux", 1, 50);
    bed.until("one is started", |bed| {
        let launched = fleetfoot_core::Environment::Launched;
        bed.in_phase("linux", Phase::Starting).iter().any(|row| row.environment == launched)
    })
    .await;
    let old = bed.state("linux").pool.scale_set_id;
    assert!(bed.github.vanish("acme", "linux"));
    bed.until("there is a new one", |bed| {
        let now = bed.state("linux").pool.scale_set_id;
        now.is_some() && now != old
    })
    .await;
    bed.until_seen(Discrepancy::ScaleSetGone).await;
}

#[tokio::test(start_paused = true)]
async fn a_registration_under_the_name_of_a_closed_row() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, 50);
    bed.until_done(1).await;
    bed.until_nothing_left().await;
    let name = bed.closed("linux").await[0].name.clone();
    let set = bed.state("linux").pool.scale_set_id.unwrap();
    // A foreign one of our set, and one under a name in our books.
    let foreign = bed.by_hand().jit_config(set.0, "linux-0123abcd").await.unwrap();
    let ours = bed.by_hand().jit_config(set.0, name.as_str()).await.unwrap();
    // A pool that has had nothing since its last look does not look.
    bed.queue("linux", 1, 50);
    bed.until_seen(Discrepancy::RegistrationOfClosedRow).await;
    bed.until("ours is gone", |bed| bed.github.state().runner(name.as_str()).is_none()).await;
    bed.until_over(Discrepancy::RegistrationOfClosedRow).await;
    assert!(bed.github.state().runner("linux-0123abcd").is_some(), "ownership is exact");
    assert_ne!(foreign.runner_id, ours.runner_id);
}

#[tokio::test(start_paused = true)]
async fn a_busy_runner_of_a_closed_row_is_left_alone_until_its_job_is_over() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, 50);
    bed.until_done(1).await;
    bed.until_nothing_left().await;
    let name = bed.closed("linux").await[0].name.clone();
    let set = bed.state("linux").pool.scale_set_id.unwrap();
    bed.engine().on_launch(|_, _| {});
    bed.queue("linux", 1, 6000);
    use secrecy::ExposeSecret as _;
    let jit = bed.by_hand().jit_config(set.0, name.as_str()).await.unwrap();
    let github = bed.github.clone();
    let task = tokio::spawn(async move { runner(&github, jit.config.expose_secret()).await });
    bed.until_seen(Discrepancy::BusyOfClosedRow).await;
    assert_eq!(bed.until_done(2).await.summary.jobs_succeeded, 2);
    assert_eq!(task.await.unwrap(), 0);
    bed.until_over(Discrepancy::BusyOfClosedRow).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_row_does_not_know() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.stop().await;
    let by_hand = bed.by_hand();
    let set = by_hand.scale_set(1, "linux").await.unwrap().unwrap();
    let session = by_hand.open_session(set.id, "by hand").await.unwrap();
    bed.start(&[pool("linux", 1)]).await;
    let polls = async {
        loop {
            let _ = session.poll(None, 1).await;
        }
    };
    tokio::select! {
        () = bed.until_seen(Discrepancy::SessionNotInRow) => {}
        () = polls => {}
    }
    by_hand.delete_session(set.id, session.id()).await.unwrap();
    bed.until_over(Discrepancy::SessionNotInRow).await;
    bed.queue("linux", 1, 50);
    bed.until_done(1).await;
}
