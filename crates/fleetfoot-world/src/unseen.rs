//! What an engine holds and no list can show: no check may ask the controller for it.

use std::collections::BTreeSet;

use fleetfoot_core::{Instance, InstanceName};
use fleetfoot_provisioner::simulated::SimulatedEngine;

use crate::books::Inner;
use crate::outside::ANOTHER_ENGINE;

/// What a lost store alone knew of, and an engine holds that does not answer at its address: no limit can know of it
/// before a list shows it again.
pub(crate) fn unheard(inner: &mut Inner, engine: &SimulatedEngine) {
    let epoch = inner.epoch;
    for (name, book) in &mut inner.names {
        book.unknown |= book.epoch < epoch && engine.is_elsewhere(name);
    }
}

/// What another engine made and showed to nobody before it was gone: nobody can know of it.
pub(crate) fn unseen(inner: &mut Inner, engine: &SimulatedEngine) {
    let rows = inner.present.values().flat_map(|state| state.instances.values());
    let uncertain = [ANOTHER_ENGINE, Instance::HOLDER_UNCERTAIN];
    let known = rows
        .filter(|row| row.backend_identity.as_deref().is_some_and(|own| uncertain.contains(&own)));
    let known: BTreeSet<InstanceName> = known.map(|row| row.name.clone()).collect();
    for (name, book) in &mut inner.names {
        book.unknown |= engine.is_elsewhere(name) && !known.contains(name);
    }
}
