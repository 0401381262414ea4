//! When the controller as a whole was away or disturbed: what a pool without faults is excused by.

use std::time::Duration;

use crate::stage::Stage;

impl Stage {
    pub(crate) fn went_away(&self) {
        let mut inner = self.books.lock();
        let now = inner.now_ms();
        if inner.away.last().is_none_or(|(_, until)| until.is_some()) {
            inner.away.push((now, None));
        }
    }

    pub(crate) fn came_back(&self) {
        let mut inner = self.books.lock();
        let now = inner.now_ms();
        if let Some((_, until)) = inner.away.last_mut() {
            until.get_or_insert(now);
        }
    }

    /// Something touched the controller as a whole for so long.
    pub(crate) fn disturbed(&self, lasts: Duration) {
        let mut inner = self.books.lock();
        let now = inner.now_ms();
        let until = now + u64::try_from(lasts.as_millis()).unwrap_or(0);
        let at = inner.away.len().saturating_sub(usize::from(
            inner.away.last().is_some_and(|(_, until)| until.is_none()),
        ));
        inner.away.insert(at, (now, Some(until)));
    }

    pub(crate) fn muddled(&self, lasts: Duration) {
        let mut inner = self.books.lock();
        let until = inner.now_ms() + u64::try_from(lasts.as_millis()).unwrap_or(0) + 600_000;
        for book in inner.pools.values_mut().filter(|book| !book.calm) {
            book.muddled_until = book.muddled_until.max(until);
        }
    }
}
