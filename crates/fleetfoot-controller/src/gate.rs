//! What lets a simulated world stop a controller between any two polls of its tasks: for good, as SIGKILL
//! does, or for a while, as SIGSTOP does. In production there is no gate.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The gate that every poll of a controller's tasks passes.
#[derive(Debug, Clone, Default)]
pub struct Gate(Option<Arc<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    shut: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Polls that may still pass; all when absent.
    left: Option<u64>,
    frozen: bool,
    shut: bool,
    polls: u64,
    waiting: Vec<Waker>,
    tasks: Vec<AbortHandle>,
}

impl Gate {
    /// An open gate that can be shut.
    #[must_use]
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    pub(crate) fn is_open_for_good(&self) -> bool {
        self.0.is_none()
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.0.as_ref().map(|inner| inner.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shuts by itself after so many more polls.
    pub fn shut_after(&self, polls: u64) {
        if let Some(mut state) = self.state() {
            state.left = Some(polls);
        }
    }

    /// No poll passes any more.
    pub fn shut(&self) {
        if let Some(mut state) = self.state() {
            state.shut = true;
        }
        if let Some(inner) = &self.0 {
            inner.shut.notify_one();
        }
    }

    /// Waits until it is shut.
    pub async fn is_shut(&self) {
        let Some(inner) = &self.0 else { return std::future::pending().await };
        loop {
            if self.state().is_some_and(|state| state.shut) {
                return;
            }
            inner.shut.notified().await;
        }
    }

    /// No poll passes until [`Self::thaw`].
    pub fn freeze(&self) {
        if let Some(mut state) = self.state() {
            state.frozen = true;
        }
    }

    /// Polls pass again.
    pub fn thaw(&self) {
        let waiting = self.state().map(|mut state| {
            state.frozen = false;
            std::mem::take(&mut state.waiting)
        });
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Polls that passed so far.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.state().map_or(0, |state| state.polls)
    }

    /// Drops every task behind it, as the end of a process does.
    pub fn end(&self) {
        self.shut();
        let tasks = self.state().map(|mut state| std::mem::take(&mut state.tasks));
        for task in tasks.into_iter().flatten() {
            task.abort();
        }
    }

    pub(crate) fn owns(&self, task: AbortHandle) {
        if let Some(mut state) = self.state() {
            if state.tasks.len() >= 64 && state.tasks.len().is_power_of_two() {
                state.tasks.retain(|task| !task.is_finished());
            }
            state.tasks.push(task);
        }
    }

    /// The same future, behind the gate.
    pub fn hold<F: Future + Send>(
        &self,
        future: F,
    ) -> impl Future<Output = F::Output> + Send + use<F> {
        Held { gate: self.clone(), future: Box::pin(future) }
    }

    fn passes(&self, waker: &Waker) -> bool {
        let Some(mut state) = self.state() else { return true };
        if state.shut {
            return false;
        }
        if state.frozen {
            state.waiting.push(waker.clone());
            return false;
        }
        if state.left == Some(0) {
            drop(state);
            self.shut();
            return false;
        }
        state.left = state.left.map(|left| left - 1);
        state.polls += 1;
        true
    }
}

struct Held<F> {
    gate: Gate,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Held<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if self.gate.passes(context.waker()) {
            self.future.as_mut().poll(context)
        } else {
            Poll::Pending
        }
    }
}
