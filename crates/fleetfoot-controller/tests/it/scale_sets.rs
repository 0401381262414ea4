//! Scale sets that go with their pools: those that we made, whoever died in the middle of it, and no others.

use std::time::Duration;

use fleetfoot_controller::ScaleSetEnd;
use fleetfoot_github::{LabelKind, ScaleSetSpec};
use fleetfoot_sim::{Endpoint, Fault, FaultAction};

use crate::bed::{Bed, PoolPlan, named, pool};

/// A pool whose scale set may have to go one day.
fn target() -> PoolPlan {
    PoolPlan { scale_set_end: ScaleSetEnd::StaysForNow, ..pool("target", 1) }
}

/// The same, set aside: its set stays this time.
fn suspended() -> PoolPlan {
    PoolPlan { removed: true, ..target() }
}

/// The same at its end.
fn deleted() -> PoolPlan {
    PoolPlan { removed: true, scale_set_end: ScaleSetEnd::Goes, ..target() }
}

fn has_set(bed: &Bed) -> bool {
    bed.github.state().scale_set("acme", "target").is_some()
}

fn has_row(bed: &Bed) -> bool {
    bed.store().pool(&named("target")).is_some()
}

/// The set is made, the answer never comes, and nobody can look whether it is there.
async fn made_unheard() -> Bed {
    let mut bed = Bed::new().await;
    bed.github.inject(Fault::once(Endpoint::CreateScaleSet, FaultAction::LoseAnswer));
    bed.github.inject(Fault::always(Endpoint::GetScaleSet, FaultAction::Cut).skip(1));
    bed.start(&[target()]).await;
    bed.until("it is made", has_set).await;
    bed.until("nobody heard of it", |bed| bed.health("target").listener.as_str() == "backoff")
        .await;
    assert_eq!(bed.state("target").pool.scale_set_id, None);
    bed
}

#[tokio::test(start_paused = true)]
async fn one_whose_making_a_crash_cut_off_goes_with_its_pool() {
    let mut bed = made_unheard().await;
    bed.crash();
    bed.github.clear_faults();
    // Its target was deleted in the meantime: no session is ever opened.
    bed.start(&[deleted()]).await;
    bed.until("the set is gone", |bed| !has_set(bed)).await;
    bed.until("and the row", |bed| !has_row(bed)).await;
}

#[tokio::test(start_paused = true)]
async fn one_whose_answer_was_lost_is_found_again_and_goes_later() {
    let mut bed = made_unheard().await;
    bed.github.clear_faults();
    bed.until("it is served", |bed| bed.health("target").listener.as_str() == "connected").await;
    bed.queue("target", 1, 20);
    bed.until_done(1).await;
    // Set aside, over a restart, and deleted only then.
    bed.apply(&[suspended()]).await;
    bed.until("it is closed", |bed| bed.health("target").listener.as_str() == "closed").await;
    bed.stop().await;
    bed.start(&[suspended()]).await;
    bed.throughout("it stays", Duration::from_millis(300), |bed| has_set(bed) && has_row(bed))
        .await;
    bed.apply(&[deleted()]).await;
    bed.until("the set is gone", |bed| !has_set(bed)).await;
    bed.until("and the row", |bed| !has_row(bed)).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_was_there_before_stays() {
    let mut bed = Bed::new().await;
    let spec = ScaleSetSpec {
        name: "target".to_owned(),
        group_id: 1,
        labels: vec!["target".to_owned()],
        label_kind: LabelKind::User,
    };
    bed.by_hand().create_scale_set(&spec).await.unwrap();
    bed.start_ready(&[target()]).await;
    bed.apply(&[deleted()]).await;
    bed.until("the row is gone", |bed| !has_row(bed)).await;
    assert!(has_set(&bed));
}

#[tokio::test(start_paused = true)]
async fn one_that_github_refused_is_nobodys() {
    let mut bed = Bed::new().await;
    bed.github.inject(Fault::always(Endpoint::CreateScaleSet, FaultAction::status(403)));
    bed.start(&[target()]).await;
    bed.until("it is refused", |bed| bed.health("target").listener.as_str() == "backoff").await;
    assert!(!bed.state("target").pool.scale_set_is_ours);
}
