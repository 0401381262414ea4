//! One clock for everything the box records: microseconds since 1970, never backwards.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_us: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { started: Instant::now(), started_us: micros(since) }
    }

    /// A clock that begins at `started_us`.
    pub(crate) fn start_at(started_us: u64) -> Self {
        Self { started: Instant::now(), started_us }
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.started_us + micros(self.started.elapsed())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// RFC 3339 with microseconds, as the messages carry times.
pub(crate) fn rfc3339(us: u64) -> String {
    i64::try_from(us)
        .ok()
        .and_then(|us| jiff::Timestamp::from_microsecond(us).ok())
        .map_or_else(String::new, |time| time.to_string())
}

/// The form of the `Date` header.
pub(crate) fn http_date(us: u64, skew_s: i64) -> String {
    i64::try_from(us / 1_000_000)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds + skew_s).ok())
        .map_or_else(String::new, |time| time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}
