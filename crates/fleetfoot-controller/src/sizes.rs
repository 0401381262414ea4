//! What the tasks of an idle pool hold: there may be thousands of them.

use std::sync::Arc;

use crate::pool::{Flight, PoolContext};
use crate::{listener, reconciler, registrations, removal, start, verify};

fn of_pool<F: Future>(_: impl FnOnce(Arc<PoolContext>) -> F) -> usize {
    size_of::<F>()
}

fn of_flight<F: Future>(_: impl FnOnce(Flight) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn tasks_of_an_idle_pool_are_small() {
    let (listener, reconciler) = (of_pool(listener::run), of_pool(reconciler::run));
    assert!(listener <= 4096, "listener: {listener} bytes");
    assert!(reconciler <= 4096, "reconciler: {reconciler} bytes");
    let registrations = of_pool(registrations::run);
    assert!(registrations <= 1024, "registrations: {registrations} bytes");
    let calls = [
        ("make", of_flight(start::make)),
        ("launch", of_flight(start::launch)),
        ("verify", of_flight(verify::verify)),
        ("remove", of_flight(|flight| removal::remove(flight, true, true))),
    ];
    for (name, size) in calls {
        assert!(size <= 16 * 1024, "{name}: {size} bytes");
    }
}
