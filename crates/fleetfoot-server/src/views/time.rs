//! Times in words: RFC 3339 in UTC, to the millisecond.

use fleetfoot_core::{Span, Timestamp};

/// The time as the API writes it.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(time.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

/// A length of time for people: `850 ms`, `12 s`, `3 min`, `2 h 5 min`, `4 d 3 h`.
#[must_use]
pub fn span(span: Span) -> String {
    let seconds = span.0 / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if span.0 < 1000 {
        format!("{} ms", span.0)
    } else if seconds < 120 {
        format!("{seconds} s")
    } else if minutes < 120 {
        format!("{minutes} min")
    } else if hours < 48 {
        format!("{hours} h {} min", minutes % 60)
    } else {
        format!("{days} d {} h", hours % 24)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_to_the_millisecond() {
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(Timestamp(1_780_000_000_123)), "2026-05-28T20:26:40.123Z");
        assert_eq!(rfc3339(Timestamp(i64::MAX)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn spans_are_short() {
        let table = [
            (850, "850 ms"),
            (12_000, "12 s"),
            (119_999, "119 s"),
            (180_000, "3 min"),
            (7_500_000, "2 h 5 min"),
            (356_400_000, "4 d 3 h"),
        ];
        for (ms, text) in table {
            assert_eq!(span(Span(ms)), text);
        }
    }
}
