//! Pools that come, go, move and change while the controller runs (design 9, 11.8): nothing that runs is touched.

use std::collections::BTreeSet;
use std::time::Duration;

use fleetfoot_controller::SessionSettings;
use fleetfoot_core::{Outcome, Phase, Span};
use fleetfoot_sim::{Endpoint, Fault, FaultAction};

use crate::bed::{Bed, PoolPlan, named, pool};

fn runs(bed: &Bed, name: &str, count: usize) -> bool {
    bed.in_phase(name, Phase::Running).len() == count
}

fn sessions_of(bed: &Bed, name: &str) -> usize {
    let state = bed.github.state();
    let Some(set) = state.scale_set("acme", name) else { return 0 };
    state.sessions.iter().filter(|session| session.scale_set_id == set.id).count()
}

fn is_served(bed: &Bed, name: &str) -> bool {
    bed.is_served(name)
}

/// Every job succeeded, none was started twice, nothing is left.
async fn all_is_well(bed: &Bed, jobs: u64) {
    let state = bed.until_done(jobs).await;
    assert_eq!((state.summary.jobs_succeeded, state.summary.jobs_lost), (jobs, 0));
    bed.until_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_raised_or_lowered_holds_at_once_and_keeps_the_session() {
    let mut bed = Bed::new().await;
    // A poll that returns by itself only long after.
    bed.github.change(|settings| settings.long_poll_ms = 50_000);
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.queue("linux", 6, 5000);
    bed.until("one runs", |bed| runs(bed, "linux", 1)).await;
    let first = bed.in_phase("linux", Phase::Running)[0].name.clone();
    bed.apply(&[pool("linux", 4)]).await;
    let told = |bed: &Bed| bed.github.state().scale_set("acme", "linux").and_then(|it| it.capacity);
    bed.until("the new limit is told", |bed| told(bed) == Some(4)).await;
    bed.until("four run", |bed| runs(bed, "linux", 4)).await;
    bed.apply(&[pool("linux", 2)]).await;
    bed.throughout("what runs stays", Duration::from_millis(300), |bed| {
        bed.in_phase("linux", Phase::Running).len() == 4
    })
    .await;
    bed.until("they end by themselves", |bed| bed.state("linux").occupying() <= 2).await;
    bed.throughout("and two at most from then on", Duration::from_millis(500), |bed| {
        bed.state("linux").occupying() <= 2
    })
    .await;
    all_is_well(&bed, 6).await;
    assert_eq!(sessions_of(&bed, "linux"), 1);
    let closed = bed.closed("linux").await;
    assert!(closed.iter().any(|row| row.name == first));
    assert!(closed.iter().all(|row| matches!(row.outcome, Some(Outcome::Completed { .. }))));
}

#[tokio::test(start_paused = true)]
async fn a_pool_comes_and_another_goes_while_jobs_run() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 2), pool("old", 2)]).await;
    bed.queue("linux", 4, 600);
    bed.queue("old", 2, 1500);
    bed.until("old runs", |bed| runs(bed, "old", 2)).await;
    bed.apply(&[pool("linux", 2), pool("new", 3)]).await;
    bed.queue("new", 3, 100);
    bed.until("old takes no more jobs", |bed| {
        let state = bed.github.state();
        state.scale_set("acme", "old").is_some_and(|set| set.session_id.is_none())
    })
    .await;
    assert!(runs(&bed, "old", 2), "what runs goes on");
    bed.until("old is gone", |bed| bed.store().pool(&named("old")).is_none()).await;
    bed.until("and not served", |bed| !is_served(bed, "old")).await;
    all_is_well(&bed, 9).await;
    assert_eq!(sessions_of(&bed, "linux"), 1, "the others do not notice");
    // The same name again is a pool like any other.
    bed.apply(&[pool("linux", 2), pool("new", 3), pool("old", 1)]).await;
    bed.queue("old", 1, 50);
    all_is_well(&bed, 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_pool_that_is_put_back_goes_on_with_what_it_has() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 2)]).await;
    bed.queue("linux", 2, 1500);
    bed.until("two run", |bed| runs(bed, "linux", 2)).await;
    bed.apply(&[]).await;
    bed.until("it is let go", |bed| {
        bed.github.state().scale_set("acme", "linux").is_some_and(|set| set.session_id.is_none())
    })
    .await;
    bed.apply(&[pool("linux", 3)]).await;
    bed.queue("linux", 1, 50);
    all_is_well(&bed, 3).await;
    assert!(is_served(&bed, "linux"));
}

/// Settings of a pool that is being removed may come when it is gone already.
#[tokio::test(start_paused = true)]
async fn a_removed_pool_that_is_gone_is_not_begun_and_comes_back_whole() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    let mut removed = pool("gone", 0);
    removed.removed = true;
    bed.apply(&[pool("linux", 1), removed]).await;
    assert!(!is_served(&bed, "gone"));
    bed.throughout("no scale set is made for it", Duration::from_millis(500), |bed| {
        bed.github.state().scale_set("acme", "gone").is_none()
    })
    .await;
    bed.apply(&[pool("linux", 1), pool("gone", 1)]).await;
    bed.until("it is there", |bed| bed.github.state().scale_set("acme", "gone").is_some()).await;
    bed.queue("gone", 1, 50);
    all_is_well(&bed, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_renamed_pool_is_one_that_goes_and_one_that_comes() {
    let mut bed = Bed::new().await;
    bed.host_budget(3);
    bed.start_ready(&[pool("before", 3)]).await;
    bed.queue("before", 3, 1200);
    bed.until("three run", |bed| runs(bed, "before", 3)).await;
    bed.apply(&[pool("after", 3)]).await;
    bed.queue("after", 3, 50);
    bed.throughout("the host's room is held by what runs", Duration::from_millis(300), |bed| {
        bed.ours().len() <= 3
    })
    .await;
    all_is_well(&bed, 6).await;
    bed.until("it is gone", |bed| !is_served(bed, "before")).await;
}

#[tokio::test(start_paused = true)]
async fn other_labels_another_token_and_another_image_touch_nothing_that_runs() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 4)]).await;
    bed.queue("linux", 2, 2500);
    bed.until("two run", |bed| runs(bed, "linux", 2)).await;
    let running: BTreeSet<_> =
        bed.in_phase("linux", Phase::Running).into_iter().map(|row| row.name).collect();
    let image = PoolPlan { edition: 1, ..pool("linux", 4) };
    bed.apply(std::slice::from_ref(&image)).await;
    assert_eq!(sessions_of(&bed, "linux"), 1, "another image needs no other session");
    let labels = PoolPlan { labels: vec!["linux", "gpu"], ..image };
    bed.apply(std::slice::from_ref(&labels)).await;
    bed.until("the labels are told", |bed| {
        bed.github.state().scale_set("acme", "linux").is_some_and(|set| set.labels.len() == 2)
    })
    .await;
    bed.until("a session is open", |bed| sessions_of(bed, "linux") == 2).await;
    let session = SessionSettings { owner: Some("its own".to_owned()), key: "2".to_owned() };
    let wished = PoolPlan { session, ..labels };
    bed.apply(std::slice::from_ref(&wished)).await;
    bed.until("another session because it is wished for", |bed| sessions_of(bed, "linux") == 3)
        .await;
    let sessions = bed.github.state().sessions;
    let owners: Vec<&str> = sessions.iter().map(|session| session.owner.as_str()).collect();
    assert_eq!(owners, ["bed", "bed", "its own"]);
    bed.apply(&[PoolPlan { token: 1, ..wished }]).await;
    bed.until("the other token opens its own", |bed| sessions_of(bed, "linux") == 4).await;
    bed.queue("linux", 2, 50);
    bed.throughout("what runs goes on", Duration::from_millis(300), |bed| {
        running.is_subset(&bed.ours())
    })
    .await;
    all_is_well(&bed, 4).await;
    assert_eq!(bed.github.state().jit_calls.len(), 4, "none was begun twice");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_moves_is_drained_where_it_is_and_then_begins_anew() {
    let mut bed = Bed::with(|_| {}, 2).await;
    bed.start_ready(&[pool("linux", 2), pool("other", 1)]).await;
    bed.queue("linux", 2, 1200);
    bed.until("two run", |bed| runs(bed, "linux", 2)).await;
    bed.apply(&[pool("linux", 2).on_engine(1), pool("other", 1)]).await;
    bed.queue("linux", 2, 50);
    bed.throughout("first the old ones end", Duration::from_millis(300), |bed| {
        bed.engine_of(1).environments().is_empty() && bed.ours().len() == 2
    })
    .await;
    all_is_well(&bed, 4).await;
    assert_eq!(bed.engine().peak(&named("linux")), 2);
    assert!(bed.engine_of(1).peak(&named("linux")) > 0, "the later ones ran at the other place");
    bed.queue("other", 1, 50);
    all_is_well(&bed, 5).await;
}

#[tokio::test(start_paused = true)]
async fn another_url_is_another_pool_of_the_same_name() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 2)]).await;
    bed.queue("linux", 2, 1000);
    bed.until("two run", |bed| runs(bed, "linux", 2)).await;
    bed.apply(&[PoolPlan { scope: "acme/anvil", ..pool("linux", 2) }]).await;
    bed.until_done(2).await;
    let polled = |bed: &Bed| {
        let state = bed.github.state();
        state.scale_set("acme/anvil", "linux").is_some_and(|set| set.session_id.is_some())
    };
    bed.until("it listens at the other one", polled).await;
    assert_eq!(bed.github.summary().jobs_lost, 0);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_stopped_leaves_everything_and_one_that_is_started_adopts_it() {
    let mut bed = Bed::with(|settings| settings.session_lapse_ms = 600_000, 1).await;
    bed.start_ready(&[pool("linux", 4), pool("other", 1)]).await;
    bed.queue("linux", 3, 2500);
    bed.until("three run", |bed| runs(bed, "linux", 3)).await;
    let before = bed.ours();
    assert!(bed.stop_pool("linux").await, "all its tasks ended");
    assert!(!bed.stop_pool("linux").await, "it is not served any more");
    assert!(!is_served(&bed, "linux"));
    let session = bed.github.state().scale_set("acme", "linux").unwrap().session_id.clone();
    assert_eq!(session, None, "whoever goes on may open one at once");
    bed.throughout("what it has is left alone", Duration::from_secs(1), |bed| {
        bed.ours() == before && bed.instances("linux").len() == 3
    })
    .await;
    // It ends unseen; that is found out at the next start.
    bed.until("one is over", |bed| bed.github.summary().jobs_completed > 0).await;
    bed.start_pool(&pool("linux", 4)).await;
    bed.queue("linux", 1, 50);
    bed.queue("other", 1, 50);
    all_is_well(&bed, 5).await;
    assert_eq!(bed.closed("linux").await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_pool_stopped_in_the_middle_of_its_starts_gives_back_what_is_not_launched() {
    let mut bed = Bed::new().await;
    let slow = FaultAction::Delay { ms: 300 };
    bed.github.inject(Fault::always(Endpoint::GenerateJitConfig, slow));
    bed.start_ready(&[pool("linux", 5)]).await;
    bed.queue("linux", 5, 50);
    bed.until("they are being registered", |bed| bed.instances("linux").len() == 5).await;
    assert!(bed.stop_pool("linux").await);
    bed.github.clear_faults();
    bed.start_pool(&pool("linux", 5)).await;
    all_is_well(&bed, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_removed_at_once_though_github_refuses_it() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 1)]).await;
    bed.github.inject(Fault::always(Endpoint::CreateScaleSet, FaultAction::Cut));
    bed.apply(&[pool("linux", 1), pool("refused", 1)]).await;
    bed.until("it waits", |bed| bed.health("refused").listener.as_str() == "backoff").await;
    bed.apply(&[pool("linux", 1)]).await;
    bed.until("it is gone", |bed| !is_served(bed, "refused")).await;
    assert!(bed.store().pool(&named("refused")).is_none());
    bed.queue("linux", 1, 50);
    all_is_well(&bed, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_limit_holds_as_soon_as_it_is_applied() {
    let mut bed = Bed::new().await;
    bed.start_ready(&[pool("linux", 6)]).await;
    bed.host_budget(1);
    bed.apply(&[pool("linux", 6)]).await;
    bed.queue("linux", 3, 400);
    bed.until("one runs", |bed| runs(bed, "linux", 1)).await;
    bed.throughout("and no other", Duration::from_millis(200), |bed| bed.ours().len() <= 1).await;
    bed.host_budget(3);
    bed.apply(&[pool("linux", 6)]).await;
    all_is_well(&bed, 3).await;
}

#[tokio::test(start_paused = true)]
async fn many_changes_in_a_row_lose_nothing() {
    let mut bed = Bed::with(|_| {}, 2).await;
    bed.start_ready(&[pool("a", 2), pool("b", 2).on_engine(1)]).await;
    let mut jobs = 0;
    for round in 0..12_u32 {
        bed.queue("a", 2, u64::from(20 + round * 10));
        bed.queue("b", 2, u64::from(200 - round * 10));
        jobs += 4;
        let other = usize::from(round % 3 == 0);
        let a = pool("a", 1 + round % 3).on_engine(other).with(|spec| spec.min_idle = round % 2);
        let b = PoolPlan { edition: usize::from(round % 2 == 0), ..pool("b", 2).on_engine(1) };
        let removed = round % 4 == 3;
        bed.apply(&if removed { vec![a] } else { vec![a, b] }).await;
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 17)).await;
    }
    let last = pool("a", 3).with(|spec| (spec.min_idle, spec.idle_timeout) = (0, Span(200)));
    bed.apply(&[last, pool("b", 3).on_engine(1)]).await;
    all_is_well(&bed, jobs).await;
}
