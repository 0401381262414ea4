//! What happens by itself after a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Shared, State};

/// Something that is due. Each carries what it needs to see whether it still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Nobody took this assignment.
    Withdraw { job: u64, assignment: u64 },
    /// Offer an available job again.
    Reoffer { job: u64, assignment: u64 },
    /// The started message becomes visible.
    TellStarted { job: u64 },
    /// No call of this session was in flight.
    SessionLapse { set: i64, session: u64, quiet: u64 },
    /// No call of this runner was in flight.
    RunnerQuiet { runner: i64, quiet: u64 },
    /// A runner was sent a job and did not start it.
    OfferTimeout { runner: i64, job: u64 },
    /// A runner of the box itself boots.
    AutoConnect { runner: i64 },
    /// A runner of the box itself is done.
    AutoFinish { runner: i64, job: u64 },
}

/// Deadlines in order.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, u64, Due)>>,
    next: u64,
    wake: Arc<Notify>,
}

impl Timers {
    pub(crate) fn new(wake: Arc<Notify>) -> Self {
        Self { heap: BinaryHeap::new(), next: 0, wake }
    }

    pub(crate) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    pub(crate) fn after(&mut self, delay_ms: u64, due: Due) {
        let at = Instant::now() + Duration::from_millis(delay_ms);
        let first = self.heap.peek().is_none_or(|Reverse((earliest, _, _))| at < *earliest);
        self.heap.push(Reverse((at, self.next, due)));
        self.next += 1;
        if first {
            self.wake.notify_one();
        }
    }

    fn pop(&mut self, now: Instant) -> Option<Due> {
        if self.heap.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            return self.heap.pop().map(|Reverse((_, _, due))| due);
        }
        None
    }

    fn earliest(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }
}

impl State {
    fn due(&mut self, due: Due) {
        match due {
            Due::Withdraw { job, assignment } => self.withdraw(job, assignment),
            Due::Reoffer { job, assignment } => self.reoffer(job, assignment),
            Due::TellStarted { job } => self.tell_started(job),
            Due::SessionLapse { set, session, quiet } => self.lapse(set, session, quiet),
            Due::RunnerQuiet { runner, quiet } => self.runner_quiet(runner, quiet),
            Due::OfferTimeout { runner, job } => self.offer_timeout(runner, job),
            Due::AutoConnect { runner } => self.auto_connect(runner),
            Due::AutoFinish { runner, job } => self.auto_finish(runner, job),
        }
    }
}

/// Does what is due, for as long as the box lives.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let woken = shared.timer_wake.notified();
        let earliest = {
            let mut state = shared.lock();
            let now = Instant::now();
            while let Some(due) = state.timers.pop(now) {
                state.due(due);
            }
            state.timers.earliest()
        };
        match earliest {
            None => woken.await,
            Some(at) => tokio::select! {
                biased;
                () = woken => {}
                () = tokio::time::sleep_until(at) => {}
            },
        }
    }
}
