//! Waits that grow: the decision how long, without the chance that spreads it (the shell adds that).

use crate::time::Span;

/// Doubling waits between a first and a longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Span,
    /// No wait is longer.
    pub longest: Span,
}

impl Backoff {
    /// Retries of a removal step: 1 s, doubling to 1 minute.
    pub const REMOVAL: Self = Self { first: Span::seconds(1), longest: Span::minutes(1) };

    /// Retries of a deregistration that GitHub refuses for a machine that is gone: 15 s, to 5 minutes.
    pub const BUSY: Self = Self { first: Span::seconds(15), longest: Span::minutes(5) };

    /// The wait before attempt number `attempts` + 1.
    #[must_use]
    pub fn wait(self, attempts: u32) -> Span {
        Span(
            self.first
                .0
                .saturating_mul(1 << attempts.saturating_sub(1).min(20))
                .min(self.longest.0),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_the_longest() {
        let waits: Vec<i64> = (1..9).map(|n| Backoff::REMOVAL.wait(n).0 / 1000).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(Backoff::REMOVAL.wait(u32::MAX), Span::minutes(1));
    }
}
