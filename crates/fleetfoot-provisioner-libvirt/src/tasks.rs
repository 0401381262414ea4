//! The one place of this room that starts tasks.

use std::future::Future;

use tokio::task::JoinHandle;

/// Runs `work` beside its caller: for what must go on when a caller drops its call (a call that was sent).
#[expect(clippy::disallowed_methods, reason = "this is the room's `tasks` module")]
pub(crate) fn start<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// Runs `work` until the returned owner is dropped.
#[expect(clippy::disallowed_methods, reason = "this is the room's `tasks` module")]
pub(crate) fn owned(work: impl Future<Output = ()> + Send + 'static) -> Owned {
    Owned(tokio::spawn(work))
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}
