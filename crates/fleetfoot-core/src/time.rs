//! Points and lengths of time as the core sees them: plain milliseconds, handed in by the shell.

use std::ops::{Add, Sub};

/// A point in time: milliseconds since the Unix epoch, read once per pass by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// A length of time in milliseconds, never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub i64);

impl Span {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// `seconds` seconds.
    #[must_use]
    pub const fn seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// `minutes` minutes.
    #[must_use]
    pub const fn minutes(minutes: i64) -> Self {
        Self::seconds(minutes.saturating_mul(60))
    }

    /// Half of this.
    #[must_use]
    pub const fn half(self) -> Self {
        Self(self.0 / 2)
    }

    /// The same length for `std`.
    #[must_use]
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.unsigned_abs())
    }
}

impl Timestamp {
    /// How long ago this was at `now`; zero if it lies ahead.
    #[must_use]
    pub fn age(self, now: Self) -> Span {
        Span(now.0.saturating_sub(self.0).max(0))
    }

    /// This time on a clock that was put forward by `step_ms`; backward, if that is negative.
    #[must_use]
    pub fn shifted(self, step_ms: i64) -> Self {
        Self(self.0.saturating_add(step_ms))
    }
}

impl Add<Span> for Timestamp {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Self;
    fn sub(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}
