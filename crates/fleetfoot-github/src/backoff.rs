//! How long to wait after a failure.

use std::time::Duration;

/// The wait after the `failures`-th failure in a row (the first one is 1): anywhere between a tenth
/// of `base * 2^(failures - 1)` and all of it, never above `max`.
///
/// The whole range is used (full jitter) because after an outage thousands of listeners wake up
/// together; a floor keeps a lucky draw from turning into a busy loop.
#[must_use]
pub fn backoff(base: Duration, max: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(20);
    let ceiling = base.saturating_mul(1 << doublings).min(max);
    ceiling.mul_f64(0.1 + 0.9 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_between_its_bounds_and_grows() {
        let (base, max) = (Duration::from_secs(1), Duration::from_secs(60));
        for failures in 0..80u32 {
            let ceiling = base.saturating_mul(1u32 << failures.saturating_sub(1).min(6)).min(max);
            for _ in 0..50 {
                let wait = backoff(base, max, failures);
                assert!(wait <= ceiling && wait >= ceiling / 11, "{failures}: {wait:?}");
            }
        }
    }

    #[test]
    fn spreads_its_callers() {
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|_| backoff(Duration::from_secs(1), Duration::from_secs(60), 5)).collect();
        assert!(waits.len() > 90);
    }
}
