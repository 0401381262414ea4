//! The circuit of a pool: after instance failures it waits longer and longer before it tries again.

use crate::time::{Span, Timestamp};

/// Failures in a row before the circuit opens: a few may be chance.
pub(crate) const FAILURES_BEFORE_OPEN: u32 = 3;

/// The first wait; it doubles with each further failure.
pub(crate) const FIRST_WAIT: Span = Span::seconds(5);

/// The longest wait.
pub(crate) const LONGEST_WAIT: Span = Span::minutes(5);

/// The circuit's memory. Closed = starts freely; open = waits; half open = tries a few.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Circuit {
    /// Instance failures since the last success.
    pub failures: u32,
    /// Nothing is started before this time.
    pub open_until: Option<Timestamp>,
    /// How many may be tried at once after the circuit opened; doubles with each success.
    pub allowance: u32,
    /// The last failure, one line.
    pub last_failure: String,
}

impl Circuit {
    /// An instance failed.
    pub fn failed(&mut self, detail: &str, now: Timestamp) {
        detail.clone_into(&mut self.last_failure);
        // Instances that were begun together fail together: what fails while it waits is the same failure.
        if self.open_until.is_some_and(|until| now < until) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_BEFORE_OPEN {
            let doublings = (self.failures - FAILURES_BEFORE_OPEN).min(16);
            let wait = FIRST_WAIT.0.saturating_mul(1 << doublings).min(LONGEST_WAIT.0);
            self.open_until = Some(now + Span(wait));
            self.allowance = 1;
        }
    }

    /// An instance came online, or its job ran: half open it allows twice as many, then closes.
    pub fn succeeded(&mut self) {
        self.open_until = None;
        self.failures = 0;
        if self.allowance > 0 {
            self.allowance = if self.allowance >= 64 { 0 } else { self.allowance * 2 };
        }
    }

    /// How many instances may be between their commit and their first success; `None` for any number.
    #[must_use]
    pub fn allows(&self, now: Timestamp) -> Option<u32> {
        match self.open_until {
            Some(until) if now < until => Some(0),
            Some(_) | None if self.allowance > 0 => Some(self.allowance),
            Some(_) | None => None,
        }
    }

    /// Nothing may be started at `now`.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.allows(now) == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_three_and_doubles() {
        let mut circuit = Circuit::default();
        let mut now = Timestamp(0);
        let mut waits = Vec::new();
        for _ in 0..12 {
            circuit.failed("no such image", now);
            let until = circuit.open_until.unwrap_or(now);
            waits.push(now.age(until).0 / 1000);
            now = until;
        }
        assert_eq!(waits, [0, 0, 5, 10, 20, 40, 80, 160, 300, 300, 300, 300]);
    }

    #[test]
    fn a_burst_that_fails_together_opens_it_once() {
        let mut circuit = Circuit::default();
        for n in 0..100 {
            circuit.failed("no such image", Timestamp(n));
        }
        assert_eq!(circuit.open_until, Some(Timestamp(2) + FIRST_WAIT));
        assert_eq!(circuit.failures, FAILURES_BEFORE_OPEN);
    }

    #[test]
    fn half_open_tries_one_then_doubles_then_closes() {
        let mut circuit = Circuit::default();
        for _ in 0..3 {
            circuit.failed("boot", Timestamp(0));
        }
        assert_eq!(circuit.allows(Timestamp(1)), Some(0));
        assert_eq!(circuit.allows(Timestamp(5000)), Some(1));
        let mut seen = Vec::new();
        for _ in 0..7 {
            circuit.succeeded();
            seen.push(circuit.allows(Timestamp(5000)));
        }
        assert_eq!(seen, [Some(2), Some(4), Some(8), Some(16), Some(32), Some(64), None]);
    }
}
