//! One row against a complete list: what the list says that the row does not know.

use fleetfoot_core::discrepancy::{Machine, with_backend};
use fleetfoot_core::{
    Discrepancy, Exit, Instance, InstanceName, Observation, Phase, PoolName, Reason, Span,
    Timestamp,
};
use fleetfoot_provisioner::{EnvironmentInfo, EnvironmentState};

/// What one sweep found out about one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) pool: PoolName,
    pub(super) name: InstanceName,
    pub(super) observations: Vec<Observation>,
    /// The list was answered then, and shows nothing of a call that may still land (11.1).
    pub(super) clear_list_at: Option<Timestamp>,
}

impl Finding {
    /// How its environment ended, if it did.
    pub(super) fn exit(&self) -> Option<&Exit> {
        self.observations.iter().find_map(|observation| {
            if let Observation::Ended { exit } = observation { Some(exit) } else { None }
        })
    }
}

/// What a row is held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    /// When the list began.
    pub(super) began: Timestamp,
    /// When it was answered: of one that a backend kept waiting, nobody knows at what moment in between it is true.
    pub(super) ended: Timestamp,
    /// This boot of the host.
    pub(super) boot: Option<&'a str>,
    /// A call that was not answered may land later by as much as this.
    pub(super) bound: Span,
    /// A task of ours is busy with the instance.
    pub(super) in_flight: bool,
}

/// What the list has under the row's name, as far as it says anything of the row.
pub(super) fn machine(row: &Instance, info: Option<&EnvironmentInfo>, view: View<'_>) -> Machine {
    let Some(info) = info else {
        // A list that began before the last call ended does not know what that call made.
        let known = is_newer(row, view);
        return if known && !view.in_flight { Machine::Absent } else { Machine::Unasked };
    };
    match info.state {
        EnvironmentState::Ended(_) => Machine::Ended,
        // What a task is busy with, its own answer tells.
        EnvironmentState::Created | EnvironmentState::Running if view.in_flight => Machine::Unasked,
        EnvironmentState::Created if row.phase == Phase::Starting && !is_newer(row, view) => {
            Machine::Unasked
        }
        EnvironmentState::Created => Machine::Made,
        EnvironmentState::Running => Machine::Runs,
    }
}

/// What the list says of one row, if it says anything new: the remedy of each kind of disagreement.
pub(super) fn finding(
    row: &Instance,
    info: Option<&EnvironmentInfo>,
    view: View<'_>,
) -> Option<Finding> {
    let machine = machine(row, info, view);
    let Some(kind) = with_backend(row, machine) else {
        let unmarked = row.backend_identity.is_none() && info.is_some();
        return (unmarked && machine != Machine::Unasked).then(|| unchanged(row));
    };
    let handle = || info.map(|info| info.handle.0.clone());
    match kind {
        Discrepancy::EndUnseen => {
            let EnvironmentState::Ended(exit) = &info?.state else { return None };
            Some(found(row, ended(row, exit, view)))
        }
        Discrepancy::AnswerUnseen if row.phase == Phase::Creating => {
            handle().map(|handle| found(row, vec![Observation::Created { handle }]))
        }
        Discrepancy::AnswerUnseen | Discrepancy::LateLanding => {
            Some(found(row, vec![Observation::Launched { handle: handle() }]))
        }
        Discrepancy::StartCutOff => {
            // Nothing is there: whether it lands, two lists tell.
            let clear_list_at = info.is_none().then_some(view.ended);
            let retire = info.is_some() || (row.reason.is_none() && row.phase != Phase::Running);
            let observations = retire
                .then_some(Observation::Removal { reason: Reason::Interrupted })
                .into_iter()
                .collect();
            Some(Finding { clear_list_at, ..found(row, observations) })
        }
        Discrepancy::CallUnanswered => clear_list(row, view),
        Discrepancy::MachineVanished => {
            let mut observations = if row.may_live() { rebooted(row, None, view) } else { vec![] };
            observations.push(Observation::EnvironmentGone);
            Some(found(row, observations))
        }
        // The plan has a way for these; the list adds nothing to what the row knows.
        Discrepancy::UsedJitConfig
        | Discrepancy::AnotherBackend
        | Discrepancy::MachineWithoutRow
        | Discrepancy::MachineOfUnservedPool
        | Discrepancy::MachineOfAnotherInstallation
        | Discrepancy::RemainsLeft
        | Discrepancy::RowOfUnservedPool
        | Discrepancy::RowWithoutAnything
        | Discrepancy::CompletedMachineLives
        | Discrepancy::NeverRegistered
        | Discrepancy::RegistrationWithoutMachine
        | Discrepancy::BusyWithoutMachine
        | Discrepancy::MachineWithoutRegistration
        | Discrepancy::RunnerGone
        | Discrepancy::RunnerOffline
        | Discrepancy::JobUnseen
        | Discrepancy::ScaleSetGone
        | Discrepancy::RegistrationOfClosedRow
        | Discrepancy::BusyOfClosedRow
        | Discrepancy::SessionNotInRow => None,
    }
}

/// Nothing new of the row itself; which backend holds it is recorded with every finding.
pub(super) fn unchanged(row: &Instance) -> Finding {
    found(row, vec![])
}

fn found(row: &Instance, observations: Vec<Observation>) -> Finding {
    Finding { pool: row.pool.clone(), name: row.name.clone(), observations, clear_list_at: None }
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
    Some(Finding { clear_list_at: Some(view.ended), ..found(row, observations) })
}

#[cfg(test)]
mod tests;
