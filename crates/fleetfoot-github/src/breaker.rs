//! Hears "GitHub is down" once for everybody.
//!
//! Two thousand pools may share one connection. When the way to GitHub is broken, each of their
//! calls would find that out by itself, one after the other behind the same token. Instead, after a
//! few failures in a row the breaker answers at once with the last reason, and lets one caller at a
//! time find out whether things are better.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::backoff;
use crate::error::{GithubError, Result};

const FAILURES_MAX: u32 = 4;
const SAME_FAILURE: Duration = Duration::from_millis(200);
const OPEN_BASE: Duration = Duration::from_secs(5);
const OPEN_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    failed_at: Option<Instant>,
    open: Option<(Instant, GithubError)>,
}

impl Breaker {
    /// Fails at once while the way is known to be broken. When the pause is over, the first caller
    /// goes ahead and the others still hear the last reason until it has come back.
    pub(crate) fn check(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = state.failures;
        let Some((until, reason)) = &mut state.open else {
            return Ok(());
        };
        let now = Instant::now();
        if now < *until {
            return Err(reason.clone());
        }
        *until = now + backoff(OPEN_BASE, OPEN_MAX, failures);
        Ok(())
    }

    /// The way works, whatever the answer was.
    pub(crate) fn succeeded(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State::default();
    }

    /// The way to GitHub, or through its gate, failed.
    pub(crate) fn failed(&self, reason: &GithubError) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // A burst that breaks together is one failure.
        if state.failed_at.is_some_and(|at| now < at + SAME_FAILURE) {
            return;
        }
        state.failed_at = Some(now);
        state.failures = state.failures.saturating_add(1);
        let beyond = state.failures.saturating_sub(FAILURES_MAX);
        if let Some(stated) = reason.retry_after() {
            state.open = Some((now + stated, reason.clone()));
        } else if state.failures >= FAILURES_MAX {
            let pause = backoff(OPEN_BASE, OPEN_MAX, beyond + 1);
            state.open = Some((now + pause, reason.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn failure() -> GithubError {
        GithubError::new("test", ErrorKind::Unreachable, "")
    }

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_and_lets_one_probe_through() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_MAX {
            assert!(breaker.check().is_ok());
            breaker.failed(&failure());
            breaker.failed(&failure()); // of the same burst
            tokio::time::advance(SAME_FAILURE).await;
        }
        tokio::time::advance(Duration::ZERO).await;
        assert_eq!(breaker.check().unwrap_err().kind(), &ErrorKind::Unreachable);
        tokio::time::advance(OPEN_BASE).await;
        assert!(breaker.check().is_ok(), "the probe");
        assert!(breaker.check().is_err(), "the others wait for it");
        breaker.succeeded();
        assert!(breaker.check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stated_wait_is_kept_at_once() {
        let breaker = Breaker::default();
        let retry_after = Duration::from_secs(40);
        breaker.failed(&GithubError::new("test", ErrorKind::RateLimited { retry_after }, ""));
        tokio::time::advance(Duration::from_secs(39)).await;
        assert!(breaker.check().is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(breaker.check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn never_stays_open_for_ever() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            breaker.failed(&failure());
            tokio::time::advance(SAME_FAILURE).await;
        }
        tokio::time::advance(OPEN_MAX).await;
        assert!(breaker.check().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn single_failures_between_successes_do_not_open_it() {
        let breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed(&failure());
            breaker.succeeded();
            assert!(breaker.check().is_ok());
        }
    }
}
