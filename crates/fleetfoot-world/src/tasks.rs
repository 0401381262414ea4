//! The one place of this room that starts tasks: they belong to the world's own runtime and end with it.

use std::future::Future;

use tokio::task::AbortHandle;

/// Runs `work` in the world.
pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    #[expect(clippy::disallowed_methods, reason = "this is the room's `tasks` module")]
    tokio::spawn(work).abort_handle()
}
