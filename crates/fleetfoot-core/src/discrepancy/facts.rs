//! What the three sides say of one name, and what of it does not fit together.

use super::Discrepancy;
use crate::instance::{Environment, Instance, Registration};
use crate::names::ScaleSetId;
use crate::phase::Phase;
use crate::pool::PoolSpec;
use crate::removal::{may_still_land, registration_open, removal_steps};
use crate::time::{Span, Timestamp};

/// What the store has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row<'a> {
    /// Nothing, ever.
    None,
    /// A closed row.
    Closed,
    /// A row.
    Live(&'a Instance),
}

/// What a complete list of the backend, newer than every call of ours, has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// No such list: the row's word counts.
    Unasked,
    /// Nothing.
    Absent,
    /// Made and not started.
    Made,
    /// It runs.
    Runs,
    /// It ended; its remains are there.
    Ended,
    /// Another backend answers than the one that holds it.
    Elsewhere,
    /// A thing of another installation.
    Anothers,
}

/// What GitHub has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runner {
    /// Not asked.
    Unasked,
    /// Nothing.
    Absent,
    /// Registered, and not connected.
    Offline,
    /// Connected, without a job.
    Online,
    /// It has a job.
    Busy,
}

/// What the three sides say of one name at one moment, while nobody of ours is at it.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The store.
    pub row: Row<'a>,
    /// The backend.
    pub machine: Machine,
    /// GitHub.
    pub runner: Runner,
    /// The pool's scale set.
    pub scale_set: Option<ScaleSetId>,
    /// The pool's settings; none when nobody serves it.
    pub spec: Option<&'a PoolSpec>,
    /// What a row knows of itself is on its way for this long, and no disagreement yet.
    pub settle: Span,
}

impl Facts<'_> {
    /// Everything that does not fit together.
    #[must_use]
    pub fn disagreements(&self, now: Timestamp) -> Vec<Discrepancy> {
        let Row::Live(row) = self.row else {
            return [self.machine_without_row(), self.runner_without_row()]
                .into_iter()
                .flatten()
                .collect();
        };
        let Some(spec) = self.spec else {
            return self.unserved(row).into_iter().collect();
        };
        let mut found: Vec<Discrepancy> = [
            with_backend(row, self.machine),
            with_github(row, self.runner),
            self.elsewhere_registered(row, now),
        ]
        .into_iter()
        .flatten()
        .collect();
        // What the row itself says is only of interest where the others have nothing newer.
        if found.is_empty() {
            found.extend(within(row, self.settle, spec, now));
        }
        found
    }

    fn machine_without_row(&self) -> Option<Discrepancy> {
        match self.machine {
            Machine::Made | Machine::Runs | Machine::Ended => Some(match self.spec {
                Some(_) => Discrepancy::MachineWithoutRow,
                None => Discrepancy::MachineOfUnservedPool,
            }),
            Machine::Anothers => self.spec.map(|_| Discrepancy::MachineOfAnotherInstallation),
            Machine::Unasked | Machine::Absent | Machine::Elsewhere => None,
        }
    }

    /// Ownership is exact: what GitHub has under a name of no row is not ours.
    fn runner_without_row(&self) -> Option<Discrepancy> {
        match (self.row, self.runner) {
            (Row::Closed, Runner::Offline | Runner::Online) => {
                Some(Discrepancy::RegistrationOfClosedRow)
            }
            (Row::Closed, Runner::Busy) => Some(Discrepancy::BusyOfClosedRow),
            (Row::Closed, Runner::Unasked | Runner::Absent) | (Row::None | Row::Live(_), _) => None,
        }
    }

    fn unserved(&self, row: &Instance) -> Option<Discrepancy> {
        let lives = match self.machine {
            Machine::Made | Machine::Runs => true,
            Machine::Absent | Machine::Ended => false,
            Machine::Unasked | Machine::Elsewhere | Machine::Anothers => row.may_live(),
        };
        Some(if lives {
            Discrepancy::MachineOfUnservedPool
        } else {
            Discrepancy::RowOfUnservedPool
        })
    }

    fn elsewhere_registered(&self, row: &Instance, now: Timestamp) -> Option<Discrepancy> {
        let other = self.scale_set.is_some() && row.scale_set_id != self.scale_set;
        let goes = matches!(row.phase, Phase::Starting | Phase::Idle);
        let settled = row.phase_since.age(now) >= self.settle;
        (other && goes && settled && row.scale_set_id.is_some() && registration_open(row))
            .then_some(Discrepancy::ScaleSetGone)
    }
}

/// A row against a machine.
#[must_use]
pub fn with_backend(row: &Instance, machine: Machine) -> Option<Discrepancy> {
    match machine {
        Machine::Unasked | Machine::Anothers => None,
        Machine::Elsewhere => Some(Discrepancy::AnotherBackend),
        Machine::Ended => row.may_live().then_some(Discrepancy::EndUnseen),
        Machine::Absent => without_machine(row),
        Machine::Made => match row.environment {
            Environment::Requested if row.phase == Phase::Creating => {
                Some(Discrepancy::AnswerUnseen)
            }
            // Made, never launched, and whoever would have launched it is gone.
            Environment::Requested | Environment::Launched if row.phase == Phase::Starting => {
                Some(Discrepancy::StartCutOff)
            }
            Environment::None | Environment::Gone => Some(Discrepancy::LateLanding),
            Environment::Requested
            | Environment::Present
            | Environment::Launched
            | Environment::Ended => None,
        },
        Machine::Runs => match row.environment {
            Environment::Requested => Some(Discrepancy::AnswerUnseen),
            Environment::Launched if row.unanswered_since.is_some() => {
                Some(Discrepancy::AnswerUnseen)
            }
            Environment::None | Environment::Gone => Some(Discrepancy::LateLanding),
            Environment::Ended => Some(Discrepancy::UsedJitConfig),
            Environment::Present | Environment::Launched => None,
        },
    }
}

fn without_machine(row: &Instance) -> Option<Discrepancy> {
    match row.environment {
        _ if may_still_land(row) => Some(Discrepancy::CallUnanswered),
        // Its call was cut off with the controller that made it: nobody knows whether it lands.
        Environment::Requested if row.failure.is_none() && row.unanswered_since.is_none() => {
            Some(Discrepancy::StartCutOff)
        }
        Environment::Requested
        | Environment::Present
        | Environment::Launched
        | Environment::Ended => Some(Discrepancy::MachineVanished),
        Environment::None | Environment::Gone => None,
    }
}

/// A row against a registration.
fn with_github(row: &Instance, runner: Runner) -> Option<Discrepancy> {
    if !matches!(row.registration, Registration::Registered(_)) {
        return None;
    }
    match runner {
        Runner::Unasked => None,
        Runner::Absent => row.may_live().then_some(Discrepancy::RunnerGone),
        Runner::Offline => (row.phase == Phase::Idle).then_some(Discrepancy::RunnerOffline),
        Runner::Online => None,
        Runner::Busy if !row.may_live() => Some(Discrepancy::BusyWithoutMachine),
        Runner::Busy => (row.phase == Phase::Idle).then_some(Discrepancy::JobUnseen),
    }
}

/// What a row knows of two sides that do not fit, once it had the time to settle it.
fn within(row: &Instance, settle: Span, spec: &PoolSpec, now: Timestamp) -> Option<Discrepancy> {
    let age = row.phase_since.age(now);
    match row.phase {
        Phase::Starting => {
            let launched = row.environment == Environment::Launched;
            let late = age >= spec.boot_timeout.half();
            (launched && late).then_some(Discrepancy::NeverRegistered)
        }
        Phase::Running => {
            let over = row.job_completed_at.is_some_and(|at| at.age(now) >= settle);
            (over && row.may_live()).then_some(Discrepancy::CompletedMachineLives)
        }
        Phase::Stopping if age < settle => None,
        Phase::Stopping if row.is_counted_in_vain() => Some(Discrepancy::BusyWithoutMachine),
        Phase::Stopping if removal_steps(row).close => Some(Discrepancy::RowWithoutAnything),
        Phase::Stopping if row.environment == Environment::Ended => {
            Some(if registration_open(row) {
                Discrepancy::RegistrationWithoutMachine
            } else {
                Discrepancy::RemainsLeft
            })
        }
        Phase::Stopping if registration_open(row) && !row.may_live() => {
            Some(Discrepancy::RegistrationWithoutMachine)
        }
        Phase::Stopping if !registration_open(row) && row.environment == Environment::Launched => {
            Some(Discrepancy::MachineWithoutRegistration)
        }
        Phase::Pending
        | Phase::Creating
        | Phase::Warm
        | Phase::Idle
        | Phase::Stopping
        | Phase::Closed => None,
    }
}
