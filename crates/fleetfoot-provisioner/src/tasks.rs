//! The one place of this room that starts tasks.

use std::future::Future;

/// Runs `work` beside its caller: the simulated engine goes on when a caller drops its call, as a real one does.
#[expect(clippy::disallowed_methods, reason = "this is the room's `tasks` module")]
pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(work));
}
