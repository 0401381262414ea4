//! The past: told, found again, kept within bounds.

use fleetfoot_core::{FailureKind, Observation, Outcome, Reason, ScaleSetId, Span, Timestamp};
use fleetfoot_store::{
    ClosedFilter, Event, EventFilter, EventRow, Membership, Options, Retention, Store,
};

use crate::bed::{Bed, instance_name, job_id, on_every_database, pending, pool_name, with_pools};

/// Opens and closes one instance, all at `at`.
async fn one_short_life(store: &Store, number: u32, at: i64) {
    one_short_life_in(store, "p", number, at).await;
}

async fn one_short_life_in(store: &Store, pool: &'static str, number: u32, at: i64) {
    let name = instance_name(&format!("{pool}-{number:08x}"));
    let mut instance = pending(name.as_str(), pool);
    instance.created_at = Timestamp(at);
    store.update(move |txn| txn.insert_instance(instance).unwrap()).await.unwrap();
    let detail = || "no image".to_owned();
    let outcome = Outcome::Failed { kind: FailureKind::Create, detail: detail() };
    let failed = Observation::Failed { kind: FailureKind::Create, detail: detail() };
    // One transaction each: together they would be one event.
    for observation in [failed, Observation::Closed { outcome }] {
        let name = name.clone();
        let observed =
            store.update(move |txn| txn.observe(&name, &observation, Timestamp(at)).map(drop));
        observed.await.unwrap().unwrap();
    }
}

async fn events_tell_what_happened(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p", "q"]).await;
    one_short_life(&store, 1, 5_000).await;
    store
        .update(|txn| {
            let event = Event::new(Timestamp(6_000), "pool drained").pool(&pool_name("q"));
            txn.event(event.job(&job_id("j")).field("by", "operator"));
        })
        .await
        .unwrap();
    let all = store.events(EventFilter::default()).await.unwrap();
    let phrases: Vec<&str> = all.iter().map(|row| row.event.phrase.as_str()).collect();
    assert_eq!(phrases, ["instance committed", "failed", "closed", "pool drained"]);
    assert!(all.is_sorted_by_key(|row| row.id));
    assert_eq!(all[1].event.fields["detail"], "no image");
    assert_eq!(all[1].event.fields["from"], "pending");
    assert_eq!(all[1].event.at, Timestamp(5_000));
    let of_pool = EventFilter { pool: Some(pool_name("q")), ..EventFilter::default() };
    assert_eq!(store.events(of_pool).await.unwrap(), all[3..]);
    let of_job = EventFilter { job: Some(job_id("j")), ..EventFilter::default() };
    assert_eq!(store.events(of_job).await.unwrap(), all[3..]);
    let instance = Some(instance_name("p-00000001"));
    let newest = EventFilter { instance, limit: 2, ..EventFilter::default() };
    assert_eq!(store.events(newest).await.unwrap(), all[1..3], "the newest two, oldest first");
    store.close().await;
}

/// Each event has four indexes: what one transaction does to an instance at once is one.
async fn steps_of_one_transaction_are_one_event(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let scale_set = ScaleSetId(1);
    store
        .update(move |txn| {
            for number in 1..=2 {
                let name = instance_name(&format!("p-{number:08x}"));
                let mut instance = pending(name.as_str(), "p");
                instance.created_at = Timestamp(5_000);
                txn.insert_instance(instance).unwrap();
                txn.observe(&name, &Observation::StartBegun { scale_set }, Timestamp(5_000))
                    .unwrap();
                let reason = Reason::Interrupted;
                txn.observe(&name, &Observation::Removal { reason }, Timestamp(5_001)).unwrap();
            }
        })
        .await
        .unwrap();
    let all = store.events(EventFilter::default()).await.unwrap();
    let told = |row: &EventRow| {
        let Event { phrase, fields, instance, .. } = &row.event;
        let field = |name: &str| fields.get(name).map_or("-", String::as_str).to_owned();
        let instance = instance.as_ref().map_or("-", |it| it.as_str());
        format!("{instance} {phrase}: {} to {}", field("from"), field("to"))
    };
    let told: Vec<String> = all.iter().map(told).collect();
    let expected = [
        "p-00000001 instance committed, start begun: pending to starting",
        "p-00000001 removal: starting to stopping",
        "p-00000002 instance committed, start begun: pending to starting",
        "p-00000002 removal: starting to stopping",
    ];
    assert_eq!(told, expected);
    store.close().await;
}

async fn periodic_observations_leave_no_trace(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    let name = instance_name("p-00000001");
    store
        .update(|txn| {
            let mut instance = pending("p-00000001", "p");
            instance.phase = fleetfoot_core::Phase::Idle;
            txn.insert_instance(instance).unwrap();
        })
        .await
        .unwrap();
    for at in 0..20 {
        let name = name.clone();
        store
            .update(move |txn| {
                txn.observe(&name, &Observation::StillRegistered, Timestamp(at)).unwrap();
                txn.observe(&name, &Observation::Online, Timestamp(at)).unwrap();
            })
            .await
            .unwrap();
    }
    assert_eq!(store.events(EventFilter::default()).await.unwrap().len(), 1);
    store.close().await;
}

async fn late_words_fill_in_the_history(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p"]).await;
    one_short_life(&store, 1, 5_000).await;
    let name = instance_name("p-00000001");
    for (result, at) in [(None, 7_000), (Some("succeeded"), 8_000)] {
        let name = name.clone();
        store
            .update(move |txn| {
                assert!(txn.is_closed(&name));
                txn.amend_closed(&name, Some(&job_id("j")), result, Timestamp(at));
            })
            .await
            .unwrap();
    }
    let closed = store.closed_instance(&name).await.unwrap().unwrap();
    assert_eq!(closed.job, Some(job_id("j")));
    assert_eq!(closed.job_result.as_deref(), Some("succeeded"));
    assert_eq!(closed.job_completed_at, Some(Timestamp(7_000)), "the first word counts");
    let filter = ClosedFilter { job: Some(job_id("j")), ..ClosedFilter::default() };
    assert_eq!(store.closed_instances(filter).await.unwrap(), [closed]);
    store.close().await;
}

async fn closed_ones_come_latest_first(bed: &Bed) {
    let store = bed.open().await;
    with_pools(&store, &["p", "q"]).await;
    for number in 1..=5 {
        one_short_life(&store, number, i64::from(number) * 1_000).await;
    }
    let filter = ClosedFilter { pool: Some(pool_name("p")), limit: 2, ..ClosedFilter::default() };
    let names: Vec<String> = store
        .closed_instances(filter)
        .await
        .unwrap()
        .iter()
        .map(|one| one.name.to_string())
        .collect();
    assert_eq!(names, ["p-00000005", "p-00000004"]);
    let none = ClosedFilter { pool: Some(pool_name("q")), ..ClosedFilter::default() };
    assert!(store.closed_instances(none).await.unwrap().is_empty());
    assert_eq!(store.closed_instance(&instance_name("p-0000000f")).await.unwrap(), None);
    store.close().await;
}

/// Writes until the pruning after commits had its chance.
async fn write_some(store: &Store, from: u32, lives: u32, at: i64) {
    for number in from..from + lives {
        one_short_life(store, number, at).await;
    }
}

async fn the_past_is_bounded_by_count(bed: &Bed) {
    let retention =
        Retention { events_max: 50, closed_max: 20, step: 1_000, ..Retention::default() };
    let store =
        bed.open_with(Options { retention, now: Some(Timestamp(0)), ..Options::default() }).await;
    with_pools(&store, &["p"]).await;
    write_some(&store, 0, 130, 5_000).await;
    let closed = ClosedFilter { limit: 1_000, ..ClosedFilter::default() };
    let kept = store.closed_instances(closed).await.unwrap().len();
    // Between two prunes at most 256 rows are written: 64 lives of four rows.
    assert!((20..=84).contains(&kept), "{kept} closed instances kept");
    let events =
        store.events(EventFilter { limit: 10_000, ..EventFilter::default() }).await.unwrap();
    assert!((50..=306).contains(&events.len()), "{} events kept", events.len());
    let newest = events.last().unwrap().event.instance.clone();
    assert_eq!(newest, Some(instance_name(&format!("p-{:08x}", 129))));
    store.close().await;
}

/// The clock steps back by a day: what ended before that is older than what ends since, whatever the times say.
async fn what_ended_before_the_clock_stepped_back_is_pruned_first(bed: &Bed) {
    const DAY: i64 = 24 * 3_600_000;
    let retention =
        Retention { events_max: 50, closed_max: 20, step: 1_000, ..Retention::default() };
    let now = Some(Timestamp(DAY));
    let store = bed.open_with(Options { retention, now, ..Options::default() }).await;
    with_pools(&store, &["p"]).await;
    let finishes = async |number: u32, at: i64| {
        one_short_life(&store, number, at).await;
        let id = format!("job {number}");
        let ended = store.update(move |txn| {
            let mut job = crate::bed::job(&id);
            job.seen_at = Timestamp(at);
            txn.put_job(&pool_name("p"), job);
            txn.remove_job(&pool_name("p"), &job_id(&id), None, Timestamp(at));
        });
        ended.await.unwrap();
    };
    for number in 0..130 {
        finishes(number, DAY + i64::from(number)).await;
    }
    for number in 200..400 {
        finishes(number, i64::from(number)).await;
    }
    let closed = ClosedFilter { limit: 1_000, ..ClosedFilter::default() };
    let closed = store.closed_instances(closed).await.unwrap();
    assert!(closed.len() >= 20, "{} closed instances kept", closed.len());
    for row in &closed {
        assert!(row.phase_since < Timestamp(DAY), "{} closed before the step", row.name);
    }
    let newest = instance_name(&format!("p-{:08x}", 399));
    assert!(closed.iter().any(|row| row.name == newest), "the newest one is kept");
    let filter = fleetfoot_store::FinishedJobFilter { limit: 1_000, ..Default::default() };
    let finished = store.finished_jobs(filter).await.unwrap();
    assert!(finished.len() >= 20, "{} finished jobs kept", finished.len());
    assert!(finished.iter().all(|job| job.finished_at < Timestamp(DAY)), "they ended since");
    store.close().await;
}

/// Each of them prunes what the other one closed, too, and neither hears of it.
async fn the_past_of_two_controllers_is_bounded_and_kept(bed: &Bed) {
    let retention =
        Retention { events_max: 50, closed_max: 100, step: 1_000, ..Retention::default() };
    let open = async |name: &str| {
        let member = Membership { valid: Span::minutes(5), ..Membership::new(name, name, name) };
        let now = Some(Timestamp(0));
        bed.open_with(Options { retention, now, member: Some(member), ..Options::default() }).await
    };
    let stores = [(open("a").await, "p"), (open("b").await, "q")];
    for (store, pool) in &stores {
        store.take(&pool_name(pool), false).await.unwrap();
        with_pools(store, &[pool]).await;
    }
    for number in 0..500 {
        for (store, pool) in &stores {
            one_short_life_in(store, pool, number, 5_000 + i64::from(number)).await;
        }
    }
    let closed = ClosedFilter { limit: 10_000, ..ClosedFilter::default() };
    let closed = stores[0].0.closed_instances(closed).await.unwrap();
    let of = |pool: &str| closed.iter().filter(|row| row.pool == pool_name(pool)).count();
    let kept = closed.len();
    // Each counts after 256 rows, which are 64 lives of four.
    assert!((100..=300).contains(&kept), "{kept} closed instances kept");
    assert!(of("p") >= 50 && of("q") >= 50, "{} of one, {} of the other", of("p"), of("q"));
    for (store, _) in stores {
        store.close().await;
    }
}

async fn the_past_is_bounded_by_age(bed: &Bed) {
    let retention = Retention {
        events_age: Span::minutes(1),
        closed_age: Span::minutes(1),
        step: 40,
        ..Retention::default()
    };
    let store =
        bed.open_with(Options { retention, now: Some(Timestamp(0)), ..Options::default() }).await;
    with_pools(&store, &["p"]).await;
    write_some(&store, 0, 60, 1_000).await;
    store
        .update(|txn| {
            let mut job = crate::bed::job("old");
            job.seen_at = Timestamp(1_000);
            txn.put_job(&pool_name("p"), job);
            txn.remove_job(&pool_name("p"), &job_id("old"), None, Timestamp(1_000));
        })
        .await
        .unwrap();
    // Later, in small steps of 40 rows each.
    write_some(&store, 100, 90, 10_000_000).await;
    let events =
        store.events(EventFilter { limit: 10_000, ..EventFilter::default() }).await.unwrap();
    assert!(events.iter().all(|row| row.event.at == Timestamp(10_000_000)), "old events are gone");
    let closed = ClosedFilter { limit: 1_000, ..ClosedFilter::default() };
    let closed = store.closed_instances(closed).await.unwrap();
    assert_eq!(closed.len(), 90);
    let finished = fleetfoot_store::FinishedJobFilter::default();
    assert!(store.finished_jobs(finished).await.unwrap().is_empty());
    store.close().await;
}

on_every_database!(
    events_tell_what_happened,
    steps_of_one_transaction_are_one_event,
    periodic_observations_leave_no_trace,
    late_words_fill_in_the_history,
    closed_ones_come_latest_first,
    the_past_is_bounded_by_count,
    what_ended_before_the_clock_stepped_back_is_pruned_first,
    the_past_of_two_controllers_is_bounded_and_kept,
    the_past_is_bounded_by_age,
);
