//! Messages that come again although GitHub took their acknowledgement: taken in like any other, which changes
//! nothing, and followed by a pause that grows, or they would be asked for in a loop.

use std::time::Duration;

use fleetfoot_github::backoff;

/// The first pause, spread by chance.
const FIRST: Duration = Duration::from_millis(500);
/// The longest one: a message that is new waits no longer behind it.
const LONGEST: Duration = Duration::from_secs(15);

/// What a session has brought so far, as far as a repetition can be told by it: numbers only rise.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    highest: Option<i64>,
    in_a_row: u32,
}

impl Repeats {
    /// A message was acknowledged. How often one came again without a new one between them; none for a new one.
    pub(super) fn note(&mut self, id: i64) -> Option<u32> {
        if self.highest.is_some_and(|highest| id <= highest) {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return Some(self.in_a_row);
        }
        (self.highest, self.in_a_row) = (Some(id), 0);
        None
    }

    /// How long to wait after so many.
    pub(super) fn pause(times: u32) -> Duration {
        backoff(FIRST, LONGEST, times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_acknowledged_comes_again() {
        let mut repeats = Repeats::default();
        let noted: Vec<Option<u32>> =
            [1, 2, 2, 1, 2, 3, 3].into_iter().map(|id| repeats.note(id)).collect();
        assert_eq!(noted, [None, None, Some(1), Some(2), Some(3), None, Some(1)]);
        assert!(Repeats::pause(1) <= FIRST && Repeats::pause(u32::MAX) <= LONGEST);
        assert!(Repeats::pause(20) >= LONGEST / 11);
    }
}
