//! The queue before the writer: what arrived together is served together, and the log is folded when nobody asks.
//!
//! Folding takes as long as many commits. SQLite does it in the commit that made the log long, which is one in the
//! middle of a burst of jobs, and somebody waits for it.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::driver::poll_now;
use crate::writer::{Task, Writer};

/// Closures in one transaction at most.
pub(crate) const BATCH_MAX: usize = 256;

/// Closures that may wait for the writer before callers wait to hand in theirs.
pub(crate) const QUEUE_MAX: usize = 1024;

/// Nothing arrived for so long: there is time.
const QUIET: Duration = Duration::from_millis(50);

/// So many written rows are worth a fold: a few hundred pages.
const ROWS_BETWEEN_FOLDS: usize = 256;

impl Writer {
    fn has_log_to_fold(&self) -> bool {
        self.rows_since_fold >= ROWS_BETWEEN_FOLDS
    }

    fn fold_log(&mut self) {
        self.rows_since_fold = 0;
        if let Err(error) = self.driver.fold_idle_log() {
            // The next time it is longer, and in the end a commit folds it.
            tracing::debug!(%error, "store's log was not folded");
        }
    }
}

/// Serves tasks on the calling thread until told to close, or until nobody can ask any more.
pub(crate) fn run_on_thread(mut writer: Writer, mut tasks: mpsc::Receiver<Task>) {
    loop {
        let first = if writer.has_log_to_fold() {
            let Some(first) = receive_within(&mut tasks, QUIET) else {
                writer.fold_log();
                continue;
            };
            first
        } else {
            tasks.blocking_recv()
        };
        let Some(first) = first else { break };
        let batch = gather(first, &mut tasks);
        if poll_now(writer.serve(batch)).is_break() {
            break;
        }
    }
    poll_now(writer.close());
}

/// The same as a task, for servers, which fold their own logs.
pub(crate) async fn run_as_task(mut writer: Writer, mut tasks: mpsc::Receiver<Task>) {
    while let Some(first) = tasks.recv().await {
        let batch = gather(first, &mut tasks);
        if writer.serve(batch).await.is_break() {
            break;
        }
    }
    writer.close().await;
}

/// What has arrived together with `first`.
fn gather(first: Task, tasks: &mut mpsc::Receiver<Task>) -> Vec<Task> {
    let mut batch = vec![first];
    while batch.len() < BATCH_MAX
        && let Ok(task) = tasks.try_recv()
    {
        batch.push(task);
    }
    batch
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The next task, or that nobody can send one any more; nothing if none comes in time.
fn receive_within(tasks: &mut mpsc::Receiver<Task>, wait: Duration) -> Option<Option<Task>> {
    let end = Instant::now() + wait;
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut receiving = pin!(tasks.recv());
    loop {
        if let Poll::Ready(received) = receiving.as_mut().poll(&mut context) {
            return Some(received);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use fleetfoot_core::{Instance, InstanceName, Pool, PoolName, Timestamp};

    use super::*;
    use crate::{Durability, Execution, Location, Options, Store, Txn};

    #[tokio::test]
    async fn a_long_log_is_folded_when_nobody_asks() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("store.db");
        let options = Options {
            durability: Durability::Off,
            execution: Execution::Thread,
            ..Options::default()
        };
        let store = Store::open(Location::Sqlite(file.clone()), options).await.unwrap();
        let pool = || PoolName::new("p").unwrap();
        let instance = move |number: u32| {
            let name = InstanceName::of_pool(&pool(), number);
            let mut instance = Instance::pending(name, pool(), Timestamp(1));
            instance.last_error = Some("x".repeat(1_000));
            instance
        };
        // In one transaction, which is too short to be folded with its commit.
        let fill = move |txn: &mut Txn<'_>| {
            txn.put_pool(Pool::new(pool(), Timestamp(0)));
            (0..300).for_each(|number| txn.insert_instance(instance(number)).unwrap());
        };
        store.update(fill).await.unwrap();
        // Whoever comes before the moment is quiet is served.
        store.update(move |txn| txn.insert_instance(instance(300)).unwrap()).await.unwrap();
        let folded = async {
            while std::fs::metadata(&file).unwrap().len() < 300_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), folded).await.unwrap();
        store.update(move |txn| txn.insert_instance(instance(301)).unwrap()).await.unwrap();
        store.close().await;
    }

    #[test]
    fn a_wait_ends_with_a_task_with_the_last_sender_or_with_its_time() {
        let (sender, mut tasks) = mpsc::channel(1);
        assert!(receive_within(&mut tasks, Duration::from_millis(1)).is_none());
        let later = thread::spawn(move || sender.blocking_send(Task::Close).ok().unwrap());
        let long = Duration::from_secs(30);
        assert!(matches!(receive_within(&mut tasks, long), Some(Some(Task::Close))));
        assert!(matches!(receive_within(&mut tasks, long), Some(None)));
        later.join().unwrap();
    }
}
