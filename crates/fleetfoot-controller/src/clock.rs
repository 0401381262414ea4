//! The controller's clock: wall time at its start, carried on by the monotonic clock.
//!
//! Ages are measured on the monotonic clock (design, 11.11): a wall clock that steps while we run changes
//! no age. When it has stepped, [`crate::shift`] puts this clock right together with every stored time;
//! until that is over the clock is not *steady*, and nobody compares a time read before with one read after.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetfoot_core::Timestamp;
use tokio::time::Instant;

/// Reads the time. Clones are one clock.
#[derive(Debug, Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    started: Instant,
    /// What it showed at its start.
    start_ms: i64,
    /// What it showed at its start, and every shift since.
    base_ms: AtomicI64,
    /// Odd while stored times are being shifted; another number after every shift.
    generation: AtomicU64,
    wall: Wall,
}

/// Where the wall time comes from.
#[derive(Debug)]
enum Wall {
    System,
    /// The time at the start, and what it was put forward by since.
    Stepped {
        start_ms: i64,
        step_ms: Arc<AtomicI64>,
    },
}

/// A moment between two shifts of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Steady(u64);

/// Stored times are being shifted while this lives.
#[derive(Debug)]
pub(crate) struct Shifting(Clock);

impl Drop for Shifting {
    fn drop(&mut self) {
        self.0.inner.generation.fetch_add(1, Ordering::SeqCst);
    }
}

impl Clock {
    /// A clock that begins at the system's wall time and follows its steps.
    #[must_use]
    pub fn system() -> Self {
        Self::new(system_wall_ms(), Wall::System)
    }

    /// A clock that begins at `start`; its wall never steps.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn starting_at(start: Timestamp) -> Self {
        Self::with_wall(start, Arc::default())
    }

    /// A clock that begins at `start`. Its wall is what the monotonic clock shows, put forward by what
    /// `step_ms` holds: whoever owns that steps the wall clock, forward and back.
    #[must_use]
    pub fn with_wall(start: Timestamp, step_ms: Arc<AtomicI64>) -> Self {
        let begun = step_ms.load(Ordering::SeqCst);
        let start_ms = start.0.saturating_sub(begun);
        Self::new(start.0, Wall::Stepped { start_ms, step_ms })
    }

    fn new(base_ms: i64, wall: Wall) -> Self {
        let inner = Inner {
            started: Instant::now(),
            start_ms: base_ms,
            base_ms: AtomicI64::new(base_ms),
            generation: AtomicU64::new(0),
            wall,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.inner.base_ms.load(Ordering::SeqCst).saturating_add(self.elapsed_ms()))
    }

    /// The instant at which this clock will show `at`; now, if that has passed.
    #[must_use]
    pub fn instant(&self, at: Timestamp) -> Instant {
        Instant::now()
            + Duration::from_millis(u64::try_from(at.0.saturating_sub(self.now().0)).unwrap_or(0))
    }

    /// How far the wall clock is ahead of this one, in milliseconds; behind it, if negative.
    #[must_use]
    pub(crate) fn wall_ahead_ms(&self) -> i64 {
        let wall_ms = match &self.inner.wall {
            Wall::System => system_wall_ms(),
            Wall::Stepped { start_ms, step_ms } => start_ms
                .saturating_add(step_ms.load(Ordering::SeqCst))
                .saturating_add(self.elapsed_ms()),
        };
        wall_ms.saturating_sub(self.now().0)
    }

    /// A mark to be held against [`Self::is_still`]; `None` while stored times are being shifted.
    pub(crate) fn steady(&self) -> Option<Steady> {
        let generation = self.inner.generation.load(Ordering::SeqCst);
        generation.is_multiple_of(2).then_some(Steady(generation))
    }

    /// The clock was not shifted since: times read then and now belong together.
    pub(crate) fn is_still(&self, since: Steady) -> bool {
        self.steady() == Some(since)
    }

    /// Stored times are about to be shifted. One at a time: only one task does it.
    pub(crate) fn begin_shift(&self) -> Shifting {
        self.inner.generation.fetch_add(1, Ordering::SeqCst);
        Shifting(self.clone())
    }

    /// Puts the clock forward, or back.
    pub(crate) fn step(&self, step_ms: i64) {
        self.inner.base_ms.fetch_add(step_ms, Ordering::SeqCst);
    }

    /// The time without any shift: for waits that are held in memory, and never stored.
    pub(crate) fn unshifted(&self) -> Timestamp {
        Timestamp(self.inner.start_ms.saturating_add(self.elapsed_ms()))
    }

    /// What [`Self::unshifted`] showed or will show, on the clock as it is now.
    pub(crate) fn shifted(&self, unshifted: Timestamp) -> Timestamp {
        let base_ms = self.inner.base_ms.load(Ordering::SeqCst);
        unshifted.shifted(base_ms.saturating_sub(self.inner.start_ms))
    }

    fn elapsed_ms(&self) -> i64 {
        i64::try_from(self.inner.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

fn system_wall_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wall_steps_and_the_clock_follows_only_when_told() {
        let step = Arc::new(AtomicI64::new(7));
        let clock = Clock::with_wall(Timestamp(1000), step.clone());
        assert_eq!((clock.now(), clock.wall_ahead_ms()), (Timestamp(1000), 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        step.fetch_add(-500, Ordering::SeqCst);
        assert_eq!((clock.now(), clock.wall_ahead_ms()), (Timestamp(2000), -500));
        let mark = clock.steady().unwrap();
        let shifting = clock.clone().begin_shift();
        assert!(!clock.is_still(mark) && clock.steady().is_none());
        clock.step(-500);
        drop(shifting);
        assert!(!clock.is_still(mark) && clock.steady().is_some());
        assert_eq!((clock.now(), clock.wall_ahead_ms()), (Timestamp(1500), 0));
    }
}
