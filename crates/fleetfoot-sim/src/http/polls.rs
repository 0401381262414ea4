//! Long polls, and the guards that notice when a caller goes away.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::state::{Dead, Offer, Polled, Shared};

use super::answer;

/// A call of a session that is being answered. Dropped when it is, or when the caller is gone.
pub(crate) struct SessionCall {
    shared: Arc<Shared>,
    set: i64,
    pub(crate) number: u64,
    poll: bool,
}

impl SessionCall {
    pub(crate) fn enter(
        shared: &Arc<Shared>,
        set: i64,
        session: Option<&str>,
        token: &str,
        poll: bool,
    ) -> Result<Self, Dead> {
        let mut state = shared.lock();
        let number = state.session_entered(set, session, token)?;
        state.totals.polls += u64::from(poll);
        Ok(Self { shared: Arc::clone(shared), set, number, poll })
    }
}

impl Drop for SessionCall {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.totals.polls = state.totals.polls.saturating_sub(u64::from(self.poll));
        state.session_left(self.set, self.number);
    }
}

/// What a poll of a session is about.
pub(crate) struct Poll<'a> {
    pub(crate) set: i64,
    pub(crate) session: &'a str,
    pub(crate) token: &'a str,
    pub(crate) capacity: Option<u32>,
    pub(crate) base: &'a str,
    pub(crate) arrived_us: u64,
}

pub(crate) async fn message(shared: &Arc<Shared>, poll: Poll<'_>) -> Response {
    let Poll { set, session, token, capacity, base, arrived_us } = poll;
    let setting = shared.lock().settings.dead_session;
    let call = match SessionCall::enter(shared, set, Some(session), token, true) {
        Ok(call) => call,
        Err(dead) => return answer::dead(dead, set, setting),
    };
    let (wake, long_poll) = {
        let mut state = shared.lock();
        state.poll_arrived(set, call.number, capacity, arrived_us);
        let wake = state.sets.get(&set).map(|set| Arc::clone(&set.wake));
        (wake, state.settings.long_poll_ms)
    };
    let Some(wake) = wake else { return answer::no_scale_set(set) };
    let deadline = Instant::now() + Duration::from_millis(long_poll);
    let mut last = false;
    loop {
        let woken = wake.notified();
        tokio::pin!(woken);
        // Registered before the look, so that nothing between look and wait is missed.
        woken.as_mut().enable();
        let polled = shared.lock().poll(set, call.number, token, base);
        match polled {
            Polled::Message(message) => return answer::json(200, &message),
            Polled::Dead(dead) => return answer::dead(dead, set, setting),
            Polled::Nothing if last => return answer::empty(202),
            Polled::Nothing => {}
        }
        tokio::select! {
            biased;
            () = woken => {}
            () = sleep_until(deadline) => last = true,
        }
    }
}

/// A call of a runner that is being answered.
pub(crate) struct RunnerCall {
    shared: Arc<Shared>,
    pub(crate) runner: i64,
    waits: bool,
}

impl RunnerCall {
    pub(crate) fn enter(shared: &Arc<Shared>, token: &str) -> Option<Self> {
        let runner = shared.lock().runner_entered(token)?;
        Some(Self { shared: Arc::clone(shared), runner, waits: false })
    }

    /// It waits for a job from now on.
    pub(crate) fn wait(&mut self) {
        self.waits = true;
        self.shared.lock().runner_waits(self.runner);
    }

    /// It was given one.
    pub(crate) fn stop_waiting(&mut self) {
        self.waits = false;
        self.shared.lock().runner_stopped_waiting(self.runner);
    }

    pub(crate) fn wake(&self) -> Option<Arc<Notify>> {
        self.shared.lock().runners.get(&self.runner).map(|runner| Arc::clone(&runner.wake))
    }
}

impl Drop for RunnerCall {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if self.waits {
            state.runner_stopped_waiting(self.runner);
        }
        state.runner_left(self.runner);
    }
}

/// A runner waits for its job.
pub(crate) async fn job(shared: &Arc<Shared>, mut call: RunnerCall) -> Response {
    let Some(wake) = call.wake() else { return gone() };
    let long_poll = {
        let mut state = shared.lock();
        call.waits = true;
        state.runner_waits(call.runner);
        state.settings.runner_poll_ms
    };
    let deadline = Instant::now() + Duration::from_millis(long_poll);
    loop {
        let woken = wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let offer = shared.lock().offer_for(call.runner);
        match offer {
            Offer::Job(job) => return answer::json(200, &job),
            Offer::Gone => return gone(),
            Offer::Nothing => {}
        }
        tokio::select! {
            biased;
            () = woken => {}
            () = sleep_until(deadline) => return answer::empty(202),
        }
    }
}

/// A runner with a job waits for a cancellation; the wait is its heartbeat too.
pub(crate) async fn cancellation(shared: &Arc<Shared>, call: RunnerCall, job: u64) -> Response {
    let Some(wake) = call.wake() else { return gone() };
    let long_poll = shared.lock().settings.runner_poll_ms;
    let deadline = Instant::now() + Duration::from_millis(long_poll);
    loop {
        let woken = wake.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let cancelled = shared.lock().job_cancelled(call.runner, job);
        match cancelled {
            None => return gone(),
            Some(true) => return answer::json(200, &serde_json::json!({ "cancel": true })),
            Some(false) => {}
        }
        tokio::select! {
            biased;
            () = woken => {}
            () = sleep_until(deadline) => return answer::empty(202),
        }
    }
}

pub(crate) fn gone() -> Response {
    answer::message(
        410,
        "The runner registration has been deleted from the server, please re-configure.",
    )
}
