//! How many instances a pool wants, and what capacity it tells GitHub.

use crate::phase::Phase;
use crate::pool::{PoolSpec, PoolState};
use crate::time::{Span, Timestamp};

/// An instance that GitHub is asked about may have one of the jobs that its level counts; that is reckoned with for so
/// long. Then a job that waits is worth a runner too many.
pub(crate) const ASKED_HOLD: Span = Span::minutes(10);

/// The head count of a pool at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizing {
    /// Jobs that want a runner.
    pub open_jobs: u32,
    /// Instances wanted for them and for `min_idle`, within `max_runners`.
    pub wanted: u32,
    /// Instances that serve.
    pub serving: u32,
    /// Instances that take a slot.
    pub occupying: u32,
    /// Ended instances whose remains are not removed yet.
    pub remains: u32,
    /// Idle runners beyond what is wanted, and environments that wait for no job yet: another pool may have their
    /// room.
    pub surplus_idle: u32,
    /// Environments wanted on top of that, made and unregistered, within `max_runners`.
    pub floor: u32,
    /// Of those that serve, the ones that no JIT config was asked for yet.
    pub unbound: u32,
    /// Of these, the ones that are made and wait.
    pub warm: u32,
    /// Instances on their way out that still take a slot.
    pub leaving: u32,
    /// Of these, those that may have a job after all: GitHub is being asked.
    pub asked_about: u32,
}

impl Sizing {
    /// Counts `state` at `now`. Only a late-binding backend has environments that wait.
    #[must_use]
    pub fn of(state: &PoolState, spec: &PoolSpec, late_binding: bool, now: Timestamp) -> Self {
        let mut idle: u32 = 0;
        let mut sizing = Self { open_jobs: state.open_jobs(now), ..Self::default() };
        for instance in state.instances.values() {
            sizing.serving += u32::from(instance.serves());
            sizing.occupying += u32::from(instance.occupies());
            sizing.remains += u32::from(instance.is_remains());
            let leaves = instance.phase == Phase::Stopping && instance.occupies();
            sizing.leaving += u32::from(leaves);
            let asked = instance.is_asked_about() && instance.phase_since.age(now) < ASKED_HOLD;
            sizing.asked_about += u32::from(asked);
            idle += u32::from(instance.phase == Phase::Idle && instance.serves());
            let unbound = matches!(instance.phase, Phase::Pending | Phase::Creating | Phase::Warm);
            sizing.unbound += u32::from(unbound && instance.serves());
            sizing.warm += u32::from(instance.phase == Phase::Warm && instance.serves());
        }
        let level = spec.min_idle.saturating_add(sizing.open_jobs);
        sizing.wanted = spec.max_runners.min(level);
        if late_binding {
            sizing.floor = spec.warm.min(spec.max_runners.saturating_sub(sizing.wanted));
        }
        // Of unknown demand nothing is surplus.
        if state.pool.demand.known {
            sizing.surplus_idle = sizing.surplus_bound().min(idle).saturating_add(sizing.spare());
        }
        sizing
    }

    /// Instances missing, before the host, the budgets and the circuit have their say.
    #[must_use]
    pub fn missing(&self, spec: &PoolSpec) -> u32 {
        let absent = self.needed().saturating_add(self.floor).saturating_sub(self.unbound);
        absent.min(spec.max_runners.saturating_sub(self.occupying))
    }

    /// Of those that are missing, the ones that jobs or `min_idle` want; the rest would wait.
    #[must_use]
    pub fn missing_for_jobs(&self, spec: &PoolSpec) -> u32 {
        self.needed().saturating_sub(self.unbound).min(self.missing(spec))
    }

    /// Runners that are wanted and that no JIT config was asked for yet.
    #[must_use]
    pub fn needed(&self) -> u32 {
        self.wanted.saturating_sub(self.bound().saturating_add(self.asked_about))
    }

    /// Instances beyond what is wanted, those that nobody asked a JIT config for yet.
    #[must_use]
    pub(crate) fn surplus_unbound(&self) -> u32 {
        let wanted = self.wanted.saturating_sub(self.bound()).saturating_add(self.floor);
        self.unbound.saturating_sub(wanted)
    }

    /// Instances beyond what is wanted, those that have a registration or ask for one.
    #[must_use]
    pub(crate) fn surplus_bound(&self) -> u32 {
        self.bound().saturating_sub(self.wanted)
    }

    /// Environments that are made and wait for no job.
    #[must_use]
    pub fn spare(&self) -> u32 {
        self.warm.saturating_sub(self.needed())
    }

    fn bound(&self) -> u32 {
        self.serving.saturating_sub(self.unbound)
    }
}

/// The capacity to advertise in a poll: never 0, since a poll that says 0 excludes the set for good
/// from the jobs queued meanwhile; never more than can really run.
///
/// `host_room` is what the host can still take beside everything that occupies it now, surplus idle
/// runners of other pools counted as room. `impaired` is true while the circuit is open or the backend
/// has been unreachable for more than a minute.
#[must_use]
pub fn advertised_capacity(spec: &PoolSpec, occupying: u32, host_room: u32, impaired: bool) -> u32 {
    if spec.advertise_limit {
        return spec.max_runners;
    }
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::AdvertiseZero.is_planted()
        && (impaired || occupying.saturating_add(host_room) == 0)
    {
        return 0;
    }
    #[cfg(feature = "faults")]
    if fleetfoot_faults::Defect::AdvertiseFreeGap.is_planted() {
        return spec.max_runners.saturating_sub(occupying).min(host_room).max(1);
    }
    if impaired {
        return 1;
    }
    spec.max_runners.min(occupying.saturating_add(host_room)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_is_truthful_and_never_zero() {
        let spec = PoolSpec { max_runners: 10, ..PoolSpec::default() };
        let table = [
            // occupying, host room, impaired, advertised
            (0, u32::MAX, false, 10),
            (0, 3, false, 3),
            (4, 3, false, 7),
            (9, 3, false, 10),
            (0, 0, false, 1),
            (4, 0, false, 4),
            (4, 9, true, 1),
        ];
        for (occupying, room, impaired, advertised) in table {
            assert_eq!(advertised_capacity(&spec, occupying, room, impaired), advertised);
        }
        let outrunner = PoolSpec { advertise_limit: true, max_runners: 0, ..spec };
        assert_eq!(advertised_capacity(&outrunner, 0, 0, true), 0);
    }
}
