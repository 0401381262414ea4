//! The one place that starts tasks: each is named and ended when its owner is dropped.

use std::future::Future;

use tokio::task::JoinHandle;

/// A task that ends with its owner.
#[derive(Debug)]
pub(crate) struct Task {
    handle: JoinHandle<()>,
}

impl Task {
    pub(crate) fn start(future: impl Future<Output = ()> + Send + 'static) -> Self {
        #[allow(clippy::disallowed_methods, reason = "this is the tasks module")]
        let handle = tokio::spawn(future);
        Self { handle }
    }
}

/// Starts what ends by itself, whoever still waits for it.
pub(crate) fn detach(future: impl Future<Output = ()> + Send + 'static) {
    #[allow(clippy::disallowed_methods, reason = "this is the tasks module")]
    drop(tokio::spawn(future));
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
