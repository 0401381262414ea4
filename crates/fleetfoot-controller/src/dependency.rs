//! What many pools depend on (a backend connection, a GitHub credential): up, or down until asked again.
//!
//! Its times are unshifted ones ([`Clock::unshifted`](crate::Clock)): a wall clock that steps lengthens no wait.
//! Failures of a dependency pause it for all its pools and count against no instance (design, 11.6).

use std::sync::{Mutex, PoisonError};

use fleetfoot_core::{Backoff, Dependency, Span, Timestamp};

const WAITS: Backoff = Backoff { first: Span::seconds(1), longest: Span::seconds(30) };

/// The shared state of one dependency.
#[derive(Debug, Default)]
pub(crate) struct DependencyCell {
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone)]
struct State {
    dependency: Dependency,
    failures: u32,
    down_since: Option<Timestamp>,
}

impl DependencyCell {
    /// Its present state.
    #[must_use]
    pub(crate) fn get(&self) -> Dependency {
        self.state().dependency.clone()
    }

    /// It has been down for longer than `span`.
    #[must_use]
    pub(crate) fn down_longer_than(&self, span: Span, now: Timestamp) -> bool {
        self.state().down_since.is_some_and(|since| since.age(now) > span)
    }

    /// It answered. True if it was down before.
    pub(crate) fn answered(&self) -> bool {
        let mut state = self.lock();
        let was_down = state.down_since.is_some();
        *state = State::default();
        was_down
    }

    /// It failed; it is asked again after a growing wait, or after what it asked for itself.
    /// True if it was up before.
    pub(crate) fn failed(&self, detail: &str, asked: Option<Span>, now: Timestamp) -> bool {
        let mut state = self.lock();
        let was_up = state.down_since.is_none();
        // Calls that were sent together fail together: they are one failure.
        let counted = matches!(state.dependency, Dependency::Down { until, .. } if now < until);
        if !counted {
            state.failures = state.failures.saturating_add(1);
        }
        let wait = WAITS.wait(state.failures).max(asked.unwrap_or(Span::ZERO));
        let until = match &state.dependency {
            Dependency::Down { until, .. } if counted => {
                (*until).max(now + asked.unwrap_or(Span::ZERO))
            }
            Dependency::Down { .. } | Dependency::Up => now + wait,
        };
        state.dependency = Dependency::Down { until, detail: detail.to_owned() };
        state.down_since = state.down_since.or(Some(now));
        was_up
    }

    /// The one of several that is down the longest from now on; up if all are.
    pub(crate) fn worst<'a>(cells: impl IntoIterator<Item = &'a Self>) -> Dependency {
        let until = |dependency: &Dependency| match dependency {
            Dependency::Up => None,
            Dependency::Down { until, .. } => Some(*until),
        };
        cells.into_iter().map(Self::get).max_by_key(until).unwrap_or_default()
    }

    fn state(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_together_count_once_and_answers_clear() {
        let cell = DependencyCell::default();
        assert!(cell.failed("refused", None, Timestamp(0)));
        for _ in 0..100 {
            assert!(!cell.failed("refused", None, Timestamp(10)));
        }
        assert_eq!(
            cell.get(),
            Dependency::Down { until: Timestamp(1000), detail: "refused".into() }
        );
        cell.failed("refused", None, Timestamp(1000));
        assert_eq!(
            cell.get(),
            Dependency::Down { until: Timestamp(3000), detail: "refused".into() }
        );
        assert!(cell.down_longer_than(Span::seconds(60), Timestamp(61_000)));
        assert!(cell.answered());
        assert_eq!(cell.get(), Dependency::Up);
    }

    #[test]
    fn the_worst_of_several_counts() {
        let cells = [DependencyCell::default(), DependencyCell::default()];
        assert_eq!(DependencyCell::worst(&cells), Dependency::Up);
        cells[0].failed("one", None, Timestamp(0));
        cells[1].failed("other", Some(Span::seconds(7)), Timestamp(0));
        let worst = DependencyCell::worst(&cells);
        assert_eq!(worst, Dependency::Down { until: Timestamp(7000), detail: "other".into() });
        cells[1].answered();
        assert!(matches!(
            DependencyCell::worst(&cells),
            Dependency::Down { until: Timestamp(1000), .. }
        ));
    }

    #[test]
    fn a_wait_that_was_asked_for_is_kept() {
        let cell = DependencyCell::default();
        cell.failed("rate limited", Some(Span::seconds(60)), Timestamp(0));
        assert!(matches!(cell.get(), Dependency::Down { until: Timestamp(60_000), .. }));
    }
}
