//! A value of which the last state counts, as `tokio::sync::watch`: same words, same meaning.
//!
//! Value, version and the count of senders are tokio's; only the waiting is ours.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::watch;
pub use tokio::sync::watch::Ref;
pub use tokio::sync::watch::error::SendError;

/// All senders are gone: the value changes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("all senders are gone")
    }
}

impl std::error::Error for Closed {}

/// A channel that holds `value`.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// Who waits, in order.
#[derive(Debug, Clone, Default)]
struct Waiting(Arc<Notify>);

impl Drop for Waiting {
    /// The sender beside it is gone by now: if it was the last one, whoever waits sees that.
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

/// Sets the value.
#[derive(Debug)]
pub struct Sender<T> {
    // Fields are dropped in this order: first the sender, then its waiters are told.
    value: watch::Sender<T>,
    waiting: Waiting,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), waiting: self.waiting.clone() }
    }
}

impl<T> Sender<T> {
    /// A channel that nobody listens to yet.
    pub fn new(value: T) -> Self {
        Self { value: watch::Sender::new(value), waiting: Waiting::default() }
    }

    /// Someone who listens from now on: the present value is no news.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver { value: self.value.subscribe(), waiting: self.waiting.0.clone() }
    }

    /// The value of now.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    /// Sets the value, if anybody listens.
    ///
    /// # Errors
    /// The value, if nobody does.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.value.send(value)?;
        self.waiting.0.notify_waiters();
        Ok(())
    }

    /// Sets the value, also when nobody listens.
    pub fn send_replace(&self, value: T) -> T {
        let old = self.value.send_replace(value);
        self.waiting.0.notify_waiters();
        old
    }

    /// Changes the value.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.value.send_modify(change);
        self.waiting.0.notify_waiters();
    }

    /// Changes the value; nobody wakes if `change` says that nothing changed.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let changed = self.value.send_if_modified(change);
        if changed {
            self.waiting.0.notify_waiters();
        }
        changed
    }

    /// How many listen.
    #[must_use]
    pub fn receiver_count(&self) -> usize {
        self.value.receiver_count()
    }
}

impl<T: Default> Default for Sender<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Listens.
#[derive(Debug)]
pub struct Receiver<T> {
    value: watch::Receiver<T>,
    waiting: Arc<Notify>,
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), waiting: self.waiting.clone() }
    }
}

impl<T> Receiver<T> {
    /// The value of now; it stays news if it is.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.value.borrow()
    }

    /// The value of now, seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        self.value.borrow_and_update()
    }

    /// Whether both listen to the same channel.
    #[must_use]
    pub fn same_channel(&self, other: &Self) -> bool {
        self.value.same_channel(&other.value)
    }

    /// Whether there is news.
    ///
    /// # Errors
    /// When all senders are gone.
    pub fn has_changed(&self) -> Result<bool, Closed> {
        self.value.has_changed().map_err(|_| Closed)
    }

    /// The present value is news.
    pub fn mark_changed(&mut self) {
        self.value.mark_changed();
    }

    /// The present value is no news.
    pub fn mark_unchanged(&mut self) {
        self.value.mark_unchanged();
    }

    /// Waits for news, and has seen it. Safe to drop at the await: what was not returned stays news.
    ///
    /// # Errors
    /// When all senders are gone and there is no news.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        loop {
            // It waits from here on: what is sent after the look wakes it.
            let woken = self.waiting.notified();
            if self.value.borrow().has_changed() {
                self.value.mark_unchanged();
                return Ok(());
            }
            if self.value.has_changed().is_err() {
                return Err(Closed);
            }
            woken.await;
        }
    }

    /// Waits until `is_it` says so of the value, which is looked at once at least. By the time it is told another
    /// thread may have changed the value again.
    ///
    /// # Errors
    /// When all senders are gone and the last value was not it.
    pub async fn wait_for(&mut self, mut is_it: impl FnMut(&T) -> bool) -> Result<(), Closed> {
        loop {
            let woken = self.waiting.notified();
            let found = is_it(&self.value.borrow_and_update());
            if found {
                return Ok(());
            }
            if self.value.has_changed().is_err() {
                return Err(Closed);
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn waiters_wake_in_the_order_in_which_they_wait() {
        for _ in 0..20 {
            let sender = Sender::new(0);
            let order = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..20 {
                let (mut receiver, order) = (sender.subscribe(), order.clone());
                tasks.spawn(async move {
                    receiver.changed().await.unwrap();
                    order.lock().unwrap().push(number);
                });
            }
            tokio::task::yield_now().await;
            sender.send_replace(1);
            tasks.join_all().await;
            assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn news_is_news_once() {
        let (sender, mut receiver) = channel(0);
        assert!(!receiver.has_changed().unwrap());
        sender.send_modify(|value| *value += 1);
        assert!(receiver.has_changed().unwrap());
        receiver.changed().await.unwrap();
        assert!(!receiver.has_changed().unwrap());
        assert!(!sender.send_if_modified(|_| false));
        let nothing = tokio::time::timeout(Duration::from_millis(5), receiver.changed()).await;
        assert!(nothing.is_err());
        receiver.mark_changed();
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow(), 1);
    }

    #[tokio::test]
    async fn what_the_last_sender_said_is_heard_and_then_its_end() {
        let (sender, mut receiver) = channel(0);
        sender.send(7).unwrap();
        drop(sender);
        receiver.changed().await.unwrap();
        assert_eq!(*receiver.borrow(), 7);
        assert_eq!(receiver.changed().await, Err(Closed));
        assert!(receiver.wait_for(|value| *value == 7).await.is_ok());
        assert!(receiver.wait_for(|value| *value == 8).await.is_err());
    }

    #[tokio::test]
    async fn the_end_wakes_who_waits() {
        let (sender, mut receiver) = channel(0);
        let ends = async move {
            tokio::task::yield_now().await;
            drop(sender);
        };
        let (waited, ()) = tokio::join!(receiver.wait_for(|value| *value == 1), ends);
        assert_eq!(waited, Err(Closed));
    }

    #[tokio::test]
    async fn it_waits_for_a_value() {
        let (sender, mut receiver) = channel(0);
        let mut waits = tokio::task::JoinSet::new();
        waits.spawn(async move { receiver.wait_for(|value| *value > 2).await });
        for value in 1..=2 {
            sender.send_replace(value);
            tokio::task::yield_now().await;
            assert!(waits.try_join_next().is_none());
        }
        sender.send_replace(3);
        assert_eq!(waits.join_next().await.unwrap().unwrap(), Ok(()));
    }
}
