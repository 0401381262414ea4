//! One row against a complete list: what the list says that the row does not know.

use fleetfoot_core::removal::CALL_BOUND as BOUND;
use fleetfoot_core::{
    Environment, Instance, InstanceName, Observation, Phase, PoolName, Reason, Timestamp,
};
use fleetfoot_provisioner::{EnvironmentInfo, EnvironmentState};

use crate::pool::PoolContext;

/// What one sweep found out about one instance.
pub(super) struct Finding {
    pub(super) pool: PoolName,
    pub(super) name: InstanceName,
    pub(super) observations: Vec<Observation>,
    pub(super) clear_list_at: Option<Timestamp>,
}

/// What the list says of one row, if it says anything new.
pub(super) fn finding(
    pool: &PoolContext,
    row: &Instance,
    info: Option<&EnvironmentInfo>,
    began: Timestamp,
) -> Option<Finding> {
    let in_flight = pool.is_in_flight(&row.name);
    let observations = match (info.map(|info| (&info.state, &info.handle)), row.environment) {
        (
            Some((EnvironmentState::Ended(exit), _)),
            Environment::Requested | Environment::Present | Environment::Launched,
        ) => {
            vec![Observation::Ended { exit: exit.clone() }]
        }
        // Known, and as it should be; what a task is busy with, its own answer tells.
        (Some(_), _) if in_flight => return None,
        (Some((EnvironmentState::Created, handle)), Environment::Requested)
            if row.phase == Phase::Creating =>
        {
            vec![Observation::Created { handle: handle.0.clone() }]
        }
        // Single step: made, never launched, and whoever would have launched it is gone.
        (Some((EnvironmentState::Created, _)), Environment::Requested)
            if row.phase == Phase::Starting =>
        {
            vec![Observation::Removal { reason: Reason::Interrupted }]
        }
        (Some((EnvironmentState::Running, handle)), Environment::Requested) => {
            vec![Observation::Launched { handle: Some(handle.0.clone()) }]
        }
        // It landed after all.
        (
            Some((EnvironmentState::Created | EnvironmentState::Running, handle)),
            Environment::None | Environment::Gone,
        ) => {
            vec![Observation::Launched { handle: Some(handle.0.clone()) }]
        }
        (Some(_), _) => vec![],
        (None, Environment::Requested | Environment::Present | Environment::Launched) => {
            let newer = row.last_call_at.is_none_or(|ended| ended < began);
            if in_flight || !newer {
                return None;
            }
            if row.unanswered_since.is_some() {
                return clear_list(pool, row, began);
            }
            let never_made = row.environment == Environment::Requested && row.reason.is_none();
            let interrupted =
                never_made.then_some(Observation::Removal { reason: Reason::Interrupted });
            interrupted.into_iter().chain([Observation::EnvironmentGone]).collect()
        }
        (None, Environment::Gone | Environment::None) if row.unanswered_since.is_some() => {
            return if in_flight { None } else { clear_list(pool, row, began) };
        }
        (None, Environment::Ended) if !in_flight => vec![Observation::EnvironmentGone],
        (None, Environment::None | Environment::Ended | Environment::Gone) => return None,
    };
    let unmarked = row.backend_identity.is_none() && info.is_some();
    (!observations.is_empty() || unmarked).then(|| Finding {
        pool: pool.name().clone(),
        name: row.name.clone(),
        observations,
        clear_list_at: None,
    })
}

/// A list without an unanswered create: it counts if it is further from the last than the call's bound.
fn clear_list(pool: &PoolContext, row: &Instance, began: Timestamp) -> Option<Finding> {
    let after = row.last_clear_list_at.or(row.unanswered_since)?;
    let counts = row.clear_lists == 0 || after.age(began) > BOUND;
    (counts && began > after).then(|| Finding {
        pool: pool.name().clone(),
        name: row.name.clone(),
        observations: vec![],
        clear_list_at: Some(began),
    })
}
