//! Leases: a controller that lost its epoch cannot write any more.

use fleetfoot_core::Span;
use fleetfoot_store::UpdateError;

use crate::bed::{Bed, on_every_database, pool_name, with_pools};

async fn a_stale_epoch_cannot_write(bed: &Bed) {
    let first = bed.open().await;
    with_pools(&first, &["p"]).await;
    let held = first.take_lease("all", "first", Span::ZERO).await.unwrap().unwrap();
    assert_eq!(held.epoch, 1);
    first.fence(Some(held));
    let known = |store: fleetfoot_store::Store, known: bool| async move {
        store.update(move |txn| txn.pool_mut(&pool_name("p")).unwrap().demand.known = known).await
    };
    known(first.clone(), true).await.unwrap();

    let second = bed.open().await;
    // The first one's lease was for no time at all: it expires at the database's next millisecond.
    let mut taken = None;
    for _ in 0..10_000 {
        taken = second.take_lease("all", "second", Span::minutes(5)).await.unwrap();
        if taken.is_some() {
            break;
        }
    }
    let taken = taken.unwrap();
    assert_eq!(taken.epoch, 2);
    second.fence(Some(taken));

    let error = known(first.clone(), false).await.unwrap_err();
    assert!(matches!(error, UpdateError::LeaseLost { .. }), "{error}");
    assert!(first.pool(&pool_name("p")).unwrap().pool.demand.known, "nothing was published");
    assert_eq!(first.take_lease("all", "first", Span::minutes(5)).await.unwrap(), None);
    known(second.clone(), false).await.unwrap();
    let again = second.take_lease("all", "second", Span::minutes(5)).await.unwrap().unwrap();
    assert_eq!(again.epoch, 3, "each taking is a new epoch");
    first.close().await;
    second.close().await;
}

on_every_database!(a_stale_epoch_cannot_write);
