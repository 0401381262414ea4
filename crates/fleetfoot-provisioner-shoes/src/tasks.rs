//! The one place of this room that starts tasks.

use std::future::Future;

/// Runs `work` to its end: a process is read and reaped whoever still wants it.
#[expect(clippy::disallowed_methods, reason = "this is the room's `tasks` module")]
pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(work);
}
