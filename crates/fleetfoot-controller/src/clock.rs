//! The controller's clock: wall time at its start, carried on by the monotonic clock.
//!
//! Ages are measured on the monotonic clock (design, 11.11): a wall clock that steps while we run
//! changes nothing here. Stored times of an earlier process are wall times and only serve to resume.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetfoot_core::Timestamp;
use tokio::time::Instant;

/// Reads the time; cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall_ms_at_start: i64,
    started: Instant,
}

impl Clock {
    /// A clock that begins at the system's wall time.
    #[must_use]
    pub fn system() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)))
    }

    /// A clock that begins at `start`, for worlds with a time of their own.
    #[must_use]
    pub fn starting_at(start: Timestamp) -> Self {
        Self { wall_ms_at_start: start.0, started: Instant::now() }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.wall_ms_at_start.saturating_add(elapsed))
    }

    /// The instant at which this clock will show `at`; now, if that has passed.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        Instant::now()
            + Duration::from_millis(u64::try_from(at.0.saturating_sub(self.now().0)).unwrap_or(0))
    }
}
