//! The one place that spawns: every task is named in the logs and can be waited for.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::gate::Gate;

/// A task that panicked begins anew after this, then twice this, …
const RESTART_FIRST: Duration = Duration::from_secs(1);
/// … and this at the longest.
const RESTART_LONGEST: Duration = Duration::from_secs(60);

/// Counts the tasks it spawned, and waits for them.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    live: Mutex<usize>,
    gate: Gate,
    ended: Notify,
    /// These count there, too.
    within: Option<Arc<Inner>>,
}

impl Inner {
    fn live(&self) -> std::sync::MutexGuard<'_, usize> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        *self.live() += 1;
        if let Some(outer) = &self.within {
            outer.begin();
        }
    }

    fn end(&self) {
        *self.live() -= 1;
        self.ended.notify_waiters();
        if let Some(outer) = &self.within {
            outer.end();
        }
    }
}

struct Guard(Arc<Inner>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Tasks {
    /// Tasks that can be waited for by themselves, and that `outer` waits for as well.
    pub(crate) fn within(outer: &Self) -> Self {
        let within = Some(outer.inner.clone());
        let gate = outer.inner.gate.clone();
        Self { inner: Arc::new(Inner { within, gate, ..Inner::default() }) }
    }

    /// Tasks that a simulated world may stop.
    pub(crate) fn behind(gate: Gate) -> Self {
        Self { inner: Arc::new(Inner { gate, ..Inner::default() }) }
    }

    /// Spawns `task`. A panic in it is logged and ends only it.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.begin();
        let guard = Guard(self.inner.clone());
        let task = async move {
            let _guard = guard;
            if std::panic::AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(task = name, "task panicked");
            }
        };
        if self.inner.gate.is_open_for_good() {
            #[expect(clippy::disallowed_methods, reason = "the tracked spawn itself")]
            return tokio::spawn(task);
        }
        #[expect(clippy::disallowed_methods, reason = "the tracked spawn itself")]
        let handle = tokio::spawn(self.inner.gate.hold(task));
        self.inner.gate.owns(handle.abort_handle());
        handle
    }

    /// Spawns what `task` makes, and makes it anew after a pause when it panicked: a listener or a reconciler
    /// that fell must not be missed for ever. A task that returns is done.
    pub(crate) fn keep<M, F>(&self, name: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(name, async move {
            let mut pause = RESTART_FIRST;
            loop {
                let began = tokio::time::Instant::now();
                // On the heap: a task that is kept for ever should hold no more than it needs.
                let task = std::panic::AssertUnwindSafe(Box::pin(make()));
                if task.catch_unwind().await.is_ok() {
                    return;
                }
                pause = if began.elapsed() > RESTART_LONGEST { RESTART_FIRST } else { pause };
                tracing::error!(
                    task = name,
                    retry_in_ms = pause.as_millis(),
                    "task panicked, beginning it anew"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RESTART_LONGEST);
            }
        });
    }

    /// Waits until no task is left, at most `bound`. True when none is left.
    pub async fn wait(&self, bound: Duration) -> bool {
        let all = async {
            loop {
                let ended = self.inner.ended.notified();
                if *self.inner.live() == 0 {
                    return;
                }
                ended.await;
            }
        };
        tokio::time::timeout(bound, all).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_anew_and_one_that_returns_does_not() {
        let tasks = Tasks::default();
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        tasks.keep("test", move || {
            let run = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(run >= 3, "falls three times") }
        });
        assert!(tasks.wait(Duration::from_secs(60)).await);
        assert_eq!(runs.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn tasks_within_others_are_waited_for_alone_and_with_them() {
        let outer = Tasks::default();
        let (one, other) = (Tasks::within(&outer), Tasks::within(&outer));
        let go = Arc::new(Notify::new());
        let seen = go.clone();
        one.spawn("short", async move { seen.notified().await });
        other.spawn("for ever", std::future::pending());
        assert!(!one.wait(Duration::from_millis(1)).await);
        go.notify_one();
        assert!(one.wait(Duration::from_secs(60)).await);
        assert!(!outer.wait(Duration::from_millis(1)).await, "the other one is left");
    }

    #[tokio::test]
    async fn a_wait_has_a_bound() {
        let tasks = Tasks::default();
        tasks.spawn("for ever", std::future::pending());
        assert!(!tasks.wait(Duration::from_millis(1)).await);
    }
}
