//! The one place that spawns: every task is named in the logs and can be waited for.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Counts the tasks it spawned, and waits for them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    live: Mutex<usize>,
    ended: Notify,
}

struct Guard(Arc<Inner>);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.live.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.ended.notify_waiters();
    }
}

impl Tasks {
    /// Spawns `task`. A panic in it is logged and ends only it.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        *self.inner.live.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        let guard = Guard(self.inner.clone());
        #[expect(clippy::disallowed_methods, reason = "the tracked spawn itself")]
        tokio::spawn(async move {
            let _guard = guard;
            if std::panic::AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(task = name, "task panicked");
            }
        })
    }

    /// Waits until no task is left, at most `bound`. True when none is left.
    pub async fn wait(&self, bound: Duration) -> bool {
        let all = async {
            loop {
                let ended = self.inner.ended.notified();
                if *self.inner.live.lock().unwrap_or_else(PoisonError::into_inner) == 0 {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout(bound, all).await.is_ok()
    }
}
