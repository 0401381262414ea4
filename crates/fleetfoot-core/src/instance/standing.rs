//! What an instance counts for, by its facts: slots, demand, remains.

use crate::cause::Reason;
use crate::phase::Phase;

use super::{Environment, Instance, Registration};

impl Instance {
    /// It takes one of its pool's slots: from its name's commit until its environment is proven ended.
    #[must_use]
    pub fn occupies(&self) -> bool {
        #[cfg(feature = "faults")]
        if fleetfoot_faults::Defect::FreeSlotTooEarly.is_planted() && self.phase == Phase::Stopping
        {
            return false;
        }
        match (self.phase, self.environment) {
            (Phase::Closed, _) | (_, Environment::Ended | Environment::Gone) => false,
            // The name was withdrawn before anything was called: nothing can run under it.
            (Phase::Stopping, Environment::None) => false,
            (
                Phase::Pending
                | Phase::Creating
                | Phase::Warm
                | Phase::Starting
                | Phase::Idle
                | Phase::Running
                | Phase::Stopping,
                Environment::None
                | Environment::Requested
                | Environment::Present
                | Environment::Launched,
            ) => true,
        }
    }

    /// It can serve a job of its pool's demand, or does.
    #[must_use]
    pub fn serves(&self) -> bool {
        let phase = match self.phase {
            Phase::Pending
            | Phase::Creating
            | Phase::Warm
            | Phase::Starting
            | Phase::Idle
            | Phase::Running => true,
            Phase::Stopping | Phase::Closed => false,
        };
        phase && self.job_completed_at.is_none() && self.occupies()
    }

    /// Its environment may be alive, as far as anyone knows.
    #[must_use]
    pub fn may_live(&self) -> bool {
        matches!(
            self.environment,
            Environment::Requested | Environment::Present | Environment::Launched
        )
    }

    /// Something may run in it: its launch was begun. What is made and not launched never had its credential, and
    /// a create that failed for certain launched nothing.
    #[must_use]
    pub fn may_run(&self) -> bool {
        match self.environment {
            Environment::Launched => true,
            Environment::Requested => self.failure.is_none() || self.unanswered_since.is_some(),
            Environment::None | Environment::Present | Environment::Ended | Environment::Gone => {
                false
            }
        }
    }

    /// Its create call was cut off, by a crash for one: nobody knows whether it was done.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.environment == Environment::Requested
            && self.reason == Some(Reason::Interrupted)
            && self.failure.is_none()
    }

    /// It was taken up, or its start was cut off, and GitHub was asked and did not answer yet whether it has a job:
    /// what GitHub's level counts may be that job.
    #[must_use]
    pub(crate) fn is_asked_about(&self) -> bool {
        self.phase == Phase::Stopping
            && matches!(self.reason, Some(Reason::Stray | Reason::Interrupted))
            && self.may_run()
            && !self.had_job()
            && matches!(self.registration, Registration::Requested | Registration::Registered(_))
    }

    /// Its environment ended and something of it is left at the backend.
    #[must_use]
    pub(crate) fn is_remains(&self) -> bool {
        self.phase == Phase::Stopping && self.environment == Environment::Ended
    }

    /// Its environment ended, no job is known, and GitHub was not asked yet whether its one job ran (11.5).
    #[must_use]
    pub(crate) fn is_unasked(&self) -> bool {
        self.phase == Phase::Stopping
            && matches!(self.environment, Environment::Ended | Environment::Gone)
            && !self.had_job()
            && self.failure.is_none()
            && self.reason.is_none()
            && matches!(self.registration, Registration::Requested | Registration::Registered(_))
    }

    /// Its machine ended, and GitHub still calls its runner busy: GitHub's level counts a job that is over.
    #[must_use]
    pub fn is_counted_in_vain(&self) -> bool {
        self.phase == Phase::Stopping
            && self.job_proven
            && self.job_completed_at.is_none()
            && !self.occupies()
            && matches!(self.registration, Registration::Requested | Registration::Registered(_))
    }

    /// Its job's start or proof was seen.
    #[must_use]
    pub fn had_job(&self) -> bool {
        self.job.is_some() || self.job_completed_at.is_some() || self.job_proven
    }
}
