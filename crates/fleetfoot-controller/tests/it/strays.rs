//! 11.4, 11.7, 11.8, 11.11, 11.13: what a start finds that it did not leave there.

use std::time::Duration;

use fleetfoot_core::{Exit, InstallationId, InstanceName, Outcome, Phase};
use fleetfoot_provisioner::simulated::{Fault, Operation, Rule};
use fleetfoot_provisioner::{EnvironmentState, ErrorKind};

use crate::bed::{Bed, installation, named, pool};

#[tokio::test(start_paused = true)]
async fn a_lost_store_kills_nothing_and_everything_is_taken_up() {
    // Nobody knows the id of the session any more: it lapses.
    let mut bed = Bed::with(|settings| settings.session_lapse_ms = 1500, 1).await;
    let plan = [pool("linux", 3)];
    bed.start_ready(&plan).await;
    bed.queue("linux", 3, 8000);
    bed.until("three run", |bed| bed.in_phase("linux", Phase::Running).len() == 3).await;
    let running = bed.ours();
    bed.crash();
    bed.lose_store();
    bed.start(&plan).await;
    bed.queue("linux", 3, 50);
    bed.until("all are taken up", |bed| bed.state("linux").instances.len() >= 3).await;
    bed.until("all run", |bed| {
        bed.in_phase("linux", Phase::Running)
            .iter()
            .filter(|row| running.contains(&row.name))
            .count()
            == 3
    })
    .await;
    bed.until("the loss is over", |bed| !bed.store().was_lost()).await;
    let state = bed.until_done(6).await;
    assert_eq!((state.summary.jobs_succeeded, state.summary.jobs_lost), (6, 0));
    bed.until_nothing_left().await;
    assert_eq!(bed.engine().peak(&named("linux")), 3);
}

#[tokio::test(start_paused = true)]
async fn strays_of_ours_go_and_things_of_others_stay() {
    let mut bed = Bed::new().await;
    let name = |suffix| InstanceName::of_pool(&named("linux"), suffix);
    let other = InstallationId::new("other").unwrap();
    let ended = EnvironmentState::Ended(Exit::default());
    bed.engine().insert(&installation(), &named("linux"), &name(1), EnvironmentState::Created);
    bed.engine().insert(&installation(), &named("linux"), &name(2), EnvironmentState::Running);
    bed.engine().insert(&installation(), &named("linux"), &name(3), ended.clone());
    bed.engine().insert(&installation(), &named("nobodys"), &name(4), EnvironmentState::Running);
    bed.engine().insert(&installation(), &named("nobodys"), &name(5), ended.clone());
    bed.engine().insert(&other, &named("linux"), &name(6), EnvironmentState::Running);
    bed.engine().insert(&other, &named("linux"), &name(7), ended);
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.until("ours are gone", |bed| bed.ours() == [name(4)].into()).await;
    bed.throughout("what is not ours to judge stays", Duration::from_millis(700), |bed| {
        bed.engine().environments().len() == 3
    })
    .await;
    // Their slot is free again.
    bed.queue("linux", 1, 50);
    bed.until_done(1).await;
}

#[tokio::test(start_paused = true)]
async fn a_stray_whose_look_up_fails_is_left_alone() {
    use fleetfoot_sim::{Endpoint, Fault, FaultAction};
    let mut bed = Bed::new().await;
    bed.github.inject(Fault::always(Endpoint::GetRunner, FaultAction::Cut));
    let stray = InstanceName::of_pool(&named("linux"), 1);
    bed.engine().insert(&installation(), &named("linux"), &stray, EnvironmentState::Running);
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.until("it was asked for", |bed| bed.instances("linux").iter().any(|row| row.attempts > 0))
        .await;
    bed.throughout("it lives", Duration::from_secs(1), |bed| bed.ours().contains(&stray)).await;
    bed.github.clear_faults();
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_scale_set_that_is_gone_is_made_anew_and_running_jobs_stay() {
    let mut bed = Bed::new().await;
    let plan = pool("linux", 3).with(|spec| {
        spec.min_idle = 1;
        spec.boot_timeout = fleetfoot_core::Span::seconds(2);
    });
    bed.start_ready(&[plan]).await;
    bed.until("one is idle", |bed| bed.in_phase("linux", Phase::Idle).len() == 1).await;
    bed.queue("linux", 1, 2500);
    bed.until("one runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    bed.until("another is idle", |bed| bed.in_phase("linux", Phase::Idle).len() == 1).await;
    let old = bed.state("linux").pool.scale_set_id;
    let idle = bed.in_phase("linux", Phase::Idle)[0].name.clone();
    assert!(bed.github.vanish("acme", "linux"));
    bed.until("there is a new one", |bed| {
        let now = bed.state("linux").pool.scale_set_id;
        now.is_some() && now != old
    })
    .await;
    bed.until("the idle one of the old set goes", |bed| !bed.ours().contains(&idle)).await;
    bed.queue("linux", 2, 50);
    let state = bed.until_done(3).await;
    assert_eq!(state.summary.jobs_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_registration_at_a_vanished_set_wakes_the_listener() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    use fleetfoot_sim::{Endpoint, Fault, FaultAction};
    let exception = Some("RunnerScaleSetNotFoundException".to_owned());
    let gone = FaultAction::Status {
        status: 404,
        exception,
        message: None,
        retry_after_s: None,
        headers: Default::default(),
    };
    bed.github.inject(Fault::once(Endpoint::GenerateJitConfig, gone));
    bed.queue("linux", 1, 50);
    bed.until_done(1).await;
    bed.until_nothing_left().await;
    assert!(bed.github.state().jit_calls.len() <= 3, "not asked at once and again");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_left_the_file_finishes_its_jobs() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 2), pool("other", 1)]).await;
    bed.queue("linux", 2, 2500);
    bed.until("two run", |bed| bed.in_phase("linux", Phase::Running).len() == 2).await;
    bed.crash();
    let mut left = pool("linux", 0);
    left.removed = true;
    bed.start_ready(&[left, pool("other", 1)]).await;
    let state = bed.until_done(2).await;
    assert_eq!(state.summary.jobs_lost, 0);
    bed.until_nothing_left().await;
    bed.until("its session is closed", |bed| {
        let state = bed.github.state();
        state.scale_set("acme", "linux").is_some_and(|set| set.session_id.is_none())
    })
    .await;
    bed.crash();
    bed.start_ready(&[pool("other", 1)]).await;
    assert!(bed.store().pool(&named("linux")).is_none(), "its row goes with its last instance");
}

#[tokio::test(start_paused = true)]
async fn a_pool_nobody_serves_closes_what_ended_without_asking() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1), pool("other", 1)]).await;
    bed.queue("linux", 1, 5000);
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    bed.crash();
    bed.start_ready(&[pool("other", 1)]).await;
    assert_eq!(bed.instances("linux").len(), 1, "what lives is left alone");
    bed.until("it closed", |bed| bed.state("linux").instances.is_empty()).await;
    assert_eq!(bed.github.summary().jobs_succeeded, 1);
    assert_eq!(bed.outcomes("linux").await, [Outcome::RegistrationUnverified]);
    assert!(bed.ours().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pool_moved_to_another_url_kills_nothing() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1), pool("other", 1)]).await;
    bed.queue("linux", 1, 2000);
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    bed.crash();
    let mut moved = pool("linux", 1);
    moved.scope = "elsewhere";
    bed.start_ready(&[moved, pool("other", 1)]).await;
    let state = bed.until_done(1).await;
    assert_eq!((state.summary.jobs_succeeded, state.summary.jobs_lost), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_steps_between_two_starts_ends_and_delays_nothing() {
    const HOUR: i64 = 3_600_000;
    for off in [-HOUR, HOUR] {
        let mut bed = Bed::new().await;
        bed.start_ready(&[pool("linux", 2)]).await;
        bed.queue("linux", 2, 2000);
        bed.until("two run", |bed| bed.in_phase("linux", Phase::Running).len() == 2).await;
        bed.crash();
        bed.clock_off = off;
        bed.start_ready(&[pool("linux", 2)]).await;
        bed.queue("linux", 2, 50);
        let state = bed.until_done(4).await;
        assert_eq!((state.summary.jobs_succeeded, state.summary.jobs_lost), (4, 0));
        bed.until_nothing_left().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reboot_of_the_host_is_told_as_such() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 1, 60_000);
    bed.until("it runs", |bed| bed.in_phase("linux", Phase::Running).len() == 1).await;
    let name = bed.instances("linux")[0].name.clone();
    bed.crash();
    bed.engine().end(&name, Exit { code: Some(137), ..Exit::default() });
    bed.settings.boot_id = Some("next boot".into());
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.until_nothing_left().await;
    assert!(bed.outcomes("linux").await.contains(&Outcome::HostRebooted));
}

/// Nobody counts what lives there without a row (seeds 28136, 50028). A backend that never lists is used after a minute
/// all the same.
#[tokio::test(start_paused = true)]
async fn nothing_is_made_before_the_backend_was_looked_at() {
    let unlisted = || Rule::all(Operation::List, Fault::Fail(ErrorKind::Backend, "no".into()));
    for answers in [true, false] {
        let mut bed = Bed::new().await;
        bed.engine().add_rule(unlisted());
        let began = tokio::time::Instant::now();
        bed.start(&[pool("linux", 1)]).await;
        bed.queue("linux", 1, 50);
        let bound = Duration::from_secs(15);
        bed.until_within("it is said", bound, |bed| bed.waits_for("linux", "careful_pass")).await;
        let rest = Duration::from_secs(50).saturating_sub(began.elapsed());
        bed.throughout("nothing is made", rest, |bed| bed.instances("linux").is_empty()).await;
        if answers {
            bed.engine().clear_rules();
        }
        let bound = Duration::from_secs(if answers { 5 } else { 30 });
        let is_done = |bed: &Bed| bed.github.summary().jobs_completed == 1;
        bed.until_within("its job is done", bound, is_done).await;
    }
}
