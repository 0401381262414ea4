//! How far this machine's clock is from GitHub's, learned from the `Date` header of its answers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::header::{DATE, HeaderMap};

/// A difference that is corrected without a word; beyond it an App token is an error that says so.
pub(crate) const CORRECTED_SECONDS_MAX: i64 = 5 * 60;

const UNKNOWN: i64 = i64::MIN;

#[derive(Debug)]
pub(crate) struct Clock {
    ahead_seconds: AtomicI64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { ahead_seconds: AtomicI64::new(UNKNOWN) }
    }
}

impl Clock {
    /// Learns from an answer that has just arrived.
    pub(crate) fn note(&self, headers: &HeaderMap) {
        if let Some(github) = date(headers) {
            self.ahead_seconds.store(local_seconds().saturating_sub(github), Ordering::Relaxed);
        }
    }

    /// Seconds by which this machine is ahead of GitHub, once an answer has told.
    pub(crate) fn ahead_seconds(&self) -> Option<i64> {
        Some(self.ahead_seconds.load(Ordering::Relaxed)).filter(|seconds| *seconds != UNKNOWN)
    }

    /// The time at GitHub, in seconds since 1970. A difference of a second or two is the answer's
    /// own travel time and left alone.
    pub(crate) fn github_seconds(&self) -> i64 {
        let ahead = self.ahead_seconds().filter(|seconds| seconds.abs() > 2).unwrap_or(0);
        local_seconds().saturating_sub(ahead)
    }
}

fn local_seconds() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|age| i64::try_from(age.as_secs()).ok())
        .unwrap_or(0)
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let parsed = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(parsed.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learns_from_the_date_header() {
        let clock = Clock::default();
        assert_eq!(clock.ahead_seconds(), None);
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        clock.note(&headers);
        assert!(clock.ahead_seconds().unwrap() > 900_000_000);
        assert!((clock.github_seconds() - 784_111_777).abs() < 5);
        headers.insert(DATE, "nonsense".parse().unwrap());
        clock.note(&headers);
        assert!(clock.ahead_seconds().unwrap() > 900_000_000);
    }
}
