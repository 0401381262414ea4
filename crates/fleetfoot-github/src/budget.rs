//! How many JIT configs GitHub lets us have.
//!
//! GitHub does not publish the limit, so it is learned: without bounds until an answer states one
//! (429, a 403 that says when to come back, or a counter that runs out), then a bucket that refills
//! at the rate that worked, grows while nothing is refused, and is forgotten after a quiet hour.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::error::{ErrorKind, GithubError, Result};
use crate::http::Answer;

/// Calls of one credential that are on the wire at once.
const IN_FLIGHT_MAX: usize = 128;
/// The bucket never refills more slowly: others measured about 170 a minute, sustained.
const PER_MINUTE_MIN: f64 = 120.0;
/// What may be asked for at once after a pause.
const BURST: f64 = 20.0;
/// After this long without a refusal the limit is forgotten.
const FORGET: Duration = Duration::from_secs(3600);
/// Calls of the last minute that are counted: far more than any limit of GitHub's that could be learned.
const RECENT_MAX: usize = 10_000;
const WINDOW: Duration = Duration::from_secs(60);

/// What a credential may still ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BudgetState {
    /// JIT configs that may be asked for now; `None` = no limit known.
    pub remaining: Option<u32>,
    /// When `remaining` is 0: when the next one may be asked for.
    pub resume_at: Option<Instant>,
}

impl BudgetState {
    /// Whether nothing may be asked for at the moment.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.remaining == Some(0)
    }
}

#[derive(Debug)]
pub(crate) struct Budget {
    in_flight: Semaphore,
    learned: Mutex<Learned>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { in_flight: Semaphore::new(IN_FLIGHT_MAX), learned: Mutex::default() }
    }
}

impl Budget {
    pub(crate) fn state(&self) -> BudgetState {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.state(Instant::now())
    }

    /// Takes one call from the budget, or says when to come back; then waits for a free place on
    /// the wire.
    pub(crate) async fn take(&self, operation: &'static str) -> Result<SemaphorePermit<'_>> {
        let taken = {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            learned.take(Instant::now())
        };
        if let Err(retry_after) = taken {
            let kind = ErrorKind::RateLimited { retry_after };
            return Err(GithubError::new(operation, kind, "JIT budget"));
        }
        self.in_flight.acquire().await.map_err(|source| {
            GithubError::with_source(operation, ErrorKind::Unusable, "closed", source)
        })
    }

    /// Learns from an answer that counts for us.
    pub(crate) fn note(&self, answer: &Answer) {
        if let (Some(remaining), Some(reset)) =
            (answer.rate_limit_remaining(), answer.rate_limit_reset())
        {
            let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
            learned.counted(Instant::now(), remaining, reset);
        }
    }

    /// Learns from a refusal.
    pub(crate) fn limited(&self, retry_after: Duration) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(feature = "faults")]
        if fleetfoot_faults::Defect::ForgetRetryAfter.is_planted() {
            return;
        }
        learned.limited(Instant::now(), retry_after);
    }
}

#[derive(Debug, Default)]
struct Learned {
    /// Calls of the last minute, the latest [`RECENT_MAX`] of them.
    recent: VecDeque<Instant>,
    bucket: Option<Bucket>,
    /// GitHub's own counter, while its window lasts.
    counter: Option<(u32, Instant)>,
}

#[derive(Debug)]
struct Bucket {
    per_minute: f64,
    level: f64,
    /// The level is right at this time; in the future = nothing until then.
    at: Instant,
    refused_at: Instant,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let minutes = now.saturating_duration_since(self.at).as_secs_f64() / 60.0;
        if minutes > 0.0 {
            self.level = (self.level + minutes * self.per_minute).min(BURST);
            // A tenth more for each minute that nothing is refused.
            self.per_minute *= 1.1f64.powf(minutes);
            self.at = now;
        }
    }

    fn next(&self, now: Instant) -> Instant {
        let missing = (1.0 - self.level).max(0.0);
        self.at.max(now) + Duration::from_secs_f64(missing * 60.0 / self.per_minute)
    }
}

impl Learned {
    fn settle(&mut self, now: Instant) {
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            self.recent.pop_front();
        }
        self.counter = self.counter.filter(|(_, reset)| now < *reset);
        if let Some(bucket) = &mut self.bucket {
            bucket.refill(now);
            if now.saturating_duration_since(bucket.refused_at) > FORGET {
                self.bucket = None;
            }
        }
    }

    fn state(&mut self, now: Instant) -> BudgetState {
        self.settle(now);
        let counted = self.counter.map(|(remaining, _)| remaining);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BURST")]
        let stored = self
            .bucket
            .as_ref()
            .map(|bucket| if bucket.at > now { 0 } else { bucket.level as u32 });
        let remaining = match (counted, stored) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let resume_at = (remaining == Some(0)).then(|| {
            let reset = self.counter.filter(|(left, _)| *left == 0).map(|(_, reset)| reset);
            let refill = self.bucket.as_ref().map(|bucket| bucket.next(now));
            reset.max(refill).unwrap_or(now)
        });
        BudgetState { remaining, resume_at }
    }

    fn take(&mut self, now: Instant) -> std::result::Result<(), Duration> {
        let state = self.state(now);
        if let Some(resume_at) = state.resume_at {
            let wait = resume_at.saturating_duration_since(now);
            return Err(wait.max(Duration::from_millis(1)));
        }
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if let Some(bucket) = &mut self.bucket {
            bucket.level -= 1.0;
        }
        if let Some((remaining, _)) = &mut self.counter {
            *remaining = remaining.saturating_sub(1);
        }
        Ok(())
    }

    fn limited(&mut self, now: Instant, retry_after: Duration) {
        self.settle(now);
        #[expect(clippy::cast_precision_loss, reason = "a count of calls in a minute")]
        let worked = (self.recent.len() as f64) * 0.9;
        let per_minute = match &self.bucket {
            Some(bucket) => worked.min(bucket.per_minute),
            None => worked,
        };
        let at = now + retry_after;
        // Many calls of one burst are refused together: the longest wait counts.
        let at = self.bucket.as_ref().map_or(at, |bucket| bucket.at.max(at));
        self.bucket = Some(Bucket {
            per_minute: per_minute.max(PER_MINUTE_MIN),
            level: BURST,
            at,
            refused_at: now,
        });
    }

    fn counted(&mut self, now: Instant, remaining: u32, reset: Duration) {
        let reset = now + reset;
        // Answers of a burst arrive in any order: within one window the counter only falls.
        let remaining = match self.counter {
            Some((known, known_reset)) if known_reset + Duration::from_secs(5) > reset => {
                known.min(remaining)
            }
            _ => remaining,
        };
        self.counter = Some((remaining, reset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn unlimited_until_told() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        for _ in 0..5000 {
            assert!(learned.take(now).is_ok());
        }
        assert_eq!(learned.state(now), BudgetState::default());
    }

    #[test]
    fn a_refusal_pauses_then_paces() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        for _ in 0..200 {
            learned.take(now).unwrap();
        }
        learned.limited(now, 30 * SECOND);
        learned.limited(now, 10 * SECOND);
        assert!(learned.state(now).is_exhausted());
        assert_eq!(learned.take(now + 10 * SECOND), Err(20 * SECOND));
        let later = now + 31 * SECOND;
        let granted = (0..100).take_while(|_| learned.take(later).is_ok()).count();
        assert_eq!(granted, 20);
        let resume = learned.state(later).resume_at.unwrap();
        assert!(resume > later && resume < later + SECOND, "at least 120 a minute");
        let granted = (0..100).take_while(|_| learned.take(later + 2 * SECOND).is_ok()).count();
        assert!((3..10).contains(&granted), "{granted}");
        assert_eq!(learned.state(now + 2 * FORGET), BudgetState::default());
    }

    #[test]
    fn githubs_counter_is_believed_until_its_window_ends() {
        let (mut learned, now) = (Learned::default(), Instant::now());
        learned.counted(now, 2, 50 * SECOND);
        learned.counted(now, 5, 50 * SECOND); // an answer that was overtaken
        assert!(learned.take(now).is_ok() && learned.take(now).is_ok());
        assert_eq!(learned.take(now), Err(50 * SECOND));
        assert_eq!(learned.state(now).resume_at, Some(now + 50 * SECOND));
        assert!(learned.take(now + 51 * SECOND).is_ok());
    }
}
