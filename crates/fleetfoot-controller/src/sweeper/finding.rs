//! One row against a complete list: what the list says that the row does not know.

use fleetfoot_core::{
    Environment, Exit, Instance, InstanceName, Observation, Phase, PoolName, Reason, Span,
    Timestamp,
};
use fleetfoot_provisioner::{EnvironmentInfo, EnvironmentState};

/// What one sweep found out about one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) pool: PoolName,
    pub(super) name: InstanceName,
    pub(super) observations: Vec<Observation>,
    /// The list began then, and shows nothing of a call that may still land (11.1).
    pub(super) clear_list_at: Option<Timestamp>,
}

/// What a row is held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// When the list began.
    pub(super) began: Timestamp,
    /// This boot of the host.
    pub(super) boot: Option<&'a str>,
    /// A call that was not answered may land later by as much as this.
    pub(super) bound: Span,
    /// A task of ours is busy with the instance.
    pub(super) in_flight: bool,
}

/// What the list says of one row, if it says anything new.
pub(super) fn finding(
    row: &Instance,
    info: Option<&EnvironmentInfo>,
    view: View<'_>,
) -> Option<Finding> {
    let observations = match info {
        Some(info) => listed(row, info, view)?,
        None => return absent(row, view),
    };
    let unmarked = row.backend_identity.is_none();
    (!observations.is_empty() || unmarked).then(|| found(row, observations))
}

fn found(row: &Instance, observations: Vec<Observation>) -> Finding {
    Finding { pool: row.pool.clone(), name: row.name.clone(), observations, clear_list_at: None }
}

fn listed(row: &Instance, info: &EnvironmentInfo, view: View<'_>) -> Option<Vec<Observation>> {
    let interrupted = || vec![Observation::Removal { reason: Reason::Interrupted }];
    let launched = || vec![Observation::Launched { handle: Some(info.handle.0.clone()) }];
    if let EnvironmentState::Ended(exit) = &info.state {
        let news = row.may_live();
        return Some(if news { ended(row, exit, view) } else { vec![] });
    }
    // What a task is busy with, its own answer tells.
    if view.in_flight {
        return None;
    }
    let running = info.state == EnvironmentState::Running;
    Some(match (running, row.environment) {
        (false, Environment::Requested) if row.phase == Phase::Creating => {
            vec![Observation::Created { handle: info.handle.0.clone() }]
        }
        // Made, never launched, and whoever would have launched it is gone.
        (false, Environment::Requested | Environment::Launched)
            if row.phase == Phase::Starting && is_newer(row, view) =>
        {
            interrupted()
        }
        (true, Environment::Requested) => launched(),
        // The call that was not answered did land.
        (true, Environment::Launched) if row.unanswered_since.is_some() => launched(),
        // It landed after all.
        (true | false, Environment::None | Environment::Gone) => launched(),
        (
            true | false,
            Environment::Requested
            | Environment::Present
            | Environment::Launched
            | Environment::Ended,
        ) => vec![],
    })
}

fn absent(row: &Instance, view: View<'_>) -> Option<Finding> {
    if view.in_flight {
        return None;
    }
    match row.environment {
        Environment::Requested | Environment::Present | Environment::Launched => {
            if !is_newer(row, view) {
                return None;
            }
            if row.unanswered_since.is_some() {
                return clear_list(row, view);
            }
            // Its call was cut off with the controller that made it: nobody knows whether it lands.
            if row.environment == Environment::Requested && row.failure.is_none() {
                let reason = Reason::Interrupted;
                let retire = row.reason.is_none() && row.phase != Phase::Running;
                let observations =
                    if retire { vec![Observation::Removal { reason }] } else { vec![] };
                return Some(Finding {
                    clear_list_at: Some(view.began),
                    ..found(row, observations)
                });
            }
            let mut observations = rebooted(row, None, view);
            observations.push(Observation::EnvironmentGone);
            Some(found(row, observations))
        }
        Environment::None | Environment::Gone if row.unanswered_since.is_some() => {
            clear_list(row, view)
        }
        Environment::Ended => Some(found(row, vec![Observation::EnvironmentGone])),
        Environment::None | Environment::Gone => None,
    }
}

/// The list began after the last call for this name ended.
fn is_newer(row: &Instance, view: View<'_>) -> bool {
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::BelieveOldList.is_planted() {
        return true;
    }
    row.last_call_at.is_none_or(|ended| ended < view.began)
}

fn ended(row: &Instance, exit: &Exit, view: View<'_>) -> Vec<Observation> {
    let mut observations = rebooted(row, exit.code, view);
    observations.push(Observation::Ended { exit: exit.clone() });
    observations
}

/// It was made in another boot of the host and did not end well before that (11.13).
fn rebooted(row: &Instance, code: Option<i32>, view: View<'_>) -> Vec<Observation> {
    let of_before =
        row.boot_id.as_deref().is_some_and(|boot| view.boot.is_some_and(|now| now != boot));
    let taken =
        of_before && code != Some(0) && row.job_completed_at.is_none() && row.reason.is_none();
    if taken { vec![Observation::Removal { reason: Reason::HostRebooted }] } else { vec![] }
}

/// A list without an unanswered call: it counts if it is further from the last than the call's bound.
fn clear_list(row: &Instance, view: View<'_>) -> Option<Finding> {
    let after = row.last_clear_list_at.or(row.unanswered_since)?;
    let counts = row.clear_lists == 0 || after.age(view.began) > view.bound;
    if !counts || view.began <= after {
        return None;
    }
    let proven = row.clear_lists > 0 && row.may_live();
    let observations = if proven { vec![Observation::EnvironmentGone] } else { vec![] };
    Some(Finding { clear_list_at: Some(view.began), ..found(row, observations) })
}

#[cfg(test)]
mod tests;
