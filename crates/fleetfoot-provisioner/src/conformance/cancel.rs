//! Dropping a call at each of its awaits.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// How a call went that was dropped after a number of polls.
pub(super) enum Dropped<T> {
    /// It was still waiting.
    Pending,
    /// It was done before.
    Done(T),
}

/// Polls `call` until it has been pending `polls_max` times, then drops it.
pub(super) async fn dropped_after<T>(
    call: impl Future<Output = T>,
    polls_max: usize,
) -> Dropped<T> {
    let call = pin!(call);
    Cut { call, polls_left: polls_max }.await
}

/// How often `call` is pending until it is done.
pub(super) async fn polls_of<T>(call: impl Future<Output = T>) -> (usize, T) {
    let mut call = pin!(call);
    let mut polls = 0;
    let value = std::future::poll_fn(|context| {
        let poll = call.as_mut().poll(context);
        if poll.is_pending() {
            polls += 1;
        }
        poll
    })
    .await;
    (polls, value)
}

struct Cut<'a, F> {
    call: Pin<&'a mut F>,
    polls_left: usize,
}

impl<F: Future> Future for Cut<'_, F> {
    type Output = Dropped<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            return Poll::Ready(Dropped::Pending);
        }
        match self.call.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Dropped::Done(value)),
            Poll::Pending => {
                self.polls_left -= 1;
                if self.polls_left == 0 {
                    return Poll::Ready(Dropped::Pending);
                }
                Poll::Pending
            }
        }
    }
}
